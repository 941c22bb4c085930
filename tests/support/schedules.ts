import * as SqlClient from "@effect/sql/SqlClient"
import { DateTime, Effect, TestClock } from "effect"
import type { Actor } from "../../src/domain/Agent.ts"
import type { RunSummary } from "../../src/domain/Run.ts"
import type { Task } from "../../src/domain/Task.ts"
import { History } from "../../src/layers/History.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { task } from "./fixtures.ts"
import { start } from "./Services.ts"

/** Takes away all tasks and runs, and sets the clock back to `start`. */
export const fromStart = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`TRUNCATE task, task_revision, due_work, live_step, pending_item, occurrence, concurrency, task_run, run_step, outbox, backfill,
    event, topic_last, trigger_window, trigger_event`
  yield* TestClock.setTime(start)
  yield* Effect.flatMap(History, (history) => history.prepare)
}).pipe(Effect.orDie)

/** Stores a task of `more`, over the defaults of the fixture. */
export const create = (actor: Actor, more: Record<string, unknown>): Effect.Effect<Task, never, Tasks> =>
  Effect.flatMap(Tasks, (tasks) => tasks.create(actor, task(more))).pipe(Effect.orDie)

/** Sets the clock to so many milliseconds after `start`, makes the history of that day, and ticks. */
export const tickAt = (millis: number) =>
  Effect.gen(function* () {
    yield* TestClock.setTime(start + millis)
    yield* Effect.flatMap(History, (history) => history.prepare)
    return yield* Effect.flatMap(Scheduler, (scheduler) => scheduler.tick)
  }).pipe(Effect.orDie)

/** Sets the clock to so many milliseconds after `start`, while nobody ticks. */
export const away = (millis: number) =>
  Effect.zipRight(
    TestClock.setTime(start + millis),
    Effect.flatMap(History, (history) => history.prepare)
  ).pipe(Effect.orDie)

/** `09:05`, with the day in front on any other day than that of `start`. */
const clock = (at: DateTime.Utc | null): string => {
  const text =
    at === null
      ? "never"
      : DateTime.formatIso(at)
          .replace(/:00\.000Z$/, "")
          .replace("T", " ")
  return text.replace("2026-03-02 ", "")
}

const tell = (run: RunSummary): string => {
  const series = run.skipped_from === null ? "" : ` ${run.skipped_count ?? "many"} from ${clock(run.skipped_from)}`
  const due = DateTime.Equivalence(run.due_at, run.scheduled_for) ? "" : ` due ${clock(run.due_at)}`
  return `${clock(run.scheduled_for)} ${run.state}${due}${run.skip_reason === null ? "" : ` ${run.skip_reason}`}${series}`
}

/** What the list of runs says of a task, in the order of `scheduled_for`: `09:05 queued`, `09:04 skipped misfire 3 from 09:02`. */
export const told = (actor: Actor, taskId: string) =>
  Effect.gen(function* () {
    const runs = yield* Runs
    const { items } = yield* runs.list(actor, { task_id: taskId }, { limit: 1000, before: null })
    return [...items]
      .sort((a, b) => DateTime.Order(a.scheduled_for, b.scheduled_for) || DateTime.Order(a.created_at, b.created_at))
      .map((run) => tell(run))
  }).pipe(Effect.orDie)

/** `status` of a task and when its next occurrence is, as `active, next 09:06`. */
export const standing = (actor: Actor, taskId: string) =>
  Effect.gen(function* () {
    const { next_run_at, status } = yield* Effect.flatMap(Tasks, (tasks) => tasks.get(actor, taskId))
    return `${status}, next ${clock(next_run_at)}`
  }).pipe(Effect.orDie)
