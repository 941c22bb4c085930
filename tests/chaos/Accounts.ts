import { Either, Schema } from "effect"
import * as TaskSchedule from "../../src/domain/TaskSchedule.ts"
import type { Timeline } from "../../src/domain/Timeline.ts"

const Instant = Schema.NullOr(Schema.DateFromString)

/** A timed task with what its schedule was, version by version, and what became of its occurrences. */
export const TimedTask = Schema.Struct({
  id: Schema.String,
  status: Schema.Literal("active", "paused", "completed", "canceled"),
  created_at: Schema.DateFromSelf,
  updated_at: Schema.DateFromSelf,
  decided_through: Schema.DateFromSelf,
  next_run_at: Schema.NullOr(Schema.DateFromSelf),
  exhausted: Schema.Boolean,
  /** Oldest first; `since` is where the version's time begins. */
  versions: Schema.Array(
    Schema.Struct({
      since: Schema.DateFromString,
      definition: Schema.Struct({
        schedule_kind: Schema.Literal("cron", "rrule", "once"),
        schedule_expr: Schema.String,
        timezone: Schema.String,
        dtstart: Schema.NullOr(Schema.String),
        starts_at: Instant,
        ends_at: Instant
      })
    })
  ),
  /** Fired occurrences (`first` = `last`) and skipped series. */
  accounts: Schema.Array(
    Schema.Struct({
      what: Schema.String,
      first: Schema.DateFromString,
      last: Schema.DateFromString,
      count: Schema.NullOr(Schema.Int)
    })
  )
})
export type TimedTask = typeof TimedTask.Type

/** Reads them: JSON of an instant is text, a column is a date. */
export const timedTasks = `
  SELECT t.id, t.status, t.created_at, t.updated_at, t.decided_through, t.next_run_at,
    t.max_runs IS NOT NULL AND t.fired_count >= t.max_runs AS exhausted,
    (SELECT jsonb_agg(jsonb_build_object('definition', v.definition,
        -- A new one-time task may be due by its grace already.
        'since', CASE WHEN v.version = 1 AND t.schedule_kind = 'once' THEN '1970-01-01T00:00:00Z'
          WHEN v.version = 1 THEN v.created_at ELSE greatest(v.created_at, w.decided_through) END) ORDER BY v.version)
      FROM task_revision v LEFT JOIN edit_witness w ON w.task_id = v.task_id AND w.version = v.version
      WHERE v.task_id = t.id) AS versions,
    coalesce((SELECT jsonb_agg(jsonb_build_object('what', what, 'first', first, 'last', last, 'count', count) ORDER BY first, last)
      FROM (
        SELECT 'unfinished' AS what, scheduled_for AS first, scheduled_for AS last, 1 AS count
        FROM due_work d WHERE d.task_id = t.id AND d.trigger = 'schedule'
        UNION ALL
        SELECT coalesce(skip_reason, state), coalesce(skipped_from, scheduled_for), coalesce(skipped_to, scheduled_for),
          CASE WHEN skipped_from IS NULL THEN 1 ELSE skipped_count END
        FROM task_run r WHERE r.task_id = t.id AND r.trigger = 'schedule') AS a), '[]') AS accounts
  FROM task t WHERE t.schedule_kind <> 'event'`

const timelineOf = ({ created_at, versions }: TimedTask, n: number): Timeline => {
  const definition = versions[n]?.definition
  if (definition === undefined) return { next: () => null }
  const plan = Either.getOrThrow(
    TaskSchedule.read({
      kind: definition.schedule_kind,
      expr: definition.schedule_expr,
      timezone: definition.timezone,
      dtstart: definition.dtstart,
      createdAt: created_at.getTime(),
      startsAt: definition.starts_at?.getTime() ?? null,
      endsAt: definition.ends_at?.getTime() ?? null
    })
  )
  return plan._tag === "Timed" ? plan.timeline : { next: () => null }
}

/** Up to where all must be decided: a canceled task owes nothing from then on, an exhausted one nothing after its last run. */
const decidedTo = ({ accounts, decided_through, exhausted, status, updated_at }: TimedTask): number => {
  if (exhausted) return Math.max(0, ...accounts.map(({ last }) => last.getTime()))
  return status === "canceled" ? Math.max(decided_through.getTime(), updated_at.getTime()) : decided_through.getTime()
}

const owed = (task: TimedTask): ReadonlyArray<number> => {
  const end = decidedTo(task)
  return task.versions.flatMap(({ since }, n) => {
    const found: Array<number> = []
    const timeline = timelineOf(task, n)
    const until = Math.min(end, task.versions[n + 1]?.since.getTime() ?? Infinity)
    for (let at = timeline.next(since.getTime()); at !== null && at <= until; at = timeline.next(at)) found.push(at)
    return found
  })
}

const iso = (at: number | undefined) => (at === undefined ? "none" : new Date(at).toISOString())

/**
 * What is wrong with the decisions about a task: an occurrence of its schedule between its creation and what is decided that has
 * no account or two, an account without its occurrence, a wrong count, or a cursor that stands elsewhere than at the next occurrence.
 */
export const wrongAccounts = (task: TimedTask): ReadonlyArray<string> => {
  const due = owed(task)
  const wrong: Array<string> = []
  let i = 0
  for (const { count, first, last, what } of task.accounts) {
    const tale = `task ${task.id}: ${what} ${first.toISOString()} to ${last.toISOString()} (${count})`
    if (due[i] !== first.getTime()) return [`${tale}: the next occurrence without an account is ${iso(due[i])}`]
    const from = i
    while (i < due.length && (due[i] ?? Infinity) <= last.getTime()) i++
    if (due[i - 1] !== last.getTime()) wrong.push(`${tale} ends at no occurrence`)
    if (count === null ? i - from <= 100_000 : i - from !== count) wrong.push(`${tale}: there are ${i - from}`)
  }
  if (i < due.length) wrong.push(`task ${task.id}: nothing became of ${iso(due[i])} and ${due.length - i - 1} after it`)
  const next = timelineOf(task, task.versions.length - 1).next(task.decided_through.getTime())
  if ((task.status === "active" || task.status === "paused") && next !== (task.next_run_at?.getTime() ?? null))
    wrong.push(
      `task ${task.id}: the cursor is at ${task.next_run_at?.toISOString()} and not at ${iso(next ?? undefined)}`
    )
  return wrong
}
