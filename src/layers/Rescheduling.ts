import type * as SqlClient from "@effect/sql/SqlClient"
import { DateTime, Effect, Either } from "effect"
import type { Cursor } from "../domain/Cursor.ts"
import type { TaskDefinition } from "../domain/Task.ts"
import * as Firing from "./Firing.ts"
import type { Lease } from "./Lease.ts"
import * as TaskRows from "./TaskRows.ts"

/** What the cursor depends on, as one comparable text. */
export const scheduleOf = (
  task: Pick<
    TaskDefinition,
    "schedule_kind" | "schedule_expr" | "timezone" | "dtstart" | "starts_at" | "ends_at" | "jitter_seconds" | "max_runs"
  >,
  dtstartGiven: boolean
) =>
  JSON.stringify([
    task.schedule_kind,
    task.schedule_expr,
    task.timezone,
    dtstartGiven ? task.dtstart : null,
    task.starts_at,
    task.ends_at,
    task.jitter_seconds,
    task.max_runs
  ])

/**
 * Decides all that a task owes by its old schedule, within the caller's transaction, which holds its row lock: an edit comes after
 * everything that was due before it. Answers the task as it is then, from whose cursor the new schedule goes on.
 */
export const upToNow = (sql: SqlClient.SqlClient, lease: typeof Lease.Service) => {
  const fire = Firing.make(sql, lease)
  const again = (id: string) =>
    Effect.flatMap(sql`SELECT * FROM task WHERE id = ${id}`, (rows) => TaskRows.decodeScheduled(rows))
  return Effect.fnUntraced(function* (task: TaskRows.ScheduledTask) {
    const now = DateTime.toEpochMillis(yield* DateTime.now)
    // While paused nothing fires: what fell into the pause before the edit is recorded as skipped by it.
    const [policy, grace] =
      task.status === "active"
        ? ([task.misfire_policy, task.misfire_grace_seconds] as const)
        : (["skip", Firing.noGrace] as const)
    let owing = task
    // One decision fires a bounded number.
    while (owes(owing, now)) {
      const one = owing
      const unfinished = yield* Firing.unfinishedRuns(sql, [one])
      const decided = Firing.decide(one, now, unfinished.has(one.id), "edited", policy, grace)
      yield* fire([Either.getOrElse(decided, () => Firing.forgone(one, now))], unfinished)
      const [next] = yield* again(one.id)
      if (next === undefined) break
      owing = next
    }
    return owing
  })
}

const owes = (task: TaskRows.ScheduledTask, now: number): boolean =>
  (TaskRows.millisOf(task.next_run_at) ?? Infinity) <= now

/** The cursor of a task whose schedule stays. */
export const kept = (task: TaskRows.ScheduledTask): Cursor => ({
  decidedThrough: DateTime.toEpochMillis(task.decided_through),
  next: TaskRows.millisOf(task.next_run_at),
  nextDueAt: TaskRows.millisOf(task.next_due_at),
  dtstart: task.dtstart,
  countEnd: TaskRows.millisOf(task.count_end),
  tzdataVersion: task.tzdata_version ?? ""
})
