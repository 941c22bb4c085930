import type * as SqlClient from "@effect/sql/SqlClient"
import { DateTime, Effect, Either } from "effect"
import * as Decision from "../domain/Decision.ts"
import { occurrenceKey } from "../domain/DueWork.ts"
import type { NewWork } from "../domain/Settlement.ts"
import { dueAt } from "../domain/ScheduleSpec.ts"
import type { Trigger } from "../domain/Run.ts"
import type { MisfirePolicy } from "../domain/Task.ts"
import * as TaskSchedule from "../domain/TaskSchedule.ts"
import type { InvalidSchedule } from "../domain/Timeline.ts"
import { tzdataVersion } from "../domain/Zone.ts"
import * as Ids from "./Ids.ts"
import type { Lease } from "./Lease.ts"
import * as Metrics from "./Metrics.ts"
import * as TaskRows from "./TaskRows.ts"
import { millisOf, scheduleFields } from "./TaskRows.ts"
import type { ScheduledTask } from "./TaskRows.ts"

/** What caused the occurrences that are decided. */
export interface Origin {
  readonly trigger: Trigger
  readonly key: (scheduledFor: number) => string
  readonly event_id?: string
  readonly hops?: number
  readonly traceparent?: string
}

const bySchedule: Origin = { trigger: "schedule", key: occurrenceKey.schedule }

/** A task with what becomes of its due occurrences. */
export interface Decided {
  readonly task: ScheduledTask
  readonly decision: Decision.Decision
  /** The task's own schedule when absent. */
  readonly origin?: Origin
  /** What the late ones were decided by. */
  readonly policy?: MisfirePolicy
}

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
  if (Either.isLeft(plan) || plan.right._tag === "OnEvent") {
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
  const recordSkips = Effect.fnUntraced(function* (decided: ReadonlyArray<Decided>, now: Date) {
    const skips = yield* Effect.forEach(
      decided.flatMap(({ decision, origin = bySchedule, task }) =>
        decision.skips.map((skip) => ({ origin, skip, task }))
      ),
      ({ origin, skip, task }) =>
        Effect.map(Ids.next, (id) => ({
          id,
          task_id: task.id,
          key: origin.key(skip.to),
          trigger: origin.trigger,
          event_id: origin.event_id ?? null,
          agent_id: task.created_by,
          namespace: task.namespace,
          task_version: task.version,
          scheduled_for: new Date(skip.to),
          priority: task.priority,
          skip_reason: skip.reason,
          skipped_count: skip.count,
          skipped_from: new Date(skip.from),
          skipped_to: new Date(skip.to)
        }))
    )
    if (skips.length === 0) return
    yield* sql`
      WITH skipped AS (
        SELECT * FROM jsonb_to_recordset(${JSON.stringify(skips)}::jsonb) AS s (id uuid, task_id uuid, key text, trigger text,
          event_id uuid, agent_id uuid, namespace text, task_version integer, scheduled_for timestamptz(3), priority smallint, skip_reason text,
          skipped_count integer, skipped_from timestamptz(3), skipped_to timestamptz(3))),
      told AS (
        INSERT INTO outbox (size, entries, at)
        SELECT count(*), jsonb_agg(jsonb_build_object('id', gen_random_uuid(), 'topic', 'ordinaut.run.skipped',
          'namespace', s.namespace, 'agent_id', s.agent_id, 'at', ${now}::timestamptz,
          'payload', jsonb_build_object('run_id', s.id, 'task_id', s.task_id, 'state', 'skipped', 'error', NULL))), ${now}
        FROM skipped s)
      INSERT INTO task_run (id, task_id, key, agent_id, namespace, task_version, trigger, state, scheduled_for, due_at, priority,
        attempt, attempts, lease_no, crashes, finished_at, simulated, event_id, skip_reason, skipped_count, skipped_from, skipped_to,
        created_at)
      SELECT id, task_id, key, agent_id, namespace, task_version, trigger, 'skipped', scheduled_for, scheduled_for, priority,
        1, '[]', 0, 0, ${now}, false, event_id, skip_reason, skipped_count, skipped_from, skipped_to, ${now}
      FROM skipped`
  })

  const moveCursors = (decided: ReadonlyArray<Decided>, now: Date) =>
    sql`
      UPDATE task t SET decided_through = greatest(t.decided_through, c.decided_through), next_run_at = c.next_run_at,
        next_due_at = c.next_due_at, fired_count = t.fired_count + c.fired, tzdata_version = c.tzdata_version,
        last_fired_for = coalesce(c.last_fired_for, t.last_fired_for),
        status = CASE WHEN c.next_run_at IS NULL AND t.status = 'active' AND t.schedule_kind IN ('cron', 'rrule', 'once')
          THEN 'completed' ELSE t.status END,
        updated_at = CASE WHEN c.next_run_at IS NULL AND t.status = 'active' AND t.schedule_kind IN ('cron', 'rrule', 'once') THEN ${now} ELSE t.updated_at END
      FROM jsonb_to_recordset(${JSON.stringify(decided.map((one) => cursorRow(one, now)))}::jsonb) AS c (id uuid,
        decided_through timestamptz(3), next_run_at timestamptz(3), next_due_at timestamptz(3), fired integer,
        last_fired_for timestamptz(3), tzdata_version text)
      WHERE t.id = c.id`

  /** A task that is completed binds its key no more. Event tasks have no next occurrence and complete by nothing. */
  const forgetLimits = (decided: ReadonlyArray<Decided>) => {
    const completed = decided.flatMap(({ decision, origin, task }) =>
      decision.next === null && origin === undefined && task.concurrency_key !== null ? [task] : []
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
    decided: ReadonlyArray<Decided>,
    cancelable: ReadonlyMap<string, ReadonlyArray<string>>
  ) {
    const now = DateTime.toDateUtc(yield* DateTime.now)
    const fires = decided.flatMap(({ decision, ...of }) => decision.fires.map((fire) => ({ ...of, fire })))
    const work = yield* Effect.forEach(fires, (fired) => Effect.map(Ids.next, (id) => workOf(id, fired)))
    const replaced = decided.flatMap(({ decision, task }) =>
      decision.cancelUnfinished ? (cancelable.get(task.id) ?? []) : []
    )
    yield* lease.cancel(replaced)
    const queued = new Set(yield* lease.enqueue(work))
    yield* recordSkips(decided, now)
    yield* moveCursors(decided, now)
    yield* forgetLimits(decided)
    measure(decided, now.getTime())
    return work.flatMap(({ id, task_id }) => (queued.has(id) ? [{ run_id: id, task_id }] : []))
  })
}

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
  const { key, ...cause } = origin
  return {
    ...workFor(id, task),
    ...cause,
    key: key(fire.scheduledFor),
    scheduled_for: fire.scheduledFor,
    due_at: fire.dueAt,
    priority: fire.late && policy === "fire_all" ? backfillPriority : task.priority,
    serial: fire.serial
  }
}

/** What every run takes over from its task. */
export const workFor = (id: string, task: ScheduledTask) => ({
  id,
  task_id: task.id,
  task_version: task.version,
  agent_id: task.created_by,
  namespace: task.namespace,
  priority: task.priority,
  concurrency_key: task.concurrency_key,
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
