import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { AuditRecord, Verdict } from "../domain/AuditEntry.ts"
import { Instant } from "../domain/Instant.ts"
import { InvalidField } from "../domain/Task.ts"
import { AuditRead } from "./Auth.ts"
import { paging, query } from "./Requests.ts"

const Text = Schema.optionalWith(Schema.String.pipe(Schema.maxLength(500)), { exact: true })

/** Who did what to what. */
export class AuditApi extends HttpApiGroup.make("audit")
  .add(
    HttpApiEndpoint.get("list", "/audit")
      .setUrlParams(
        query({
          ...paging,
          actor: Text,
          action: Text,
          subject_kind: Text,
          subject_id: Text,
          after: Schema.optionalWith(Instant, { exact: true }),
          before: Schema.optionalWith(Instant, { exact: true })
        })
      )
      .addSuccess(Schema.Struct({ items: Schema.Array(AuditRecord), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(InvalidField)
      .middleware(AuditRead)
      .annotate(OpenApi.Summary, "The trail of changes and refusals of the namespace, newest first")
  )
  .add(
    HttpApiEndpoint.get("verify", "/audit/verify")
      .setUrlParams(query({ cursor: paging.cursor }))
      .addSuccess(Verdict)
      .addError(InvalidField)
      .middleware(AuditRead)
      .annotate(OpenApi.Summary, "Whether the hash chains of the namespace hold, and the first link that does not")
  ) {}
