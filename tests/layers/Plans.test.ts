import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { RunId } from "../../src/domain/Run.ts"
import { Extensions } from "../../src/layers/Extensions.ts"
import { Heartbeats } from "../../src/layers/Heartbeats.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Plans } from "../../src/layers/Plans.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { admin, task } from "../support/fixtures.ts"
import { services, start } from "../support/Services.ts"
import { work } from "../support/toolCalls.ts"

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

  it.effect("is there for every run that is leased, whatever had to give way in memory for it", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const plans = yield* Plans
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* (yield* Tasks).create(actor, task({ schedule_expr: "0 0 1 1 *" }))
      const kept = 5000
      yield* sql`
        INSERT INTO task_revision (task_id, version, definition, changed_by, created_at)
        SELECT task_id, n, definition, changed_by, created_at FROM task_revision, generate_series(2, ${kept + 1}) AS n
        WHERE task_id = ${id} AND version = 1`
      const idOf = (n: number) => RunId.make(`018f0000-0000-7000-8000-${String(n).padStart(12, "0")}`)
      const version = (n: number) => ({ ...work, id: idOf(n), task_id: id, task_version: n })
      yield* plans.load(Array.from({ length: kept }, (_, n) => version(n + 1)))
      const found = yield* plans.load([version(1), version(kept + 1)])
      assert.deepStrictEqual([...found.keys()], [idOf(1), idOf(kept + 1)])
    })
  )
})
