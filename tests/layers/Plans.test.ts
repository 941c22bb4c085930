import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Extensions } from "../../src/layers/Extensions.ts"
import { Heartbeats } from "../../src/layers/Heartbeats.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Plans } from "../../src/layers/Plans.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { admin, task } from "../support/fixtures.ts"
import { services, start } from "../support/Services.ts"

layer(services())("a plan", (it) => {
  it.effect("tells what its revision was bound to, also when that is gone", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const extensions = yield* Extensions
      const lease = yield* Lease
      const plans = yield* Plans
      yield* extensions.put(actor, "mail", { kind: "simulated", tools: [{ name: "send" }] }, null)
      const yearly = { schedule_expr: "0 0 1 1 *" }
      const { id } = yield* (yield* Tasks).create(actor, task(yearly))
      yield* extensions.remove(actor, "mail", null)
      const other = yield* (yield* Tasks).create(actor, task(yearly))
      const states = yield* TaskStates
      const first = yield* states.runNow(actor, id, null, null)
      const second = yield* states.runNow(actor, other.id, null, null)
      const worker = "019cadc6-9a80-7000-8000-000000000001"
      yield* (yield* Heartbeats).beat({
        id: worker,
        program: "worker",
        startedAt: start,
        lastPassAt: null,
        running: 0,
        concurrency: 10
      })
      const { leased } = yield* lease.turn(worker, [], 10)
      const found = yield* plans.load(leased)
      assert.deepStrictEqual([...(found.get(first)?.bound ?? ["none"])], ["mail"])
      assert.deepStrictEqual([...(found.get(second)?.bound ?? ["none"])], [])
    })
  )
})
