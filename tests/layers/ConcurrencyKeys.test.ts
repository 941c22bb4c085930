import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, Either, Schema, TestClock } from "effect"
import { TaskCreate } from "../../src/domain/Task.ts"
import type { JsonObject } from "../../src/domain/Json.ts"
import { Events } from "../../src/layers/Events.ts"
import { History } from "../../src/layers/History.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Reruns } from "../../src/layers/Reruns.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { admin, task, tickAfter, work } from "../support/fixtures.ts"
import { invariantsHold } from "../support/invariants.ts"
import { services } from "../support/Services.ts"

const one = "018f0000-0000-7000-8000-000000000001"
const simple = { pipeline: [{ id: "only", uses: "core.transform", with: { value: 1 } }] }
const never = { schedule_expr: "0 0 1 1 *", max_retries: 0 }

const create = (more: Record<string, unknown>) =>
  Effect.gen(function* () {
    const { actor } = yield* admin
    return yield* (yield* Tasks).create(actor, task({ payload: simple, ...more }))
  })
const publish = (topic: string, payload: JsonObject) =>
  Effect.gen(function* () {
    const { actor } = yield* admin
    const { triggered_runs } = yield* (yield* Events).publish(actor, { topic, payload }, null)
    return triggered_runs.map(({ run_id }) => run_id)
  })
const runNow = (id: string, params: JsonObject | null = null) =>
  Effect.gen(function* () {
    const { actor } = yield* admin
    return yield* (yield* TaskStates).runNow(actor, id, params, null)
  })
const read = (id: string) =>
  Effect.gen(function* () {
    const { actor } = yield* admin
    return yield* (yield* Runs).get(actor, id)
  })

/** The keys of unfinished runs, in the order of the runs. */
const keys = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ key: string | null }>`SELECT concurrency_key AS key FROM due_work ORDER BY id`
  return rows.map(({ key }) => key)
})
const limitOf = (key: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ limit: number }>`SELECT "limit" FROM concurrency WHERE key = ${key}`
    return row?.limit ?? null
  })

layer(services())("a concurrency key with templates", (it) => {
  it.effect("is rendered from the event that causes a run, and bounds the runs that share it", () =>
    Effect.gen(function* () {
      yield* create({
        schedule_kind: "event",
        schedule_expr: "orders.*",
        concurrency_key: "customer:${event.payload.customer}"
      })
      for (const customer of ["a", "a", "b"]) yield* publish("orders.new", { customer })
      assert.deepStrictEqual(yield* keys, ["customer:a", "customer:a", "customer:b"])
      const { leased } = yield* (yield* Lease).turn(one, [], 10)
      assert.deepStrictEqual(leased.map(({ concurrency_key }) => concurrency_key).sort(), ["customer:a", "customer:b"])
      yield* (yield* Lease).turn(
        one,
        leased.map((held) => ({ work: held, steps: [], finished_at: 0, outcome: "released" })),
        0
      )
      yield* work
      assert.isEmpty(yield* keys)
      yield* invariantsHold
    })
  )

  it.effect("reads params, those of the run before those of the task, and the task", () =>
    Effect.gen(function* () {
      const { id } = yield* create({
        ...never,
        labels: { team: "red" },
        concurrency_key: "${task.labels.team}/${params.region}",
        payload: { ...simple, params: { region: "eu" } }
      })
      yield* runNow(id)
      yield* runNow(id, { region: "us" })
      assert.deepStrictEqual(yield* keys, ["red/eu", "red/us"])
      const minutely = yield* create({
        concurrency_key: "${params.region}",
        payload: { ...simple, params: { region: "asia" } }
      })
      yield* tickAfter(60_000)
      assert.deepStrictEqual(yield* keys, ["red/eu", "red/us", "asia"])
      const { actor } = yield* admin
      yield* (yield* TaskStates).cancel(actor, minutely.id, { reason: null, version: null })
      yield* work
    })
  )

  it.effect("is that of the events of a window, of a condition, of a child, and of a retry", () =>
    Effect.gen(function* () {
      const concurrency_key = "${event.payload.of}"
      const fails = { pipeline: [{ id: "no", uses: "core.fail", with: { message: "no" } }] }
      yield* create({
        schedule_kind: "event",
        schedule_expr: "many",
        concurrency_key,
        payload: { ...simple, trigger: { batch: { max_events: 2, max_seconds: 60 } } }
      })
      yield* publish("many", { of: "first" })
      yield* publish("many", { of: "last" })
      assert.deepStrictEqual(yield* keys, ["last"])
      yield* publish("heat", { of: "cold", on: false })
      yield* create({ schedule_kind: "condition", schedule_expr: "events.heat.on", concurrency_key })
      yield* publish("heat", { of: "hot", on: true })
      assert.deepStrictEqual(yield* keys, ["last", "hot"])
      yield* work

      yield* create({
        schedule_kind: "event",
        schedule_expr: "failing",
        concurrency_key,
        max_retries: 0,
        payload: fails
      })
      const [failed = ""] = yield* publish("failing", { of: "retried" })
      yield* work
      const { actor } = yield* admin
      yield* (yield* Reruns).retry(actor, failed, { task_version: "same" }, null)
      assert.deepStrictEqual(yield* keys, ["retried"])
      yield* work

      const child = yield* create({ ...never, concurrency_key: "child-${params.n}" })
      const parent = yield* create({
        ...never,
        payload: {
          pipeline: [{ id: "start", uses: "core.run_task", with: { task_id: child.id, params: { n: 7 }, wait: true } }]
        }
      })
      yield* runNow(parent.id)
      yield* (yield* Lease).promote
      yield* work
      assert.strictEqual(yield* limitOf("child-7"), 1)
    })
  )

  it.effect("fails the run that gives none, before anything of it runs", () =>
    Effect.gen(function* () {
      const more = { on_failure: [{ id: "after", uses: "core.transform", with: { value: 1 } }] }
      const codes = Effect.fnUntraced(function* (concurrency_key: string, params: JsonObject, strict = true) {
        const { id } = yield* create({
          ...never,
          max_retries: 3,
          concurrency_key,
          payload: { ...simple, ...more, params, strict }
        })
        const run = yield* runNow(id)
        assert.strictEqual((yield* keys).at(-1), null)
        yield* work
        const { attempt, error, state, steps } = yield* read(run)
        assert.deepStrictEqual([attempt, state, steps.every((step) => step.state === "pending")], [1, "failed", true])
        return error?.code
      })
      assert.strictEqual(yield* codes("k-${params.none}", {}), "template_missing")
      assert.strictEqual(yield* codes("k-${params.long}", { long: "x".repeat(99) }), "template_error")
      assert.strictEqual(yield* codes("${params.empty}", { empty: " " }), "template_error")
      assert.strictEqual(yield* codes("${abs(params.word)}", { word: "a" }), "template_error")
      const { id } = yield* create({
        ...never,
        concurrency_key: "k-${params.none}",
        payload: { ...simple, strict: false }
      })
      yield* runNow(id)
      assert.deepStrictEqual(yield* keys, ["k-null"])
      yield* work
    })
  )

  it.effect("has the smallest limit of the active tasks with the template, or with the key as it is", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const concurrency_key = "shared-${params.x}"
      const payload = { ...simple, params: { x: 1 } }
      const wide = yield* create({ ...never, payload, concurrency_key, concurrency_limit: 5 })
      yield* runNow(wide.id)
      assert.strictEqual(yield* limitOf("shared-1"), 5)
      const narrow = yield* create({ ...never, payload, concurrency_key, concurrency_limit: 3 })
      yield* runNow(wide.id)
      assert.strictEqual(yield* limitOf("shared-1"), 3)
      yield* create({ ...never, concurrency_key: "shared-1", concurrency_limit: 2 })
      yield* runNow(wide.id)
      assert.strictEqual(yield* limitOf("shared-1"), 2)
      yield* (yield* TaskStates).pause(actor, narrow.id, { reason: null, version: null })
      yield* runNow(narrow.id, { x: 2 })
      assert.strictEqual(yield* limitOf("shared-2"), 5)
      assert.isNull(yield* limitOf(concurrency_key))
      yield* work
    })
  )

  it.effect("is forgotten once no run used it for a day", () =>
    Effect.gen(function* () {
      yield* create({ ...never, concurrency_key: "kept" })
      const { id } = yield* create({
        ...never,
        concurrency_key: "old-${params.n}",
        payload: { ...simple, params: { n: 0 } }
      })
      for (const n of [1, 2]) yield* runNow(id, { n })
      yield* work
      const keep = Effect.flatMap(History, (history) => history.keep)
      const left = Effect.map(
        Effect.all([limitOf("old-1"), limitOf("old-2"), limitOf("old-3"), limitOf("kept")]),
        (all) => all.map((limit) => limit !== null)
      )
      yield* TestClock.adjust("1 day")
      yield* keep
      yield* runNow(id, { n: 2 })
      yield* runNow(id, { n: 3 })
      assert.deepStrictEqual(yield* left, [true, true, true, true])
      yield* TestClock.adjust("1 day")
      yield* keep
      assert.deepStrictEqual(yield* left, [false, true, true, true])
      yield* TestClock.adjust("3 days")
      yield* keep
      // Two runs still wait.
      assert.deepStrictEqual(yield* left, [false, true, true, true])
      yield* work
      yield* keep
      assert.deepStrictEqual(yield* left, [false, false, false, true])
    })
  )

  it("is checked when the task is made", () => {
    const problemOf = (concurrency_key: string) => {
      const body = { title: "a", schedule_kind: "cron", schedule_expr: "* * * * *", payload: simple, concurrency_key }
      return Either.match(Schema.decodeUnknownEither(TaskCreate)(body), {
        onLeft: (error) => error.message,
        onRight: () => null
      })
    }
    for (const good of ["plain", "a $${b}", "${params}", "${event.payload.x}-${task.id}", "${join('-', keys(params))}"])
      assert.isNull(problemOf(good), good)
    for (const [bad, told] of [
      ["${", "not closed"],
      ["${params.", "params."],
      ["${steps.a}", "a concurrency key reads params, event, task; there is no steps.a here"],
      ["${run.id}", "there is no run.id here"],
      ["${task.nothing}", "/task/nothing does not exist"],
      [`\${params.${"x".repeat(100)}}`, "100"]
    ] as const)
      assert.include(problemOf(bad) ?? "", told, bad)
  })
})
