import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import { allows, Forbidden } from "../domain/Agent.ts"
import { pageBy } from "../domain/Page.ts"
import { InvalidField } from "../domain/Task.ts"
import { isDay } from "../domain/Usage.ts"
import { Agents } from "../layers/Agents.ts"
import { Usages } from "../layers/Usages.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import { pageRequest } from "./Requests.ts"

export const AgentsHandlers = HttpApiBuilder.group(Api, "agents", (handlers) =>
  Effect.gen(function* () {
    const agents = yield* Agents
    const usages = yield* Usages
    return handlers
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
      .handle("usage", ({ path, urlParams: { cursor, from = null, limit = 50, to = null } }) =>
        Effect.gen(function* () {
          const actor = yield* CurrentAgent
          if (path.id !== actor.id && !allows(actor.scopes, "agents:read")) {
            return yield* new Forbidden({ scope: "agents:read" })
          }
          const [, day, tool] = /^(\d{4}-\d{2}-\d{2}):(.{1,300})$/.exec(cursor ?? "") ?? []
          if (cursor !== undefined && (day === undefined || !isDay(day))) {
            return yield* new InvalidField({ path: "query.cursor", message: "is no cursor of a list's next_cursor" })
          }
          const after = day === undefined || tool === undefined ? null : { day, tool }
          const found = yield* usages.of(actor, path.id, { from, to }, after, limit + 1)
          return pageBy(found, limit, (last) => `${last.day}:${last.tool}`)
        })
      )
      .handle("issueKey", ({ path, payload }) =>
        Effect.flatMap(CurrentAgent, (actor) => agents.issueKey(actor, path.id, payload))
      )
      .handle("revokeKey", ({ path }) =>
        Effect.flatMap(CurrentAgent, (actor) => agents.revokeKey(actor, path.id, path.keyId))
      )
  })
)
