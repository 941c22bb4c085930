import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSecurity from "@effect/platform/HttpApiSecurity"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { Context, Effect, Layer, Redacted, Schema } from "effect"
import { allows, Forbidden, Unauthorized } from "../domain/Agent.ts"
import type { Actor, Permission } from "../domain/Agent.ts"
import { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { Agents } from "../layers/Agents.ts"
import * as Metrics from "../layers/Metrics.ts"

/** The agent whose credentials a request bears. */
export class CurrentAgent extends Context.Tag("ordinaut/CurrentAgent")<CurrentAgent, Actor>() {}

const options = {
  failure: Schema.Union(Unauthorized, Forbidden, StoreUnavailable),
  provides: CurrentAgent,
  security: { bearer: HttpApiSecurity.bearer }
} as const

/** One middleware a permission: an endpoint that bears it asks for credentials and for that permission. */
export class TasksRead extends HttpApiMiddleware.Tag<TasksRead>()("tasks:read", options) {}
export class TasksWrite extends HttpApiMiddleware.Tag<TasksWrite>()("tasks:write", options) {}
export class TasksRun extends HttpApiMiddleware.Tag<TasksRun>()("tasks:run", options) {}
export class RunsRead extends HttpApiMiddleware.Tag<RunsRead>()("runs:read", options) {}
export class RunsDecide extends HttpApiMiddleware.Tag<RunsDecide>()("runs:decide", options) {}
export class WorkExecute extends HttpApiMiddleware.Tag<WorkExecute>()("work:execute", options) {}
export class EventsPublish extends HttpApiMiddleware.Tag<EventsPublish>()("events:publish", options) {}
export class EventsRead extends HttpApiMiddleware.Tag<EventsRead>()("events:read", options) {}
export class AgentsRead extends HttpApiMiddleware.Tag<AgentsRead>()("agents:read", options) {}
export class AgentsAdmin extends HttpApiMiddleware.Tag<AgentsAdmin>()("agents:admin", options) {}
export class ExtensionsRead extends HttpApiMiddleware.Tag<ExtensionsRead>()("extensions:read", options) {}
export class ExtensionsAdmin extends HttpApiMiddleware.Tag<ExtensionsAdmin>()("extensions:admin", options) {}
export class SecretsWrite extends HttpApiMiddleware.Tag<SecretsWrite>()("secrets:write", options) {}
export class SystemRead extends HttpApiMiddleware.Tag<SystemRead>()("system:read", options) {}

const check = (permission: Permission) =>
  Effect.map(Agents, (agents) => ({
    bearer: Effect.fnUntraced(function* (token: Redacted.Redacted) {
      const { headers } = yield* HttpServerRequest.HttpServerRequest
      const key = Redacted.value(token)
      // The platform cuts off the first seven characters, whatever scheme they name.
      if (key === "" || !/^Bearer /i.test(headers["authorization"] ?? "")) {
        Metrics.authFailures.add(1, { reason: "absent" })
        return yield* new Unauthorized()
      }
      const agent = yield* agents.authenticate(key)
      return allows(agent.scopes, permission) ? agent : yield* new Forbidden({ scope: permission })
    })
  }))

/** All of them. */
export const layer = Layer.mergeAll(
  Layer.effect(TasksRead, check("tasks:read")),
  Layer.effect(TasksWrite, check("tasks:write")),
  Layer.effect(TasksRun, check("tasks:run")),
  Layer.effect(RunsRead, check("runs:read")),
  Layer.effect(RunsDecide, check("runs:decide")),
  Layer.effect(WorkExecute, check("work:execute")),
  Layer.effect(EventsPublish, check("events:publish")),
  Layer.effect(EventsRead, check("events:read")),
  Layer.effect(AgentsRead, check("agents:read")),
  Layer.effect(AgentsAdmin, check("agents:admin")),
  Layer.effect(ExtensionsRead, check("extensions:read")),
  Layer.effect(ExtensionsAdmin, check("extensions:admin")),
  Layer.effect(SecretsWrite, check("secrets:write")),
  Layer.effect(SystemRead, check("system:read"))
)
