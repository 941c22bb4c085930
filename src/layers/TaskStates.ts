import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Effect, Either, Layer } from "effect"
import type { Actor } from "../domain/Agent.ts"
import { occurrenceKey } from "../domain/DueWork.ts"
import type { JsonObject } from "../domain/Json.ts"
import { RunId } from "../domain/Run.ts"
import { dueAt } from "../domain/ScheduleSpec.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import {
  DuplicateRun,
  InvalidField,
  NothingToSnooze,
  TaskCanceled,
  TooManyRuns,
  VersionMismatch
} from "../domain/Task.ts"
import type { MisfirePolicy, Snooze, Task, TaskNotFound, TaskStatus } from "../domain/Task.ts"
import * as TaskSchedule from "../domain/TaskSchedule.ts"
import { Audit } from "./Audit.ts"
import * as Conditions from "./Conditions.ts"
import { storeErrors } from "./Db.ts"
import * as Firing from "./Firing.ts"
import * as Ids from "./Ids.ts"
import { Lease } from "./Lease.ts"
import * as Listeners from "./Listeners.ts"
import { tellTask } from "./Outbox.ts"
import * as TaskRows from "./TaskRows.ts"
import { Wakeups } from "./Wakeups.ts"

type Refused = TaskNotFound | TaskCanceled | VersionMismatch | StoreUnavailable

interface Change {
  readonly reason: string | null
  /** What `If-Match` asks for. */
  readonly version: number | null
}

/** How a task's life goes on. Changes the state columns of `task`; each change is idempotent. */
export class TaskStates extends Context.Tag("ordinaut/TaskStates")<
  TaskStates,
  {
    /** Stops deciding; what is queued already goes on, save a snoozed run that has not started. */
    readonly pause: (actor: Actor, id: string, change: Change) => Effect.Effect<Task, Refused>
    /** Decides what the pause missed, by `onMissed` or the task's own policy, and goes on. */
    readonly resume: (
      actor: Actor,
      id: string,
      change: Change & { readonly onMissed: MisfirePolicy | null }
    ) => Effect.Effect<Task, Refused>
    /** Ends the task for good: its unstarted runs at once, its running ones are asked to stop. */
    readonly cancel: (actor: Actor, id: string, change: Change) => Effect.Effect<Task, Exclude<Refused, TaskCanceled>>
    /** Puts off the next occurrence, or a snoozed run that has not started; those after it stay where they are. */
    readonly snooze: (
      actor: Actor,
      id: string,
      snooze: Snooze,
      version: number | null
    ) => Effect.Effect<Task, Refused | NothingToSnooze | InvalidField>
    /** Queues a run now, whatever the schedule says; `params` stand in for those of the pipeline. */
    readonly runNow: (
      actor: Actor,
      id: string,
      params: JsonObject | null,
      traceparent: string | null
    ) => Effect.Effect<RunId, TaskNotFound | TaskCanceled | DuplicateRun | TooManyRuns | StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const audit = yield* Audit
      const lease = yield* Lease
      const wakeups = yield* Wakeups
      const rows = TaskRows.make(sql)
      const conditions = Conditions.make(sql)
      const listeners = Listeners.make(sql, lease)
      const fire = Firing.make(sql, lease)

      const setStatus = (id: string, status: TaskStatus, reason: string | null, now: Date) =>
        sql`UPDATE task SET status = ${status}, status_reason = ${reason}, updated_at = ${now} WHERE id = ${id}`

      /** One change of a task's state: under its row lock, with its audit entry, answered with the task as it is then. */
      const changing = <E, R>(
        actor: Actor,
        id: string,
        change: Change & { readonly action: "task.paused" | "task.resumed" | "task.canceled" | "task.snoozed" },
        to: (task: TaskRows.ScheduledTask, now: DateTime.Utc, said: Conditions.Said) => Effect.Effect<boolean, E, R>
      ) =>
        Effect.gen(function* () {
          // The base of a condition that goes on; locked before the task.
          const said = change.action === "task.resumed" ? yield* conditions.heldFor(id) : new Map()
          const task = yield* rows.locked(actor, id)
          if (change.version !== null && change.version !== task.version) {
            return yield* new VersionMismatch({ task_id: task.id, version: task.version })
          }
          const now = yield* DateTime.now
          const changed = yield* to(task, now, said)
          const after = yield* rows.one(actor, id)
          if (changed) {
            yield* rows.limits(task.namespace, [task.concurrency_key])
            yield* audit.record({
              actor: actor.id,
              namespace: actor.namespace,
              action: change.action,
              subject_kind: "task",
              subject_id: id,
              before: { status: task.status },
              after: { status: after.status, reason: change.reason }
            })
          }
          return after
        }).pipe(
          sql.withTransaction,
          Effect.tap(() => Effect.all([wakeups.signal("schedule"), wakeups.signal("cancel"), wakeups.signal("outbox")]))
        )

      /** Decides the next occurrence at once, as a run due at `until`, and moves the cursor to the one after it. */
      const decideNext = (task: TaskRows.ScheduledTask, scheduledFor: number, until: number, runId: string) =>
        Effect.gen(function* () {
          const plan = yield* TaskSchedule.read(TaskRows.scheduleFields(task)).pipe(
            Either.mapLeft(() => new NothingToSnooze({ task_id: task.id, status: task.status }))
          )
          const unfinished = yield* Firing.unfinishedRuns(sql, [task])
          const timeline = plan._tag === "Timed" ? plan.timeline : { next: () => null }
          const following = timeline.next(scheduledFor)
          const left = task.max_runs === null || task.fired_count + 1 < task.max_runs
          const next = left ? following : null
          yield* lease.enqueue([
            {
              ...Firing.workFor(runId, task),
              key: occurrenceKey.schedule(scheduledFor),
              trigger: "schedule",
              scheduled_for: scheduledFor,
              due_at: until,
              serial: task.overlap_policy !== "allow" && unfinished.has(task.id)
            }
          ])
          yield* sql`
            UPDATE task SET decided_through = ${new Date(scheduledFor)}, fired_count = fired_count + 1,
              last_fired_for = ${new Date(scheduledFor)}, next_run_at = ${next === null ? null : new Date(next)},
              next_due_at = ${next === null ? null : new Date(dueAt(task.id, next, timeline.next(next), task.jitter_seconds))},
              status = ${next === null ? "completed" : task.status}
            WHERE id = ${task.id}`
          if (next === null) yield* tellTask(sql, "completed", task.id, DateTime.toDateUtc(yield* DateTime.now))
        })

      return TaskStates.of({
        pause: Effect.fn("TaskStates.pause")(function* (actor, id, change) {
          return yield* changing(
            actor,
            id,
            { ...change, action: "task.paused" },
            Effect.fnUntraced(function* (task, now) {
              if (task.status === "canceled") return yield* new TaskCanceled({ task_id: task.id })
              if (task.status !== "active") return false
              yield* listeners.endWindows(task, DateTime.toDateUtc(now), "paused")
              yield* setStatus(id, "paused", change.reason, DateTime.toDateUtc(now))
              yield* tellTask(sql, "paused", id, DateTime.toDateUtc(now))
              yield* lease.hold(id)
              return true
            })
          )
        }, storeErrors),

        resume: Effect.fn("TaskStates.resume")(function* (actor, id, change) {
          return yield* changing(
            actor,
            id,
            { ...change, action: "task.resumed" },
            Effect.fnUntraced(function* (task, now, said) {
              if (task.status === "canceled") return yield* new TaskCanceled({ task_id: task.id })
              if (task.status !== "paused") return false
              const policy = change.onMissed ?? task.misfire_policy
              const millis = DateTime.toEpochMillis(now)
              yield* setStatus(id, "active", change.reason, DateTime.toDateUtc(now))
              yield* tellTask(sql, "resumed", id, DateTime.toDateUtc(now))
              yield* lease.unhold(id, policy === "skip" ? millis - task.misfire_grace_seconds * 1000 : null)
              if (task.schedule_kind === "condition") {
                yield* conditions.restart(task, said, millis)
                return true
              }
              const unfinished = yield* Firing.unfinishedRuns(sql, [task])
              const decided = Firing.decide(task, millis, unfinished.has(id), "paused", policy)
              // A schedule that cannot be read is the next tick's to set aside.
              if (Either.isRight(decided)) yield* fire([decided.right], unfinished)
              return true
            })
          )
        }, storeErrors),

        cancel: Effect.fn("TaskStates.cancel")(function* (actor, id, change) {
          return yield* changing(
            actor,
            id,
            { ...change, action: "task.canceled" },
            Effect.fnUntraced(function* (task, now) {
              if (task.status === "canceled") return false
              yield* listeners.endWindows(task, DateTime.toDateUtc(now), "canceled")
              yield* setStatus(id, "canceled", change.reason, DateTime.toDateUtc(now))
              yield* tellTask(sql, "canceled", id, DateTime.toDateUtc(now))
              const millis = DateTime.toEpochMillis(now)
              if ((TaskRows.millisOf(task.next_run_at) ?? Infinity) <= millis) {
                const owed = Firing.decide(task, millis, false, "canceled", "skip", Firing.noGrace)
                yield* fire([Either.getOrElse(owed, () => Firing.forgone(task, millis))], new Map())
              }
              yield* sql`UPDATE task SET next_run_at = NULL, next_due_at = NULL, snoozed_until = NULL WHERE id = ${id}`
              const all = yield* sql<{ id: string }>`SELECT id FROM due_work WHERE task_id = ${id}`
              yield* lease.cancel(all.map((row) => row.id))
              return true
            })
          )
        }, storeErrors),

        snooze: Effect.fn("TaskStates.snooze")(function* (actor, id, snooze, version) {
          const later = (from: number) =>
            snooze.until === undefined
              ? from + (snooze.delay_seconds ?? 0) * 1000
              : DateTime.toEpochMillis(snooze.until)
          return yield* changing(
            actor,
            id,
            { reason: snooze.reason ?? null, version, action: "task.snoozed" },
            Effect.fnUntraced(function* (task, now) {
              if (task.status === "canceled") return yield* new TaskCanceled({ task_id: task.id })
              const millis = DateTime.toEpochMillis(now)
              const waiting = task.snoozed_run_id === null ? null : yield* lease.unstarted(task.snoozed_run_id)
              const next = TaskRows.millisOf(task.next_run_at)
              if (waiting === null && (next === null || task.status !== "active")) {
                return yield* new NothingToSnooze({ task_id: task.id, status: task.status })
              }
              const scheduledFor = waiting ?? next ?? millis
              const until = later(scheduledFor)
              if (until < Math.max(millis, scheduledFor)) {
                return yield* new InvalidField({
                  path: snooze.until === undefined ? "/delay_seconds" : "/until",
                  message: "lies before now, or before the occurrence that it puts off"
                })
              }
              const runId = waiting === null ? yield* Ids.next : task.snoozed_run_id
              if (waiting !== null) yield* lease.snooze(task.snoozed_run_id ?? "", until)
              else yield* decideNext(task, scheduledFor, until, runId ?? "")
              yield* sql`UPDATE task SET snoozed_until = ${new Date(until)}, snoozed_run_id = ${runId} WHERE id = ${id}`
              return true
            })
          )
        }, storeErrors),

        runNow: Effect.fn("TaskStates.runNow")(function* (actor, id, params, traceparent) {
          const runId = yield* Ids.next
          yield* Effect.gen(function* () {
            const task = yield* rows.locked(actor, id)
            if (task.status === "canceled") return yield* new TaskCanceled({ task_id: task.id })
            const now = DateTime.toEpochMillis(yield* DateTime.now)
            const last = TaskRows.millisOf(task.last_fired_for)
            if (
              last !== null &&
              task.dedupe_window_seconds > 0 &&
              Math.abs(now - last) < task.dedupe_window_seconds * 1000
            ) {
              return yield* new DuplicateRun({
                task_id: task.id,
                within_seconds: task.dedupe_window_seconds
              })
            }
            if ((yield* lease.room([task.id])).get(task.id) === 0) return yield* new TooManyRuns({ task_id: task.id })
            yield* lease.enqueue([
              {
                ...Firing.workFor(runId, task, { params }),
                key: occurrenceKey.manual(runId),
                trigger: "manual",
                scheduled_for: now,
                due_at: now,
                serial: false,
                ...(params === null ? {} : { input: { params } }),
                ...(traceparent === null ? {} : { traceparent })
              }
            ])
            yield* sql`UPDATE task SET last_fired_for = ${new Date(now)} WHERE id = ${id}`
            yield* audit.record({
              actor: actor.id,
              namespace: actor.namespace,
              action: "task.run_now",
              subject_kind: "task",
              subject_id: id,
              before: null,
              after: { run_id: runId }
            })
          }).pipe(sql.withTransaction)
          yield* wakeups.signal("work")
          return RunId.make(runId)
        }, storeErrors)
      })
    })
  )
}
