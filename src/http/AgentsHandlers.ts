import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import { Agents } from "../layers/Agents.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import { pageRequest } from "./Requests.ts"

export const AgentsHandlers = HttpApiBuilder.group(Api, "agents", (handlers) =>
  Effect.map(Agents, (agents) =>
    handlers
      .handle("list", ({ urlParams }) =>
        Effect.gen(function* () {
          return yield* agents.list(yield* CurrentAgent, yield* pageRequest(urlParams))
        })
      )
      .handle("create", ({ payload }) => Effect.flatMap(CurrentAgent, (actor) => agents.create(actor, payload)))
      .handle("get", ({ path }) => Effect.flatMap(CurrentAgent, (actor) => agents.get(actor, path.id)))
      .handle("patch", ({ path, payload }) =>
        Effect.flatMap(CurrentAgent, (actor) => agents.patch(actor, path.id, payload))
      )
      .handle("remove", ({ path }) => Effect.flatMap(CurrentAgent, (actor) => agents.remove(actor, path.id)))
      .handle("issueKey", ({ path, payload }) =>
        Effect.flatMap(CurrentAgent, (actor) => agents.issueKey(actor, path.id, payload))
      )
      .handle("revokeKey", ({ path }) =>
        Effect.flatMap(CurrentAgent, (actor) => agents.revokeKey(actor, path.id, path.keyId))
      )
  )
)
