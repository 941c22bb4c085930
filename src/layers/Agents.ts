import { randomBytes, timingSafeEqual } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import { Cache, Clock, Context, DateTime, Duration, Effect, Exit, Layer, Schema } from "effect"
import * as AgentModel from "../domain/Agent.ts"
import type { Actor, AgentCreate, AgentPatch, Caller, KeyCreate, KeyIssued } from "../domain/Agent.ts"
import * as ApiKey from "../domain/ApiKey.ts"
import { Instant } from "../domain/Instant.ts"
import type { Page, PageRequest } from "../domain/Page.ts"
import { pageOf } from "../domain/Page.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import * as AgentRows from "./AgentRows.ts"
import { keyHash } from "./AgentRows.ts"
import * as AgentSlots from "./AgentSlots.ts"
import { Audit } from "./Audit.ts"
import { synchronized } from "./Clock.ts"
import { constraintOf, storeErrors } from "./Db.ts"
import { MasterKey } from "./MasterKey.ts"
import * as Metrics from "./Metrics.ts"

const { Agent, AgentExists, Forbidden, KeyNotFound, LastAdmin, Unauthorized, mayGrant } = AgentModel

/** A disabled agent, a narrowed scope or a revoked key takes effect in every process within 5 s: this, and the time of the look. */
const credentialsFor = Duration.seconds(4)
/** `last_used_at` of a key is written at most once in this time. */
const usedEvery = Duration.minutes(1)

type Denied = AgentModel.Forbidden | AgentModel.AgentNotFound

/** Who may act. Owns `agent` and `api_key`. */
export class Agents extends Context.Tag("ordinaut/Agents")<
  Agents,
  {
    /** Whose API key it is. Fails alike for a malformed, unknown, expired or revoked key and a disabled agent. */
    readonly authenticate: (key: string) => Effect.Effect<Caller, AgentModel.Unauthorized | StoreUnavailable>
    /** Makes an agent in the actor's namespace; an admin of `main` may name another one. */
    readonly create: (
      actor: Actor,
      input: AgentCreate
    ) => Effect.Effect<AgentModel.Agent, AgentModel.Forbidden | AgentModel.AgentExists | StoreUnavailable>
    readonly list: (actor: Actor, page: PageRequest) => Effect.Effect<Page<AgentModel.Agent>, StoreUnavailable>
    readonly get: (
      actor: Actor,
      id: string
    ) => Effect.Effect<AgentModel.Agent, AgentModel.AgentNotFound | StoreUnavailable>
    readonly patch: (
      actor: Actor,
      id: string,
      patch: AgentPatch
    ) => Effect.Effect<AgentModel.Agent, Denied | AgentModel.LastAdmin | StoreUnavailable>
    /** Removes an agent: its keys are revoked, its tasks stay as they are and can be seen by an admin. */
    readonly remove: (actor: Actor, id: string) => Effect.Effect<void, Denied | AgentModel.LastAdmin | StoreUnavailable>
    /** The one answer that bears the key's text. */
    readonly issueKey: (
      actor: Actor,
      id: string,
      input: KeyCreate
    ) => Effect.Effect<KeyIssued, Denied | StoreUnavailable>
    readonly revokeKey: (
      actor: Actor,
      id: string,
      keyId: string
    ) => Effect.Effect<void, Denied | AgentModel.KeyNotFound | StoreUnavailable>
    /** Makes the first admin with this key when there is no admin yet; answers whether it did. */
    readonly ensureAdmin: (key: ApiKey.ApiKey) => Effect.Effect<boolean, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const audit = yield* Audit
      const peppers = (yield* MasterKey).derive("api-key")

      const rows = AgentRows.make(sql, peppers[0])
      const slots = AgentSlots.make(sql)

      const grantable = (actor: Actor, scopes: ReadonlyArray<string>) => {
        const scope = scopes.find((wanted) => !mayGrant(actor.scopes, wanted))
        return scope === undefined ? Effect.void : new Forbidden({ scope })
      }

      /** Runs a change that must leave an admin of `main` behind; concurrent ones queue, so that two cannot remove the last two. */
      const keepingAnAdmin = <A, E, R>(id: string, change: Effect.Effect<A, E, R>) =>
        Effect.gen(function* () {
          yield* sql`SELECT pg_advisory_xact_lock(hashtext('ordinaut.admins'))`
          const result = yield* change
          const [left] = yield* sql<{ n: number }>`SELECT count(*)::int AS n FROM agent
            WHERE namespace = 'main' AND 'admin' = ANY (scopes) AND NOT disabled AND deleted_at IS NULL`
          return (left?.n ?? 0) === 0 ? yield* new LastAdmin({ agent_id: id }) : result
        }).pipe(sql.withTransaction)

      const trail = (actor: Actor, action: string, id: string, before: unknown, after: unknown) =>
        audit.record({
          actor: actor.id,
          namespace: actor.namespace,
          action,
          subject_kind: "agent",
          subject_id: id,
          before,
          after
        })

      const credentials = yield* Cache.makeWith({
        capacity: 10_000,
        // An outage is not remembered.
        timeToLive: (exit) => (Exit.isSuccess(exit) ? credentialsFor : Duration.zero),
        lookup: (id: string) => storeErrors(rows.credentials(id))
      })

      const touched = new Map<string, number>()
      const touch = Effect.fnUntraced(function* (id: string, now: number) {
        if (now - (touched.get(id) ?? 0) < Duration.toMillis(usedEvery)) return
        touched.set(id, now)
        yield* sql`UPDATE api_key SET last_used_at = ${new Date(now)} WHERE id = ${id}`
      })

      return Agents.of({
        authenticate: Effect.fn("Agents.authenticate")(function* (text) {
          const key = ApiKey.parse(text)
          if (key === undefined) return yield* refused("malformed")
          // Every request that reads or writes the store comes by here.
          yield* synchronized
          const found = yield* credentials.get(key.id)
          const now = yield* Clock.currentTimeMillis
          // The hash is compared for an unknown key too, so that its answer takes as long.
          const known = peppers.some((pepper) => timingSafeEqual(keyHash(pepper, text), found?.hash ?? randomBytes(32)))
          if (found === undefined || !known) return yield* refused("unknown")
          if (found.disabled) return yield* refused("disabled")
          const expires_at = found.expires_at === null ? null : DateTime.toEpochMillis(found.expires_at)
          if (expires_at !== null && expires_at <= now) return yield* refused("expired")
          yield* touch(key.id, now)
          const { id, name, namespace, rate_per_minute, scopes } = found
          return { id, name, namespace, scopes, rate_per_minute, expires_at, key_id: key.id }
        }, storeErrors),

        create: Effect.fn("Agents.create")(function* (actor, input) {
          yield* grantable(actor, input.scopes)
          const namespace = input.namespace ?? actor.namespace
          if (namespace !== actor.namespace && !(actor.namespace === "main" && actor.scopes.includes("admin"))) {
            return yield* new Forbidden({ scope: "admin" })
          }
          return yield* Effect.gen(function* () {
            const id = yield* rows.insert({ ...input, namespace })
            const made = yield* rows.one(actor, id).pipe(Effect.orDie)
            yield* trail(actor, "agent.created", id, null, encodeAgent(made))
            return made
          }).pipe(
            sql.withTransaction,
            Effect.catchIf(
              (error) => error instanceof SqlError && constraintOf(error) === "agent_name",
              () => new AgentExists({ name: input.name })
            )
          )
        }, storeErrors),

        list: Effect.fn("Agents.list")(function* (actor, page) {
          const before = page.before === null ? sql`true` : sql`a.id < ${page.before}`
          const agents = yield* rows.select(
            sql`${rows.visible(actor)} AND ${before} ORDER BY a.id DESC LIMIT ${page.limit + 1}`
          )
          return pageOf(agents, page.limit)
        }, storeErrors),

        get: Effect.fn("Agents.get")(rows.one, storeErrors),

        patch: Effect.fn("Agents.patch")(function* (actor, id, patch) {
          yield* grantable(actor, patch.scopes ?? [])
          return yield* keepingAnAdmin(
            id,
            Effect.gen(function* () {
              const before = yield* rows.one(actor, id)
              const { budgets, disabled, max_concurrent_runs, max_tasks, rate_per_minute, scopes } = {
                ...before,
                ...patch
              }
              yield* sql`
                UPDATE agent SET scopes = ${scopes}::text[], disabled = ${disabled}, max_tasks = ${max_tasks},
                  max_concurrent_runs = ${max_concurrent_runs}, rate_per_minute = ${rate_per_minute},
                  budgets = ${JSON.stringify(budgets)}::jsonb WHERE id = ${id}`
              // After the row of the agent, and last but for the trail: turns wait for these locks.
              if (max_concurrent_runs !== before.max_concurrent_runs) yield* slots.change(id, max_concurrent_runs)
              const after = yield* rows.one(actor, id)
              yield* trail(actor, "agent.changed", id, encodeAgent(before), encodeAgent(after))
              return after
            })
          )
        }, storeErrors),

        remove: Effect.fn("Agents.remove")(function* (actor, id) {
          yield* keepingAnAdmin(
            id,
            Effect.gen(function* () {
              const before = yield* rows.one(actor, id)
              const now = DateTime.toDate(yield* DateTime.now)
              yield* sql`UPDATE agent SET deleted_at = ${now} WHERE id = ${id}`
              yield* sql`UPDATE api_key SET revoked_at = ${now} WHERE agent_id = ${id} AND revoked_at IS NULL`
              yield* trail(actor, "agent.removed", id, encodeAgent(before), null)
            })
          )
        }, storeErrors),

        issueKey: Effect.fn("Agents.issueKey")(function* (actor, id, input) {
          return yield* Effect.gen(function* () {
            const agent = yield* rows.one(actor, id)
            // A key acts with the agent's scopes: to issue one is to grant them.
            yield* grantable(actor, agent.scopes)
            const issued = yield* rows.insertKey(id, ApiKey.fromRandom(randomBytes(41)), input)
            yield* trail(actor, "agent.key_issued", id, null, { key_id: issued.id })
            return issued
          }).pipe(sql.withTransaction)
        }, storeErrors),

        revokeKey: Effect.fn("Agents.revokeKey")(function* (actor, id, keyId) {
          yield* Effect.gen(function* () {
            const agent = yield* rows.one(actor, id)
            yield* grantable(actor, agent.scopes)
            const now = DateTime.toDate(yield* DateTime.now)
            const revoked = yield* sql`
              UPDATE api_key SET revoked_at = ${now} WHERE id = ${keyId} AND agent_id = ${id} AND revoked_at IS NULL RETURNING id`
            if (revoked.length === 0) return yield* new KeyNotFound({ key_id: keyId })
            yield* trail(actor, "agent.key_revoked", id, { key_id: keyId }, null)
          }).pipe(sql.withTransaction)
          yield* credentials.invalidate(keyId)
        }, storeErrors),

        ensureAdmin: Effect.fn("Agents.ensureAdmin")(
          function* (key) {
            yield* sql`SELECT pg_advisory_xact_lock(hashtext('ordinaut.admins'))`
            const admins = yield* sql`
            SELECT id FROM agent WHERE namespace = 'main' AND 'admin' = ANY (scopes) AND deleted_at IS NULL LIMIT 1`
            if (admins.length > 0) return false
            const id = yield* rows.insert({ ...firstAdmin, namespace: "main" })
            yield* rows.insertKey(id, key, { name: "first key" })
            yield* audit.record({
              actor: "system",
              namespace: "main",
              action: "agent.created",
              subject_kind: "agent",
              subject_id: id,
              before: null,
              after: { name: firstAdmin.name, scopes: firstAdmin.scopes }
            })
            return true
          },
          sql.withTransaction,
          storeErrors
        )
      })
    })
  )
}

const firstAdmin: AgentCreate = {
  name: "admin",
  scopes: ["admin"],
  disabled: false,
  max_tasks: 10_000,
  max_concurrent_runs: null,
  rate_per_minute: null,
  budgets: []
}

const encodeAgent = Schema.encodeSync(Schema.Struct({ ...Agent.fields, created_at: Instant }))

const refused = (reason: "malformed" | "unknown" | "disabled" | "expired") => {
  Metrics.authFailures.add(1, { reason })
  return new Unauthorized()
}
