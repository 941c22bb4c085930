import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import { Instant } from "./Instant.ts"

/** Who acts: a program or a person that owns tasks. */
export const AgentId = Schema.UUID.pipe(Schema.brand("AgentId"))
export type AgentId = typeof AgentId.Type

/** Every permission that a route may ask for. */
export const permissions = [
  "tasks:read",
  "tasks:write",
  "tasks:run",
  "runs:read",
  "runs:decide",
  "events:publish",
  "events:read",
  "agents:read",
  "agents:admin",
  "extensions:read",
  "extensions:admin",
  "work:execute",
  "secrets:write",
  "audit:read",
  "system:read"
] as const
export type Permission = (typeof permissions)[number]

const families = [...new Set(permissions.map((permission) => `${permission.split(":")[0]}:*`))]
const scopes = [...permissions, ...families, "admin"]

/** What an agent holds: a permission, a whole family (`tasks:*`), or `admin`, which has all and sees its whole namespace. */
export const Scope = Schema.String.pipe(
  Schema.filter((scope) => scopes.includes(scope) || `is no scope; there are ${scopes.join(", ")}`),
  Schema.annotations({ identifier: "Scope", jsonSchema: { type: "string", enum: scopes } })
)

/** Whether a list of scopes includes a permission. */
export const allows = (held: ReadonlyArray<string>, permission: string): boolean =>
  held.includes("admin") || held.includes(permission) || held.includes(`${permission.split(":")[0]}:*`)

/** Whether the holder of some scopes may grant a scope: nobody grants what they do not have. */
export const mayGrant = (held: ReadonlyArray<string>, scope: string): boolean =>
  held.includes("admin") || (scope !== "admin" && allows(held, scope))

/** The acting agent of a request or of a run. */
export interface Actor {
  readonly id: AgentId
  readonly name: string
  readonly namespace: string
  readonly scopes: ReadonlyArray<string>
}

/** Whom the credentials of a request name, and what bounds their use. */
export interface Caller extends Actor {
  /** Requests a minute; null: as many as everybody. */
  readonly rate_per_minute: number | null
  /** When the credentials end, epoch milliseconds; null: never. */
  readonly expires_at: number | null
  /** The API key that they are, or that bought them; null for a token of an outside issuer. */
  readonly key_id: string | null
}

/** A daily limit on the tools of one agent whose addresses match `tool`, as it is stored and shown. */
export const Budget = Schema.Struct({
  tool: Schema.String,
  calls_per_day: Schema.optionalWith(Schema.Int, { exact: true }),
  seconds_per_day: Schema.optionalWith(Schema.Number, { exact: true }),
  bytes_per_day: Schema.optionalWith(Schema.Int, { exact: true })
}).annotations({ identifier: "Budget" })
export type Budget = typeof Budget.Type

const mostOfABudget = 1e15

/** A budget as it is given: a pattern that an address can match, and at least one limit. */
const BudgetGiven = Schema.Struct({
  tool: Schema.String.pipe(Schema.maxLength(200), Schema.pattern(/^[A-Za-z0-9_.*-]+$/)).annotations({
    message: () => "is the address of a tool, such as core.http, in which * stands for any characters, as in mail.*"
  }),
  calls_per_day: Schema.optionalWith(Schema.Int.pipe(Schema.between(0, mostOfABudget)), { exact: true }),
  seconds_per_day: Schema.optionalWith(Schema.Number.pipe(Schema.between(0, mostOfABudget)), { exact: true }),
  bytes_per_day: Schema.optionalWith(Schema.Int.pipe(Schema.between(0, mostOfABudget)), { exact: true })
}).pipe(
  Schema.filter(
    ({ bytes_per_day, calls_per_day, seconds_per_day }) =>
      calls_per_day !== undefined ||
      seconds_per_day !== undefined ||
      bytes_per_day !== undefined || {
        path: ["calls_per_day"],
        message: "give at least one of calls_per_day, seconds_per_day and bytes_per_day"
      }
  ),
  Schema.annotations({ identifier: "BudgetGiven" })
)

/** Name of an agent, unique in its namespace. */
export const AgentName = Schema.String.pipe(Schema.pattern(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/)).annotations({
  description: "1 to 100 letters, digits, dots, underscores and hyphens"
})
const Limit = Schema.NullOr(Schema.Int.pipe(Schema.between(1, 1_000_000)))

const settable = {
  scopes: Schema.Array(Scope).pipe(Schema.maxItems(50)),
  disabled: Schema.Boolean,
  max_tasks: Schema.Int.pipe(Schema.between(0, 1_000_000)),
  max_concurrent_runs: Limit,
  rate_per_minute: Limit,
  budgets: Schema.Array(BudgetGiven).pipe(Schema.maxItems(100))
}

/** An API key as it is listed: never its secret. `id` is the public part of the key. */
export const KeyInfo = Schema.Struct({
  id: Schema.String,
  name: Schema.NullOr(Schema.String),
  last_used_at: Schema.NullOr(Instant),
  expires_at: Schema.NullOr(Instant),
  created_at: Instant
}).annotations({ identifier: "KeyInfo" })

/** An agent as the API shows it. */
export class Agent extends Schema.Class<Agent>("Agent")({
  id: AgentId,
  name: AgentName,
  namespace: Schema.String,
  ...settable,
  budgets: Schema.Array(Budget),
  keys: Schema.Array(KeyInfo),
  created_at: Instant
}) {}

/** Body of POST /agents. */
export const AgentCreate = Schema.Struct({
  name: AgentName,
  namespace: Schema.optionalWith(AgentName, { exact: true }),
  scopes: settable.scopes,
  disabled: Schema.optionalWith(settable.disabled, { exact: true, default: () => false }),
  max_tasks: Schema.optionalWith(settable.max_tasks, { exact: true, default: () => 10_000 }),
  max_concurrent_runs: Schema.optionalWith(Limit, { exact: true, default: () => null }),
  rate_per_minute: Schema.optionalWith(Limit, { exact: true, default: () => null }),
  budgets: Schema.optionalWith(settable.budgets, { exact: true, default: () => [] })
}).annotations({ identifier: "AgentCreate", parseOptions: { onExcessProperty: "error", errors: "all" } })
export type AgentCreate = typeof AgentCreate.Type

/** Body of PATCH /agents/{id}. */
export const AgentPatch = Schema.partialWith(Schema.Struct(settable), { exact: true }).annotations({
  identifier: "AgentPatch",
  parseOptions: { onExcessProperty: "error", errors: "all" }
})
export type AgentPatch = typeof AgentPatch.Type

/** Body of POST /agents/{id}/keys. */
export const KeyCreate = Schema.Struct({
  name: Schema.optionalWith(Schema.NonEmptyTrimmedString.pipe(Schema.maxLength(100)), { exact: true }),
  expires_at: Schema.optionalWith(Instant, { exact: true })
}).annotations({ identifier: "KeyCreate", parseOptions: { onExcessProperty: "error", errors: "all" } })
export type KeyCreate = typeof KeyCreate.Type

/** The one answer that bears a key's text. */
export const KeyIssued = Schema.Struct({
  id: Schema.String,
  key: Schema.String,
  created_at: Instant,
  expires_at: Schema.NullOr(Instant)
}).annotations({ identifier: "KeyIssued" })
export type KeyIssued = typeof KeyIssued.Type

/** No credentials, or bad ones; which of the two is not told. */
export class Unauthorized extends Schema.TaggedError<Unauthorized>()(
  "Unauthorized",
  {},
  HttpApiSchema.annotations({ status: 401 })
) {}

/** The credentials are good, but lack a scope. */
export class Forbidden extends Schema.TaggedError<Forbidden>()(
  "Forbidden",
  { scope: Schema.String },
  HttpApiSchema.annotations({ status: 403 })
) {}

/** No such agent, or not visible to this one. */
export class AgentNotFound extends Schema.TaggedError<AgentNotFound>()(
  "AgentNotFound",
  { agent_id: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

/** The agent has no such key. */
export class KeyNotFound extends Schema.TaggedError<KeyNotFound>()(
  "KeyNotFound",
  { key_id: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

/** Another agent of the namespace bears the name. */
export class AgentExists extends Schema.TaggedError<AgentExists>()(
  "AgentExists",
  { name: Schema.String },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** The last agent that can administer the namespace `main` is to be removed, disabled or stripped of `admin`. */
export class LastAdmin extends Schema.TaggedError<LastAdmin>()(
  "LastAdmin",
  { agent_id: Schema.String },
  HttpApiSchema.annotations({ status: 409 })
) {}
