import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { TooManyStreams } from "../domain/RateLimit.ts"
import { RunNotFound } from "../domain/Run.ts"
import { InvalidField } from "../domain/Task.ts"
import { RunsRead } from "./Auth.ts"
import { BadRequest, query } from "./Requests.ts"

/** Media type of Server-Sent Events (HTML standard §9.2). */
export const mediaType = "text/event-stream"

const description = "the number of the last change that was received; the stream goes on behind it"

/** The header, as the OpenAPI document shows it. The handlers look at its form. */
const headers = Schema.Struct({
  "last-event-id": Schema.optionalWith(Schema.String.annotations({ description }), { exact: true })
})

const parameters = query({
  last_event_id: Schema.optionalWith(
    Schema.String.annotations({
      description: `${description}; for clients that cannot set the header, which stands above it`
    }),
    { exact: true }
  )
})

const Events = Schema.String.pipe(HttpApiSchema.withEncoding({ kind: "Text", contentType: mediaType })).annotations({
  description:
    "`id` is the number of the change, `event` its topic, `data` JSON; `event: reset` says that some are lost"
})

const id = HttpApiSchema.param("id", Schema.String.annotations({ description: "id of a run" }))

/** Changes of state as they come, as Server-Sent Events. */
export class StreamsApi extends HttpApiGroup.make("streams")
  .add(
    HttpApiEndpoint.get("all", "/stream")
      .setHeaders(headers)
      .setUrlParams(parameters)
      .addSuccess(Events)
      .addError(BadRequest)
      .addError(InvalidField)
      .addError(TooManyStreams)
      .middleware(RunsRead)
      .annotate(OpenApi.Summary, "Follow what becomes of runs and tasks, from now on or behind Last-Event-ID")
  )
  .add(
    HttpApiEndpoint.get("run")`/runs/${id}/stream`
      .setHeaders(headers)
      .setUrlParams(parameters)
      .addSuccess(Events)
      .addError(BadRequest)
      .addError(InvalidField)
      .addError(RunNotFound)
      .addError(TooManyStreams)
      .middleware(RunsRead)
      .annotate(OpenApi.Summary, "Follow a run, from its present state or behind Last-Event-ID, until it has ended")
  ) {}
