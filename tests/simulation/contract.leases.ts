import { Effect } from "effect"
import type { End } from "../../src/domain/Settlement.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Plans } from "../../src/layers/Plans.ts"
import {
  Store,
  one,
  other,
  runId,
  queue,
  lease,
  leaseOne,
  step,
  failed,
  succeeded,
  settlement,
  settle,
  beat,
  equal
} from "./contract.ts"
import type { Scenario } from "./contract.ts"

/** Who may work on a run, and what a lost lease and a used slot mean. */
export const leases: Record<string, Scenario> = {
  "parks, unless a signal came meanwhile, and readies at a signal or in time": Effect.gen(function* () {
    const store = yield* Store
    const task = yield* store.task()
    for (const n of [1, 2, 3]) yield* queue(task, n)
    const leased = yield* lease(3)
    const leases = yield* Lease
    yield* leases.signal([runId(3)])
    for (const work of leased) yield* settle(work, { outcome: "parked", signals: 0, expires_at: store.start + 4000 })
    equal(yield* store.unfinished, {
      "m:1": "parked lease 1 attempt 1",
      "m:2": "parked lease 1 attempt 1",
      "m:3": "ready lease 1 attempt 1"
    })
    yield* leases.signal([runId(1)])
    equal((yield* store.unfinished)["m:1"], "ready lease 1 attempt 1")
    yield* store.setTime(4000)
    equal(yield* leases.promote, 1)
    equal((yield* store.unfinished)["m:2"], "ready lease 1 attempt 1")
  }),

  "refuses every write under an old lease": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    yield* queue(yield* store.task(), 1)
    const old = yield* leaseOne()
    yield* store.setTime(16_000)
    equal(yield* leases.rescue, 1)
    const fresh = yield* leaseOne(other)
    equal(fresh.lease_no, 2)
    const ends: ReadonlyArray<End> = [
      succeeded,
      { outcome: "released" },
      { outcome: "retried", error: failed, run_at: store.start },
      { outcome: "parked", signals: 0, expires_at: null }
    ]
    for (const end of ends) equal((yield* settle(old, end, [step("a")])).lost, [old.id])
    equal(yield* leases.renew(one, [old]), [])
    equal(yield* leases.renew(one, [fresh]), [])
    equal(yield* leases.renew(other, [fresh]), [{ id: fresh.id, lease_no: 2, signals: 0, cancel_requested: false }])
    equal((yield* (yield* Plans).inputs([fresh])).get(fresh.id)?.known, [])
    equal(yield* store.unfinished, { "m:1": "leased lease 2 attempt 1" })
  }),

  "a renewal moves the end of a lease": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    yield* queue(yield* store.task(), 1)
    const work = yield* leaseOne()
    yield* store.setTime(14_000)
    yield* leases.renew(one, [work])
    yield* store.setTime(28_999)
    equal(yield* leases.rescue, 0)
    yield* store.setTime(29_001)
    equal(yield* leases.rescue, 1)
    equal(yield* leases.renew(one, [work]), [])
    const again = yield* leaseOne()
    equal(yield* leases.renew(one, [work]), [])
    equal(yield* leases.renew(one, [again]), [{ id: work.id, lease_no: 2, signals: 0, cancel_requested: false }])
  }),

  "counts a crash only of a holder that fell silent while others beat, and ends the third as poison": Effect.gen(
    function* () {
      const store = yield* Store
      const leases = yield* Lease
      yield* queue(yield* store.task(), 1)
      let at = 0
      const pass = (...alive: ReadonlyArray<string>) =>
        Effect.gen(function* () {
          yield* store.setTime(at + 12_000)
          for (const id of alive) yield* beat(id)
          yield* store.setTime((at += 16_000))
          yield* leases.rescue
          return (yield* store.unfinished)["m:1"]
        })
      yield* beat(one)
      yield* leaseOne()
      equal(yield* pass(), "ready lease 1 attempt 1")
      yield* leaseOne()
      equal(yield* pass(one, other), "ready lease 2 attempt 1")
      yield* leaseOne()
      equal(yield* pass(other), "ready lease 3 attempt 1 crashes 1")
      yield* leaseOne()
      equal(yield* leases.suspects, false)
      equal(yield* pass(other), "ready lease 4 attempt 1 crashes 2")
      equal(yield* leases.suspects, true)
      equal(yield* lease(10), [])
      equal((yield* lease(1, one, true)).length, 1)
      equal(yield* pass(other), undefined)
      equal(yield* store.ended, { "m:1": "failed poison attempt 1 lease 5 crashes 3 attempts 1" })
    }
  ),

  "never lets more runs hold a key than its limit, and hands slots on": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task({ concurrency_key: "k", concurrency_limit: 2 })
    for (const n of [1, 2, 3, 4]) yield* queue(task, n)
    const held = yield* lease(10)
    equal(held.map(({ key }) => key).sort(), ["m:1", "m:2"])
    equal(yield* store.slots, { k: 2 })
    equal((yield* store.unfinished)["m:3"], "blocked lease 0 attempt 1")
    const [first, second] = held
    if (first === undefined || second === undefined) throw new Error("two were leased")
    yield* settle(first, succeeded)
    equal(yield* store.slots, { k: 1 })
    equal((yield* store.unfinished)["m:3"], "ready lease 0 attempt 1")
    equal((yield* store.unfinished)["m:4"], "blocked lease 0 attempt 1")
    equal(
      (yield* lease(10)).map(({ key }) => key),
      ["m:3"]
    )
    yield* store.setTime(16_000)
    equal(yield* leases.rescue, 2)
    equal(yield* store.slots, { k: 0 })
    equal((yield* lease(10, other)).length, 2)
    equal(yield* store.slots, { k: 2 })
    equal(yield* leases.promote, 0)
  }),

  "settles and leases on the freed slot in one turn": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task({ concurrency_key: "k", concurrency_limit: 1 })
    yield* queue(task, 1)
    const work = yield* leaseOne()
    yield* queue(task, 2)
    const { leased, lost } = yield* leases.turn(one, [settlement(work, succeeded)], 10)
    equal([leased.map(({ key }) => key), lost], [["m:2"], []])
    equal(yield* store.slots, { k: 1 })
  }),

  "readies what was blocked while a slot is free": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task({ concurrency_key: "k", concurrency_limit: 1 })
    for (const n of [1, 2, 3]) yield* queue(task, n)
    yield* lease(10)
    yield* store.setTime(16_000)
    yield* leases.rescue
    yield* settle(yield* leaseOne(), succeeded)
    const before = Object.values(yield* store.unfinished).filter((state) => state.startsWith("blocked")).length
    equal([before, yield* leases.promote], [1, 1])
  })
}
