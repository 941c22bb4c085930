import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Context, DateTime, Effect, Layer } from "effect"
import { inject } from "vitest"
import { dueAt } from "../../src/domain/ScheduleSpec.ts"
import { DueTasks } from "../../src/layers/DueTasks.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { Wakeups } from "../../src/layers/Wakeups.ts"
import { admin, task } from "../support/fixtures.ts"
import { invariantsHold, watched } from "../support/invariants.ts"
import { away, create, fromStart, standing, tickAt, told } from "../support/schedules.ts"
import { services, start } from "../support/Services.ts"
import { dbAt } from "../support/TestDb.ts"

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

const change = { reason: null, version: null }

class Owner extends Context.Tag("test/Owner")<Owner, Effect.Effect.Success<typeof admin>["actor"]>() {}
const owner = Layer.effect(
  Owner,
  Effect.zipRight(
    watched,
    Effect.map(admin, ({ actor }) => actor)
  )
).pipe(Layer.orDie)

/** One world a test: its own tasks, the clock at 09:00 on a Monday; at the end the invariants hold. */
const world = <A, E, R>(body: (actor: typeof Owner.Service) => Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    yield* fromStart
    yield* body(yield* Owner)
    yield* invariantsHold
  })

/** Ends every run that is under way, as a worker would. */
const finishAll = Effect.gen(function* () {
  const lease = yield* Lease
  yield* lease.promote
  const { leased } = yield* lease.turn(worker, [], 1000)
  const ends = leased.map((work) => ({
    work,
    steps: [],
    finished_at: Date.now(),
    outcome: "ended" as const,
    state: "succeeded" as const,
    error: null
  }))
  yield* lease.turn(
    worker,
    ends.map((end) => ({ ...end, finished_at: end.work.started_at.epochMillis })),
    0
  )
  return leased.map(({ scheduled_for }) => new Date(scheduled_for.epochMillis).toISOString().slice(11, 16))
})
const worker = "018f0000-0000-7000-8000-000000000001"

layer(Layer.provideMerge(owner, services()))("Scheduler", (it) => {
  it.effect("cron fires each minute, once", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, { schedule_expr: "* * * * *" })
        assert.strictEqual(yield* standing(actor, id), "active, next 09:01")
        assert.deepStrictEqual(yield* tickAt(59_999), { fired: 0, nextAt: start + minute })
        assert.deepStrictEqual(yield* tickAt(minute), { fired: 1, nextAt: start + 2 * minute })
        assert.strictEqual((yield* tickAt(minute)).fired, 0)
        yield* tickAt(2 * minute)
        assert.deepStrictEqual(yield* told(actor, id), ["09:01 queued", "09:02 queued"])
        assert.strictEqual(yield* standing(actor, id), "active, next 09:03")
      })
    )
  )

  it.effect("rrule fires until its count is reached, then the task is completed", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, {
          schedule_kind: "rrule",
          schedule_expr: "FREQ=HOURLY;COUNT=3",
          dtstart: "2026-03-02T10:30:00"
        })
        for (let at = 0; at <= 5 * hour; at += 30 * minute) yield* tickAt(at)
        assert.deepStrictEqual(yield* told(actor, id), ["10:30 queued", "11:30 queued", "12:30 queued"])
        assert.strictEqual(yield* standing(actor, id), "completed, next never")
      })
    )
  )

  it.effect("once fires once, also after a long downtime, and completes the task", () =>
    world((actor) =>
      Effect.gen(function* () {
        const once = { schedule_kind: "once", schedule_expr: "2026-03-02T10:00", timezone: "UTC" }
        const ids = []
        for (const misfire_policy of ["fire_once", "fire_all"])
          ids.push((yield* create(actor, { ...once, misfire_policy })).id)
        const skipping = yield* create(actor, { ...once, misfire_policy: "skip" })
        yield* tickAt(40 * day)
        for (const id of ids) {
          assert.deepStrictEqual(yield* told(actor, id), ["10:00 queued"])
          assert.strictEqual(yield* standing(actor, id), "completed, next never")
        }
        assert.deepStrictEqual(yield* told(actor, skipping.id), ["10:00 skipped misfire 1 from 10:00"])
        assert.strictEqual(yield* standing(actor, skipping.id), "completed, next never")
      })
    )
  )

  it.effect("once within the grace at its creation fires at the next tick", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, { schedule_kind: "once", schedule_expr: "2026-03-02T08:59:30Z" })
        yield* tickAt(1000)
        assert.deepStrictEqual(yield* told(actor, id), ["08:59:30.000Z queued"])
        const past = Effect.flatMap(Tasks, (tasks) =>
          tasks.create(actor, task({ schedule_kind: "once", schedule_expr: "2026-03-02T08:58:30Z" }))
        )
        const error = yield* Effect.flip(past)
        assert.strictEqual(error._tag === "InvalidSchedule" ? error.code : error._tag, "in_the_past")
      })
    )
  )

  it.effect("reads the wall clock of the zone over its changes", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, { schedule_expr: "30 3 * * *", timezone: "Europe/Chisinau" })
        for (let n = 1; n <= 28; n++) yield* tickAt(n * day)
        const runs = yield* told(actor, id)
        assert.deepStrictEqual(runs.slice(-3), [
          "2026-03-28 01:30 queued",
          "2026-03-29 01:00 queued",
          "2026-03-30 00:30 queued"
        ])
        assert.strictEqual(runs.length, 28)
      })
    )
  )

  it.effect("starts_at and ends_at bound the occurrences, both included", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, { starts_at: "2026-03-02T09:03:00Z", ends_at: "2026-03-02T09:05:00Z" })
        for (let n = 1; n <= 8; n++) yield* tickAt(n * minute)
        assert.deepStrictEqual(yield* told(actor, id), ["09:03 queued", "09:04 queued", "09:05 queued"])
        assert.strictEqual(yield* standing(actor, id), "completed, next never")
      })
    )
  )

  it.effect("max_runs counts what fired, over ticks and within one", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, { max_runs: 3 })
        const burst = yield* create(actor, { max_runs: 3, misfire_grace_seconds: 600 })
        yield* tickAt(minute)
        for (let n = 5; n <= 9; n++) yield* tickAt(n * minute)
        assert.deepStrictEqual(yield* told(actor, id), [
          "09:01 queued",
          "09:03 skipped misfire 2 from 09:02",
          "09:04 queued",
          "09:05 queued"
        ])
        assert.deepStrictEqual(yield* told(actor, burst.id), ["09:01 queued", "09:02 queued", "09:03 queued"])
        for (const each of [id, burst.id]) assert.strictEqual(yield* standing(actor, each), "completed, next never")
      })
    )
  )

  it.effect("after downtime each misfire policy fires and records what it says", () =>
    world((actor) =>
      Effect.gen(function* () {
        const of = (misfire_policy: string, misfire_grace_seconds = 30) =>
          Effect.map(create(actor, { misfire_policy, misfire_grace_seconds }), ({ id }) => id)
        const [one, all, none, graceful] = [
          yield* of("fire_once"),
          yield* of("fire_all"),
          yield* of("skip"),
          yield* of("fire_once", 90)
        ]
        yield* tickAt(4 * minute + 45_000)
        assert.deepStrictEqual(yield* told(actor, one), ["09:03 skipped misfire 3 from 09:01", "09:04 queued"])
        assert.deepStrictEqual(yield* told(actor, all), [
          "09:01 queued",
          "09:02 queued",
          "09:03 queued",
          "09:04 queued"
        ])
        assert.deepStrictEqual(yield* told(actor, none), ["09:04 skipped misfire 4 from 09:01"])
        assert.deepStrictEqual(yield* told(actor, graceful), ["09:03 skipped misfire 3 from 09:01", "09:04 queued"])
        yield* tickAt(5 * minute)
        assert.strictEqual((yield* told(actor, none)).at(-1), "09:05 queued")
        const sql = yield* SqlClient.SqlClient
        const priorities = yield* sql<{ task_id: string; priority: number }>`
          SELECT DISTINCT task_id, priority FROM due_work WHERE scheduled_for < ${new Date(start + 5 * minute)}`
        assert.deepStrictEqual(
          new Map(priorities.map(({ priority, task_id }) => [task_id, priority])),
          new Map([
            [one, 5],
            [all, 9],
            [graceful, 5]
          ])
        )
      })
    )
  )

  it.effect("fire_all fires the newest thousand, oldest first, and counts the others", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, { misfire_policy: "fire_all", misfire_grace_seconds: 0 })
        const { fired } = yield* tickAt(1500 * minute + 1)
        assert.strictEqual(fired, 1000)
        const runs = yield* told(actor, id)
        assert.strictEqual(runs[0], "17:20 skipped misfire 500 from 09:01")
      })
    )
  )

  it.effect("a second each over two days of downtime: one fires, the count is past its limit", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, { schedule_expr: "* * * * * *", misfire_grace_seconds: 0 })
        yield* tickAt(2 * day + 500)
        assert.deepStrictEqual(yield* told(actor, id), [
          "2026-03-04 08:59:59.000Z skipped misfire many from 09:00:01.000Z",
          "2026-03-04 09:00 queued"
        ])
      })
    )
  )

  it.effect("overlap: allow starts, skip skips, queue waits in order, cancel_running replaces", () =>
    world((actor) =>
      Effect.gen(function* () {
        const lease = yield* Lease
        const of = (overlap_policy: string) => Effect.map(create(actor, { overlap_policy }), ({ id }) => id)
        const [allow, skip, queue, cancel] = [
          yield* of("allow"),
          yield* of("skip"),
          yield* of("queue"),
          yield* of("cancel_running")
        ]
        yield* tickAt(minute)
        const { leased } = yield* lease.turn(worker, [], 10)
        assert.strictEqual(leased.length, 4)
        yield* tickAt(2 * minute)
        yield* tickAt(3 * minute)
        assert.deepStrictEqual(yield* told(actor, allow), ["09:01 running", "09:02 queued", "09:03 queued"])
        assert.deepStrictEqual(yield* told(actor, skip), [
          "09:01 running",
          "09:02 skipped overlap 1 from 09:02",
          "09:03 skipped overlap 1 from 09:03"
        ])
        assert.deepStrictEqual(yield* told(actor, queue), ["09:01 running", "09:02 queued", "09:03 queued"])
        assert.deepStrictEqual(yield* told(actor, cancel), ["09:01 running", "09:02 canceled", "09:03 queued"])
        const asked = yield* lease.renew(worker, leased)
        assert.deepStrictEqual(
          asked.filter((held) => held.cancel_requested).map(({ id }) => id),
          leased.filter(({ task_id }) => task_id === cancel).map(({ id }) => id)
        )
        const more = yield* lease.turn(worker, [], 10)
        assert.deepStrictEqual(
          more.leased.map(({ task_id }) => task_id),
          [allow, allow]
        )
      })
    )
  )

  it.effect("overlap queue runs what one tick fired one after the other, oldest first", () =>
    world((actor) =>
      Effect.gen(function* () {
        yield* create(actor, { overlap_policy: "queue", misfire_policy: "fire_all", misfire_grace_seconds: 0 })
        yield* tickAt(8 * minute + 1)
        const order: Array<string> = []
        for (let n = 0; n < 8; n++) order.push(...(yield* finishAll))
        assert.deepStrictEqual(order, ["09:01", "09:02", "09:03", "09:04", "09:05", "09:06", "09:07", "09:08"])
      })
    )
  )

  it.effect("the dedupe window binds from the last that fired", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, { dedupe_window_seconds: 120 })
        for (let n = 1; n <= 4; n++) yield* tickAt(n * minute)
        assert.deepStrictEqual(yield* told(actor, id), [
          "09:01 queued",
          "09:02 skipped dedupe 1 from 09:02",
          "09:03 queued",
          "09:04 skipped dedupe 1 from 09:04"
        ])
      })
    )
  )

  it.effect("the dedupe window binds a run by hand, from whatever fired last, and lets it go at its end", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const { id } = yield* create(actor, { dedupe_window_seconds: 120 })
        yield* tickAt(minute)
        yield* away(3 * minute - 1)
        const refused = yield* Effect.flip(states.runNow(actor, id, null, null))
        assert.deepInclude(refused, { _tag: "DuplicateRun", within_seconds: 120 })
        yield* away(3 * minute)
        yield* states.runNow(actor, id, null, null)
        assert.strictEqual((yield* Effect.flip(states.runNow(actor, id, null, null)))._tag, "DuplicateRun")
        yield* tickAt(3 * minute)
        assert.deepStrictEqual(yield* told(actor, id), [
          "09:01 queued",
          "09:03 skipped dedupe 2 from 09:02",
          "09:03 queued"
        ])
      })
    )
  )

  it.effect("jitter puts off the start of each occurrence, never past the next", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, { jitter_seconds: 45 })
        const due = Array.from({ length: 20 }, (_, n) =>
          dueAt(id, start + (n + 1) * minute, start + (n + 2) * minute, 45)
        )
        for (const at of due) {
          yield* tickAt(at - 1 - start)
          assert.strictEqual((yield* tickAt(at - start)).fired, 1)
        }
        const sql = yield* SqlClient.SqlClient
        const rows = yield* sql<{ due_at: Date; scheduled_for: Date }>`
          SELECT due_at, scheduled_for FROM due_work WHERE task_id = ${id} ORDER BY scheduled_for`
        assert.deepStrictEqual(
          rows.map((row) => row.due_at.getTime()),
          due
        )
        assert.deepStrictEqual(
          rows.map((row) => row.scheduled_for.getTime()),
          due.map((_, n) => start + (n + 1) * minute)
        )
        assert.isAbove(new Set(due.map((at) => at % minute)).size, 5)
      })
    )
  )

  it.effect("a pause decides nothing; the resume decides what it missed, by the policy or by what is asked", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const asked = [null, "fire_once", "fire_all", "skip"] as const
        const ids = []
        for (const on of asked) ids.push([on, (yield* create(actor, { misfire_grace_seconds: 30 })).id] as const)
        yield* tickAt(minute)
        for (const [, id] of ids) yield* states.pause(actor, id, change)
        yield* tickAt(3 * minute)
        yield* away(4 * minute + 45_000)
        for (const [onMissed, id] of ids) yield* states.resume(actor, id, { ...change, onMissed })
        const runs = []
        for (const [, id] of ids) runs.push(yield* told(actor, id))
        const once = ["09:01 queued", "09:03 skipped paused 2 from 09:02", "09:04 queued"]
        assert.deepStrictEqual(runs, [
          once,
          once,
          ["09:01 queued", "09:02 queued", "09:03 queued", "09:04 queued"],
          ["09:01 queued", "09:04 skipped paused 3 from 09:02"]
        ])
        const sql = yield* SqlClient.SqlClient
        const backfilled = yield* sql<{ priority: number }>`
          SELECT priority FROM due_work WHERE task_id = ${ids[2]?.[1] ?? ""} ORDER BY scheduled_for`
        assert.deepStrictEqual(
          backfilled.map(({ priority }) => priority),
          [5, 9, 9, 9]
        )
        yield* tickAt(5 * minute)
        assert.strictEqual(yield* standing(actor, ids[3]?.[1] ?? ""), "active, next 09:06")
      })
    )
  )

  it.effect("a second pause or resume changes nothing", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const { id } = yield* create(actor, {})
        yield* states.pause(actor, id, change)
        yield* states.pause(actor, id, change)
        yield* away(2 * minute)
        for (let n = 0; n < 2; n++) yield* states.resume(actor, id, { ...change, onMissed: null })
        yield* tickAt(2 * minute)
        assert.deepStrictEqual(yield* told(actor, id), ["09:01 queued", "09:02 queued"])
      })
    )
  )

  it.effect("an edit decides what the old schedule owes, then begins with the new one", () =>
    world((actor) =>
      Effect.gen(function* () {
        const tasks = yield* Tasks
        const { id } = yield* create(actor, { misfire_grace_seconds: 30 })
        yield* away(3 * minute + 45_000)
        yield* tasks.patch(actor, id, { schedule_expr: "*/10 * * * *" }, null)
        assert.strictEqual(yield* standing(actor, id), "active, next 09:10")
        yield* tickAt(10 * minute)
        assert.deepStrictEqual(yield* told(actor, id), [
          "09:02 skipped edited 2 from 09:01",
          "09:03 queued",
          "09:10 queued"
        ])
        const sql = yield* SqlClient.SqlClient
        const versions = yield* sql<{
          task_version: number
        }>`SELECT task_version FROM due_work WHERE task_id = ${id} ORDER BY scheduled_for`
        assert.deepStrictEqual(
          versions.map((row) => row.task_version),
          [1, 2]
        )
        yield* tasks.patch(actor, id, { title: "another" }, null)
        assert.strictEqual(yield* standing(actor, id), "active, next 09:20")
      })
    )
  )

  it.effect("an edit of a paused task records what the pause swallowed, and touches nothing that is yet to come", () =>
    world((actor) =>
      Effect.gen(function* () {
        const tasks = yield* Tasks
        const states = yield* TaskStates
        const { id } = yield* create(actor, { schedule_expr: "*/2 * * * *" })
        yield* states.pause(actor, id, change)
        yield* away(6 * minute - 500)
        yield* tasks.patch(actor, id, { schedule_expr: "* * * * *" }, null)
        yield* states.resume(actor, id, { ...change, onMissed: null })
        yield* tickAt(6 * minute)
        assert.deepStrictEqual(yield* told(actor, id), ["09:04 skipped edited 2 from 09:02", "09:06 queued"])
      })
    )
  )

  it.effect("an edit decides an occurrence whose jitter lies ahead; a cancellation too", () =>
    world((actor) =>
      Effect.gen(function* () {
        const tasks = yield* Tasks
        const states = yield* TaskStates
        const hourly = { schedule_expr: "0 * * * *", jitter_seconds: 3000 }
        const edited = yield* create(actor, hourly)
        const canceled = yield* create(actor, hourly)
        yield* tickAt(hour)
        yield* tasks.patch(actor, edited.id, { schedule_expr: "30 * * * *" }, null)
        yield* states.cancel(actor, canceled.id, change)
        assert.deepStrictEqual(yield* told(actor, edited.id), ["10:00 queued"])
        assert.deepStrictEqual(yield* told(actor, canceled.id), ["10:00 skipped canceled 1 from 10:00"])
      })
    )
  )

  it.effect("an edit loses nothing where more than a thousand are within the grace", () =>
    world((actor) =>
      Effect.gen(function* () {
        const tasks = yield* Tasks
        const { id } = yield* create(actor, { schedule_expr: "* * * * * *", misfire_grace_seconds: 3600 })
        yield* away(1500_000)
        yield* tasks.patch(actor, id, { schedule_expr: "0 0 * * *" }, null)
        const sql = yield* SqlClient.SqlClient
        const [{ fired } = { fired: 0 }] = yield* sql<{
          fired: number
        }>`SELECT count(*)::integer AS fired FROM due_work WHERE task_id = ${id}`
        assert.strictEqual(fired, 1500)
      })
    )
  )

  it.effect(
    "an edit that brings a completed task a future makes it active again; what fired fires no second time",
    () =>
      world((actor) =>
        Effect.gen(function* () {
          const tasks = yield* Tasks
          const { id } = yield* create(actor, { schedule_kind: "once", schedule_expr: "2026-03-02T09:01:00Z" })
          yield* tickAt(minute)
          yield* finishAll
          const refused = yield* Effect.flip(tasks.patch(actor, id, { jitter_seconds: 5 }, null))
          assert.strictEqual(refused._tag === "InvalidSchedule" ? refused.code : refused._tag, "in_the_past")
          yield* tasks.patch(actor, id, { schedule_expr: "2026-03-02T09:03:00Z" }, null)
          yield* tickAt(3 * minute)
          assert.deepStrictEqual(yield* told(actor, id), ["09:01 succeeded", "09:03 queued"])
        })
      )
  )

  it.effect("a snooze decides the next occurrence at once and moves its run; those after it stay", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const { id } = yield* create(actor, { schedule_expr: "*/10 * * * *" })
        yield* states.snooze(actor, id, { delay_seconds: 900 }, null)
        assert.deepStrictEqual(yield* told(actor, id), ["09:10 queued due 09:25"])
        assert.strictEqual(yield* standing(actor, id), "active, next 09:20")
        yield* tickAt(10 * minute)
        assert.deepStrictEqual(yield* finishAll, [])
        yield* states.snooze(actor, id, { delay_seconds: 1200 }, null)
        yield* tickAt(29 * minute)
        assert.deepStrictEqual(yield* finishAll, ["09:20"])
        yield* tickAt(30 * minute)
        assert.deepStrictEqual([...(yield* finishAll)].sort(), ["09:10", "09:30"])
        assert.deepStrictEqual(yield* told(actor, id), [
          "09:10 succeeded due 09:30",
          "09:20 succeeded",
          "09:30 succeeded"
        ])
      })
    )
  )

  it.effect("a snooze to before now, or before the occurrence, is refused", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const { id } = yield* create(actor, { schedule_expr: "*/10 * * * *" })
        const until = (text: string) => ({ until: DateTime.unsafeMake(text) })
        for (const text of ["2026-03-02T08:00:00Z", "2026-03-02T09:09:59Z"]) {
          const error = yield* Effect.flip(states.snooze(actor, id, until(text), null))
          assert.strictEqual(error._tag, "InvalidField")
        }
        yield* states.snooze(actor, id, until("2026-03-02T09:10:00Z"), null)
        yield* states.pause(actor, id, change)
        yield* states.cancel(actor, id, change)
        const gone = yield* Effect.flip(states.snooze(actor, id, { delay_seconds: 60 }, null))
        assert.strictEqual(gone._tag, "TaskCanceled")
      })
    )
  )

  it.effect("an edit after a snooze does not decide the snoozed occurrence again", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const tasks = yield* Tasks
        const { id } = yield* create(actor, { schedule_expr: "*/10 * * * *" })
        yield* states.snooze(actor, id, { delay_seconds: 900 }, null)
        yield* tasks.patch(actor, id, { jitter_seconds: 1 }, null)
        assert.strictEqual(yield* standing(actor, id), "active, next 09:20")
        yield* tickAt(10 * minute + 5000)
        assert.deepStrictEqual(yield* told(actor, id), ["09:10 queued due 09:25"])
      })
    )
  )

  it.effect("a pause holds a snoozed run; the resume decides it by the misfire policy from its due instant", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const one = yield* create(actor, { schedule_expr: "0 * * * *" })
        const none = yield* create(actor, { schedule_expr: "0 * * * *", misfire_policy: "skip" })
        for (const { id } of [one, none]) {
          yield* states.snooze(actor, id, { delay_seconds: 300 }, null)
          yield* states.pause(actor, id, change)
        }
        yield* tickAt(70 * minute)
        assert.deepStrictEqual(yield* finishAll, [])
        yield* states.snooze(actor, one.id, { delay_seconds: 660 }, null)
        yield* away(80 * minute)
        for (const { id } of [one, none]) yield* states.resume(actor, id, { ...change, onMissed: null })
        yield* tickAt(80 * minute)
        assert.deepStrictEqual(yield* told(actor, one.id), ["10:00 queued due 10:11"])
        assert.deepStrictEqual(yield* told(actor, none.id), ["10:00 skipped due 10:05 paused"])
        assert.deepStrictEqual(yield* finishAll, ["10:00"])
      })
    )
  )

  it.effect("cancel ends unstarted runs, asks running ones, records what was owed, and is final", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const lease = yield* Lease
        const { id } = yield* create(actor, { misfire_grace_seconds: 86_400 })
        yield* tickAt(minute)
        const { leased } = yield* lease.turn(worker, [], 1)
        yield* tickAt(2 * minute)
        yield* away(4 * minute)
        yield* states.cancel(actor, id, change)
        yield* tickAt(9 * minute)
        assert.deepStrictEqual(
          (yield* lease.renew(worker, leased)).map((held) => held.cancel_requested),
          [true]
        )
        assert.deepStrictEqual(yield* told(actor, id), [
          "09:01 running",
          "09:02 canceled",
          "09:04 skipped canceled 2 from 09:03"
        ])
        assert.strictEqual(yield* standing(actor, id), "canceled, next never")
        const refused = yield* Effect.flip(states.resume(actor, id, { ...change, onMissed: null }))
        assert.strictEqual(refused._tag, "TaskCanceled")
      })
    )
  )

  const broken = {
    "an expression that is none": (sql: SqlClient.SqlClient, id: string) =>
      sql`UPDATE task SET schedule_expr = 'no cron at all' WHERE id = ${id}`,
    "a zone that is unknown": (sql: SqlClient.SqlClient, id: string) =>
      sql`UPDATE task SET timezone = 'Mars/Olympus' WHERE id = ${id}`,
    "a row that cannot be read": (sql: SqlClient.SqlClient, id: string) =>
      sql`UPDATE task SET schedule_expr = '', overlap_policy = 'whatever' WHERE id = ${id}`
  }
  for (const [what, breaks] of Object.entries(broken)) {
    it.effect(`${what} sets its task aside with the reason; the others of the batch fire`, () =>
      world((actor) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const ids = []
          for (let n = 0; n < 5; n++) ids.push((yield* create(actor, {})).id)
          const bad = ids[2] ?? ""
          yield* breaks(sql, bad)
          assert.strictEqual((yield* tickAt(minute)).fired, 4)
          assert.strictEqual((yield* tickAt(2 * minute)).fired, 4)
          const rows = yield* sql<{ id: string; quarantine_reason: string }>`
            SELECT id, quarantine_reason FROM task WHERE quarantined_at IS NOT NULL`
          assert.deepStrictEqual(
            rows.map(({ id }) => id),
            [bad]
          )
          assert.isAbove(rows[0]?.quarantine_reason.length ?? 0, 10)
          yield* sql`UPDATE task SET overlap_policy = 'allow' WHERE id = ${bad}`
        })
      )
    )
  }

  it.effect("a task that was set aside is mended by an edit of its schedule", () =>
    world((actor) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const tasks = yield* Tasks
        const { id } = yield* create(actor, {})
        yield* sql`UPDATE task SET schedule_expr = 'no cron at all' WHERE id = ${id}`
        yield* tickAt(minute)
        yield* tasks.patch(actor, id, { schedule_expr: "*/5 * * * *" }, null)
        yield* tickAt(5 * minute)
        assert.include(yield* told(actor, id), "09:05 queued")
      })
    )
  )

  it.effect("two schedulers at once fire each of a thousand due tasks once", () =>
    world((actor) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { id } = yield* create(actor, {})
        // A thousand like it, without the cost of a thousand requests.
        yield* sql`
          INSERT INTO task SELECT (jsonb_populate_record(t, jsonb_build_object('id', gen_random_uuid()))).*
          FROM task t CROSS JOIN generate_series(1, 999) WHERE t.id = ${id}`
        yield* sql`
          INSERT INTO task_revision SELECT (jsonb_populate_record(v, jsonb_build_object('task_id', t.id))).*
          FROM task_revision v CROSS JOIN task t WHERE v.task_id = ${id} AND t.id <> ${id}`
        const [{ name } = { name: "" }] = yield* sql<{ name: string }>`SELECT current_database() AS name`
        const url = new URL(inject("databaseUrl"))
        url.pathname = name
        const separate = Scheduler.layer.pipe(
          Layer.provide(DueTasks.layer),
          Layer.provide(Lease.layer),
          Layer.provide(Wakeups.layerLocal),
          Layer.provide(dbAt(url.href)),
          Layer.orDie
        )
        const schedulers = yield* Effect.forEach([1, 2], () =>
          Effect.map(Layer.build(Layer.fresh(separate)), (context) => Context.get(context, Scheduler))
        )
        for (const n of [1, 2]) {
          yield* away(n * minute)
          const ticks = yield* Effect.all(
            [...schedulers, ...schedulers].map((scheduler) => scheduler.tick),
            { concurrency: 4 }
          )
          assert.strictEqual(
            ticks.reduce((sum, { fired }) => sum + fired, 0),
            1000
          )
        }
        const [count] = yield* sql<{ tasks: number; runs: number }>`
          SELECT count(DISTINCT task_id)::integer AS tasks, count(*)::integer AS runs FROM due_work`
        assert.deepStrictEqual(count, { tasks: 1000, runs: 2000 })
      }).pipe(Effect.scoped)
    )
  )
})
