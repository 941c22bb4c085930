import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, FastCheck } from "effect"
import { dryRun } from "../../src/domain/DryRun.ts"
import { givenOutputs } from "../../src/domain/GivenOutput.ts"
import type { JsonValue } from "../../src/domain/Json.ts"
import { type Answer, interpret, type ModelStep, type Outcome, type World } from "./PipelineModel.ts"
import { scenarios, worldOf } from "./pipelineArbitrary.ts"
import { zone } from "./bindings.ts"
import { valid } from "./pipelines.ts"

const step = (id: string, more: Partial<ModelStep> = {}): ModelStep => ({
  id,
  condition: null,
  reads: [],
  missing: false,
  key: null,
  each: null,
  retry: null,
  onError: "fail",
  needs: null,
  ...more
})

const ok = (value: JsonValue, takes = 0): Answer => ({ ok: value, takes })
const no = (retryable: boolean, takes = 0, code = "failed"): Answer => ({ code, retryable, takes })

/** A world of the answers by step, or by step and element; the last one stands for all further calls. */
const world =
  (answers: Readonly<Record<string, ReadonlyArray<Answer>>>): World =>
  (id, index, n) => {
    const script = answers[`${id}:${index}`] ?? answers[id] ?? []
    return script[Math.min(n, script.length) - 1] ?? ok(null)
  }

const run = (
  main: ReadonlyArray<ModelStep>,
  answers: Record<string, ReadonlyArray<Answer>>,
  more: { failure?: ReadonlyArray<ModelStep>; maxRetries?: number } = {}
) => interpret({ main, failure: [], maxRetries: 0, ...more }, world(answers), "run")

const called = ({ calls }: Outcome) => calls.map(({ index, step: id }) => (index < 0 ? id : `${id}:${index}`))
const states = ({ steps }: Outcome) => Object.fromEntries([...steps].map(([id, { state }]) => [id, state]))

describe("the model of a run", () => {
  it("tries a step, then its on_error, then the run", () => {
    const retry = { most: 2, on: null }
    const twice = run([step("a", { retry })], { a: [no(true), no(true), no(true), ok(1)] }, { maxRetries: 1 })
    assert.deepStrictEqual([twice.state, twice.attempts, called(twice)], ["succeeded", 2, ["a", "a", "a", "a"]])
    const final = run([step("a", { retry })], { a: [no(false)] }, { maxRetries: 5 })
    assert.deepStrictEqual([final.state, final.attempts, called(final)], ["failed", 1, ["a"]])
    const handled = run([step("a", { retry, onError: "continue" }), step("b")], { a: [no(true)] }, { maxRetries: 5 })
    assert.deepStrictEqual([handled.attempts, called(handled)], [1, ["a", "a", "b"]])
    const named = run([step("a", { retry: { most: 3, on: ["timeout"] } })], { a: [no(false, 0, "timeout"), no(true)] })
    assert.deepStrictEqual(called(named), ["a", "a"])
  })

  it("calls finished steps once, with one key over all attempts", () => {
    const outcome = run(
      [step("a"), step("b", { reads: [{ from: "a", what: "output" }], key: "k" })],
      { a: [ok(7)], b: [no(true), ok(2)] },
      { maxRetries: 1 }
    )
    assert.deepStrictEqual(outcome.calls, [
      { step: "a", index: -1, key: "run:a", input: {} },
      { step: "b", index: -1, key: "k:run", input: { r0: 7 } },
      { step: "b", index: -1, key: "k:run", input: { r0: 7 } }
    ])
  })

  it("jumps over steps, which are skipped and put out null", () => {
    const main = [
      step("a", { onError: { goto: "c" } }),
      step("b"),
      step("c", {
        reads: [
          { from: "b", what: "output" },
          { from: "a", what: "error" }
        ]
      })
    ]
    const outcome = run(main, { a: [no(true, 0, "timeout")] }, { maxRetries: 3 })
    assert.deepStrictEqual(states(outcome), { a: "failed", b: "skipped", c: "succeeded" })
    assert.deepStrictEqual(outcome.calls.at(-1)?.input, { r0: null, r1: "timeout" })
  })

  it("lets siblings finish after a failure, and starts nothing new", () => {
    const main = [
      step("a", { needs: [] }),
      step("b", { needs: [] }),
      step("c", { needs: ["b"] }),
      step("d", { needs: ["c"] })
    ]
    const slow = run(main, { a: [no(false, 10)], b: [ok(1, 20)] })
    assert.deepStrictEqual(
      [states(slow), called(slow), slow.unsettled],
      [{ a: "failed", b: "succeeded" }, ["a", "b"], []]
    )
    const late = run(main, { a: [no(false, 30)], b: [ok(1, 20)], c: [ok(1, 50)] })
    assert.deepStrictEqual(called(late), ["a", "b", "c"])
    assert.isNotEmpty(run(main, { a: [no(false, 20)], b: [ok(1, 20)] }).unsettled)
    const again = run(main, { a: [no(true, 10), ok(1, 1)], b: [ok(1, 20)] }, { maxRetries: 1 })
    assert.deepStrictEqual([again.state, called(again)], ["succeeded", ["a", "b", "a", "c", "d"]])
  })

  it("starts elements while there is room, until one fails", () => {
    const each = (parallel: number, onItemError: "fail" | "continue") =>
      step("a", { each: { list: ["x", "y", "z", "w"], parallel, onItemError } })
    const answers = { "a:0": [ok(0, 50)], "a:1": [no(true, 10), ok(1, 10)], "a:2": [ok(2, 10)], "a:3": [ok(3, 10)] }
    const stopped = run([each(2, "fail")], answers)
    assert.deepStrictEqual([called(stopped), stopped.state, stopped.unsettled], [["a:0", "a:1"], "failed", []])
    const again = run([each(2, "fail")], answers, { maxRetries: 1 })
    assert.deepStrictEqual(
      [called(again), again.steps.get("a")?.output],
      [
        ["a:0", "a:1", "a:1", "a:2", "a:3"],
        [0, 1, 2, 3]
      ]
    )
    const on = run([each(1, "continue")], answers, { maxRetries: 1 })
    assert.deepStrictEqual(on.steps.get("a"), {
      state: "succeeded",
      output: [0, null, 2, 3],
      error: null,
      errors: [null, { code: "failed", retryable: true }, null, null]
    })
    assert.deepStrictEqual(on.calls[2], { step: "a", index: 2, key: "run:a:2", input: { item: "z", index: 2 } })
  })

  it("runs on_failure once, after the last attempt, and stays failed", () => {
    const failure = [
      step("f", {
        reads: [
          { from: "a", what: "error" },
          { from: "b", what: "output" }
        ]
      })
    ]
    const outcome = run([step("a"), step("b")], { a: [no(true, 0, "timeout")] }, { failure, maxRetries: 2 })
    assert.deepStrictEqual(called(outcome), ["a", "a", "a", "f"])
    assert.deepStrictEqual(outcome.calls.at(-1)?.input, { r0: "timeout", r1: "none" })
    assert.deepStrictEqual([outcome.state, outcome.error], ["failed", { code: "timeout", retryable: true, step: "a" }])
    assert.deepStrictEqual(called(run([step("a")], {}, { failure })), ["a"])
  })
})

describe("random scenarios", () => {
  it("are pipelines that the API takes, of every kind", () => {
    const seen = new Set<string>()
    for (const scenario of FastCheck.sample(scenarios({ graphs: true, timed: true }), { numRuns: 1000, seed: 1 })) {
      valid(scenario.payload)
      const { attempts, calls, error, state, steps, unsettled } = interpret(scenario.model, worldOf(scenario), "run")
      if (unsettled.length > 0) seen.add("unsettled")
      else {
        seen.add(state)
        seen.add(`${attempts} attempts`)
        for (const end of steps.values()) seen.add(end.state)
        if (steps.has("f0")) seen.add("on_failure")
        if (error?.retryable) seen.add("used up")
        if (calls.some(({ index }) => index > 0)) seen.add("elements")
      }
    }
    const kinds = [
      "succeeded",
      "failed",
      "skipped",
      "1 attempts",
      "2 attempts",
      "3 attempts",
      "on_failure",
      "used up",
      "elements",
      "unsettled"
    ]
    assert.sameMembers([...seen], kinds)
  })

  it("are settled for the most part where calls take time", () => {
    const share = (of: ReturnType<typeof scenarios>) => {
      const all = FastCheck.sample(of, { numRuns: 500, seed: 2 })
      return all.filter((one) => interpret(one.model, worldOf(one), "run").unsettled.length === 0).length / all.length
    }
    assert.isAbove(share(scenarios({ graphs: true, timed: true })), 0.8)
    assert.isAbove(share(scenarios({ graphs: false, timed: true })), 0.9)
  })

  it.effect.prop(
    "in order, and tried once, agree with the dry run",
    [scenarios({ graphs: false, timed: true })],
    ([scenario]) =>
      Effect.gen(function* () {
        const once = (steps: ReadonlyArray<ModelStep>) =>
          steps.map((one) => ({ ...one, retry: null, each: one.each === null ? null : { ...one.each, parallel: 1 } }))
        const model = { main: once(scenario.model.main), failure: once(scenario.model.failure), maxRetries: 0 }
        const script = worldOf(scenario)
        const outcome = interpret(model, script, "00000000-0000-7000-8000-000000000000")
        assert.isEmpty(outcome.unsettled)
        const given = (id: string, index: number): JsonValue => {
          const answer = script(id, index, 1)
          return "ok" in answer ? answer.ok : { $error: { code: answer.code, retryable: answer.retryable } }
        }
        const outputs = [...model.main, ...model.failure].map(
          ({ each, id }) => [id, each === null ? given(id, -1) : each.list.map((_, index) => given(id, index))] as const
        )
        const pipeline = valid(scenario.payload)
        const steps = yield* dryRun(pipeline, {
          at: 0,
          zone: zone("UTC"),
          event: null,
          given: Either.getOrThrow(givenOutputs(pipeline, Object.fromEntries(outputs), "")),
          pause: Effect.void
        })
        const inputs: Array<JsonValue> = []
        for (const { error, id, if: held, input, items, output, would_run } of steps) {
          const end = outcome.steps.get(id)
          assert.strictEqual(would_run, end !== undefined && end.state !== "skipped", id)
          if (end === undefined) continue
          if (would_run) assert.notStrictEqual(held, false)
          assert.deepStrictEqual(output, end.output, id)
          assert.deepStrictEqual(
            error === null ? null : { code: error.code, retryable: error.retryable },
            end.error,
            id
          )
          if (would_run) inputs.push(...(items?.map((item) => item.input) ?? [input]).filter((one) => one !== null))
        }
        assert.deepStrictEqual(
          inputs,
          outcome.calls.map((call) => call.input)
        )
      }),
    { fastCheck: { numRuns: 100 } }
  )
})
