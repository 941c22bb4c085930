import { Duration, Effect } from "effect"
import { plain, seen, served } from "../../src/domain/Line.ts"
import type { Line } from "../../src/domain/Line.ts"
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

const agents = [
  "018f0000-0000-7000-8000-00000000000a",
  "018f0000-0000-7000-8000-00000000000b",
  "018f0000-0000-7000-8000-00000000000c"
] as const

const patience = Duration.seconds(10)

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
      equal(yield* leases.makeRoom(other, patience), false)
      equal(yield* pass(other), "ready lease 4 attempt 1 crashes 2")
      equal(yield* leases.makeRoom(other, patience), true)
      equal(yield* lease(10), [])
      equal((yield* lease(1, one, true)).length, 1)
      equal(yield* pass(other), undefined)
      equal(yield* store.ended, { "m:1": "failed poison attempt 1 lease 5 crashes 3 attempts 1" })
    }
  ),

  "has half of the workers make room for suspects, each until its time is over, it is alone, or it is gone": Effect.gen(
    function* () {
      const store = yield* Store
      const leases = yield* Lease
      const silent = "018f0000-0000-7000-8000-0000000000ff"
      const [a, b, c, d] = [
        "018f0000-0000-7000-8000-0000000000f0",
        "018f0000-0000-7000-8000-0000000000f1",
        "018f0000-0000-7000-8000-0000000000f2",
        "018f0000-0000-7000-8000-0000000000f3"
      ]
      const beats = (...ids: ReadonlyArray<string>) => Effect.forEach(ids, (id) => beat(id), { discard: true })
      const given = (patience: number, ...ids: ReadonlyArray<string>) =>
        // In this order, in which `Effect.filter` does not ask.
        Effect.forEach(ids, (id) =>
          Effect.map(leases.makeRoom(id, Duration.seconds(patience)), (has) => (has ? [id] : []))
        ).pipe(Effect.map((some) => some.flat()))
      const task = yield* store.task()
      for (const n of [1, 2, 3]) yield* queue(task, n)
      for (const crash of [1, 2]) {
        yield* beat(silent)
        yield* lease(10, silent)
        yield* store.setTime(crash * 16_000 - 4000)
        yield* beats(a, b, c, d)
        equal(yield* given(10, a, b, c, d), [])
        yield* store.setTime(crash * 16_000)
        equal(yield* leases.rescue, 3)
      }
      yield* queue(task, 4)
      equal(yield* given(10, silent, a, b, c, d), [a, b])
      // A beat keeps the place; who asks again, because the answer was lost, has it still.
      yield* beats(a, b, c, d)
      equal(yield* given(10, d, c, b, a), [b, a])
      const [alone] = yield* lease(1, a, true)
      if (alone === undefined) throw new Error("a suspect was leased")
      yield* store.setTime(41_999)
      yield* beats(a, b, c, d)
      equal(yield* given(10, c, d), [])
      // The time of both is over; one has its suspect yet.
      yield* store.setTime(42_000)
      equal(yield* given(60, d, c, b), [d])
      equal(
        (yield* lease(10, c)).map(({ key }) => key),
        ["m:4"]
      )
      yield* store.setTime(51_999)
      yield* beats(a, b, c)
      yield* settle(alone, succeeded)
      // Three beat, and have one place. The fourth is gone, and its place with its heartbeat.
      equal(yield* given(10, b), [b])
      equal(yield* given(10, c, a), [])
      for (const worker of [b, c]) equal((yield* lease(1, worker, true)).length, 1)
      yield* store.setTime(61_999)
      yield* beats(a, b, c)
      equal(yield* given(10, a, b, c), [])
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
  }),

  "tells who waits, by agent, from one agent on and round again": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    equal(yield* leases.line(null), plain)
    const task = yield* store.task()
    const [a, b, c] = agents
    yield* queue(task, 1, { agent_id: c, priority: 3 })
    for (const n of [2, 3]) yield* queue(task, n, { agent_id: a })
    yield* queue(task, 4, { agent_id: b, due_at: store.start + 1 })
    const first = (n: number, rank: number) => ({ rank, due_at: store.start, id: runId(n) })
    const waiting = [
      { agent_id: a, first: first(2, 5) },
      { agent_id: c, first: first(1, 3) }
    ]
    equal(yield* leases.line(null), { agents: waiting, from: null, after: null })
    equal(yield* leases.line(a), { agents: [...waiting].reverse(), from: null, after: null })
    equal(yield* leases.line(c), { agents: waiting, from: null, after: null })
  }),

  "agents take turns, however many runs one of them has": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task()
    const [a, b, c] = agents
    for (let n = 1; n <= 30; n++) yield* queue(task, n, { agent_id: a })
    for (const n of [31, 32, 33]) yield* queue(task, n, { agent_id: b })
    yield* queue(task, 34, { agent_id: c })
    let line = yield* leases.line(null)
    const take = (capacity: number) =>
      Effect.gen(function* () {
        const { leased } = yield* leases.turn(one, [], capacity, false, line)
        line = served(line, leased)
        return leased.map(({ key }) => key).sort()
      })
    equal(yield* take(5), ["m:1", "m:2", "m:31", "m:32", "m:34"])
    equal(yield* take(1), ["m:3"])
    equal(yield* take(1), ["m:33"])
    equal(yield* take(2), ["m:4", "m:5"])
    yield* queue(task, 35, { agent_id: b })
    line = seen(line, yield* leases.line(null))
    equal(yield* take(1), ["m:35"])
  }),

  "a better rank goes before all turns": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task()
    const [a, b] = agents
    for (const n of [1, 2, 3, 4]) yield* queue(task, n, { agent_id: a })
    for (const n of [5, 6, 7, 8, 9]) yield* queue(task, n, { agent_id: b })
    for (const n of [10, 11, 12]) yield* queue(task, n, { agent_id: a, priority: 2 })
    for (const n of [13]) yield* queue(task, n, { agent_id: b, priority: 7 })
    const line = yield* leases.line(null)
    const keys = (capacity: number) =>
      Effect.map(leases.turn(one, [], capacity, false, line), ({ leased }) => leased.map(({ key }) => key).sort())
    equal(yield* keys(2), ["m:10", "m:11"])
    equal(yield* keys(5), ["m:1", "m:12", "m:2", "m:5", "m:6"])
    equal(yield* keys(10), ["m:13", "m:3", "m:4", "m:7", "m:8", "m:9"])
  }),

  "a key without a free slot holds up no agent's turn": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const narrow = yield* store.task({ concurrency_key: "k", concurrency_limit: 1 })
    const task = yield* store.task()
    const [a, b] = agents
    for (const n of [1, 2, 3]) yield* queue(narrow, n, { agent_id: a })
    for (const n of [4, 5, 6]) yield* queue(task, n, { agent_id: a })
    for (const n of [7, 8]) yield* queue(narrow, n, { agent_id: b })
    for (const n of [9]) yield* queue(task, n, { agent_id: b })
    const line = yield* leases.line(null)
    const leased: Array<string> = []
    for (const blocked of [3, 1, 0]) {
      const turn = yield* leases.turn(one, [], 4, false, line)
      equal(turn.blocked, blocked)
      leased.push(...turn.leased.map(({ key }) => key))
    }
    equal(leased.sort(), ["m:1", "m:4", "m:5", "m:6", "m:9"])
    equal(yield* store.slots, { k: 1 })
  }),

  "a turn that begins at a place sees what stands before it at the next look": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task()
    const [a, b] = agents
    for (const n of [1, 2, 3]) yield* queue(task, n, { agent_id: a })
    for (const n of [4, 5, 6]) yield* queue(task, n, { agent_id: b })
    const from = { rank: 5, due_at: store.start, id: runId(3) }
    const firsts = [
      { agent_id: b, first: { ...from, id: runId(5) } },
      { agent_id: a, first: from }
    ]
    const keys = (agents: Line["agents"]) =>
      Effect.map(leases.turn(one, [], 2, false, { agents, from, after: null }), ({ leased }) =>
        leased.map(({ key }) => key).sort()
      )
    equal(yield* keys(firsts), ["m:3", "m:5"])
    yield* queue(task, 7, { agent_id: a, priority: 4 })
    equal(yield* keys([]), ["m:4", "m:6"])
    equal(yield* keys(firsts), [])
    equal((yield* lease(10)).map(({ key }) => key).sort(), ["m:1", "m:2", "m:7"])
  })
}
