import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, Schema, TestClock } from "effect"
import { Run } from "../../src/domain/Run.ts"
import { Task } from "../../src/domain/Task.ts"
import { WorkItem, WorkKept } from "../../src/domain/WorkItem.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { answered, apiServer, member, refusal, request, taskBody } from "../support/ApiServer.ts"
import { work } from "../support/fixtures.ts"

const Items = Schema.Struct({ items: Schema.Array(WorkItem) })

/** Registers an extension whose tools the agent `cruncher` does, and starts a run of a pipeline that uses them. */
const started = (name: string, pipeline: ReadonlyArray<unknown>, more: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const extension = {
      kind: "worker",
      served_by: ["cruncher", "other"],
      tools: [{ name: "crunch", output_schema: { type: "object", required: ["sum"] } }]
    }
    yield* request("PUT", `/extensions/${name}`, { body: extension })
    const body = taskBody({ schedule_expr: "0 0 1 1 *", max_retries: 0, payload: { pipeline, ...more } })
    const { id } = answered(yield* request("POST", "/tasks", { body }), 201, Task.json)
    const queued = yield* request("POST", `/tasks/${id}/run_now`)
    const { run_id } = answered(queued, 202, Schema.Struct({ run_id: Schema.String }))
    yield* work
    return { run_id, read: Effect.map(request("GET", `/runs/${run_id}`), (answer) => answered(answer, 200, Run)) }
  })

const lease = (key: string, tools: ReadonlyArray<string>, more: Record<string, unknown> = {}) =>
  Effect.map(request("POST", "/work/lease", { key, body: { tools, ...more } }), (answer) => {
    const { items } = answered(answer, 200, Items)
    return items
  })

const leaseOne = (key: string, tool: string, more: Record<string, unknown> = {}) =>
  Effect.map(lease(key, [tool], more), ([item]) => {
    assert.ok(item !== undefined, "nothing to lease")
    return item
  })

layer(apiServer())("external workers", (it) => {
  it.effect("lease a step, keep it, and give its output", () =>
    Effect.gen(function* () {
      const { key } = yield* member("cruncher", ["work:execute"])
      const { read, run_id } = yield* started("a", [
        { id: "sum", uses: "a.crunch", with: { n: 3 } },
        { id: "after", uses: "core.transform", with: { value: "${steps.sum.sum}" } }
      ])
      assert.strictEqual((yield* read).state, "waiting")
      const item = yield* leaseOne(key, "a.crunch", { lease_seconds: 10 })
      assert.deepInclude(item, {
        tool: "a.crunch",
        input: { n: 3 },
        run_id,
        step_id: "sum",
        index: null,
        idempotency_key: `${run_id}:sum`,
        attempt: 1,
        lease: 1
      })
      assert.lengthOf(yield* lease(key, ["a.crunch"]), 0)
      const beat = yield* request("POST", `/work/${item.id}/heartbeat`, {
        key,
        body: { lease_token: item.lease_token, lease_seconds: 30 }
      })
      assert.isFalse(answered(beat, 200, WorkKept).cancel)
      yield* TestClock.adjust("20 seconds")
      const body = { lease_token: item.lease_token, output: { sum: 6 } }
      assert.strictEqual((yield* request("POST", `/work/${item.id}/complete`, { key, body })).status, 204)
      refusal(yield* request("POST", `/work/${item.id}/complete`, { key, body }), 409, "lease_lost")
      yield* work
      const run = yield* read
      assert.strictEqual(run.state, "succeeded")
      assert.deepStrictEqual(run.output?.steps, { sum: { sum: 6 }, after: 6 })
    })
  )

  it.effect("lose what they do not keep: another leases it, under a higher number", () =>
    Effect.gen(function* () {
      const { key } = yield* member("other", ["work:execute"])
      const { read } = yield* started("b", [{ id: "sum", uses: "b.crunch" }])
      const first = yield* leaseOne(key, "b.crunch", { lease_seconds: 10 })
      yield* TestClock.adjust("11 seconds")
      const second = yield* leaseOne(key, "b.crunch")
      assert.deepStrictEqual([second.id, second.lease, second.idempotency_key], [first.id, 2, first.idempotency_key])
      const stale = { lease_token: first.lease_token, output: { sum: 1 } }
      refusal(yield* request("POST", `/work/${first.id}/complete`, { key, body: stale }), 409, "lease_lost")
      refusal(
        yield* request("POST", `/work/${first.id}/heartbeat`, { key, body: { lease_token: first.lease_token } }),
        409,
        "lease_lost"
      )
      const failed = { lease_token: second.lease_token, message: "out of numbers", code: "tool_http_4xx" }
      assert.strictEqual((yield* request("POST", `/work/${second.id}/fail`, { key, body: failed })).status, 204)
      yield* work
      assert.deepInclude((yield* read).error, { code: "tool_http_4xx", message: "out of numbers", step_id: "sum" })
    })
  )

  it.effect("are asked again as the step's retries say, and for each element", () =>
    Effect.gen(function* () {
      const { key } = yield* member("third", ["work:execute"])
      const extension = { kind: "worker", served_by: ["third"], tools: [{ name: "crunch" }] }
      yield* request("PUT", "/extensions/d", { body: extension })
      const { read } = yield* started(
        "e",
        [
          {
            id: "all",
            uses: "d.crunch",
            for_each: "${params.list}",
            max_parallel: 2,
            with: "${item}",
            retry: { max_attempts: 2, backoff_seconds: 0 }
          }
        ],
        { params: { list: [1, 2, 3] } }
      )
      const [one, two, ...more] = yield* lease(key, [], { limit: 10 })
      assert.deepStrictEqual([one?.input, two?.input, more], [1, 2, []])
      const fail = { lease_token: one?.lease_token, message: "again", retryable: true }
      yield* request("POST", `/work/${one?.id}/fail`, { key, body: fail })
      yield* work
      const again = yield* leaseOne(key, "d.crunch")
      assert.deepStrictEqual([again.input, again.index], [1, 0])
      for (const item of [again, two])
        yield* request("POST", `/work/${item?.id}/complete`, {
          key,
          body: { lease_token: item?.lease_token, output: item?.input }
        })
      yield* work
      const last = yield* leaseOne(key, "d.crunch")
      yield* request("POST", `/work/${last.id}/complete`, { key, body: { lease_token: last.lease_token, output: 3 } })
      yield* work
      assert.deepStrictEqual((yield* read).output?.steps, { all: [1, 2, 3] })
    })
  )

  it.effect("get nothing of tools that others serve, and hear that a run is over", () =>
    Effect.gen(function* () {
      const { key: mine } = yield* member("fourth", ["work:execute"])
      const { key: others } = yield* member("fifth", ["work:execute"])
      yield* request("PUT", "/extensions/f", {
        body: { kind: "worker", served_by: ["fourth"], tools: [{ name: "crunch" }] }
      })
      const { run_id } = yield* started("g", [{ id: "x", uses: "f.crunch", expires_seconds: 60 }])
      assert.lengthOf(yield* lease(others, ["f.crunch"]), 0)
      const item = yield* leaseOne(mine, "f.crunch")
      refusal(
        yield* request("POST", `/work/${item.id}/complete`, {
          key: others,
          body: { lease_token: item.lease_token, output: 1 }
        }),
        409,
        "lease_lost"
      )
      yield* request("POST", `/runs/${run_id}/cancel`)
      const beat = (key: string, lease_token: string, id = item.id) =>
        request("POST", `/work/${id}/heartbeat`, { key, body: { lease_token } })
      assert.isTrue(answered(yield* beat(mine, item.lease_token), 200, WorkKept).cancel)
      // Only who held it is told, and only by the token that it was given.
      refusal(yield* beat(others, item.lease_token), 409, "lease_lost")
      refusal(yield* beat(mine, item.lease_token, run_id), 409, "lease_lost")
      const forged = item.lease_token.replace(/.$/, (last) => (last === "A" ? "B" : "A"))
      refusal(yield* beat(mine, forged), 409, "lease_lost")
      const body = { lease_token: item.lease_token, output: 1 }
      refusal(yield* request("POST", `/work/${item.id}/complete`, { key: mine, body }), 409, "lease_lost")
      refusal(
        yield* request("POST", "/work/nothing/fail", { key: mine, body: { lease_token: "x", message: "y" } }),
        404
      )
      const expiring = yield* started("h", [{ id: "x", uses: "f.crunch", expires_seconds: 60 }])
      yield* TestClock.adjust("61 seconds")
      assert.lengthOf(yield* lease(mine, ["f.crunch"]), 0)
      yield* (yield* Lease).promote
      yield* work
      assert.strictEqual((yield* expiring.read).error?.code, "expired")
    })
  )

  it.effect("are given secrets that are nowhere stored, and give back none", () =>
    Effect.gen(function* () {
      const { key } = yield* member("sixth", ["work:execute"])
      const canary = "canary-7f3a9c"
      yield* request("PUT", "/secrets/pin", { body: { value: canary, bound_to: { tools: ["k.*"] } } })
      yield* request("PUT", "/extensions/k", {
        body: { kind: "worker", served_by: ["sixth"], tools: [{ name: "crunch" }] }
      })
      const { read } = yield* started("l", [{ id: "x", uses: "k.crunch", with: { pin: "secret://pin" } }])
      const item = yield* leaseOne(key, "k.crunch")
      assert.deepStrictEqual(item.input, { pin: canary })
      yield* request("POST", `/work/${item.id}/complete`, {
        key,
        body: { lease_token: item.lease_token, output: { said: `the pin is ${canary}` } }
      })
      yield* work
      const run = yield* read
      assert.deepStrictEqual(run.steps[0]?.input, { pin: "secret://pin" })
      assert.deepStrictEqual(run.steps[0]?.output, { said: "the pin is secret://pin" })
      yield* request("PUT", "/secrets/gone", { body: { value: "by and by", bound_to: { tools: ["k.*"] } } })
      const both = yield* started("n", [{ id: "x", uses: "k.crunch", with: ["secret://gone", "secret://pin"] }])
      const leased = yield* leaseOne(key, "k.crunch")
      yield* request("DELETE", "/secrets/gone")
      yield* request("POST", `/work/${leased.id}/complete`, {
        key,
        body: { lease_token: leased.lease_token, output: canary }
      })
      yield* work
      assert.strictEqual((yield* both.read).output?.steps["x"], "secret://pin")
      const foreign = yield* started("m", [{ id: "x", uses: "f.crunch", with: { pin: "secret://pin" } }])
      assert.strictEqual((yield* foreign.read).error?.code, "tool_input_invalid")
    })
  )

  it.effect("give back no secret that was replaced, removed or bound elsewhere since they were given it", () =>
    Effect.gen(function* () {
      const { key } = yield* member("seventh", ["work:execute"])
      yield* request("PUT", "/extensions/p", {
        body: { kind: "worker", served_by: ["seventh"], tools: [{ name: "crunch" }] }
      })
      const put = (name: string, value: string, tool = "p.*") =>
        request("PUT", `/secrets/${name}`, { body: { value, bound_to: { tools: [tool] } } })
      const names = ["replaced", "removed", "moved"]
      for (const name of names) yield* put(name, `first of ${name}`)
      const input = names.map((name) => `secret://${name}`)
      const { read, run_id } = yield* started("q", [{ id: "x", uses: "p.crunch", with: input }])
      const early = yield* leaseOne(key, "p.crunch", { lease_seconds: 5 })
      yield* put("replaced", "second of replaced")
      yield* TestClock.adjust("6 seconds")
      // Leased again: what the first lease handed out is remembered with what the second does.
      const item = yield* leaseOne(key, "p.crunch")
      yield* put("replaced", "third of replaced")
      yield* request("DELETE", "/secrets/removed")
      yield* put("moved", "second of moved", "elsewhere.*")
      const said = [early.input, item.input, "third of replaced"]
      const body = { lease_token: item.lease_token, output: said }
      assert.strictEqual((yield* request("POST", `/work/${item.id}/complete`, { key, body })).status, 204)
      const sql = yield* SqlClient.SqlClient
      const left = yield* sql`SELECT sealed, data_key, key_id FROM pending_item WHERE run_id = ${run_id}`
      assert.deepStrictEqual(left, [{ sealed: null, data_key: null, key_id: null }])
      yield* work
      // A value that was never handed out is none of the call's secrets.
      assert.deepStrictEqual((yield* read).output?.steps["x"], [input, input, "third of replaced"])

      const failing = yield* started("r", [{ id: "x", uses: "p.crunch", with: "secret://replaced" }])
      const held = yield* leaseOne(key, "p.crunch")
      yield* request("DELETE", "/secrets/replaced")
      yield* request("POST", `/work/${held.id}/fail`, {
        key,
        body: { lease_token: held.lease_token, message: "not with third of replaced" }
      })
      yield* work
      assert.strictEqual((yield* failing.read).error?.message, "not with secret://replaced")
    })
  )

  it.effect("have an answer kept out of the record whose secrets can no longer be told", () =>
    Effect.gen(function* () {
      const { key } = yield* member("eighth", ["work:execute"])
      yield* request("PUT", "/extensions/s", {
        body: { kind: "worker", served_by: ["eighth"], tools: [{ name: "crunch" }] }
      })
      yield* request("PUT", "/secrets/lost", { body: { value: "a lost value", bound_to: { tools: ["s.*"] } } })
      const { read } = yield* started("t", [{ id: "x", uses: "s.crunch", with: "secret://lost" }])
      const item = yield* leaseOne(key, "s.crunch")
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE pending_item SET key_id = 'no such key' WHERE id = ${item.id}`
      const body = { lease_token: item.lease_token, output: "a lost value" }
      assert.strictEqual((yield* request("POST", `/work/${item.id}/complete`, { key, body })).status, 204)
      yield* work
      const run = yield* read
      assert.strictEqual(run.error?.code, "internal")
      assert.notInclude(JSON.stringify(run), "a lost value")
    })
  )
})
