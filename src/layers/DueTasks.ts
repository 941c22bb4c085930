import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Effect, Either, Layer } from "effect"
import type { AuditEntry } from "../domain/AuditEntry.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { tzdataVersion } from "../domain/Zone.ts"
import * as Audit from "./Audit.ts"
import { breathe } from "./Breath.ts"
import * as Conditions from "./Conditions.ts"
import { storeErrors } from "./Db.ts"
import * as Firing from "./Firing.ts"
import { Lease } from "./Lease.ts"
import * as Listeners from "./Listeners.ts"
import * as Occasions from "./Occasions.ts"
import { tellTasks } from "./Outbox.ts"
import { decodeEach, millisOf } from "./TaskRows.ts"
import type { ScheduledTask } from "./TaskRows.ts"
import { Wakeups } from "./Wakeups.ts"

/** What becomes of a task that is due: its decision, or in words why it cannot be decided. */
export type Decide = (task: ScheduledTask, unfinished: boolean) => Either.Either<Firing.Decided, string>

interface Named {
  readonly id: string
  readonly namespace: string
}

interface Quarantine {
  readonly reason: string
}

/** The entry of a task that is set aside, or that is tried again. */
const quarantined = ({ id, namespace }: Named, before: Quarantine | null, after: Quarantine | null) => ({
  actor: "system",
  namespace,
  action: after === null ? "task.quarantine_lifted" : "task.quarantined",
  subject_kind: "task",
  subject_id: id,
  before,
  after
})

/** Occurrences that one pass fires, about. */
const mostOccurrences = 5000
/** Time that one pass spends on deciding, milliseconds. */
const longestPass = 1000

/** The scheduler's view of the store: due tasks, and the transaction that decides them. */
export class DueTasks extends Context.Tag("ordinaut/DueTasks")<
  DueTasks,
  {
    /**
     * In one transaction: takes up to `limit` active tasks due at `now` that nobody else has under lock, and writes what `decide`
     * says of each: queued runs, recorded skips, moved cursors. `taken` is `limit` while more may be due. A task that cannot be decided is set aside with the reason.
     */
    readonly fire: (
      now: number,
      limit: number,
      decide: Decide
    ) => Effect.Effect<{ readonly taken: number; readonly fired: number }, StoreUnavailable>
    /** Runs the events of windows that are over at `now`, each window in a transaction with others. Answers how many ended. */
    readonly closeWindows: (
      now: number
    ) => Effect.Effect<{ readonly ended: number; readonly fired: number }, StoreUnavailable>
    /** When the next task, window of events or queued run is due; epoch milliseconds. */
    readonly nextAt: Effect.Effect<number | null, StoreUnavailable>
    /**
     * Computes up to `limit` cursors anew that other zone data made, and lets tasks that were set aside be tried again. Answers how
     * many cursors it looked at, and how many moved.
     */
    readonly adoptZoneData: (
      limit: number
    ) => Effect.Effect<{ readonly looked: number; readonly moved: number }, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const wakeups = yield* Wakeups
      const lease = yield* Lease
      const write = Firing.make(sql, lease)
      const conditions = Conditions.make(sql)
      const decideOccasions = Occasions.make(sql, lease)
      const listeners = Listeners.make(sql, lease)

      const enter = Audit.appending(sql)

      /** Answers the entry for the trail, which is written last. */
      const setAside = Effect.fnUntraced(function* (id: string, reason: string, now: Date) {
        yield* Effect.logError("A task's schedule cannot be evaluated; the task is set aside.").pipe(
          Effect.annotateLogs({ task_id: id, reason })
        )
        const changed = yield* sql<Named>`
          UPDATE task SET quarantined_at = ${now}, quarantine_reason = ${reason} WHERE id = ${id} RETURNING id, namespace`
        yield* tellTasks(sql, "quarantined", {
          of: sql`(SELECT * FROM task WHERE id = ${id})`,
          at: sql`${now}::timestamptz`,
          state: sql.literal("'quarantined'"),
          error: sql`jsonb_build_object('code', 'quarantined', 'message', ${reason}::text)`
        })
        return changed.map((task) => quarantined(task, null, { reason }))
      })

      return DueTasks.of({
        fire: Effect.fn("DueTasks.fire")(function* (now, limit, decide) {
          const { replaced, ...done } = yield* Effect.gen(function* () {
            const at = new Date(now)
            const rows = yield* sql<{ id: string }>`
              SELECT * FROM task WHERE status = 'active' AND quarantined_at IS NULL AND next_due_at <= ${at}
              ORDER BY next_due_at LIMIT ${limit} FOR UPDATE SKIP LOCKED`
            if (rows.length === 0) return { taken: 0, fired: 0, replaced: false }
            const [unreadable, tasks] = decodeEach(rows)
            const entries: Array<AuditEntry> = []
            for (const { id, reason } of unreadable) entries.push(...(yield* setAside(id, reason, at)))
            const careful = tasks.filter(({ overlap_policy }) => overlap_policy !== "allow")
            const unfinished = yield* Firing.unfinishedRuns(sql, careful)
            const said = yield* conditions.said(tasks)
            const decided: Array<Firing.Decided> = []
            const judged: Array<Conditions.Judged> = []
            const started = performance.now()
            let occurrences = 0
            let looked = 0
            for (const task of tasks) {
              // What is over the measure stays due, for the next pass: neither a statement nor the event loop is to be held long.
              if (occurrences > mostOccurrences || performance.now() - started > longestPass) break
              looked++
              if (task.schedule_kind === "condition") {
                const found = Conditions.judge(task, said(task.namespace), now)
                if (found !== null) judged.push(found)
                else entries.push(...(yield* setAside(task.id, "its condition cannot be read", at)))
                if (looked % 20 === 0) yield* breathe
                continue
              }
              const made = decide(task, unfinished.has(task.id))
              if (Either.isRight(made)) {
                decided.push(made.right)
                occurrences += made.right.decision.fires.length
              } else entries.push(...(yield* setAside(task.id, made.left, at)))
              if (looked % 20 === 0) yield* breathe
            }
            const fired = yield* write(decided, unfinished)
            const risen = yield* decideOccasions(
              judged.map(({ task }) => task),
              yield* conditions.atMinute(judged, now)
            )
            yield* enter(entries)
            return {
              taken: looked < tasks.length ? limit : rows.length,
              fired: fired.length + risen.runs.length,
              replaced: risen.replaces || decided.some(({ decision }) => decision.cancelUnfinished)
            }
          }).pipe(sql.withTransaction)
          if (replaced) yield* wakeups.signal("cancel")
          return done
        }, storeErrors),

        closeWindows: Effect.fn("DueTasks.closeWindows")(function* (now) {
          const { ended, replaces, runs } = yield* listeners.closeWindows(new Date(now)).pipe(sql.withTransaction)
          if (replaces) yield* wakeups.signal("cancel")
          return { ended, fired: runs.length }
        }, storeErrors),

        nextAt: Effect.gen(function* () {
          // A window that is over and could not be ended is tried again in a while.
          const now = DateTime.toDateUtc(yield* DateTime.now)
          const [row] = yield* sql<{ at: Date | null }>`
            SELECT least(
              (SELECT min(next_due_at) FROM task WHERE status = 'active' AND quarantined_at IS NULL AND next_due_at IS NOT NULL),
              (SELECT min(close_at) FROM trigger_window WHERE close_at > ${now}),
              (SELECT min(run_at) FROM due_work WHERE state = 'later' AND NOT held),
              (SELECT min(expires_at) FROM due_work WHERE state = 'parked')) AS at`
          return row?.at?.getTime() ?? null
        }).pipe(Effect.withSpan("DueTasks.nextAt"), storeErrors),

        adoptZoneData: Effect.fn("DueTasks.adoptZoneData")(function* (limit) {
          return yield* Effect.gen(function* () {
            // What could not be read before is tried again: another version, or other zone data, may read it.
            const freed = yield* sql<Named & { readonly reason: string }>`
              WITH old AS (
                SELECT id, quarantine_reason AS reason FROM task WHERE quarantined_at IS NOT NULL AND status = 'active'
                  AND quarantined_at < ${DateTime.toDateUtc(yield* DateTime.now)} ORDER BY id FOR UPDATE SKIP LOCKED)
              UPDATE task t SET quarantined_at = NULL, quarantine_reason = NULL FROM old WHERE t.id = old.id
              RETURNING t.id, t.namespace, old.reason`
            const entries: Array<AuditEntry> = freed.map(({ reason, ...task }) => quarantined(task, { reason }, null))
            const rows = yield* sql<{ id: string }>`
              SELECT * FROM task WHERE status IN ('active', 'paused') AND quarantined_at IS NULL AND next_run_at IS NOT NULL
                AND tzdata_version <> ${tzdataVersion}
              ORDER BY id LIMIT ${limit} FOR UPDATE SKIP LOCKED`
            const [unreadable, tasks] = decodeEach(rows)
            for (const { id, reason } of unreadable)
              entries.push(...(yield* setAside(id, reason, DateTime.toDateUtc(yield* DateTime.now))))
            const cursors = tasks.map((task) => ({
              id: task.id,
              was: millisOf(task.next_run_at),
              ...Firing.foresee(task)
            }))
            yield* sql`
              UPDATE task t SET next_run_at = m.next_run_at, next_due_at = m.next_due_at, count_end = m.count_end,
                tzdata_version = ${tzdataVersion}
              FROM jsonb_to_recordset(${JSON.stringify(cursors)}::jsonb) AS m (id uuid, next_run_at timestamptz(3),
                next_due_at timestamptz(3), count_end timestamptz(3)) WHERE t.id = m.id`
            yield* enter(entries)
            const moved = cursors.filter(({ next_run_at, was }) => next_run_at?.getTime() !== was)
            return { looked: tasks.length, moved: moved.length }
          }).pipe(sql.withTransaction)
        }, storeErrors)
      })
    })
  )
}
