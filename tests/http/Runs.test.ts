import { assert, layer } from "@effect/vitest"
import { Effect, Schema, TestClock } from "effect"
import { Run, RunSummary } from "../../src/domain/Run.ts"
import { Task } from "../../src/domain/Task.ts"
import { answered, apiServer, member, newTask, page, refusal, request, taskBody } from "../support/ApiServer.ts"
import { start } from "../support/Services.ts"
import { tickAfter, work } from "../support/fixtures.ts"

const minute = 60_000
const iso = (millis: number) => new Date(millis).toISOString()
const Started = Schema.Struct({ run_id: Schema.String })
const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

const runNow = (id: string, call: Parameters<typeof request>[2] = {}) =>
  Effect.map(request("POST", `/tasks/${id}/run_now`, call), (answer) => answered(answer, 202, Started).run_id)

const read = (id: string, key?: string) =>
  Effect.map(request("GET", `/runs/${id}`, key === undefined ? {} : { key }), (answer) => answered(answer, 200, Run))

const runs = (query: string) =>
  Effect.map(request("GET", `/runs?${query}`), (answer) => page(answer, RunSummary).items.map(({ id }) => id))

const pipeline = [
  { id: "first", uses: "core.transform", with: { value: { sum: "${params.n}" } } },
  { id: "sent", uses: "mail.send", with: { to: "${steps.first.sum}" }, save_as: "mail" }
]

layer(apiServer())("a run", (it) => {
  it.effect("is decided at an element that there can be", () =>
    Effect.gen(function* () {
      const ask = { id: "ask", uses: "core.approval", for_each: "${`[1]`}", with: { message: "?" } }
      const id = yield* runNow((yield* newTask({ payload: { pipeline: [ask] } })).id)
      yield* work
      const decide = (index: number) =>
        request("POST", `/runs/${id}/steps/ask/decide`, { body: { decision: "approved", index } })
      for (const index of [-1, 10_000, 2 ** 31, 2 ** 53]) {
        assert.deepStrictEqual(
          refusal(yield* decide(index), 422).errors?.map(({ path }) => path),
          ["/index"]
        )
      }
      refusal(yield* decide(9999), 404, "approval_not_found")
      assert.strictEqual((yield* decide(0)).status, 200)
    })
  )

  it.effect("shows what is large once, everything or nothing where asked", () =>
    Effect.gen(function* () {
      const big = "x".repeat(300_000)
      const body = taskBody({
        schedule_expr: "0 0 1 1 *",
        payload: {
          params: { big },
          pipeline: [
            { id: "one", uses: "core.transform", with: { value: "${params.big}" } },
            { id: "two", uses: "core.transform", save_as: "second", with: { value: "${params.big}" } },
            { id: "small", uses: "core.transform", with: { value: 1 } },
            { id: "none", if: "`false`", uses: "core.transform", with: { value: 1 } }
          ]
        }
      })
      const { id } = answered(yield* request("POST", "/tasks", { body }), 201, Task.json)
      const { run_id } = answered(
        yield* request("POST", `/tasks/${id}/run_now`),
        202,
        Schema.Struct({ run_id: Schema.String })
      )
      yield* work
      const read = (query: string) =>
        Effect.map(request("GET", `/runs/${run_id}${query}`), (answer) => ({
          run: answered(answer, 200, Run),
          bytes: answer.text.length
        }))
      const usual = yield* read("")
      const both = ["input", "output"] as const
      assert.deepStrictEqual(
        usual.run.steps.map(({ omitted }) => omitted),
        [both, both, [], []]
      )
      assert.deepStrictEqual(usual.run.output?.steps, { one: big, second: big, small: 1, none: null })
      assert.deepStrictEqual([usual.run.steps[0]?.output, usual.run.steps[0]?.input], [null, null])
      assert.strictEqual(usual.run.steps[2]?.output, 1)
      assert.isBelow(usual.bytes, 700_000)
      const all = yield* read("?values=all")
      assert.deepStrictEqual([all.run.steps[1]?.output, all.run.steps[1]?.input], [big, { value: big }])
      assert.isTrue(all.run.steps.every(({ omitted }) => omitted.length === 0))
      const none = yield* read("?values=none")
      assert.isNull(none.run.output)
      assert.isBelow(none.bytes, 5000)
      assert.deepStrictEqual(
        none.run.steps.map(({ omitted, output, state }) => [state, output, omitted]),
        [
          ["succeeded", null, both],
          ["succeeded", null, both],
          ["succeeded", null, both],
          ["skipped", null, []]
        ]
      )
      refusal(yield* request("GET", `/runs/${run_id}?values=some`), 422)
      const again = yield* request("POST", `/runs/${run_id}/retry`, { body: { from_step: "small" } })
      assert.strictEqual(again.status, 202)
      yield* work
    })
  )

  it.effect("shows the output of a step whatever its name is", () =>
    Effect.gen(function* () {
      const names = ["__proto__", "constructor", "toString"]
      const steps = names.map((id) => ({ id, uses: "core.transform", with: { value: id } }))
      const id = yield* runNow((yield* newTask({ payload: { pipeline: steps } })).id)
      yield* work
      const { output } = yield* read(id)
      assert.deepStrictEqual(
        Object.entries(output?.steps ?? {}),
        names.map((name): [string, string] => [name, name])
      )
    })
  )

  it.effect("is queued at once, and shows its steps, its attempt and its trace once it is over", () =>
    Effect.gen(function* () {
      const task = yield* newTask({ payload: { params: { n: 1 }, pipeline }, labels: { a: "b" }, priority: 2 })
      const id = yield* runNow(task.id, { body: { params: { n: 7 } }, headers: { traceparent: trace } })
      const queued = yield* read(id)
      assert.include(queued, {
        task_id: task.id,
        trigger: "manual",
        state: "queued",
        task_version: 1,
        priority: 2,
        attempt: 1,
        finished_at: null,
        output: null,
        error: null,
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736"
      })
      assert.deepStrictEqual(queued.labels, { a: "b" })
      assert.deepStrictEqual(
        queued.steps.map(({ id, state }) => [id, state]),
        [
          ["first", "pending"],
          ["sent", "pending"]
        ]
      )
      yield* work
      const done = yield* read(id)
      assert.include(done, { state: "succeeded", simulated: true, lag_ms: 0, finished_at: iso(start) })
      assert.deepStrictEqual(
        done.steps.map(({ id, input, simulated, state }) => [id, input, simulated, state]),
        [
          ["first", { value: { sum: 7 } }, false, "succeeded"],
          ["sent", { to: 7 }, true, "succeeded"]
        ]
      )
      assert.deepStrictEqual(Object.keys(done.output?.steps ?? {}), ["first", "mail"])
      assert.lengthOf(done.attempts, 1)
      const after = answered(yield* request("GET", `/tasks/${task.id}`), 200, Task.json)
      assert.deepStrictEqual(after.last_run, { id, state: "succeeded", finished_at: iso(start) })
      assert.strictEqual(after.next_run_at, task.next_run_at)
    })
  )

  it.effect("takes no trace context that is malformed", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask()
      for (const traceparent of ["nonsense", "00-abc-def-01", `00-${"0".repeat(32)}-00f067aa0ba902b7-01`]) {
        assert.isNull((yield* read(yield* runNow(id, { headers: { traceparent } }))).trace_id)
      }
    })
  )

  it.effect("fails with the code, the message and the step of its failure", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask({
        max_retries: 0,
        payload: { pipeline: [{ id: "no", uses: "core.fail", with: { message: "not today" } }, { uses: "mail.send" }] }
      })
      const runId = yield* runNow(id)
      yield* work
      const failed = yield* read(runId)
      assert.strictEqual(failed.state, "failed")
      assert.include(failed.error ?? {}, { code: "failed", message: "not today", step_id: "no" })
      assert.deepStrictEqual(
        failed.steps.map(({ id, state }) => [id, state]),
        [
          ["no", "failed"],
          ["step_2", "pending"]
        ]
      )
    })
  )

  it.effect("is not queued a second time within the dedupe window", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask({ dedupe_window_seconds: 600 })
      yield* tickAfter(minute)
      refusal(yield* request("POST", `/tasks/${id}/run_now`), 409, "duplicate_run")
      yield* TestClock.setTime(start)
    })
  )

  it.effect("that is queued is canceled at once; one that has ended stays as it ended", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask()
      const runId = yield* runNow(id)
      assert.strictEqual(answered(yield* request("POST", `/runs/${runId}/cancel`), 200, Run).state, "canceled")
      const again = yield* request("POST", `/runs/${runId}/cancel`)
      refusal(again, 409, "run_finished")
      assert.include(again.body as object, { run_id: runId, state: "canceled" })
      yield* work
      assert.strictEqual((yield* read(runId)).state, "canceled")
    })
  )

  it.effect("of another agent answers as an unknown one", () =>
    Effect.gen(function* () {
      const other = yield* member("stranger", ["tasks:*", "runs:*"])
      const { id } = yield* newTask()
      const runId = yield* runNow(id)
      for (const target of [runId, "019cadc6-9a80-7000-8000-000000000000", "x"]) {
        refusal(yield* request("GET", `/runs/${target}`, { key: other.key }), 404, "run_not_found")
        refusal(yield* request("POST", `/runs/${target}/cancel`, { key: other.key }), 404, "run_not_found")
      }
      assert.isEmpty(page(yield* request("GET", "/runs", { key: other.key }), RunSummary).items)
      assert.strictEqual((yield* read(runId)).state, "queued")
    })
  )
})

layer(apiServer())("GET /runs", (it) => {
  it.effect("filters live and past runs as one, and pages them newest first", () =>
    Effect.gen(function* () {
      const a = yield* newTask()
      const b = yield* newTask({ schedule_kind: "once", schedule_expr: "2027-01-01T00:00:00Z" })
      yield* tickAfter(minute)
      yield* work
      yield* tickAfter(minute)
      yield* TestClock.adjust("1 millis")
      const manual = yield* runNow(b.id)
      const [second, first] = yield* runs(`task_id=${a.id}`)
      assert.isDefined(first)
      assert.deepStrictEqual(yield* runs(""), [manual, second, first])
      assert.deepStrictEqual(yield* runs("state=succeeded"), [first])
      assert.deepStrictEqual(yield* runs("state=queued"), [manual, second])
      assert.deepStrictEqual(yield* runs("state=failed"), [])
      assert.deepStrictEqual(yield* runs("trigger=manual"), [manual])
      assert.deepStrictEqual(yield* runs("trigger=schedule&state=queued"), [second])
      assert.deepStrictEqual(yield* runs(`scheduled_after=${iso(start + minute)}`), [manual, second])
      assert.deepStrictEqual(yield* runs(`scheduled_before=${iso(start + 2 * minute)}`), [first])
      const top = page(yield* request("GET", "/runs?limit=1"), RunSummary)
      assert.deepStrictEqual(
        top.items.map(({ id }) => id),
        [manual]
      )
      assert.deepStrictEqual(yield* runs(`limit=2&cursor=${top.next_cursor}`), [second, first])
    })
  )
})
