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
import { storeErrors } from "./Db.ts"
import { Heartbeats } from "./Heartbeats.ts"
import * as TaskRows from "./TaskRows.ts"
import { decodeScheduled, millisOf } from "./TaskRows.ts"
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
        if (Either.isLeft(plan) || plan.right._tag === "OnEvent") return []
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
          const scheduler = (yield* heartbeats.live).some(({ program }) => program === "scheduler")
          const checks = checksOf(task, next, scheduler)
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
  if (Either.isLeft(plan) || plan.right._tag === "OnEvent") return []
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

/** A check with the reason that it is when it does not hold. */
type Checks = ReadonlyArray<Explanation["checks"][number] & { readonly reason: string }>

const checksOf = (task: ScheduledTask, next: Occurrence | null, scheduler: boolean): Checks => {
  const timed = task.schedule_kind !== "event" && task.schedule_kind !== "condition"
  const left = task.max_runs === null ? null : task.max_runs - task.fired_count
  return [
    {
      name: "active",
      reason: task.status,
      holds: task.status === "active",
      sentence: `The task is ${task.status}${because(task.status_reason)}.`
    },
    {
      name: "not_quarantined",
      reason: "quarantined",
      holds: task.quarantined_at === null,
      sentence:
        task.quarantined_at === null
          ? "Its schedule can be evaluated."
          : `The scheduler set it aside: ${task.quarantine_reason ?? "its schedule cannot be evaluated"}.`
    },
    {
      name: "has_next",
      reason: "no_occurrence_left",
      holds: !timed || (next !== null && next.note !== "beyond ends_at"),
      sentence: timed
        ? next === null || next.note === "beyond ends_at"
          ? "Its schedule has no occurrence left."
          : `Its next occurrence is ${DateTime.formatIso(next.at)} (${next.local} ${task.timezone}).`
        : "It waits for an event."
    },
    {
      name: "runs_left",
      reason: "no_runs_left",
      holds: left === null || left > 0,
      sentence:
        left === null
          ? "The number of its runs is not limited."
          : `${Math.max(0, left)} of ${task.max_runs} runs are left.`
    },
    {
      name: "scheduler_alive",
      reason: "no_scheduler",
      holds: scheduler,
      sentence: scheduler ? "A scheduler is alive." : "No scheduler is alive: nothing fires until one is."
    }
  ]
}

const because = (reason: string | null) => (reason === null ? "" : ` (${reason})`)

/** The first check that does not hold is the reason. */
const verdict = (
  task: ScheduledTask,
  next: Occurrence | null,
  checks: Checks
): { readonly reason: string; readonly sentence: string } => {
  const broken = checks.find(({ holds }) => !holds)
  if (broken !== undefined) return { reason: broken.reason, sentence: `It will not run: ${broken.sentence}` }
  if (next === null)
    return { reason: "waits_for_event", sentence: `It runs when an event matches ${task.schedule_expr}.` }
  return next.note === "snoozed"
    ? {
        reason: "snoozed",
        sentence: `It runs at ${DateTime.formatIso(next.due_at)}: the occurrence of ${DateTime.formatIso(next.at)} was put off.`
      }
    : { reason: "scheduled", sentence: `It runs at ${DateTime.formatIso(next.due_at)}.` }
}

const fateOf = (
  task: ScheduledTask,
  at: number,
  fate: { readonly id: string; readonly skip_reason: string | null } | undefined
): { readonly reason: string; readonly sentence: string } => {
  const when = new Date(at).toISOString()
  if (fate !== undefined) {
    return fate.skip_reason === null
      ? { reason: "fired", sentence: `${when} fired as run ${fate.id}.` }
      : { reason: fate.skip_reason, sentence: `${when} was skipped (${fate.skip_reason}), recorded as run ${fate.id}.` }
  }
  const plan = TaskSchedule.read(TaskRows.scheduleFields(task))
  const timeline = Either.isRight(plan) && plan.right._tag === "Timed" ? plan.right.timeline : null
  if (timeline === null || timeline.next(at - 1) !== at) {
    return { reason: "no_occurrence", sentence: `${when} is no occurrence of the schedule as it is now.` }
  }
  if (at < DateTime.toEpochMillis(task.created_at))
    return { reason: "before_creation", sentence: `${when} lies before the task was created.` }
  const next = millisOf(task.next_run_at)
  return next !== null && at >= next
    ? { reason: "to_come", sentence: `${when} is still to be decided.` }
    : {
        reason: "not_recorded",
        sentence: `${when} is decided, and its record is past its retention or belongs to an earlier schedule.`
      }
}
