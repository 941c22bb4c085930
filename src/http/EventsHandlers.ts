import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import { EventAccepted } from "../domain/Event.ts"
import { Events } from "../layers/Events.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import * as IdempotencyKey from "./IdempotencyKey.ts"
import { pageRequest, traceparent } from "./Requests.ts"

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
      .handle("list", ({ urlParams: { cursor, limit, topic } }) =>
        Effect.gen(function* () {
          return yield* events.list(yield* CurrentAgent, topic ?? null, yield* pageRequest({ cursor, limit }))
        })
      )
      .handle("get", ({ path }) => Effect.flatMap(CurrentAgent, (agent) => events.get(agent, path.id)))
  })
)
