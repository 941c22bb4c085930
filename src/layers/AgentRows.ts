import { createHmac } from "node:crypto"
import * as Model from "@effect/sql/Model"
import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { DateTime, Effect, Schema } from "effect"
import { Agent, AgentId, AgentNotFound } from "../domain/Agent.ts"
import type { Actor, AgentCreate, KeyCreate } from "../domain/Agent.ts"
import type { ApiKey } from "../domain/ApiKey.ts"
import { isId } from "../domain/Id.ts"
import * as AgentSlots from "./AgentSlots.ts"
import * as Ids from "./Ids.ts"

/** What is stored of a key's text: HMAC-SHA-256 under the server's pepper. */
export const keyHash = (pepper: Uint8Array, key: string) => createHmac("sha256", pepper).update(key).digest()

/** Agents `a` that an actor may see: an admin of `main` manages every namespace; everybody else sees their own. */
export const visibleTo = (sql: SqlClient.SqlClient, actor: Actor) =>
  actor.namespace === "main" && actor.scopes.includes("admin") ? sql`true` : sql`a.namespace = ${actor.namespace}`

/** The statements on `agent` and `api_key`; new keys are hashed under `pepper`. */
export const make = (sql: SqlClient.SqlClient, pepper: Uint8Array) => {
  const select = (where: Statement.Fragment) =>
    sql`
      SELECT a.id, a.name, a.namespace, a.scopes, a.disabled, a.max_tasks, a.max_concurrent_runs, a.rate_per_minute, a.budgets,
        a.created_at, coalesce((
          SELECT jsonb_agg(jsonb_build_object('id', k.id, 'name', k.name, 'last_used_at', k.last_used_at,
            'expires_at', k.expires_at, 'created_at', k.created_at) ORDER BY k.created_at)
          FROM api_key k WHERE k.agent_id = a.id AND k.revoked_at IS NULL), '[]') AS keys
      FROM agent a WHERE a.deleted_at IS NULL AND ${where}`.pipe(Effect.flatMap(decodeAgents))

  const visible = (actor: Actor) => visibleTo(sql, actor)

  return {
    select,
    visible,
    one: Effect.fnUntraced(function* (actor: Actor, id: string) {
      const [agent] = isId(id) ? yield* select(sql`a.id = ${id} AND ${visible(actor)}`) : []
      return agent === undefined ? yield* new AgentNotFound({ agent_id: id }) : agent
    }),
    insert: Effect.fnUntraced(function* (agent: AgentCreate & { readonly namespace: string }) {
      const id = yield* Ids.next
      const now = DateTime.toDateUtc(yield* DateTime.now)
      yield* sql`
        INSERT INTO agent (id, name, namespace, scopes, disabled, max_tasks, max_concurrent_runs, rate_per_minute, budgets, created_at)
        VALUES (${id}, ${agent.name}, ${agent.namespace}, ${agent.scopes}::text[], ${agent.disabled}, ${agent.max_tasks},
          ${agent.max_concurrent_runs}, ${agent.rate_per_minute}, ${JSON.stringify(agent.budgets)}::jsonb, ${now})`
      yield* AgentSlots.make(sql).begin(id, agent.max_concurrent_runs)
      return id
    }),
    insertKey: Effect.fnUntraced(function* (agentId: string, key: ApiKey, input: KeyCreate) {
      const now = yield* DateTime.now
      const expires_at = input.expires_at ?? null
      yield* sql`
        INSERT INTO api_key (id, agent_id, name, hash, expires_at, created_at)
        VALUES (${key.id}, ${agentId}, ${input.name ?? null}, ${keyHash(pepper, key.text)},
          ${expires_at === null ? null : DateTime.toDateUtc(expires_at)}, ${DateTime.toDateUtc(now)})`
      return { id: key.id, key: key.text, created_at: now, expires_at }
    }),
    /** Whose key it is, and the hash to compare; undefined for a revoked key and a removed agent too. */
    credentials: (keyId: string) =>
      sql`
        SELECT k.hash, k.expires_at, a.id, a.name, a.namespace, a.scopes, a.disabled, a.rate_per_minute
        FROM api_key k JOIN agent a ON a.id = k.agent_id
        WHERE k.id = ${keyId} AND k.revoked_at IS NULL AND a.deleted_at IS NULL`.pipe(
        Effect.flatMap(decodeCredentials),
        Effect.map(([found]) => found)
      )
  }
}

const decodeAgents = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({ ...Agent.fields, created_at: Model.DateTimeFromDate }))
)
const decodeCredentials = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      hash: Schema.Uint8ArrayFromSelf,
      expires_at: Schema.NullOr(Model.DateTimeFromDate),
      id: AgentId,
      name: Schema.String,
      namespace: Schema.String,
      scopes: Schema.Array(Schema.String),
      disabled: Schema.Boolean,
      rate_per_minute: Schema.NullOr(Schema.Int)
    })
  )
)
