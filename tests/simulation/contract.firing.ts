import { Effect } from "effect"
import { DueTasks } from "../../src/layers/DueTasks.ts"
import { Store, lease, fireAt, equal } from "./contract.ts"
import type { Scenario } from "./contract.ts"

/** What the schedule makes of tasks. */
export const firing: Record<string, Scenario> = {
  "fires what is due and moves the cursor in the same step": Effect.gen(function* () {
    const store = yield* Store
    const { task_id } = yield* store.task({ schedule_expr: "*/10 * * * * *", misfire_grace_seconds: 5 })
    equal(yield* (yield* DueTasks).nextAt, store.start + 10_000)
    equal(yield* fireAt(9999), { taken: 0, fired: 0 })
    equal(yield* fireAt(10_000), { taken: 1, fired: 1 })
    equal(yield* fireAt(10_000), { taken: 0, fired: 0 })
    equal(yield* store.cursor(task_id), "active through 10000 next 20000 due 20000 fired 1 last 10000")
    equal(yield* fireAt(47_000), { taken: 1, fired: 1 })
    equal(yield* store.cursor(task_id), "active through 47000 next 50000 due 50000 fired 2 last 40000")
    equal(yield* store.unfinished, { "s:10000": "ready lease 0 attempt 1", "s:40000": "ready lease 0 attempt 1" })
    equal(yield* store.ended, { "s:30000": "skipped misfire 2 from 20000 attempt 1 lease 0 crashes 0 attempts 0" })
  }),

  "fires by the overlap policies": Effect.gen(function* () {
    const store = yield* Store
    const policies = ["skip", "queue", "cancel_running"] as const
    for (const overlap_policy of policies)
      yield* store.task({ schedule_expr: "*/10 * * * * *", overlap_policy, title: overlap_policy })
    equal(yield* fireAt(10_000), { taken: 3, fired: 3 })
    yield* lease(10)
    equal(yield* fireAt(20_000), { taken: 3, fired: 2 })
    equal(Object.values(yield* store.ended), ["skipped overlap 1 from 20000 attempt 1 lease 0 crashes 0 attempts 0"])
    equal(yield* fireAt(30_000), { taken: 3, fired: 2 })
  }),

  "completes a task whose schedule has ended": Effect.gen(function* () {
    const store = yield* Store
    const { task_id } = yield* store.task({ schedule_expr: "*/10 * * * * *", max_runs: 2 })
    yield* fireAt(10_000)
    yield* fireAt(20_000)
    equal(yield* store.cursor(task_id), "completed through 20000 next never due never fired 2 last 20000")
    equal(yield* fireAt(30_000), { taken: 0, fired: 0 })
    equal(yield* (yield* DueTasks).nextAt, null)
  })
}
