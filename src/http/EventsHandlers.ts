import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect, Either, Schema } from "effect"
import { EventAccepted, EventCreate, Topic } from "../domain/Event.ts"
import { pageBy } from "../domain/Page.ts"
import { InvalidField } from "../domain/Task.ts"
import { Events } from "../layers/Events.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import * as Batch from "./Batch.ts"
import { EventsAccepted } from "./EventsApi.ts"
import * as IdempotencyKey from "./IdempotencyKey.ts"
import { pageRequest, traceparent } from "./Requests.ts"

const isTopic = Schema.is(Topic)

export const EventsHandlers = HttpApiBuilder.group(Api, "events", (handlers) =>
  Effect.gen(function* () {
    const events = yield* Events
    const once = yield* IdempotencyKey.once
    return handlers
      .handle("publish", ({ payload }) =>
        once(
          Effect.gen(function* () {
            const accepted = yield* events.publish(yield* CurrentAgent, payload, yield* traceparent)
            return yield* IdempotencyKey.answer(EventAccepted, 202, accepted)
          })
        )
      )
      .handle("publishAll", ({ payload }) =>
        once(
          Effect.gen(function* () {
            const actor = yield* CurrentAgent
            const parent = yield* traceparent
            const accepted = yield* Batch.each(EventCreate, payload.items, (inputs) =>
              events.publishAll(actor, inputs, parent)
            )
            const items = accepted.map((one) =>
              Either.isRight(one)
                ? { status: 202, event: one.right, error: null }
                : { status: one.left.status, event: null, error: one.left }
            )
            return yield* IdempotencyKey.answer(EventsAccepted, 200, { items })
          })
        )
      )
      .handle("list", ({ urlParams: { cursor, limit, topic } }) =>
        Effect.gen(function* () {
          return yield* events.list(yield* CurrentAgent, topic ?? null, yield* pageRequest({ cursor, limit }))
        })
      )
      .handle("topics", ({ urlParams: { cursor, limit = 50 } }) =>
        Effect.gen(function* () {
          if (cursor !== undefined && !isTopic(cursor)) {
            return yield* new InvalidField({ path: "query.cursor", message: "is no cursor of a list's next_cursor" })
          }
          const found = yield* events.topics(yield* CurrentAgent, cursor ?? null, limit + 1)
          return pageBy(found, limit, ({ topic }) => topic)
        })
      )
      .handle("get", ({ path }) => Effect.flatMap(CurrentAgent, (agent) => events.get(agent, path.id)))
  })
)
