import { Effect } from "effect"
import type { DueWork } from "../../src/domain/DueWork.ts"
import type { Progress } from "../../src/domain/Settlement.ts"
import type { NewWait } from "../../src/domain/Wait.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Plans } from "../../src/layers/Plans.ts"
import { equal, failed, leaseOne, one, other, queue, runId, settle, step, Store, succeeded } from "./contract.ts"
import type { Scenario } from "./contract.ts"

const progress = (work: DueWork, more: Partial<Progress>): Progress => ({
  work,
  steps: [],
  waits: [],
  failed: null,
  ...more
})

const wait = (n: number, more: Partial<NewWait> = {}): NewWait => ({
  id: runId(1000 + n),
  step_id: "a",
  item: -1,
  kind: "approval",
  tool: null,
  detail: { attempt: 1, call: 1 },
  expires_at: null,
  ...more
})

const inputOf = (work: DueWork) =>
  Effect.gen(function* () {
    const input = (yield* (yield* Plans).inputs([work])).get(work.id)
    return {
      steps: (input?.known ?? []).map(({ item, state, step_id }) => `${step_id}${item} ${state}`).sort(),
      waits: (input?.waits ?? []).map(({ item, kind, result, step_id }) => ({ step_id, item, kind, result })),
      failed: input?.failed?.code ?? null
    }
  })

/** What a run stores under its lease, and what it waits for. */
export const waits = {
  "stores what a lease has come to, and what the run waits for": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    yield* queue(yield* store.task(), 1)
    const work = yield* leaseOne()
    const held = yield* leases.record([
      progress(work, { steps: [step("a"), step("b", { state: "running" }), step("c", { item: 3 })], waits: [wait(1)] })
    ])
    equal([...held], [work.id])
    const late = wait(2, { step_id: "z" })
    yield* leases.record([progress(work, { steps: [step("b")], waits: [late], failed })])
    yield* settle(work, { outcome: "released" })
    const again = yield* leaseOne(other)
    equal(yield* inputOf(again), {
      steps: ["a-1 succeeded", "b-1 succeeded", "c3 succeeded"],
      // Of a run that has failed, what its on_failure waits for alone is left.
      waits: [{ step_id: "z", item: -1, kind: "approval", result: null }],
      failed: failed.code
    })
    yield* settle(again, succeeded)
    equal(yield* store.ended, {
      "m:1": "succeeded attempt 1 lease 2 crashes 0 attempts 1 steps a succeeded, b succeeded, c succeeded"
    })
    equal(yield* leases.answer([{ id: late.id, result: { output: 1 } }]), [])
  }),

  "stores nothing for a lease that is over": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    yield* queue(yield* store.task(), 1)
    const old = yield* leaseOne()
    yield* settle(old, { outcome: "released" })
    const late = progress(old, { steps: [step("a")], waits: [wait(1)], failed })
    equal([...(yield* leases.record([late]))], [])
    const fresh = yield* leaseOne(other)
    equal([...(yield* leases.record([late]))], [])
    equal(yield* inputOf(fresh), { steps: [], waits: [], failed: null })
  }),

  "wakes a parked run by an answer, and takes the first one": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    yield* queue(yield* store.task(), 1)
    const work = yield* leaseOne()
    yield* leases.record([progress(work, { waits: [wait(1), wait(2, { step_id: "b" })] })])
    yield* settle(work, { outcome: "parked", signals: work.signals, expires_at: null })
    equal(yield* store.unfinished, { "m:1": "parked lease 1 attempt 1" })
    equal(yield* leases.answer([{ id: wait(1).id, result: { output: 1 } }]), [wait(1).id])
    equal(yield* store.unfinished, { "m:1": "ready lease 1 attempt 1" })
    equal(yield* leases.answer([{ id: wait(1).id, result: { output: 2 } }]), [])
    const again = yield* leaseOne()
    equal(again.signals, 1)
    const { waits: known } = yield* inputOf(again)
    equal(
      known.map(({ result, step_id }) => ({ step_id, result })).sort((a, b) => (a.step_id < b.step_id ? -1 : 1)),
      [
        { step_id: "a", result: { output: 1 } },
        { step_id: "b", result: null }
      ]
    )
  }),

  "loses no answer that comes before the run parks": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    yield* queue(yield* store.task(), 1)
    const work = yield* leaseOne()
    yield* leases.record([progress(work, { waits: [wait(1)] })])
    yield* leases.answer([{ id: wait(1).id, result: { output: 1 } }])
    equal(yield* leases.renew(one, [work]), [{ id: work.id, lease_no: 1, signals: 1, cancel_requested: false }])
    yield* settle(work, { outcome: "parked", signals: work.signals, expires_at: null })
    equal(yield* store.unfinished, { "m:1": "ready lease 1 attempt 1" })
  }),

  "replaces a wait of the same step": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    yield* queue(yield* store.task(), 1)
    const work = yield* leaseOne()
    yield* leases.record([progress(work, { waits: [wait(1)] })])
    yield* leases.record([progress(work, { waits: [wait(2, { kind: "wait" })] })])
    equal(yield* leases.answer([{ id: wait(1).id, result: { output: 1 } }]), [])
    yield* settle(work, { outcome: "released" })
    const { waits: known } = yield* inputOf(yield* leaseOne())
    equal(known, [{ step_id: "a", item: -1, kind: "wait", result: null }])
  }),

  "cancels a step that is under way when its run ends": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    yield* queue(yield* store.task(), 1)
    const work = yield* leaseOne()
    const steps = [step("a", { state: "running" }), step("b", { state: "waiting" })]
    yield* leases.record([progress(work, { steps, waits: [wait(1, { step_id: "b" })] })])
    yield* settle(work, { outcome: "parked", signals: work.signals, expires_at: null })
    yield* leases.cancel([work.id])
    equal(yield* store.ended, {
      "m:1": "canceled attempt 1 lease 1 crashes 0 attempts 0 steps a canceled, b canceled"
    })
  })
} satisfies Record<string, Scenario>
