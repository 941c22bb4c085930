import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import {
  CredentialsUnreadable,
  ExtensionInfo,
  ExtensionNotFound,
  ExtensionPut,
  ExtensionRegistered,
  ExtensionVersionMismatch,
  ToolInfo
} from "../domain/Registration.ts"
import { InvalidField } from "../domain/Task.ts"
import { ExtensionsAdmin, ExtensionsRead } from "./Auth.ts"
import { body } from "./Bounded.ts"
import { BadRequest, paging, query } from "./Requests.ts"

const name = HttpApiSchema.param("name", Schema.String.annotations({ description: "name of an extension" }))

/** The services that bring tools, and the tools. */
export class ExtensionsApi extends HttpApiGroup.make("extensions")
  .add(
    HttpApiEndpoint.get("tools", "/tools")
      .setUrlParams(query(paging))
      .addSuccess(Schema.Struct({ items: Schema.Array(ToolInfo), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(InvalidField)
      .middleware(ExtensionsRead)
      .annotate(OpenApi.Summary, "List the tools that pipelines may use, by address")
  )
  .add(
    HttpApiEndpoint.get("list", "/extensions")
      .setUrlParams(query(paging))
      .addSuccess(Schema.Struct({ items: Schema.Array(ExtensionInfo), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(InvalidField)
      .middleware(ExtensionsRead)
      .annotate(OpenApi.Summary, "List extensions, newest first")
  )
  .add(
    HttpApiEndpoint.get("get")`/extensions/${name}`
      .addSuccess(ExtensionInfo)
      .addError(ExtensionNotFound)
      .middleware(ExtensionsRead)
      .annotate(OpenApi.Summary, "Read an extension")
  )
  .add(
    HttpApiEndpoint.put("put")`/extensions/${name}`
      .setPayload(body(ExtensionPut))
      .addSuccess(ExtensionRegistered, { status: 201 })
      .addSuccess(ExtensionRegistered)
      .addError(InvalidField)
      .addError(CredentialsUnreadable)
      .addError(ExtensionVersionMismatch)
      .addError(BadRequest)
      .middleware(ExtensionsAdmin)
      .annotate(OpenApi.Summary, "Register an extension, or change it; a signing secret made here is shown this once")
  )
  .add(
    HttpApiEndpoint.del("remove")`/extensions/${name}`
      .addSuccess(Schema.Void, { status: 204 })
      .addError(ExtensionNotFound)
      .addError(ExtensionVersionMismatch)
      .addError(BadRequest)
      .middleware(ExtensionsAdmin)
      .annotate(OpenApi.Summary, "Remove an extension; steps that were bound to it fail from then on")
  ) {}
