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
            if (found === undefined) return yield* new ApprovalNotFound({ run_id: runId, step_id: stepId })
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
