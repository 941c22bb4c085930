import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Either, Layer, TestClock } from "effect"
import type { Actor, Budget } from "../../src/domain/Agent.ts"
import { Agents } from "../../src/layers/Agents.ts"
import { Budgets } from "../../src/layers/Budgets.ts"
import { Extensions } from "../../src/layers/Extensions.ts"
import { History } from "../../src/layers/History.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { Usages } from "../../src/layers/Usages.ts"
import { WorkItems } from "../../src/layers/WorkItems.ts"
import { admin, agent, task, work } from "../support/fixtures.ts"
import { serve } from "../support/httpServer.ts"
import { services } from "../support/Services.ts"

const owner = (name: string, budgets: ReadonlyArray<Budget> = [], more: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const { actor: by } = yield* admin
    const { actor } = yield* agent(by, name, ["tasks:*", "runs:read", ...more])
    yield* (yield* Agents).patch(by, actor.id, { budgets })
    return { actor, by }
  })

const used = (actor: Actor) =>
  Effect.flatMap(Usages, (usages) => usages.of(actor, actor.id, { from: null, to: null }, null, 100))

const start = (actor: Actor, payload: unknown, more: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const idle = { schedule_expr: "0 0 1 1 *", max_retries: 0, ...more }
    const { id } = yield* (yield* Tasks).create(actor, task({ ...idle, payload }))
    return yield* (yield* TaskStates).runNow(actor, id, null, null)
  })

const ended = (actor: Actor, id: string) =>
  Effect.map(
    Effect.flatMap(Runs, (runs) => runs.get(actor, id)),
    ({ error, state }) => error?.code ?? state
  )

const answering = serve((_, response) => response.writeHead(200, { "content-type": "application/json" }).end(`{"a":1}`))
const get = (url: string, more: object = {}) => ({ id: "get", uses: "core.http", with: { url }, ...more })

const list = (n: number) => Array.from({ length: n }, (_, i) => i)

layer(services([["ORDINAUT_ALLOW_PRIVATE_TARGETS", "127.0.0.0/8"]]))("budgets", (it) => {
  it.scoped("count the calls of tools that are real, with their bytes, by day", () =>
    Effect.gen(function* () {
      const server = yield* answering
      const { actor } = yield* owner("counted")
      const id = yield* start(actor, {
        pipeline: [
          get(server.url),
          { id: "free", uses: "core.transform", with: { value: 1 } },
          { id: "also", uses: "pretend.it" }
        ]
      })
      yield* work
      assert.strictEqual(yield* ended(actor, id), "succeeded")
      const [first, ...none] = yield* used(actor)
      assert.lengthOf(none, 0)
      assert.deepInclude(first, { day: "2026-03-02", tool: "core.http", calls: 1 })
      const input = JSON.stringify({ url: server.url }).length
      const output = (yield* (yield* Runs).get(actor, id)).steps[0]?.output
      assert.strictEqual(first?.bytes, input + JSON.stringify(output).length)

      yield* TestClock.adjust("1 day")
      yield* (yield* History).prepare
      yield* start(actor, { pipeline: [get(`${server.url}/a`), get(`${server.url}/b`, { id: "second" })] })
      yield* work
      assert.deepStrictEqual(
        (yield* used(actor)).map(({ calls, day }) => [day, calls]),
        [
          ["2026-03-03", 2],
          ["2026-03-02", 1]
        ]
      )
    })
  )

  it.scoped("count a call that failed, and each that is made again", () =>
    Effect.gen(function* () {
      const server = yield* serve((_, response) => response.writeHead(500).end())
      const { actor } = yield* owner("failing")
      const retry = { max_attempts: 3, backoff_strategy: "fixed", backoff_seconds: 0 }
      const id = yield* start(actor, { pipeline: [get(server.url, { retry })] })
      yield* work
      assert.strictEqual(yield* ended(actor, id), "tool_http_5xx")
      assert.lengthOf(server.seen, 3)
      assert.strictEqual((yield* used(actor))[0]?.calls, 3)
    })
  )

  it.scoped("let as many calls through as there are, and fail a step before the call that is one too many", () =>
    Effect.gen(function* () {
      const server = yield* answering
      const { actor } = yield* owner("bound", [{ tool: "core.*", calls_per_day: 4 }])
      const id = yield* start(actor, {
        params: { list: list(9) },
        pipeline: [get(server.url, { for_each: "${params.list}", max_parallel: 9, on_item_error: "continue" })]
      })
      yield* work
      assert.strictEqual(yield* ended(actor, id), "succeeded")
      assert.lengthOf(server.seen, 4)
      const { items } = yield* (yield* Runs).items(actor, id, "get", -1, 20)
      assert.lengthOf(
        items.filter(({ error }) => error?.code === "budget_exceeded"),
        5
      )
      assert.strictEqual((yield* used(actor))[0]?.calls, 4)
      const next = yield* start(actor, {
        pipeline: [get(server.url, { retry: { max_attempts: 5, on: ["budget_exceeded"], backoff_seconds: 0 } })]
      })
      yield* work
      assert.strictEqual(yield* ended(actor, next), "budget_exceeded")
      assert.lengthOf(server.seen, 4)

      yield* TestClock.adjust("1 day")
      yield* (yield* History).prepare
      const tomorrow = yield* start(actor, { pipeline: [get(server.url)] })
      yield* work
      assert.strictEqual(yield* ended(actor, tomorrow), "succeeded")
    })
  )

  it.scoped("bound bytes by what was sent and received", () =>
    Effect.gen(function* () {
      const server = yield* answering
      const { actor } = yield* owner("bytes", [{ tool: "core.http", bytes_per_day: 100 }])
      const ids = [yield* start(actor, { pipeline: [get(server.url)] })]
      yield* work
      ids.push(yield* start(actor, { pipeline: [get(server.url)] }))
      yield* work
      assert.deepStrictEqual(yield* Effect.forEach(ids, (id) => ended(actor, id)), ["succeeded", "budget_exceeded"])
      const long = yield* owner("long", [{ tool: "core.http", bytes_per_day: 100 }])
      const id = yield* start(long.actor, { pipeline: [get(`${server.url}/${"x".repeat(100)}`)] })
      yield* work
      assert.strictEqual(yield* ended(long.actor, id), "budget_exceeded")
    })
  )

  it.effect("are exact over several processes", () =>
    Effect.gen(function* () {
      const { actor } = yield* owner("exact", [
        { tool: "a.*", calls_per_day: 30 },
        { tool: "*.x", calls_per_day: 12 }
      ])
      const process = Effect.map(Layer.build(Layer.fresh(Budgets.layer)), (context) => Context.get(context, Budgets))
      const processes = [yield* process, yield* process, yield* process]
      const granted = yield* Effect.forEach(
        list(120),
        (n) => {
          const tool = n % 4 === 0 ? "a.x" : "a.y"
          const answer = processes[n % 3]?.admit(actor.id, tool, 10) ?? Effect.dieMessage("no process")
          return Effect.map(Effect.either(answer), (one) => (Either.isRight(one) ? [tool] : []))
        },
        { concurrency: "unbounded" }
      )
      const tools = granted.flat()
      assert.lengthOf(tools, 30)
      assert.isAtMost(tools.filter((tool) => tool === "a.x").length, 12)
      assert.strictEqual(
        (yield* used(actor)).reduce((sum, { calls }) => sum + calls, 0),
        30
      )
    }).pipe(Effect.scoped)
  )

  it.effect("count what external workers do: from the lease of an item to its answer", () =>
    Effect.gen(function* () {
      const { actor, by } = yield* owner("served", [{ tool: "jobs.crunch", seconds_per_day: 7 }])
      const { actor: worker } = yield* agent(by, "cruncher", ["work:execute"])
      yield* (yield* Extensions).put(
        by,
        "jobs",
        { kind: "worker", tools: [{ name: "crunch" }], served_by: ["cruncher"] },
        null
      )
      const once = Effect.gen(function* () {
        const id = yield* start(actor, { pipeline: [{ id: "crunch", uses: "jobs.crunch", with: { n: 1 } }] })
        yield* work
        // Waiting for a worker uses nothing.
        yield* TestClock.adjust("30 seconds")
        const items = yield* WorkItems
        const [item] = yield* items.lease(worker, { tools: [], limit: 1, wait_seconds: 0, lease_seconds: 60 })
        if (item !== undefined) {
          yield* TestClock.adjust("7 seconds")
          yield* items.complete(worker, item.id, { lease_token: item.lease_token, output: "done" })
          yield* work
        }
        return yield* ended(actor, id)
      })
      assert.strictEqual(yield* once, "succeeded")
      const [first] = yield* used(actor)
      assert.deepInclude(first, {
        tool: "jobs.crunch",
        calls: 1,
        seconds: 7,
        bytes: JSON.stringify({ n: 1 }).length + JSON.stringify("done").length
      })
      assert.strictEqual(yield* once, "budget_exceeded")
    })
  )

  it.scoped("allow a disabled owner nothing", () =>
    Effect.gen(function* () {
      const { actor, by } = yield* owner("stopped")
      const budgets = Context.get(yield* Layer.build(Layer.fresh(Budgets.layer)), Budgets)
      assert.strictEqual((yield* budgets.admit(actor.id, "core.http", 1)).calls, 1)
      yield* (yield* Agents).patch(by, actor.id, { disabled: true })
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* Effect.flip(budgets.admit(actor.id, "core.http", 1))).code, "forbidden")
    })
  )

  it.effect("are kept as long as the trail", () =>
    Effect.gen(function* () {
      const { actor } = yield* owner("old")
      const sql = yield* SqlClient.SqlClient
      const today = new Date(yield* TestClock.currentTimeMillis)
      for (const age of [364, 366]) {
        yield* sql`INSERT INTO usage_day (agent_id, day, tool, calls) VALUES (${actor.id}, ${today}::date - ${age}::integer, 'a.b', 1)`
      }
      yield* (yield* History).keep
      assert.lengthOf(yield* used(actor), 1)
    })
  )
})
