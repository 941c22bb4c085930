import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Effect, Either, Layer } from "effect"
import type { Actor } from "../domain/Agent.ts"
import { Backfill, BackfillNotFound, mostOccurrences } from "../domain/Backfill.ts"
import type { BackfillAccepted, BackfillCreate } from "../domain/Backfill.ts"
import { occurrenceKey } from "../domain/DueWork.ts"
import { isId } from "../domain/Id.ts"
import { bounded } from "../domain/ScheduleSpec.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { InvalidField, TaskCanceled } from "../domain/Task.ts"
import type { TaskNotFound } from "../domain/Task.ts"
import * as TaskSchedule from "../domain/TaskSchedule.ts"
import { occurrences } from "../domain/Timeline.ts"
import { Audit } from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import * as Firing from "./Firing.ts"
import * as Ids from "./Ids.ts"
import { Lease } from "./Lease.ts"
import * as TaskRows from "./TaskRows.ts"
import { decodeEach } from "./TaskRows.ts"
import { Wakeups } from "./Wakeups.ts"

/** Backfills yield to everything else. */
const priority = 9

interface Open {
  readonly id: string
  readonly task_id: string
  readonly task_version: number
  readonly max_parallel: number
  readonly left: ReadonlyArray<Date>
  readonly unfinished: number
}

/** Runs a window of a schedule again, or for the first time. Owns `backfill`; the cursor of the task stays where it is. */
export class Backfills extends Context.Tag("ordinaut/Backfills")<
  Backfills,
  {
    readonly create: (
      actor: Actor,
      taskId: string,
      input: BackfillCreate
    ) => Effect.Effect<BackfillAccepted, TaskNotFound | TaskCanceled | InvalidField | StoreUnavailable>
    /** Enqueues no more, and ends what has not started; what runs is asked to stop. */
    readonly cancel: (actor: Actor, id: string) => Effect.Effect<Backfill, BackfillNotFound | StoreUnavailable>
    /** Enqueues for every open backfill as many runs as it may have at once. Answers how many. */
    readonly advance: Effect.Effect<number, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      const audit = yield* Audit
      const wakeups = yield* Wakeups
      const rows = TaskRows.make(sql)

      /** The instants of the window that are occurrences, less those that fired where only the missed are wanted. */
      const wanted = Effect.fnUntraced(function* (task: TaskRows.ScheduledTask, input: BackfillCreate, now: number) {
        const from = DateTime.toEpochMillis(input.from)
        const to = DateTime.toEpochMillis(input.to)
        if (to < from) return yield* new InvalidField({ path: "/to", message: "lies before from" })
        if (to > now) return yield* new InvalidField({ path: "/to", message: "lies in the future" })
        const plan = yield* TaskSchedule.read(TaskRows.scheduleFields(task)).pipe(
          Either.mapLeft(
            () => new InvalidField({ path: "", message: "the task's stored schedule cannot be read; change it first" })
          )
        )
        if (plan._tag !== "Timed") {
          return yield* new InvalidField({ path: "", message: "only a task with a schedule of time can be backfilled" })
        }
        const window = bounded(plan.timeline, { startsAt: from, endsAt: to })
        const all = occurrences(window, from - 1, mostOccurrences + 1)
        if (all.length > mostOccurrences) {
          return yield* new InvalidField({
            path: "/to",
            message: `the window has more than ${mostOccurrences} occurrences`
          })
        }
        if (!input.only_missed) return all
        const fired = yield* sql<{ at: Date }>`
          SELECT scheduled_for AS at FROM task_run WHERE task_id = ${task.id} AND state <> 'skipped'
            AND trigger IN ('schedule', 'backfill') AND scheduled_for BETWEEN ${new Date(from)} AND ${new Date(to)}
          UNION
          SELECT scheduled_for FROM due_work WHERE task_id = ${task.id} AND trigger IN ('schedule', 'backfill')
            AND scheduled_for BETWEEN ${new Date(from)} AND ${new Date(to)}`
        const known = new Set(fired.map(({ at }) => at.getTime()))
        return all.filter((at) => !known.has(at))
      })

      const trail = (actor: Actor, action: string, id: string, after: unknown) =>
        audit.record({
          actor: actor.id,
          namespace: actor.namespace,
          action,
          subject_kind: "backfill",
          subject_id: id,
          before: null,
          after
        })

      const open = sql<Open>`
        SELECT b.id, b.task_id, b.task_version, b.max_parallel, b.occurrences[b.enqueued + 1 : b.enqueued + b.max_parallel] AS left,
          (SELECT count(*)::integer FROM due_work d WHERE d.backfill_id = b.id) AS unfinished
        FROM backfill b WHERE b.finished_at IS NULL AND b.canceled_at IS NULL
          AND (SELECT count(*) FROM due_work d WHERE d.backfill_id = b.id) < b.max_parallel
        ORDER BY b.created_at LIMIT 100 FOR UPDATE OF b SKIP LOCKED`

      const advanceOne = Effect.fnUntraced(function* (backfill: Open, task: TaskRows.ScheduledTask) {
        const next = backfill.left.slice(0, Math.max(0, backfill.max_parallel - backfill.unfinished))
        const work = yield* Effect.forEach(next, (at) =>
          Effect.map(Ids.next, (id) => ({
            ...Firing.workFor(id, task),
            task_version: backfill.task_version,
            priority,
            key: occurrenceKey.backfill(backfill.id, at.getTime()),
            trigger: "backfill" as const,
            scheduled_for: at.getTime(),
            due_at: at.getTime(),
            // It is late by its nature: a limit on the lateness of its start would end it unstarted.
            start_within_seconds: null,
            deadline_seconds: null,
            serial: false,
            backfill_id: backfill.id
          }))
        )
        yield* lease.enqueue(work)
        yield* sql`UPDATE backfill SET enqueued = enqueued + ${next.length} WHERE id = ${backfill.id}`
        if (backfill.left.length === 0 && backfill.unfinished === 0) yield* finish(backfill.id)
        return next.length
      })

      const finish = Effect.fnUntraced(function* (id: string) {
        yield* sql`UPDATE backfill SET finished_at = ${DateTime.toDateUtc(yield* DateTime.now)} WHERE id = ${id}`
      })

      return Backfills.of({
        create: Effect.fn("Backfills.create")(function* (actor, taskId, input) {
          const made = yield* Effect.gen(function* () {
            const task = yield* rows.locked(actor, taskId)
            if (task.status === "canceled") return yield* new TaskCanceled({ task_id: task.id })
            const now = yield* DateTime.now
            const all = yield* wanted(task, input, DateTime.toEpochMillis(now))
            if (input.dry_run) return { backfill_id: null, occurrences: all }
            const id = yield* Ids.next
            yield* sql`
              INSERT INTO backfill (id, task_id, task_version, from_at, to_at, only_missed, max_parallel, occurrences, created_by, created_at)
              VALUES (${id}, ${taskId}, ${task.version}, ${DateTime.toDateUtc(input.from)}, ${DateTime.toDateUtc(input.to)},
                ${input.only_missed}, ${input.max_parallel}, ${all.map((at) => new Date(at))}::timestamptz[], ${actor.id},
                ${DateTime.toDateUtc(now)})`
            yield* trail(actor, "task.backfilled", id, { task_id: taskId, occurrences: all.length })
            return { backfill_id: id, occurrences: all }
          }).pipe(sql.withTransaction)
          yield* wakeups.signal("schedule")
          return made
        }, storeErrors),

        cancel: Effect.fn("Backfills.cancel")(function* (actor, id) {
          return yield* Effect.gen(function* () {
            const [found] = isId(id)
              ? yield* sql<{ task_id: string; total: number; enqueued: number; finished: boolean; created_at: Date }>`
                  SELECT b.task_id, cardinality(b.occurrences) AS total, b.enqueued, b.finished_at IS NOT NULL AS finished, b.created_at
                  FROM backfill b JOIN task t ON t.id = b.task_id WHERE b.id = ${id} AND ${rows.visible(actor)} FOR UPDATE OF b`
              : []
            if (found === undefined) return yield* new BackfillNotFound({ backfill_id: id })
            if (!found.finished) {
              const now = DateTime.toDateUtc(yield* DateTime.now)
              yield* sql`UPDATE backfill SET canceled_at = coalesce(canceled_at, ${now}) WHERE id = ${id}`
              const runs = yield* sql<{ id: string }>`SELECT id FROM due_work WHERE backfill_id = ${id}`
              yield* lease.cancel(runs.map((row) => row.id))
              yield* trail(actor, "backfill.canceled", id, { task_id: found.task_id })
            }
            return {
              id,
              task_id: found.task_id,
              state: found.finished ? ("finished" as const) : ("canceled" as const),
              occurrences: found.total,
              enqueued: found.enqueued,
              created_at: DateTime.unsafeFromDate(found.created_at)
            }
          }).pipe(sql.withTransaction)
        }, storeErrors),

        advance: Effect.gen(function* () {
          const backfills = yield* open
          if (backfills.length === 0) return 0
          // Locked: a cancel of the task comes before these runs, and ends the backfill, or after them, and ends them.
          const [, tasks] = decodeEach(
            yield* sql<{ id: string }>`
              SELECT * FROM task WHERE id = ANY (${backfills.map(({ task_id }) => task_id)}::uuid[]) ORDER BY id FOR NO KEY UPDATE`
          )
          const byId = new Map(tasks.map((task) => [String(task.id), task]))
          let enqueued = 0
          for (const backfill of backfills) {
            const task = byId.get(backfill.task_id)
            if (task === undefined || task.status === "canceled") yield* finish(backfill.id)
            else enqueued += yield* advanceOne(backfill, task)
          }
          return enqueued
        }).pipe(sql.withTransaction, Effect.withSpan("Backfills.advance"), storeErrors)
      })
    })
  )
}
