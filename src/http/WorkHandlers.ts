import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import { WorkItems } from "../layers/WorkItems.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"

export const WorkHandlers = HttpApiBuilder.group(Api, "work", (handlers) =>
  Effect.map(WorkItems, (work) =>
    handlers
      .handle("lease", ({ payload }) =>
        Effect.gen(function* () {
          return { items: yield* work.lease(yield* CurrentAgent, payload) }
        })
      )
      .handle("heartbeat", ({ path, payload }) =>
        Effect.flatMap(CurrentAgent, (agent) => work.heartbeat(agent, path.id, payload))
      )
      .handle("complete", ({ path, payload }) =>
        Effect.flatMap(CurrentAgent, (agent) => work.complete(agent, path.id, payload))
      )
      .handle("fail", ({ path, payload }) =>
        Effect.flatMap(CurrentAgent, (agent) => work.fail(agent, path.id, payload))
      )
  )
)
