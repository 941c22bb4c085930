import * as Model from "@effect/sql/Model"
import * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { Context, DateTime, Effect, Layer, Schema } from "effect"
import type { Actor } from "../domain/Agent.ts"
import { AlreadyDecided, Approval, ApprovalNotFound } from "../domain/Approval.ts"
import type { Decided, Decision } from "../domain/Approval.ts"
import { isId } from "../domain/Id.ts"
import type { Page, PageRequest } from "../domain/Page.ts"
import { pageOf } from "../domain/Page.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { Audit } from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import { Lease } from "./Lease.ts"
import { fitting } from "./PageSize.ts"
import { Wakeups } from "./Wakeups.ts"

/** What waits for somebody's decision. */
export class Approvals extends Context.Tag("ordinaut/Approvals")<
  Approvals,
  {
    /** What waits for this agent: where it is among the approvers, and without any, where it owns the run or is an admin. Newest first. */
    readonly list: (actor: Actor, page: PageRequest) => Effect.Effect<Page<Approval>, StoreUnavailable>
    /** Decides, once and for all; the run goes on with the decision as the step's output. */
    readonly decide: (
      actor: Actor,
      runId: string,
      stepId: string,
      decision: Decision
    ) => Effect.Effect<Decided, ApprovalNotFound | AlreadyDecided | StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      const audit = yield* Audit
      const wakeups = yield* Wakeups

      const waitsFor = (actor: Actor) => sql`
        p.kind = 'approval' AND p.namespace = ${actor.namespace} AND (p.detail -> 'approvers' ? ${actor.name}
          OR p.detail -> 'approvers' = '[]' AND (p.agent_id = ${actor.id} OR ${actor.scopes.includes("admin")}))`

      const select = (where: Statement.Fragment) =>
        sql`
          SELECT p.id, p.run_id, d.task_id, p.step_id, nullif(p.item, -1) AS index, p.detail -> 'message' AS message,
            p.detail -> 'data' AS data, p.detail -> 'approvers' AS approvers, p.expires_at, p.created_at, p.result IS NOT NULL AS decided
          FROM pending_item p JOIN due_work d ON d.id = p.run_id WHERE ${where}`.pipe(Effect.flatMap(decodeRows))

      /** How an approval that is no longer waited for, of those that this agent could decide, came out; null for what is none. */
      const past = (actor: Actor, runId: string, stepId: string, item: number) =>
        sql<{ reason: "decided" | "expired" }>`
          SELECT CASE WHEN s.error ->> 'code' = 'expired' OR s.output -> 'decided_by' = 'null' THEN 'expired' ELSE 'decided' END AS reason
          FROM (
            SELECT input, output, error, state, uses FROM live_step
            WHERE run_id = ${runId} AND kind = 'step' AND step_id = ${stepId} AND item = ${item}
            UNION ALL
            SELECT input, output, error, state, uses FROM run_step WHERE run_id = ${runId} AND step_id = ${stepId} AND item = ${item}
          ) AS s CROSS JOIN (
            SELECT agent_id, namespace FROM due_work WHERE id = ${runId}
            UNION ALL SELECT agent_id, namespace FROM task_run WHERE id = ${runId}) AS r
          WHERE s.uses = 'core.approval' AND r.namespace = ${actor.namespace}
            AND (s.state = 'succeeded' OR s.state = 'failed' AND s.error ->> 'code' IN ('expired', 'rejected'))
            AND (s.input -> 'approvers' ? ${actor.name} OR coalesce(s.input -> 'approvers', '[]') = '[]'
              AND (r.agent_id = ${actor.id} OR ${actor.scopes.includes("admin")}))
          LIMIT 1`.pipe(Effect.map(([row]) => row?.reason ?? null))

      return Approvals.of({
        list: Effect.fn("Approvals.list")(function* (actor, page) {
          const now = DateTime.toDateUtc(yield* DateTime.now)
          const before = page.before === null ? sql`true` : sql`p.id < ${page.before}`
          const open = sql`p.result IS NULL AND (p.expires_at IS NULL OR p.expires_at > ${now})`
          const mine = sql`${waitsFor(actor)} AND ${open} AND ${before} ORDER BY p.id DESC`
          const limit = yield* fitting(
            sql`SELECT octet_length(p.detail::text) AS size FROM pending_item p WHERE ${mine} LIMIT ${page.limit}`
          )
          return pageOf(yield* select(sql`${mine} LIMIT ${limit + 1}`), limit)
        }, storeErrors),

        decide: Effect.fn("Approvals.decide")(function* (actor, runId, stepId, { comment, data, decision, index }) {
          const now = yield* DateTime.now
          const decided: Decided = {
            status: decision,
            data: data ?? null,
            comment: comment ?? null,
            decided_by: actor.id,
            decided_at: now
          }
          yield* Effect.gen(function* () {
            const [found] = isId(runId)
              ? yield* select(
                  sql`${waitsFor(actor)} AND p.run_id = ${runId} AND p.step_id = ${stepId} AND p.item = ${index ?? -1}`
                )
              : []
            if (found === undefined) {
              const reason = isId(runId) ? yield* past(actor, runId, stepId, index ?? -1) : null
              return reason === null
                ? yield* new ApprovalNotFound({ run_id: runId, step_id: stepId })
                : yield* new AlreadyDecided({ run_id: runId, step_id: stepId, reason })
            }
            if (!found.decided && found.expires_at !== null && DateTime.lessThanOrEqualTo(found.expires_at, now)) {
              return yield* new AlreadyDecided({ run_id: runId, step_id: stepId, reason: "expired" })
            }
            const output = { ...decided, decided_at: DateTime.formatIso(now) }
            const answered = yield* lease.answer([{ id: found.id, result: { output } }])
            if (answered.length === 0) {
              return yield* new AlreadyDecided({ run_id: runId, step_id: stepId, reason: "decided" })
            }
            yield* audit.record({
              actor: actor.id,
              namespace: actor.namespace,
              action: `approval.${decision}`,
              subject_kind: "run",
              subject_id: runId,
              before: null,
              after: { step_id: stepId, index: index ?? null, comment: decided.comment }
            })
          }).pipe(sql.withTransaction)
          yield* wakeups.signal("work")
          return decided
        }, storeErrors)
      })
    })
  )
}

const decodeRows = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      ...Approval.fields,
      expires_at: Schema.NullOr(Model.DateTimeFromDate),
      created_at: Model.DateTimeFromDate,
      decided: Schema.Boolean
    })
  )
)
