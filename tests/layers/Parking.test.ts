import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Clock, Effect, TestClock } from "effect"
import { History } from "../../src/layers/History.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { admin, task } from "../support/fixtures.ts"
import { services } from "../support/Services.ts"

const worker = "018f0000-0000-7000-8000-000000000001"

/** A run under lease, which took the only slot of its key. */
const held = Effect.gen(function* () {
  const { actor } = yield* admin
  const { id } = yield* (yield* Tasks).create(
    actor,
    task({ schedule_expr: "0 0 1 1 *", concurrency_key: crypto.randomUUID() })
  )
  yield* (yield* TaskStates).runNow(actor, id, null, null)
  const { leased } = yield* (yield* Lease).turn(worker, [], 1)
  const [work] = leased
  return yield* Effect.fromNullable(work)
})

const park = (work: Effect.Effect.Success<typeof held>, seconds: number | null) =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const lease = yield* Lease
    const expires_at = seconds === null ? null : now + seconds * 1000
    return yield* lease.turn(
      worker,
      [{ work, steps: [], finished_at: now, outcome: "parked", signals: work.signals, expires_at }],
      0
    )
  })

const standing = (id: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ state: string; attempt: number; in_use: number }>`
      SELECT d.state, d.attempt, c.in_use FROM due_work d JOIN concurrency c ON c.key = d.concurrency_key WHERE d.id = ${id}`
    return row
  })

layer(services())("a parked run", (it) => {
  it.effect("holds no slot, counts no attempt, and is ready at a signal", () =>
    Effect.gen(function* () {
      const lease = yield* Lease
      const work = yield* held
      assert.deepStrictEqual((yield* park(work, null)).lost, [])
      assert.deepStrictEqual(yield* standing(work.id), { state: "parked", attempt: 1, in_use: 0 })
      yield* TestClock.adjust("90 days")
      yield* (yield* History).prepare
      yield* lease.promote
      assert.strictEqual((yield* standing(work.id))?.state, "parked")
      yield* lease.signal([work.id])
      assert.strictEqual((yield* standing(work.id))?.state, "ready")
      const { leased } = yield* lease.turn(worker, [], 1)
      assert.deepStrictEqual(
        leased.map(({ attempt, id, lease_no, signals }) => ({ attempt, id, lease_no, signals })),
        [{ attempt: 1, id: work.id, lease_no: 2, signals: 1 }]
      )
      yield* lease.cancel([work.id])
    })
  )

  it.effect("does not park when a signal came that its holder has not seen", () =>
    Effect.gen(function* () {
      const lease = yield* Lease
      const work = yield* held
      yield* lease.signal([work.id])
      yield* park(work, null)
      assert.strictEqual((yield* standing(work.id))?.state, "ready")
      yield* lease.cancel([work.id])
    })
  )

  it.effect("is ready when it has waited long enough, and not before", () =>
    Effect.gen(function* () {
      const lease = yield* Lease
      const work = yield* held
      yield* park(work, 60)
      yield* TestClock.adjust("59 seconds")
      yield* lease.promote
      assert.strictEqual((yield* standing(work.id))?.state, "parked")
      yield* TestClock.adjust("1 second")
      yield* lease.promote
      assert.strictEqual((yield* standing(work.id))?.state, "ready")
      yield* lease.cancel([work.id])
    })
  )

  it.effect("cannot be parked by a lease that is over", () =>
    Effect.gen(function* () {
      const lease = yield* Lease
      const work = yield* held
      yield* TestClock.adjust("16 seconds")
      yield* lease.rescue
      assert.deepStrictEqual((yield* park(work, null)).lost, [work.id])
      assert.strictEqual((yield* standing(work.id))?.state, "ready")
    })
  )
})
