import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { SecretInfo, SecretNotFound, SecretPut } from "../domain/Secret.ts"
import { InvalidField } from "../domain/Task.ts"
import { SecretsWrite } from "./Auth.ts"
import { body } from "./Bounded.ts"
import { paging, query } from "./Requests.ts"

const name = HttpApiSchema.param("name", Schema.String.annotations({ description: "name of a secret" }))

/** Values that go in and never come out. */
export class SecretsApi extends HttpApiGroup.make("secrets")
  .add(
    HttpApiEndpoint.get("list", "/secrets")
      .setUrlParams(query(paging))
      .addSuccess(Schema.Struct({ items: Schema.Array(SecretInfo), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(InvalidField)
      .middleware(SecretsWrite)
      .annotate(OpenApi.Summary, "List the names of secrets, where they may be used, and when they were, newest first")
  )
  .add(
    HttpApiEndpoint.put("put")`/secrets/${name}`
      .setPayload(body(SecretPut))
      .addSuccess(SecretInfo, { status: 201 })
      .addSuccess(SecretInfo)
      .addError(InvalidField)
      .middleware(SecretsWrite)
      .annotate(OpenApi.Summary, "Store a secret, or replace it")
  )
  .add(
    HttpApiEndpoint.del("remove")`/secrets/${name}`
      .addSuccess(Schema.Void, { status: 204 })
      .addError(SecretNotFound)
      .middleware(SecretsWrite)
      .annotate(OpenApi.Summary, "Remove a secret; calls that refer to it fail from then on")
  ) {}
