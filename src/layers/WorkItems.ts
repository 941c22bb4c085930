import * as Model from "@effect/sql/Model"
import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, DateTime, Duration, Effect, Layer, Schema, Struct } from "effect"
import type { Actor } from "../domain/Agent.ts"
import { redact, redactText, substitute } from "../domain/SecretReferences.ts"
import type { UsedValues } from "../domain/SecretReferences.ts"
import { isRetryable } from "../domain/StepFailed.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { bytesOf, dayOf } from "../domain/Usage.ts"
import type { WaitResult } from "../domain/Wait.ts"
import { WorkItem, WorkLeaseLost } from "../domain/WorkItem.ts"
import type { WorkDone, WorkFailed, WorkHeartbeat, WorkKept, WorkWanted } from "../domain/WorkItem.ts"
import { Audit } from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import { Draining } from "./Draining.ts"
import * as HandedOut from "./HandedOut.ts"
import { Lease } from "./Lease.ts"
import * as LeaseTokens from "./LeaseTokens.ts"
import { MasterKey } from "./MasterKey.ts"
import * as Sealing from "./Sealing.ts"
import { Secrets } from "./Secrets.ts"
import { countUsage } from "./Usages.ts"
import { Wakeups } from "./Wakeups.ts"

/** Without a wake-up, those who wait look for work this often. */
const lookEvery = Duration.seconds(1)

/** Steps that external workers lease and do. Writes the leases of `pending_item`. */
export class WorkItems extends Context.Tag("ordinaut/WorkItems")<
  WorkItems,
  {
    /**
     * Leases what waits for the agent, the oldest first: tools of `worker` extensions that name it under `served_by`. Waits up to
     * `wait_seconds` for the first item.
     */
    readonly lease: (actor: Actor, wanted: WorkWanted) => Effect.Effect<ReadonlyArray<WorkItem>, StoreUnavailable>
    /** Keeps an item, or says that its run is canceled: also once that has ended by it, and nothing is left to keep. */
    readonly heartbeat: (
      actor: Actor,
      id: string,
      beat: WorkHeartbeat
    ) => Effect.Effect<WorkKept, WorkLeaseLost | StoreUnavailable>
    /** The output becomes that of the step. */
    readonly complete: (
      actor: Actor,
      id: string,
      done: WorkDone
    ) => Effect.Effect<void, WorkLeaseLost | StoreUnavailable>
    /** The step fails, or is called again, as its retries say. */
    readonly fail: (
      actor: Actor,
      id: string,
      failed: WorkFailed
    ) => Effect.Effect<void, WorkLeaseLost | StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* Lease
      const wakeups = yield* Wakeups
      const draining = yield* Draining
      const secrets = yield* Secrets
      const audit = yield* Audit
      const keys = yield* MasterKey
      const handedOut = HandedOut.make(sql, Sealing.make(keys.derive("secret")))
      const tokens = LeaseTokens.make(keys.derive("work"))

      /** What a token of the agent says; null for one of another item. */
      const tokenOf = (actor: Actor, id: string, token: string) => {
        const found = tokens.read(actor.id, token)
        return found?.id === id ? found : null
      }

      /** Whether the item is the agent's by this token, at this instant. */
      const held = (actor: Actor, id: string, token: string, now: Date) => sql`
        p.id = ${id} AND p.kind = 'tool' AND p.result IS NULL AND p.namespace = ${actor.namespace} AND p.locked_by = ${actor.id}
        AND p.locked_until > ${now} AND p.lease_no = ${tokenOf(actor, id, token)?.lease ?? null}`

      /** The values of the secrets that a step may hand to its tool; of one that it may not any more there is none. */
      const valuesOf = (namespace: string, tool: string, names: ReadonlyArray<string>) =>
        Effect.forEach(names, (name) =>
          secrets.reveal(namespace, `secret://${name}`, { tool, host: null }).pipe(
            Effect.map(({ used }) => [...used]),
            // Each by itself: of one that is gone the reference stands in the input.
            Effect.catchTag("StepFailed", () => Effect.succeed([]))
          )
        ).pipe(Effect.map((found): ReadonlyMap<string, string> => new Map(found.flat())))

      const take = Effect.fnUntraced(function* (actor: Actor, { lease_seconds, limit, tools }: WorkWanted) {
        const now = DateTime.toDateUtc(yield* DateTime.now)
        const until = new Date(now.getTime() + lease_seconds * 1000)
        const chosen = tools.length === 0 ? sql`true` : sql`p.tool = ANY (${[...tools]}::text[])`
        const rows = yield* Effect.gen(function* () {
          const leased = yield* sql<{ id: string; lease: number; run_id: string }>`
          UPDATE pending_item p SET lease_no = p.lease_no + 1, locked_by = ${actor.id}, locked_until = ${until}, leased_at = ${now}
          WHERE p.id = ANY (ARRAY(
            SELECT p.id FROM pending_item p JOIN extension e ON e.namespace = p.namespace AND e.name = split_part(p.tool, '.', 1)
            WHERE p.kind = 'tool' AND p.result IS NULL AND p.namespace = ${actor.namespace} AND e.kind = 'worker'
              AND ${actor.name} = ANY (e.served_by) AND ${chosen}
              AND (p.locked_until IS NULL OR p.locked_until <= ${now}) AND (p.expires_at IS NULL OR p.expires_at > ${now})
            ORDER BY p.created_at, p.id LIMIT ${limit} FOR UPDATE OF p SKIP LOCKED))
          RETURNING p.id, p.tool, p.detail -> 'input' AS input,
            coalesce(p.detail -> 'secrets', '[]') AS secrets, p.run_id, p.step_id,
            nullif(p.item, -1) AS index, p.detail ->> 'idempotency_key' AS idempotency_key,
            (p.detail ->> 'attempt')::integer AS attempt, p.lease_no AS lease, p.locked_until AS lease_until`
          const items = leased.map(({ id, lease, run_id }) => ({ id, lease, run_id }))
          if (items.length > 0) yield* audit.record(entry(actor, "work.leased", "agent", actor.id, { items }))
          return leased
        }).pipe(sql.withTransaction)
        const items = yield* Effect.forEach(yield* decodeItems(rows), ({ secrets: names, ...item }) =>
          Effect.gen(function* () {
            const values = yield* valuesOf(actor.namespace, item.tool, names)
            // Kept before it leaves.
            if (values.size > 0 && !(yield* handedOut.keep(actor.namespace, item.id, item.lease, [...values])))
              return []
            const lease_token = tokens.of(actor.id, { id: item.id, lease: item.lease, runId: item.run_id })
            return [{ ...item, lease_token, input: substitute(item.input, values) }]
          })
        )
        return items.flat()
      })

      const finish = Effect.fnUntraced(function* (actor: Actor, id: string, token: string, result: WaitResult) {
        const now = DateTime.toDateUtc(yield* DateTime.now)
        const answered = yield* Effect.gen(function* () {
          const [mine] = yield* sql<{
            agent_id: string
            tool: string
            leased_at: Date | null
          }>`
            SELECT p.agent_id, p.tool, p.leased_at FROM pending_item p
            WHERE ${held(actor, id, token, now)} FOR UPDATE`
          if (mine === undefined) return []
          const stored = yield* handedOut.of(actor.namespace, id).pipe(
            Effect.map((used) => concealed(result, used)),
            Effect.catchTag("Unopenable", ({ message }) =>
              Effect.logError("An answer was not stored: what its worker was given cannot be taken out of it.").pipe(
                Effect.annotateLogs({ item_id: id, reason: message }),
                Effect.as(unreadable)
              )
            )
          )
          const answers = yield* store.answer([{ id, result: stored }])
          if (answers.length === 0) return []
          const { agent_id, leased_at, tool } = mine
          const seconds = (now.getTime() - (leased_at ?? now).getTime()) / 1000
          const bytes = "output" in result ? bytesOf(result.output) : 0
          yield* countUsage(sql, [{ agent_id, day: dayOf(now.getTime()), tool, calls: 0, seconds, bytes }])
          yield* audit.record(entry(actor, did(result), "work_item", id, { tool }))
          return answers
        }).pipe(sql.withTransaction)
        if (answered.length === 0) return yield* new WorkLeaseLost({ item_id: id })
        yield* wakeups.signal("work")
      })

      return WorkItems.of({
        lease: Effect.fn("WorkItems.lease")(function* (actor, wanted) {
          const end = (yield* Clock.currentTimeMillis) + wanted.wait_seconds * 1000
          for (;;) {
            const items = yield* take(actor, wanted)
            const left = end - (yield* Clock.currentTimeMillis)
            if (items.length > 0 || left <= 0 || (yield* draining.isDraining)) return items
            yield* wakeups.wait("tool", Duration.min(lookEvery, Duration.millis(left)))
          }
        }, storeErrors),

        heartbeat: Effect.fn("WorkItems.heartbeat")(function* (actor, id, { lease_seconds, lease_token }) {
          const now = DateTime.toDateUtc(yield* DateTime.now)
          const until = new Date(now.getTime() + lease_seconds * 1000)
          const [kept] = yield* sql<{ cancel: boolean }>`
            UPDATE pending_item p SET locked_until = greatest(p.locked_until, ${until}) FROM due_work d
            WHERE ${held(actor, id, lease_token, now)} AND d.id = p.run_id
            RETURNING d.cancel_requested_at IS NOT NULL AS cancel`
          if (kept === undefined) {
            const runId = tokenOf(actor, id, lease_token)?.runId
            const [over] =
              runId === undefined
                ? []
                : yield* sql`SELECT FROM task_run WHERE id = ${runId} AND namespace = ${actor.namespace} AND state = 'canceled'`
            return over === undefined
              ? yield* new WorkLeaseLost({ item_id: id })
              : { cancel: true, lease_until: DateTime.unsafeMake(now) }
          }
          return { cancel: kept.cancel, lease_until: DateTime.unsafeMake(until) }
        }, storeErrors),

        complete: Effect.fn("WorkItems.complete")(
          (actor, id, { lease_token, output }) => finish(actor, id, lease_token, { output }),
          storeErrors
        ),

        fail: Effect.fn("WorkItems.fail")(
          (actor, id, { code, lease_token, message, retryable = isRetryable(code) }) =>
            finish(actor, id, lease_token, { error: { code, message, retryable } }),
          storeErrors
        )
      })
    })
  )
}

const did = (result: WaitResult) => ("output" in result ? "work.completed" : "work.failed")

const entry = ({ id, namespace }: Actor, action: string, subject_kind: string, subject_id: string, after: unknown) => ({
  actor: id,
  namespace,
  action,
  subject_kind,
  subject_id,
  before: null,
  after
})

/** A worker that echoes what it was given leaks nothing into the record. */
const concealed = (result: WaitResult, used: UsedValues): WaitResult =>
  "output" in result
    ? { output: redact(result.output, used) }
    : { error: { ...result.error, message: redactText(result.error.message, used) } }

/** What a step gets in place of an answer that might hold a secret. */
const unreadable: WaitResult = {
  error: {
    code: "internal",
    message: "the secrets that the worker was given can no longer be read, so that its answer is not stored",
    retryable: true
  }
}

const decodeItems = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      ...Struct.omit(WorkItem.fields, "lease_token"),
      secrets: Schema.Array(Schema.String),
      lease_until: Model.DateTimeFromDate
    })
  )
)
