import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Clock, Duration, Effect, TestClock } from "effect"
import { Heartbeats } from "../../src/layers/Heartbeats.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { admin, task, work } from "../support/fixtures.ts"
import { services } from "../support/Services.ts"

const [one, other] = ["018f0000-0000-7000-8000-000000000001", "018f0000-0000-7000-8000-000000000002"] as const

const beat = (id: string) =>
  Effect.gen(function* () {
    const heartbeats = yield* Heartbeats
    const startedAt = yield* Clock.currentTimeMillis
    yield* heartbeats.beat({ id, program: "worker", startedAt, lastPassAt: null, running: 0, concurrency: 1 })
  })

/** A run that a worker leased. */
const leasedRun = (by: string) =>
  Effect.gen(function* () {
    const { actor } = yield* admin
    const { id } = yield* (yield* Tasks).create(actor, task({ schedule_expr: "0 0 1 1 *" }))
    const runId = yield* (yield* TaskStates).runNow(actor, id, null, null)
    yield* beat(by)
    const lease = yield* Lease
    const { leased } = yield* lease.turn(by, [], 10)
    assert.deepStrictEqual(
      leased.map((row) => row.id),
      [runId]
    )
    return { actor, runId, lease }
  })

/** The lease's holder falls silent for 16 s, while another worker beats as usual. */
const silence = Effect.gen(function* () {
  yield* TestClock.adjust("12 seconds")
  yield* beat(other)
  yield* TestClock.adjust("4 seconds")
  yield* beat(other)
  return yield* (yield* Lease).rescue
})

const row = (id: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [found] = yield* sql<{
      state: string
      attempt: number
      crashes: number
      lease_no: number
    }>`SELECT state, attempt, crashes, lease_no FROM due_work WHERE id = ${id}`
    return found
  })

layer(services())("a lease that nobody renews", (it) => {
  it.effect("is taken back with the attempt it had, and counts as a crash when others got answers meanwhile", () =>
    Effect.gen(function* () {
      const { runId, lease } = yield* leasedRun(one)
      assert.strictEqual(yield* lease.rescue, 0)
      assert.strictEqual(yield* silence, 1)
      assert.deepStrictEqual(yield* row(runId), { state: "ready", attempt: 1, crashes: 1, lease_no: 1 })
      yield* lease.cancel([runId])
    })
  )

  it.effect("is no crash when the database answered nobody, nor when the holder still beats", () =>
    Effect.gen(function* () {
      const { runId, lease } = yield* leasedRun(one)
      yield* TestClock.adjust("1 hour")
      // The database is back, and answers another first.
      yield* beat(other)
      assert.strictEqual(yield* lease.rescue, 1)
      assert.strictEqual((yield* row(runId))?.crashes, 0)
      yield* beat(one)
      yield* lease.turn(one, [], 10)
      yield* TestClock.adjust("16 seconds")
      yield* beat(one)
      yield* beat(other)
      assert.strictEqual(yield* lease.rescue, 1)
      assert.strictEqual((yield* row(runId))?.crashes, 0)
      yield* lease.cancel([runId])
    })
  )

  it.effect("makes a suspect at two crashes, leased alone, and poison at three", () =>
    Effect.gen(function* () {
      const { actor, runId, lease } = yield* leasedRun(one)
      yield* silence
      yield* lease.turn(one, [], 10)
      yield* silence
      assert.strictEqual((yield* row(runId))?.crashes, 2)
      const fleet = Array.from({ length: 8 }, (_, n) => `018f0000-0000-7000-8000-00000000001${n}`)
      yield* Effect.forEach(fleet, beat)
      // Eight, the other, and the silent one, whose last beat is too old: of nine four, however many ask at once.
      const given = yield* Effect.filter(fleet, (id) => lease.makeRoom(id, Duration.seconds(10)), {
        concurrency: "unbounded"
      })
      assert.lengthOf(given, 4)
      assert.lengthOf((yield* lease.turn(one, [], 10)).leased, 0)
      assert.lengthOf((yield* lease.turn(one, [], 1, true)).leased, 1)
      yield* silence
      const run = yield* (yield* Runs).get(actor, runId)
      assert.strictEqual(run.state, "failed")
      assert.strictEqual(run.error?.code, "poison")
      assert.deepStrictEqual(
        run.attempts.map(({ attempt, error }) => [attempt, error?.code]),
        [[1, "poison"]]
      )
    })
  )

  it.effect("gives its slot back", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      const states = yield* TaskStates
      const { id } = yield* (yield* Tasks).create(actor, task({ schedule_expr: "0 0 1 1 *", concurrency_key: "slot" }))
      yield* states.runNow(actor, id, null, null)
      yield* states.runNow(actor, id, null, null)
      yield* beat(one)
      assert.lengthOf((yield* lease.turn(one, [], 10)).leased, 1)
      assert.lengthOf((yield* lease.turn(one, [], 10)).leased, 0)
      yield* silence
      const used = yield* sql<{ in_use: number }>`SELECT in_use FROM concurrency WHERE key = 'slot'`
      assert.deepStrictEqual(used, [{ in_use: 0 }])
      yield* work
      yield* lease.promote
      yield* work
      const { items } = yield* (yield* Runs).list(
        actor,
        { task_id: id, state: "succeeded" },
        { limit: 10, before: null }
      )
      assert.lengthOf(items, 2)
    })
  )
})

layer(services())("waiting", (it) => {
  it.effect("gains one priority for every ten minutes, down to 1, and leases are in that order", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const lease = yield* Lease
      const tasks = yield* Tasks
      const states = yield* TaskStates
      const run = (priority: number) =>
        Effect.gen(function* () {
          const { id } = yield* tasks.create(actor, task({ schedule_expr: "0 0 1 1 *", priority }))
          return yield* states.runNow(actor, id, null, null)
        })
      const patient = yield* run(9)
      yield* TestClock.adjust("71 minutes")
      const urgent = yield* run(3)
      assert.strictEqual(yield* lease.age, 1)
      assert.strictEqual(yield* lease.age, 0)
      const { leased } = yield* lease.turn(one, [], 1)
      assert.deepStrictEqual(
        leased.map(({ id }) => id),
        [patient]
      )
      assert.strictEqual(leased[0]?.priority, 9)
      assert.deepStrictEqual(
        (yield* lease.turn(one, [], 1)).leased.map(({ id }) => id),
        [urgent]
      )
    })
  )
})
