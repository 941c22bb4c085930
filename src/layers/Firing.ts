import type * as SqlClient from "@effect/sql/SqlClient"
import { DateTime, Effect, Either } from "effect"
import * as Decision from "../domain/Decision.ts"
import { occurrenceKey } from "../domain/DueWork.ts"
import type { NewWork } from "../domain/Settlement.ts"
import { dueAt } from "../domain/ScheduleSpec.ts"
import type { MisfirePolicy } from "../domain/Task.ts"
import * as TaskSchedule from "../domain/TaskSchedule.ts"
import type { InvalidSchedule } from "../domain/Timeline.ts"
import { tzdataVersion } from "../domain/Zone.ts"
import * as Audit from "./Audit.ts"
import type { Decided, Origin } from "./Decided.ts"
import * as Ids from "./Ids.ts"
import type { Lease } from "./Lease.ts"
import * as Metrics from "./Metrics.ts"
import { tellTasks } from "./Outbox.ts"
import * as RunKeys from "./RunKeys.ts"
import * as Skips from "./Skips.ts"
import * as TaskRows from "./TaskRows.ts"
import { millisOf, scheduleFields } from "./TaskRows.ts"
import type { ScheduledTask } from "./TaskRows.ts"

export type { Decided, Origin } from "./Decided.ts"

const bySchedule: Origin = { trigger: "schedule", key: occurrenceKey.schedule }

/** Why occurrences are decided now: their time has come, the task is resumed or canceled, or its schedule is edited. */
export type Cause = "misfire" | "paused" | "edited" | "canceled"

/** A grace that nothing is within: all that is due by now is late. */
export const noGrace = -0.001

/** What a late run yields to. */
const backfillPriority = 9

/** The unfinished runs of tasks, backfills aside, by task: what overlap policies look at. */
export const unfinishedRuns = (sql: SqlClient.SqlClient, tasks: ReadonlyArray<ScheduledTask>) =>
  tasks.length === 0
    ? Effect.succeed(new Map<string, ReadonlyArray<string>>())
    : Effect.map(
        sql<{ task_id: string; ids: ReadonlyArray<string> }>`
          SELECT task_id, array_agg(id) AS ids FROM due_work
          WHERE task_id = ANY (${tasks.map(({ id }) => id)}::uuid[]) AND backfill_id IS NULL GROUP BY task_id`,
        (rows) => new Map(rows.map(({ ids, task_id }) => [task_id, ids]))
      )

/** Decides what of a task is due at `now`. Fails where the stored schedule cannot be read any more. */
export const decide = (
  task: ScheduledTask,
  now: number,
  unfinished: boolean,
  cause: Cause,
  policy: MisfirePolicy = task.misfire_policy,
  graceSeconds: number = task.misfire_grace_seconds
): Either.Either<Decided, InvalidSchedule> =>
  Either.map(TaskSchedule.read(scheduleFields(task)), (plan) => ({
    task,
    policy,
    decision: Decision.decide(
      {
        timeline: plan._tag === "Timed" ? plan.timeline : { next: () => null },
        from: millisOf(task.next_run_at),
        now,
        // `once` fires after a downtime of any length, save where a skip was asked for.
        policy: task.schedule_kind === "once" && policy === "fire_all" ? "fire_once" : policy,
        graceSeconds,
        dueAt: (at, following) => {
          const due = dueAt(task.id, at, following, task.jitter_seconds)
          // The schedule ends here: no jitter may carry one of its occurrences past that, where nobody decides it any more.
          return (cause === "edited" || cause === "canceled") && at <= now ? Math.min(due, now) : due
        }
      },
      {
        overlapPolicy: task.overlap_policy,
        unfinished,
        dedupeWindowSeconds: task.dedupe_window_seconds,
        lastFiredFor: millisOf(task.last_fired_for),
        runsLeft: task.max_runs === null ? null : Math.max(0, task.max_runs - task.fired_count)
      },
      cause
    )
  }))

/** What a task owes whose schedule cannot be read: nobody can tell how many occurrences that were. */
export const forgone = (task: ScheduledTask, now: number): Decided => {
  const from = millisOf(task.next_run_at)
  const skips = from === null || from > now ? [] : [{ reason: "quarantined" as const, from, to: now, count: null }]
  return {
    task,
    decision: { fires: [], skips, cancelUnfinished: false, next: null, nextDueAt: null }
  }
}

/**
 * The next occurrence by the zone data of this process, strictly after all that is decided: as it stands where the stored
 * schedule cannot be read, which the next tick will find too.
 */
export const foresee = (task: ScheduledTask) => {
  const plan = TaskSchedule.read({ ...scheduleFields(task), countEnd: null })
  if (Either.isLeft(plan) || plan.right._tag !== "Timed") {
    return {
      next_run_at: dateOrNull(millisOf(task.next_run_at)),
      next_due_at: dateOrNull(millisOf(task.next_due_at)),
      count_end: null
    }
  }
  const { schedule, timeline } = plan.right
  const next = timeline.next(DateTime.toEpochMillis(task.decided_through))
  const due = next === null ? null : dueAt(task.id, next, timeline.next(next), task.jitter_seconds)
  return {
    next_run_at: dateOrNull(next),
    next_due_at: dateOrNull(due),
    count_end: dateOrNull(schedule.countEnd)
  }
}

const dateOrNull = (at: number | null) => (at === null ? null : new Date(at))

/**
 * The fire statement: queues what fires, records what is skipped and moves the cursors, within the caller's transaction, which
 * holds the row locks of the tasks. Answers the queued runs.
 */
export const make = (sql: SqlClient.SqlClient, lease: typeof Lease.Service) => {
  const { limits } = TaskRows.make(sql)
  const { skipped } = Skips.make(sql)
  const enter = Audit.appending(sql)

  /** An event or a condition fires beside the cursor, which only says when a condition is looked at next. */
  const moveCursors = (decided: ReadonlyArray<Decided>, now: Date) =>
    sql<Pick<ScheduledTask, "id" | "namespace">>`
      WITH given AS (
        SELECT * FROM jsonb_to_recordset(${JSON.stringify(decided.map((one) => cursorRow(one, now)))}::jsonb) AS c (id uuid,
          decided_through timestamptz(3), next_run_at timestamptz(3), next_due_at timestamptz(3), fired integer,
          last_fired_for timestamptz(3), tzdata_version text)),
      judged AS (
        SELECT c.*, t.status = 'active' AND CASE WHEN t.schedule_kind IN ('event', 'condition')
          THEN t.fired_count + c.fired >= t.max_runs ELSE c.next_run_at IS NULL END IS TRUE AS completes
        FROM given c JOIN task t ON t.id = c.id),
      moved AS (
        UPDATE task t SET decided_through = greatest(t.decided_through, c.decided_through), next_run_at = c.next_run_at,
          next_due_at = CASE WHEN t.schedule_kind IN ('event', 'condition') THEN t.next_due_at ELSE c.next_due_at END,
          fired_count = t.fired_count + c.fired, tzdata_version = c.tzdata_version,
          last_fired_for = coalesce(c.last_fired_for, t.last_fired_for),
          status = CASE WHEN c.completes THEN 'completed' ELSE t.status END,
          updated_at = CASE WHEN c.completes THEN ${now} ELSE t.updated_at END
        FROM judged c WHERE t.id = c.id
        RETURNING t.id, t.created_by, t.namespace, t.status, c.completes),
      told AS (${tellTasks(sql, "completed", {
        of: sql.literal("(SELECT * FROM moved WHERE completes)"),
        at: sql`${now}::timestamptz`
      })})
      SELECT id, namespace FROM moved WHERE completes ORDER BY id`

  /** A task that is completed binds its key no more. Those of events and conditions complete by `max_runs` alone. */
  const forgetLimits = (decided: ReadonlyArray<Decided>) => {
    const completed = decided.flatMap(({ decision, origin, task }) =>
      task.concurrency_key !== null && (origin === undefined ? decision.next === null : task.max_runs !== null)
        ? [task]
        : []
    )
    const namespaces = [...new Set(completed.map(({ namespace }) => namespace))].sort()
    return Effect.forEach(
      namespaces,
      (name) =>
        limits(
          name,
          completed.filter(({ namespace }) => namespace === name).map(({ concurrency_key }) => concurrency_key)
        ),
      { discard: true }
    )
  }

  return Effect.fnUntraced(function* (
    asked: ReadonlyArray<Decided>,
    cancelable: ReadonlyMap<string, ReadonlyArray<string>>
  ) {
    const firing = asked.filter(({ decision }) => decision.fires.length > 0)
    const room = yield* lease.room(firing.map(({ task }) => task.id))
    const decided = asked.map((one) => withinRoom(one, room.get(one.task.id) ?? Infinity))
    const now = DateTime.toDateUtc(yield* DateTime.now)
    const fires = decided.flatMap(({ decision, ...of }) => decision.fires.map((fire) => ({ ...of, fire })))
    const work = yield* Effect.forEach(fires, (fired) => Effect.map(Ids.next, (id) => workOf(id, fired)))
    const replaced = decided.flatMap(({ decision, task }) =>
      decision.cancelUnfinished ? (cancelable.get(task.id) ?? []) : []
    )
    yield* lease.cancel(replaced)
    const queued = new Set(yield* lease.enqueue(work))
    yield* skipped(decided, now, bySchedule)
    const completed = yield* moveCursors(decided, now)
    yield* forgetLimits(decided)
    yield* enter(completed.map(completion))
    measure(decided, now.getTime())
    return work.flatMap(({ id, task_id }) => (queued.has(id) ? [{ run_id: id, task_id }] : []))
  })
}

/**
 * Skips what would be more unfinished runs than the task may have. What replaces them needs no room; of the last occurrences that
 * `max_runs` allows none is given up, as the schedule is over by them.
 */
const withinRoom = (one: Decided, room: number): Decided => {
  const { decision, origin, task } = one
  const isLast = origin === undefined && decision.next === null && task.max_runs !== null
  if (decision.fires.length <= room || decision.cancelUnfinished || isLast) return one
  const over = decision.fires.slice(room)
  const [first, last] = [over.at(0), over.at(-1)]
  if (first === undefined || last === undefined) return one
  const skip = { reason: "quota" as const, from: first.scheduledFor, to: last.scheduledFor, count: over.length }
  return { ...one, decision: { ...decision, fires: decision.fires.slice(0, room), skips: [...decision.skips, skip] } }
}

/** Nobody asked for it: the schedule is over. */
const completion = ({ id, namespace }: Pick<ScheduledTask, "id" | "namespace">) => ({
  actor: "system",
  namespace,
  action: "task.completed",
  subject_kind: "task",
  subject_id: id,
  before: { status: "active" },
  after: { status: "completed" }
})

const cursorRow = ({ decision, task }: Decided, now: Date) => {
  return {
    id: task.id,
    decided_through: new Date(decision.next === null ? now.getTime() : Math.min(now.getTime(), decision.next - 1)),
    next_run_at: dateOrNull(decision.next),
    next_due_at: dateOrNull(decision.nextDueAt),
    fired: decision.fires.length,
    last_fired_for: dateOrNull(decision.fires.at(-1)?.scheduledFor ?? null),
    tzdata_version: tzdataVersion
  }
}

const workOf = (
  id: string,
  { fire, origin = bySchedule, policy, task }: Omit<Decided, "decision"> & { readonly fire: Decision.DecidedFire }
): NewWork => {
  const { key, seen = null, ...cause } = origin
  return {
    ...workFor(id, task, { event: seen }),
    ...cause,
    key: key(fire.scheduledFor),
    scheduled_for: fire.scheduledFor,
    due_at: fire.dueAt,
    priority: fire.late && policy === "fire_all" ? backfillPriority : task.priority,
    serial: fire.serial
  }
}

/** What every run takes over from its task; a key that is a template is rendered from what the run is given, or is its worker's to refuse. */
export const workFor = (id: string, task: ScheduledTask, given: RunKeys.Given = {}) => ({
  id,
  task_id: task.id,
  task_version: task.version,
  agent_id: task.created_by,
  namespace: task.namespace,
  priority: task.priority,
  ...RunKeys.keyOf(task, given),
  deadline_seconds: task.deadline_seconds,
  start_within_seconds: task.start_within_seconds
})

const measure = (decided: ReadonlyArray<Decided>, now: number) => {
  for (const { decision, origin = bySchedule } of decided) {
    for (const fire of decision.fires)
      Metrics.scheduleLag.add(Math.max(0, now - fire.dueAt) / 1000, { trigger: origin.trigger })
    if (decision.fires.length > 0) Metrics.occurrences.add(decision.fires.length, { decision: "fired" })
    for (const { count, reason } of decision.skips) Metrics.occurrences.add(count ?? 1, { decision: reason })
  }
}
