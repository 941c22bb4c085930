import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import { Events } from "../layers/Events.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import { pageRequest, traceparent } from "./Requests.ts"

export const EventsHandlers = HttpApiBuilder.group(Api, "events", (handlers) =>
  Effect.map(Events, (events) =>
    handlers
      .handle("publish", ({ payload }) =>
        Effect.gen(function* () {
          return yield* events.publish(yield* CurrentAgent, payload, yield* traceparent)
        })
      )
      .handle("list", ({ urlParams: { cursor, limit, topic } }) =>
        Effect.gen(function* () {
          return yield* events.list(yield* CurrentAgent, topic ?? null, yield* pageRequest({ cursor, limit }))
        })
      )
      .handle("get", ({ path }) => Effect.flatMap(CurrentAgent, (agent) => events.get(agent, path.id)))
  )
)
