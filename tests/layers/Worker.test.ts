import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import * as SqlClient from "@effect/sql/SqlClient"
import { Lease } from "../../src/layers/Lease.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { Worker } from "../../src/layers/Worker.ts"
import { admin, task, tickAfter, work } from "../support/fixtures.ts"
import { services } from "../support/Services.ts"

const started = (more: Record<string, unknown>, params: Record<string, string> | null = null) =>
  Effect.gen(function* () {
    const { actor } = yield* admin
    const { id } = yield* (yield* Tasks).create(actor, task({ schedule_expr: "0 0 1 1 *", ...more }))
    return { actor, runId: yield* (yield* TaskStates).runNow(actor, id, params, null) }
  })

layer(services())("a worker", (it) => {
  it.effect("ends a run that stores too much by name, and settles the others", () =>
    Effect.gen(function* () {
      const pipeline = Array.from({ length: 60 }, () => ({ uses: "core.transform", with: { value: "${params.big}" } }))
      const { actor, runId } = yield* started({ max_retries: 0, payload: { pipeline } }, { big: "x".repeat(900_000) })
      const other = yield* started({})
      yield* work
      const runs = yield* Runs
      const { error, state } = yield* runs.get(actor, runId)
      assert.strictEqual(state, "failed")
      assert.strictEqual(error?.code, "output_too_large")
      assert.strictEqual((yield* runs.get(actor, other.runId)).state, "succeeded")
    })
  )

  it.effect("runs what only computes within the turn that leases it", () =>
    Effect.gen(function* () {
      const worker = yield* Worker
      const pipeline = [
        { id: "a", uses: "core.transform", with: { value: "${params.value}" } },
        { id: "b", uses: "nobody.brings_this", with: { value: "${steps.a}" } }
      ]
      const { actor, runId } = yield* started({ payload: { pipeline } }, { value: "1" })
      const waiting = yield* started(
        { payload: { pipeline: [...pipeline, { uses: "core.wait", with: { seconds: 1 } }] } },
        { value: "1" }
      )
      yield* worker.turn
      assert.strictEqual(yield* worker.running, 1, "the one that waits")
      const { state, steps } = yield* (yield* Runs).get(actor, runId)
      assert.strictEqual(state, "running")
      assert.isEmpty(steps.filter((one) => one.state === "succeeded"))
      yield* worker.turn
      const ended = yield* (yield* Runs).get(actor, runId)
      assert.deepStrictEqual(
        ended.steps.map((one) => [one.state, one.simulated]),
        [
          ["succeeded", false],
          ["succeeded", true]
        ]
      )
      yield* work
      yield* tickAfter(2000)
      yield* work
      assert.strictEqual((yield* (yield* Runs).get(actor, waiting.runId)).state, "succeeded")
    })
  )

  it.effect("ends the run alone whose outputs the database refuses, at its end and before it waits", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`ALTER TABLE run_step ADD CONSTRAINT picky CHECK (output IS NULL OR output <> '"refused"')`
      yield* sql`ALTER TABLE live_step ADD CONSTRAINT picky CHECK (output IS NULL OR output <> '"refused"')`
      const first = { uses: "core.transform", with: { value: "${params.value}" } }
      const states = []
      for (const pipeline of [[first], [first, { uses: "core.wait", with: { seconds: 1 } }]]) {
        const begun = yield* Effect.forEach(["fine", "refused", "well"], (value) =>
          started({ max_retries: 0, payload: { pipeline } }, { value })
        )
        yield* work
        yield* tickAfter(2000)
        yield* work
        for (const { actor, runId } of begun) {
          const { error, state } = yield* (yield* Runs).get(actor, runId)
          states.push(error?.code ?? state)
        }
      }
      yield* sql`ALTER TABLE run_step DROP CONSTRAINT picky`
      yield* sql`ALTER TABLE live_step DROP CONSTRAINT picky`
      const expected = ["succeeded", "internal", "succeeded"]
      assert.deepStrictEqual(states, [...expected, ...expected])
    })
  )

  it.effect("fails the runs alone of a revision that it cannot read", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { actor, runId } = yield* started({ max_retries: 0 })
      const other = yield* started({})
      yield* sql`
        UPDATE task_revision SET definition = jsonb_set(definition, '{backoff_strategy}', '"of tomorrow"')
        WHERE task_id = (SELECT task_id FROM due_work WHERE id = ${runId})`
      yield* work
      const runs = yield* Runs
      assert.strictEqual((yield* runs.get(actor, runId)).error?.code, "internal")
      assert.strictEqual((yield* runs.get(actor, other.runId)).state, "succeeded")
    })
  )

  it.effect("stops a run that is canceled, and says at which step", () =>
    Effect.gen(function* () {
      const running = yield* Worker
      const runs = yield* Runs
      const step = {
        uses: "core.fail",
        with: { message: "later", retryable: true },
        retry: { max_attempts: 2, backoff_seconds: 1000 }
      }
      const { actor, runId } = yield* started({ payload: { pipeline: [{ id: "stuck", ...step }] } })
      yield* running.turn
      assert.strictEqual((yield* runs.cancel(actor, runId)).state, "running")
      yield* running.renew
      yield* work
      const { error, state, steps } = yield* runs.get(actor, runId)
      assert.deepStrictEqual([state, error?.code, steps[0]?.state], ["canceled", "canceled", "canceled"])
      assert.strictEqual((yield* Effect.flip(runs.cancel(actor, runId)))._tag, "RunFinished")
    })
  )

  it.effect("keeps what a turn could not settle for the next one", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const running = yield* Worker
      const { actor, runId } = yield* started({})
      yield* running.turn
      yield* Effect.repeat(Effect.yieldNow(), { until: () => running.running.pipe(Effect.map((n) => n === 0)) })
      yield* sql`ALTER TABLE task_run RENAME TO away`
      assert.strictEqual((yield* Effect.flip(running.turn))._tag, "StoreUnavailable")
      yield* sql`ALTER TABLE away RENAME TO task_run`
      yield* work
      assert.strictEqual((yield* (yield* Runs).get(actor, runId)).state, "succeeded")
    })
  )

  it.effect("counts against the timeout of an attempt only what it was leased", () =>
    Effect.gen(function* () {
      const lease = yield* Lease
      const { actor, runId } = yield* started({ timeout_seconds: 60, max_retries: 0 })
      const holder = "018f0000-0000-7000-8000-000000000001"
      const [held] = (yield* lease.turn(holder, [], 1)).leased
      yield* TestClock.adjust("5 seconds")
      const released = yield* Effect.fromNullable(held)
      const finished_at = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      yield* lease.turn(holder, [{ work: released, steps: [], finished_at, outcome: "released" }], 0)
      yield* TestClock.adjust("10 minutes")
      const [again] = (yield* lease.turn(holder, [], 1)).leased
      assert.deepStrictEqual([again?.id, again?.spent_ms, again?.attempt], [runId, 5000, 1])
      const second = yield* Effect.fromNullable(again)
      yield* lease.turn(holder, [{ work: second, steps: [], finished_at, outcome: "released" }], 0)
      yield* work
      assert.strictEqual((yield* (yield* Runs).get(actor, runId)).state, "succeeded")
    })
  )
})
