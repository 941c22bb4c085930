import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { DateTime, Effect, TestClock } from "effect"
import { Backfills } from "../../src/layers/Backfills.ts"
import { Events } from "../../src/layers/Events.ts"
import { History } from "../../src/layers/History.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { admin, task, work } from "../support/fixtures.ts"
import { services, start } from "../support/Services.ts"

const page = { limit: 200, before: null }
const worker = "018f0000-0000-7000-8000-000000000001"
const yearly = { schedule_expr: "0 0 1 1 *" }
const day = 86_400_000

/** A backfill of one occurrence a day, `days` of them, the first `ago` days ago. */
const backfilled = (id: string, ago: number, days: number) =>
  Effect.gen(function* () {
    const { actor } = yield* admin
    const backfills = yield* Backfills
    const from = DateTime.unsafeMake(start - ago * day)
    const to = DateTime.unsafeMake(start - (ago - days) * day - 1)
    yield* backfills.create(actor, id, { from, to, only_missed: true, max_parallel: 10, dry_run: false })
    yield* backfills.advance
  })

layer(services())("what goes wrong in one place stays there", (it) => {
  it.effect("a lag of years is told, not an error", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const { id } = yield* (yield* Tasks).create(actor, task({ schedule_expr: "0 0 * * *" }))
      yield* backfilled(id, 800, 2)
      yield* work
      const { items } = yield* (yield* Runs).list(actor, { task_id: id }, page)
      assert.lengthOf(items, 2)
      for (const { lag_ms } of items) assert.isAbove(lag_ms ?? 0, 700 * day)
    })
  )

  it.effect("late work is not old work: a backfill keeps its last place", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const lease = yield* Lease
      const { id } = yield* (yield* Tasks).create(actor, task({ schedule_expr: "0 0 * * *" }))
      yield* backfilled(id, 60, 3)
      assert.strictEqual(yield* lease.age, 0)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* lease.age, 3)
      yield* work
    })
  )

  it.effect("runs of a full key keep no others waiting", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const lease = yield* Lease
      const states = yield* TaskStates
      const full = yield* (yield* Tasks).create(actor, task({ ...yearly, concurrency_key: "full", priority: 1 }))
      for (let n = 0; n < 50; n++) yield* states.runNow(actor, full.id, null, null)
      const free = yield* (yield* Tasks).create(actor, task(yearly))
      const runId = yield* states.runNow(actor, free.id, null, null)
      const leased: Array<string> = []
      for (let moved = 1; moved > 0;) {
        const turn = yield* lease.turn(worker, [], 10)
        leased.push(...turn.leased.map(({ id }) => id))
        moved = turn.leased.length + turn.blocked
      }
      assert.lengthOf(leased, 2)
      assert.include(leased, runId)
      yield* states.cancel(actor, full.id, { reason: null, version: null })
    })
  )

  it.effect("a task that is completed or paused binds its key no more", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const sql = yield* SqlClient.SqlClient
      const tasks = yield* Tasks
      const limit = Effect.map(
        sql<{ limit: number }>`SELECT "limit" FROM concurrency WHERE key = 'bound'`,
        ([row]) => row?.limit
      )
      const now = DateTime.formatIso(DateTime.add(yield* DateTime.now, { minutes: 1 }))
      const wide = yield* tasks.create(actor, task({ ...yearly, concurrency_key: "bound", concurrency_limit: 5 }))
      yield* tasks.create(actor, task({ schedule_kind: "once", schedule_expr: now, concurrency_key: "bound" }))
      assert.strictEqual(yield* limit, 1)
      yield* TestClock.adjust("2 minutes")
      yield* (yield* Scheduler).tick
      assert.strictEqual(yield* limit, 5)
      yield* (yield* TaskStates).pause(actor, wide.id, { reason: null, version: null })
      assert.strictEqual(yield* limit, 5)
      yield* work
    })
  )

  it.effect("a dedupe key that another task bears is a conflict, also for an edit that reopens, and for an admin", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const tasks = yield* Tasks
      const once = { schedule_kind: "once", schedule_expr: "2026-03-02T10:00:00Z", dedupe_key: "k" }
      const first = yield* tasks.create(actor, task(once))
      yield* TestClock.setTime(start + 2 * 3_600_000)
      yield* (yield* Scheduler).tick
      const second = yield* tasks.create(actor, task({ ...yearly, dedupe_key: "k" }))
      const error = yield* Effect.flip(tasks.patch(actor, first.id, { schedule_expr: "2027-01-01T00:00:00Z" }, null))
      assert.strictEqual(error._tag, "DuplicateTask")
      assert.deepInclude(error, { task_id: second.id })
      const both = yield* Effect.all(
        Array.from({ length: 6 }, () => Effect.either(tasks.create(actor, task({ ...yearly, dedupe_key: "race" })))),
        { concurrency: 6 }
      )
      assert.deepStrictEqual(both.map((made) => (made._tag === "Left" ? made.left._tag : "made")).sort(), [
        ...Array.from({ length: 5 }, () => "DuplicateTask"),
        "made"
      ])
    })
  )

  it.effect("retention leaves what an unfinished run was given", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* (yield* Tasks).create(actor, task({ schedule_kind: "event", schedule_expr: "kept.*" }))
      const accepted = yield* (yield* Events).publish(actor, { topic: "kept.a", payload: 1 }, null)
      assert.lengthOf(accepted.triggered_runs, 1)
      yield* TestClock.adjust("40 days")
      yield* (yield* History).keep
      const events = yield* sql`SELECT id FROM event WHERE id = ${accepted.event_id}`
      const guards = yield* sql`SELECT key FROM occurrence WHERE task_id = ${id}`
      assert.deepStrictEqual([events.length, guards.length], [1, 1])
      yield* work
      yield* (yield* History).keep
      assert.lengthOf(yield* sql`SELECT id FROM event WHERE id = ${accepted.event_id}`, 0)
    })
  )

  it.effect("a deadlock within a transaction is tried again by whoever began it", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const sql = yield* SqlClient.SqlClient
      const states = yield* TaskStates
      const { id } = yield* (yield* Tasks).create(actor, task(yearly))
      const runs = yield* Effect.forEach([1, 2], () => states.runNow(actor, id, null, null))
      const [low, high] = [...runs].sort()
      const crossing = Effect.gen(function* () {
        yield* sql`SELECT FROM due_work WHERE id = ${high ?? ""} FOR UPDATE`
        const canceling = yield* Effect.fork(states.cancel(actor, id, { reason: null, version: null }))
        // Until the cancel holds the first row and waits for the second.
        yield* sql<{ waits: boolean }>`SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted) AS waits`.pipe(
          Effect.repeat({ until: ([row]) => row?.waits === true, times: 2000 })
        )
        yield* sql`SELECT FROM due_work WHERE id = ${low ?? ""} FOR UPDATE`.pipe(Effect.either)
        return canceling
      }).pipe(sql.withTransaction, Effect.either)
      const outcome = yield* crossing
      if (outcome._tag === "Right") yield* outcome.right.await
      const task_ = yield* (yield* Tasks).get(actor, id)
      assert.strictEqual(task_.status, "canceled")
    })
  )
})
