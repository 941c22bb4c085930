import { DateTime, Effect } from "effect"
import { occurrenceKey } from "../../src/domain/DueWork.ts"
import { DueTasks } from "../../src/layers/DueTasks.ts"
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
  fireAt,
  failed,
  succeeded,
  settle,
  equal
} from "./contract.ts"
import type { Scenario } from "./contract.ts"

/** What becomes of runs in the store. */
export const rows: Record<string, Scenario> = {
  "queues an occurrence once, also after its run has ended": Effect.gen(function* () {
    const store = yield* Store
    const task = yield* store.task()
    equal(yield* queue(task, 1), 1)
    equal(yield* queue(task, 2, { key: "m:1" }), 0)
    yield* settle(yield* leaseOne(), succeeded)
    equal(yield* queue(task, 3, { key: "m:1" }), 0)
    equal(yield* store.unfinished, {})
    equal(yield* store.ended, { "m:1": "succeeded attempt 1 lease 1 crashes 0 attempts 1" })
    equal(yield* store.told, { "m:1": "queued running succeeded" })
  }),

  "queues a schedule's key once while its run is unfinished": Effect.gen(function* () {
    const { start, task } = yield* Store
    const of = yield* task({ schedule_expr: "*/10 * * * * *" })
    equal((yield* fireAt(10_000)).fired, 1)
    equal(yield* queue(of, 1, { key: occurrenceKey.schedule(start + 10_000), trigger: "schedule" }), 0)
  }),

  "keeps for later what is not due, and readies it in time": Effect.gen(function* () {
    const store = yield* Store
    const task = yield* store.task()
    yield* queue(task, 1, { due_at: store.start + 5000 })
    equal(yield* store.unfinished, { "m:1": "later lease 0 attempt 1" })
    equal(yield* (yield* Lease).promote, 0)
    equal(yield* lease(10), [])
    yield* store.setTime(5000)
    equal(yield* (yield* Lease).promote, 1)
    equal((yield* lease(10)).length, 1)
  }),

  "leases by priority, then by age": Effect.gen(function* () {
    const store = yield* Store
    const task = yield* store.task()
    yield* store.setTime(10_000)
    yield* queue(task, 1, { priority: 5, due_at: store.start + 2000 })
    yield* queue(task, 2, { priority: 5, due_at: store.start + 1000 })
    yield* queue(task, 3, { priority: 3, due_at: store.start + 3000 })
    yield* queue(task, 4, { priority: 9, due_at: store.start })
    const first = yield* lease(2)
    equal(first.map(({ key }) => key).sort(), ["m:2", "m:3"])
    equal((yield* lease(10)).map(({ key }) => key).sort(), ["m:1", "m:4"])
  }),

  "hands work over as it was queued": Effect.gen(function* () {
    const store = yield* Store
    const task = yield* store.task()
    yield* queue(task, 1, { deadline_seconds: 60, start_within_seconds: 10, hops: 3 })
    yield* store.setTime(2000)
    const work = yield* leaseOne()
    const millis = (at: DateTime.Utc | null) => (at === null ? null : DateTime.toEpochMillis(at) - store.start)
    equal(
      [work.lease_no, work.attempt, work.crashes, work.signals, work.hops, work.trigger, work.task_id === task.task_id],
      [1, 1, 0, 0, 3, "manual", true]
    )
    equal([work.scheduled_for, work.due_at, work.started_at, work.attempt_started_at].map(millis), [0, 0, 2000, 2000])
    equal([work.deadline_at, work.start_by, work.cancel_requested_at].map(millis), [60_000, 10_000, null])
  }),

  "counts a failed attempt, keeps its steps, and leases again with the next number": Effect.gen(function* () {
    const store = yield* Store
    const task = yield* store.task()
    yield* queue(task, 1)
    const work = yield* leaseOne()
    const steps = [step("a"), step("b", { state: "failed", error: failed, output: null })]
    yield* settle(work, { outcome: "retried", error: failed, run_at: store.start + 3000 }, steps)
    equal(yield* store.unfinished, { "m:1": "later lease 1 attempt 2" })
    yield* store.setTime(3000)
    yield* (yield* Lease).promote
    const again = yield* leaseOne()
    equal([again.lease_no, again.attempt], [2, 2])
    const inputs = yield* (yield* Plans).inputs([again])
    equal(
      inputs
        .get(again.id)
        ?.known.map(({ output, state, step_id }) => ({ output, state, step_id }))
        .sort((a, b) => (a.step_id < b.step_id ? -1 : 1)),
      [
        { output: { of: "a" }, state: "succeeded", step_id: "a" },
        { output: null, state: "failed", step_id: "b" }
      ]
    )
    yield* settle(again, { outcome: "ended", state: "failed", error: failed }, [step("b", { attempt: 2 })])
    equal(yield* store.ended, {
      "m:1": "failed tool_connection attempt 2 lease 2 crashes 0 attempts 2 steps a succeeded, b succeeded"
    })
  }),

  "hands back without counting an attempt": Effect.gen(function* () {
    const store = yield* Store
    yield* queue(yield* store.task(), 1)
    yield* settle(yield* leaseOne(), { outcome: "released" }, [step("a")])
    equal(yield* store.unfinished, { "m:1": "ready lease 1 attempt 1" })
    const again = yield* leaseOne(other)
    equal((yield* (yield* Plans).inputs([again])).get(again.id)?.known.length, 1)
  }),

  "a serial run waits for its elders, however they end": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task()
    for (const n of [1, 2, 3]) yield* queue(task, n, { serial: true })
    equal(yield* store.unfinished, {
      "m:1": "ready lease 0 attempt 1",
      "m:2": "blocked lease 0 attempt 1",
      "m:3": "blocked lease 0 attempt 1"
    })
    equal(yield* leases.promote, 0)
    yield* settle(yield* leaseOne(), succeeded)
    equal(yield* leases.promote, 1)
    equal((yield* store.unfinished)["m:2"], "ready lease 0 attempt 1")
    yield* leases.cancel([runId(2)])
    equal(yield* leases.promote, 1)
    equal((yield* leaseOne()).key, "m:3")
  }),

  "ends what can no longer start in time": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task({ start_within_seconds: 10, concurrency_key: "k", concurrency_limit: 1 })
    for (const n of [1, 2]) yield* queue(task, n)
    yield* queue(task, 3, { due_at: store.start + 60_000 })
    yield* lease(10)
    yield* store.setTime(10_000)
    equal(yield* leases.promote, 0)
    yield* store.setTime(10_001)
    equal(yield* leases.promote, 1)
    equal(yield* store.unfinished, { "m:1": "leased lease 1 attempt 1", "m:3": "later lease 0 attempt 1" })
    equal(yield* store.ended, { "m:2": "skipped expired attempt 1 lease 0 crashes 0 attempts 0" })
  }),

  "cancels what is queued at once and asks what runs": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task({ concurrency_key: "k", concurrency_limit: 1 })
    for (const n of [1, 2]) yield* queue(task, n)
    yield* queue(task, 3, { due_at: store.start + 60_000 })
    const [work] = yield* lease(10)
    equal(yield* leases.cancel([runId(1), runId(2), runId(3), runId(4)]).pipe(Effect.map(sorted)), {
      ended: [runId(2), runId(3)],
      asked: [runId(1)]
    })
    if (work === undefined) throw new Error("one was leased")
    equal(yield* leases.renew(one, [work]), [{ id: work.id, lease_no: 1, signals: 1, cancel_requested: true }])
    yield* settle(work, { outcome: "ended", state: "canceled", error: null })
    equal(yield* store.slots, { k: 0 })
    equal(yield* store.ended, {
      "m:1": "canceled attempt 1 lease 1 crashes 0 attempts 1",
      "m:2": "canceled attempt 1 lease 0 crashes 0 attempts 0",
      "m:3": "canceled attempt 1 lease 0 crashes 0 attempts 0"
    })
    equal(yield* leases.cancel([runId(1)]), { ended: [], asked: [] })
  }),

  "snoozes what has not started, holds it, and lets it go on": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task()
    yield* queue(task, 1, { deadline_seconds: 5 })
    equal(yield* leases.unstarted(runId(1)), store.start)
    yield* leases.snooze(runId(1), store.start + 3000)
    equal(yield* store.unfinished, { "m:1": "later lease 0 attempt 1" })
    yield* leases.hold(task.task_id)
    yield* store.setTime(3000)
    equal(yield* leases.promote, 0)
    equal(yield* (yield* DueTasks).nextAt, store.start + 60_000)
    yield* leases.unhold(task.task_id, null)
    equal(yield* leases.promote, 1)
    const work = yield* leaseOne()
    equal(work.deadline_at === null ? null : DateTime.toEpochMillis(work.deadline_at), store.start + 8000)
    equal(yield* leases.unstarted(runId(1)), null)
    yield* queue(task, 2)
    yield* leases.snooze(runId(2), store.start + 4000)
    yield* leases.hold(task.task_id)
    yield* leases.unhold(task.task_id, store.start + 5000)
    equal((yield* store.ended)["m:2"], "skipped paused attempt 1 lease 0 crashes 0 attempts 0")
  }),

  "gains one priority for every ten minutes": Effect.gen(function* () {
    const store = yield* Store
    const leases = yield* Lease
    const task = yield* store.task()
    yield* queue(task, 1, { priority: 3 })
    yield* store.setTime(10 * 60_000 - 1)
    equal(yield* leases.age, 0)
    yield* store.setTime(71 * 60_000)
    equal(yield* leases.age, 1)
    equal(yield* leases.age, 0)
    yield* queue(task, 2, { priority: 1, due_at: store.start + 60_000 })
    equal((yield* leaseOne()).key, "m:1")
  })
}

const sorted = ({
  asked,
  ended
}: {
  readonly asked: ReadonlyArray<string>
  readonly ended: ReadonlyArray<string>
}) => ({
  ended: [...ended].sort(),
  asked: [...asked].sort()
})
