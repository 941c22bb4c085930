import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Effect, Either, Layer } from "effect"
import type { Actor } from "../domain/Agent.ts"
import type { Explanation, Occurrence, Upcoming } from "../domain/Occurrence.ts"
import { dueAt, reading } from "../domain/ScheduleSpec.ts"
import type { CompiledSchedule } from "../domain/ScheduleSpec.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { InvalidField } from "../domain/Task.ts"
import type { TaskNotFound } from "../domain/Task.ts"
import * as TaskSchedule from "../domain/TaskSchedule.ts"
import type { Timeline } from "../domain/Timeline.ts"
import { formatLocal, toLocal } from "../domain/Zone.ts"
import * as Conditions from "./Conditions.ts"
import { storeErrors } from "./Db.ts"
import { checksOf, fateOf, verdict } from "./Explaining.ts"
import { Heartbeats } from "./Heartbeats.ts"
import * as TaskRows from "./TaskRows.ts"
import { decodeScheduled } from "./TaskRows.ts"
import type { ScheduledTask } from "./TaskRows.ts"

/** Most fire times that one answer holds. */
const most = 1000
/** Longest window of `upcoming`, milliseconds. */
const longestWindow = 366 * 86_400_000
/** Decisions that an explanation tells. */
const recent = 20

/** When tasks will run, and why. */
export class Occurrences extends Context.Tag("ordinaut/Occurrences")<
  Occurrences,
  {
    /** The next fire times of a task that are not decided yet, after an instant (epoch milliseconds; null: now). */
    readonly next: (
      actor: Actor,
      taskId: string,
      after: number | null,
      count: number
    ) => Effect.Effect<ReadonlyArray<Occurrence>, TaskNotFound | StoreUnavailable>
    /** The fire times of all visible active tasks in a window, in order; the earliest 1,000. */
    readonly upcoming: (
      actor: Actor,
      from: number,
      to: number
    ) => Effect.Effect<ReadonlyArray<Upcoming>, InvalidField | StoreUnavailable>
    /** Why a task will or will not run next; with `at` (epoch milliseconds), what became of that instant. */
    readonly explain: (
      actor: Actor,
      taskId: string,
      at: number | null
    ) => Effect.Effect<Explanation, TaskNotFound | StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const heartbeats = yield* Heartbeats
      const rows = TaskRows.make(sql)
      const conditions = Conditions.make(sql)

      const one = Effect.fnUntraced(function* (actor: Actor, taskId: string) {
        const { id } = yield* rows.one(actor, taskId)
        const [task] = yield* sql`SELECT * FROM task WHERE id = ${id}`.pipe(Effect.flatMap(decodeScheduled))
        return yield* Effect.fromNullable(task).pipe(Effect.orDie)
      })

      const snoozed = Effect.fnUntraced(function* (task: ScheduledTask) {
        if (task.snoozed_run_id === null) return null
        const [run] = yield* sql<{ at: Date; due: Date }>`
          SELECT scheduled_for AS at, due_at AS due FROM due_work WHERE id = ${task.snoozed_run_id} AND lease_no = 0`
        return run === undefined ? null : { at: run.at.getTime(), due: run.due.getTime() }
      })

      /** When the first window of an event task ends, and how many events wait in all of them. */
      const collecting = Effect.fnUntraced(function* ({ id }: ScheduledTask) {
        const [row] = yield* sql<{ at: Date | null; events: number }>`
          SELECT min(close_at) AS at, coalesce(sum(size), 0)::integer AS events FROM trigger_window WHERE task_id = ${id}`
        return row?.at == null ? null : { at: row.at.getTime(), events: row.events }
      })

      const decisions = (taskId: string, narrow = sql`true`) =>
        sql<{
          id: string
          scheduled_for: Date
          created_at: Date
          skip_reason: Explanation["recent"][number]["reason"]
          skipped_from: Date | null
          skipped_to: Date | null
        }>`
          SELECT id, scheduled_for, created_at, skip_reason, skipped_from, skipped_to FROM (
            SELECT id, scheduled_for, created_at, skip_reason, skipped_from, skipped_to FROM task_run
            WHERE task_id = ${taskId} AND trigger <> 'manual' AND trigger <> 'retry'
            UNION ALL
            SELECT id, scheduled_for, created_at, NULL, NULL, NULL FROM due_work
            WHERE task_id = ${taskId} AND trigger <> 'manual' AND trigger <> 'retry') AS known
          WHERE ${narrow} ORDER BY scheduled_for DESC, id DESC LIMIT ${recent}`

      const list = Effect.fnUntraced(function* (task: ScheduledTask, after: number | null, count: number) {
        const now = DateTime.toEpochMillis(yield* DateTime.now)
        const plan = TaskSchedule.read(TaskRows.scheduleFields(task))
        if (Either.isLeft(plan) || plan.right._tag !== "Timed") return []
        const put = yield* snoozed(task)
        return foresee(task, plan.right, after ?? now, count, put)
      })

      return Occurrences.of({
        next: Effect.fn("Occurrences.next")(function* (actor, taskId, after, count) {
          return yield* list(yield* one(actor, taskId), after, count)
        }, storeErrors),

        upcoming: Effect.fn("Occurrences.upcoming")(function* (actor, from, to) {
          if (to < from) return yield* new InvalidField({ path: "query.to", message: "lies before from" })
          if (to - from > longestWindow)
            return yield* new InvalidField({ path: "query.to", message: "lies more than 366 days after from" })
          const tasks = yield* sql`
            SELECT * FROM task t WHERE ${rows.visible(actor)} AND t.status = 'active' AND t.quarantined_at IS NULL AND t.next_run_at <= ${new Date(to)}
            ORDER BY t.next_run_at LIMIT ${most}`.pipe(Effect.flatMap(decodeScheduled))
          const found = tasks.flatMap((task) => within(task, from, to))
          return found.sort((a, b) => DateTime.toEpochMillis(a.at) - DateTime.toEpochMillis(b.at)).slice(0, most)
        }, storeErrors),

        explain: Effect.fn("Occurrences.explain")(function* (actor, taskId, at) {
          const task = yield* one(actor, taskId)
          const [next = null] = yield* list(task, null, 1)
          const now = DateTime.toEpochMillis(yield* DateTime.now)
          const checks = checksOf(task, {
            next,
            scheduler: (yield* heartbeats.live).some(({ program }) => program === "scheduler"),
            said: (yield* conditions.said([task]))(task.namespace),
            collecting: yield* collecting(task),
            now
          })
          const told = yield* decisions(taskId)
          const whole = {
            next,
            checks: checks.map(({ holds, name, sentence }) => ({ name, holds, sentence })),
            recent: told.map((row) => ({
              scheduled_for: DateTime.unsafeFromDate(row.scheduled_for),
              decision: row.skip_reason === null ? ("fired" as const) : ("skipped" as const),
              reason: row.skip_reason,
              run_id: row.id,
              decided_at: DateTime.unsafeFromDate(row.created_at)
            }))
          }
          if (at === null) return { ...whole, ...verdict(task, next, checks) }
          const when = new Date(at)
          const [fate] = yield* decisions(
            taskId,
            sql`(skipped_from <= ${when} AND skipped_to >= ${when}) OR (skipped_from IS NULL AND scheduled_for = ${when})`
          )
          return { ...whole, ...fateOf(task, at, fate) }
        }, storeErrors)
      })
    })
  )
}

const occurrence = (schedule: CompiledSchedule, at: number, due: number, note: Occurrence["note"]): Occurrence => {
  const { dst, local } = reading(schedule, at)
  return { at: DateTime.unsafeMake(at), due_at: DateTime.unsafeMake(due), local, dst, note }
}

/** The fire times that are not decided: a snoozed one first, then those of the schedule, and the first that `ends_at` cuts off. */
const foresee = (
  task: ScheduledTask,
  { schedule, timeline }: TaskSchedule.Timed,
  after: number,
  count: number,
  put: { readonly at: number; readonly due: number } | null
): ReadonlyArray<Occurrence> => {
  const found: Array<Occurrence> = []
  if (put !== null && put.due > after) found.push(occurrence(schedule, put.at, put.due, "snoozed"))
  if (task.status !== "active" && task.status !== "paused") return found
  const note = task.status === "paused" ? "paused" : null
  let left = task.max_runs === null ? Infinity : task.max_runs - task.fired_count
  const due = (at: number, of: Timeline) => dueAt(task.id, at, of.next(at), task.jitter_seconds)
  let last = Math.max(after, DateTime.toEpochMillis(task.decided_through))
  while (found.length < count && left > 0) {
    const at = timeline.next(last)
    if (at === null) break
    found.push(occurrence(schedule, at, due(at, timeline), note))
    last = at
    left--
  }
  const beyond = found.length < count && left > 0 && task.ends_at !== null ? schedule.next(last) : null
  if (beyond !== null) found.push(occurrence(schedule, beyond, due(beyond, schedule), "beyond ends_at"))
  return found
}

const within = (task: ScheduledTask, from: number, to: number): ReadonlyArray<Upcoming> => {
  const plan = TaskSchedule.read(TaskRows.scheduleFields(task))
  if (Either.isLeft(plan) || plan.right._tag !== "Timed") return []
  const { schedule, timeline } = plan.right
  const found: Array<Upcoming> = []
  const left = task.max_runs === null ? most : Math.min(most, task.max_runs - task.fired_count)
  let at = timeline.next(Math.max(from - 1, DateTime.toEpochMillis(task.decided_through)))
  while (at !== null && at <= to && found.length < left) {
    const following = timeline.next(at)
    found.push({
      task_id: task.id,
      title: task.title,
      at: DateTime.unsafeMake(at),
      due_at: DateTime.unsafeMake(dueAt(task.id, at, following, task.jitter_seconds)),
      local: formatLocal(toLocal(schedule.zone, at))
    })
    at = following
  }
  return found
}
