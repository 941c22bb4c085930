import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import type { Actor } from "../domain/Agent.ts"
import { isId } from "../domain/Id.ts"
import { WorkItemNotFound } from "../domain/WorkItem.ts"
import { WorkItems } from "../layers/WorkItems.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"

/** What an agent does with an item; an id that is none is answered as such, one that is not there any more as a lost lease. */
const item = <A, E>(id: string, use: (agent: Actor) => Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const agent = yield* CurrentAgent
    if (!isId(id)) return yield* new WorkItemNotFound({ item_id: id })
    return yield* use(agent)
  })

export const WorkHandlers = HttpApiBuilder.group(Api, "work", (handlers) =>
  Effect.map(WorkItems, (work) =>
    handlers
      .handle("lease", ({ payload }) =>
        Effect.gen(function* () {
          return { items: yield* work.lease(yield* CurrentAgent, payload) }
        })
      )
      .handle("heartbeat", ({ path, payload }) => item(path.id, (agent) => work.heartbeat(agent, path.id, payload)))
      .handle("complete", ({ path, payload }) => item(path.id, (agent) => work.complete(agent, path.id, payload)))
      .handle("fail", ({ path, payload }) => item(path.id, (agent) => work.fail(agent, path.id, payload)))
  )
)
