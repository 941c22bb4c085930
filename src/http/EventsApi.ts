import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Event, EventAccepted, EventCreate, EventNotFound, TopicSeen } from "../domain/Event.ts"
import { InvalidField } from "../domain/Task.ts"
import { EventsPublish, EventsRead } from "./Auth.ts"
import * as Batch from "./Batch.ts"
import { body } from "./Bounded.ts"
import * as IdempotencyKey from "./IdempotencyKey.ts"
import { paging, query } from "./Requests.ts"

const id = HttpApiSchema.param("id", Schema.String.annotations({ description: "id of an event" }))

const EventBatch = Batch.batchOf("EventBatch", "EventCreate")

/** The answer to a batch, item for item: 202 and what POST /events answers, or the problem. */
export const EventsAccepted = Schema.Struct({
  items: Schema.Array(Schema.Struct({ ...Batch.answered, event: Schema.NullOr(EventAccepted) }))
}).annotations({ identifier: "EventsAccepted" })

/** What happened elsewhere, and the tasks that wait for it. */
export class EventsApi extends HttpApiGroup.make("events")
  .add(
    HttpApiEndpoint.post("publish", "/events")
      .setHeaders(IdempotencyKey.headers)
      .setPayload(body(EventCreate))
      .addSuccess(EventAccepted, { status: 202 })
      .addError(InvalidField)
      .addError(IdempotencyKey.Refusals)
      .middleware(EventsPublish)
      .annotate(OpenApi.Summary, "Publish an event; the tasks that match it run")
  )
  .add(
    HttpApiEndpoint.post("publishAll", "/events/batch")
      .setHeaders(IdempotencyKey.headers)
      .setPayload(body(EventBatch))
      .addSuccess(EventsAccepted)
      .addError(IdempotencyKey.Refusals)
      .middleware(EventsPublish)
      .annotate(OpenApi.Summary, "Publish up to 1,000 events in order, all that are valid in one transaction")
  )
  .add(
    HttpApiEndpoint.get("list", "/events")
      .setUrlParams(query({ ...paging, topic: Schema.optionalWith(Schema.String, { exact: true }) }))
      .addSuccess(Schema.Struct({ items: Schema.Array(Event), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(InvalidField)
      .middleware(EventsRead)
      .annotate(OpenApi.Summary, "List events, newest first")
  )
  .add(
    HttpApiEndpoint.get("topics", "/events/topics")
      .setUrlParams(query(paging))
      .addSuccess(Schema.Struct({ items: Schema.Array(TopicSeen), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(InvalidField)
      .middleware(EventsRead)
      .annotate(OpenApi.Summary, "List the topics that something was said on, by name, with the tasks that hear them")
  )
  .add(
    HttpApiEndpoint.get("get")`/events/${id}`
      .addSuccess(Event)
      .addError(EventNotFound)
      .middleware(EventsRead)
      .annotate(OpenApi.Summary, "Read an event")
  ) {}
