import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSecurity from "@effect/platform/HttpApiSecurity"
import { Context, Effect, Layer, Schema } from "effect"
import type { Redacted } from "effect"
import { allows, Forbidden, Unauthorized } from "../domain/Agent.ts"
import type { Caller, Permission } from "../domain/Agent.ts"
import { RateLimited } from "../domain/RateLimit.ts"
import { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { IssuerUnavailable, KeyRequired } from "../domain/Token.ts"
import * as Credentials from "./Credentials.ts"

/** The agent whose credentials a request bears. */
export class CurrentAgent extends Context.Tag("ordinaut/CurrentAgent")<CurrentAgent, Caller>() {}

const options = {
  failure: Schema.Union(Unauthorized, Forbidden, RateLimited, StoreUnavailable, IssuerUnavailable),
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
export class AuditRead extends HttpApiMiddleware.Tag<AuditRead>()("audit:read", options) {}
export class SystemRead extends HttpApiMiddleware.Tag<SystemRead>()("system:read", options) {}

/** Any good credentials, whatever their scopes. */
export class AnyAgent extends HttpApiMiddleware.Tag<AnyAgent>()("any agent", options) {}
/** An API key, whatever its scopes; a token is refused. */
export class KeyHolder extends HttpApiMiddleware.Tag<KeyHolder>()("an API key", {
  ...options,
  failure: Schema.Union(KeyRequired, options.failure)
}) {}

const check = (permission: Permission) =>
  Effect.map(Credentials.caller, (caller) => ({
    bearer: Effect.fnUntraced(function* (token: Redacted.Redacted) {
      const found = yield* caller(token)
      return allows(found.scopes, permission) ? found : yield* new Forbidden({ scope: permission })
    })
  }))

const anyAgent = Effect.map(Credentials.caller, (bearer) => ({ bearer }))

const keyHolder = Effect.map(Credentials.caller, (caller) => ({
  bearer: (token: Redacted.Redacted) =>
    Effect.flatMap(caller(token), (found) => (Credentials.isKey(token) ? Effect.succeed(found) : new KeyRequired()))
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
  Layer.effect(AuditRead, check("audit:read")),
  Layer.effect(SystemRead, check("system:read")),
  Layer.effect(AnyAgent, anyAgent),
  Layer.effect(KeyHolder, keyHolder)
)
