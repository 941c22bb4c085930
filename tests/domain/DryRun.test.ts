import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, FastCheck } from "effect"
import type { CheckedPipeline, CheckedStep } from "../../src/domain/CheckedPipeline.ts"
import { dryRun } from "../../src/domain/DryRun.ts"
import { type DryRunStep, noId } from "../../src/domain/DryRunStep.ts"
import { type Bindings, holds } from "../../src/domain/Expression.ts"
import { givenOutputs } from "../../src/domain/GivenOutput.ts"
import { isArray, type JsonObject, type JsonValue } from "../../src/domain/Json.ts"
import { simulate } from "../../src/domain/Simulation.ts"
import { render } from "../../src/domain/Template.ts"
import { zone } from "./bindings.ts"
import { briefing } from "./briefing.ts"
import { hostile, hostileData } from "./hostile.ts"
import { problems, valid } from "./pipelines.ts"

const at = Date.UTC(2026, 10, 24, 8, 30)
const iso = "2026-11-24T08:30:00.000Z"
const chisinau = zone("Europe/Chisinau")

const dry = (pipeline: CheckedPipeline, outputs: JsonObject = {}, event: JsonValue = null) =>
  dryRun(pipeline, {
    at,
    zone: chisinau,
    event,
    given: Either.getOrThrow(givenOutputs(pipeline, outputs, "")),
    pause: Effect.void
  })

/** The steps of a dry run by their ids. */
const shown = (payload: unknown, outputs: JsonObject = {}, event: JsonValue = null) =>
  Effect.map(
    dry(valid(payload), outputs, event),
    (steps) => new Map<string, DryRunStep>(steps.map((step) => [step.id, step]))
  )

const error = (code: string, more: object = {}) => ({ $error: { code, ...more } })
const log = (message: string, more: object = {}) => ({ uses: "core.log", with: { message }, ...more })
const runs = (steps: ReadonlyMap<string, DryRunStep>) =>
  [...steps.values()].filter((step) => step.would_run).map(({ id }) => id)

describe("a dry run", () => {
  it.effect("of the morning briefing shows its flow to the end", () =>
    Effect.gen(function* () {
      const steps = yield* shown({ pipeline: briefing })
      assert.deepStrictEqual(runs(steps), ["calendar", "weather", "summarize", "notify"])
      assert.deepStrictEqual(steps.get("calendar")?.input, { start: iso, end: "2026-11-25T08:30:00.000Z" })
      assert.deepStrictEqual(
        steps.get("calendar")?.output,
        simulate(valid({ pipeline: briefing }), 0, steps.get("calendar")?.input ?? null, iso)
      )
      assert.deepStrictEqual(steps.get("notify")?.input, { chat_id: 12345, text: "<simulated steps.summary.text>" })
      assert.isTrue([...steps.values()].every((step) => step.simulated && step.error === null && step.if === null))
    })
  )

  it.effect("takes the outputs that are given, by id, and passes them on by both names", () =>
    Effect.gen(function* () {
      const steps = yield* shown({ pipeline: briefing }, { summarize: { text: "Sunny" }, calendar: [1] })
      assert.deepInclude(steps.get("summarize"), { output: { text: "Sunny" }, simulated: false })
      assert.nestedPropertyVal(steps.get("summarize"), "input.calendar[0]", 1)
      assert.deepStrictEqual(steps.get("notify")?.input, { chat_id: 12345, text: "Sunny" })
    })
  )

  it.effect("computes what needs nobody, in the zone and at the time that are given", () =>
    Effect.gen(function* () {
      const steps = yield* shown(
        {
          params: { list: [3, 1, 2] },
          pipeline: [
            { id: "a", uses: "core.transform", with: { expression: "sort(params.list)" } },
            {
              id: "b",
              uses: "core.transform",
              with: { value: ["${steps.a[0]}", "${now.start_of_day}", "${event.id}"] }
            },
            log("${run.trigger} ${task.id}", { id: "c" })
          ]
        },
        {},
        { topic: "a.b", payload: 1, id: "e1", at: iso }
      )
      assert.deepStrictEqual(steps.get("a")?.output, [1, 2, 3])
      assert.deepStrictEqual(steps.get("b")?.output, [1, "2026-11-23T22:00:00.000Z", "e1"])
      assert.deepInclude(steps.get("c"), {
        input: { message: `event ${noId}` },
        output: { logged: true },
        simulated: false
      })
    })
  )

  it.effect("gives what core tools promise, and placeholders for what nobody knows", () =>
    Effect.gen(function* () {
      const task_id = "019cadc6-9a80-7000-8000-000000000000"
      const tools = [
        [
          "http",
          { url: "https://a.example" },
          { status: 200, headers: { x: "<simulated steps.t.headers.x>" }, body: { ok: "<simulated steps.t.body.ok>" } },
          ["headers.x", "body.ok"]
        ],
        [
          "http",
          { url: "https://a.example" },
          { status: 200, headers: {}, body: "<simulated steps.t.body>" },
          ["status"]
        ],
        ["wait", { seconds: 1.5 }, { waited_seconds: 1.5 }, ["waited_seconds"]],
        ["wait", { until: "${now+24h}" }, { waited_seconds: 86_400 }, []],
        ["wait", { until: "${now-24h}" }, { waited_seconds: 0 }, []],
        [
          "approval",
          { message: "?", approvers: ["ann"] },
          {
            status: "approved",
            data: { a: "<simulated steps.t.data.a>" },
            comment: null,
            decided_by: "ann",
            decided_at: iso
          },
          ["data.a"]
        ],
        [
          "wait_event",
          { topic: "a.b" },
          { topic: "a.b", payload: ["<simulated steps.t.payload[0]>"], id: "<simulated steps.t.id>", at: iso },
          ["payload[0]"]
        ],
        ["emit", { topic: "a.b", payload: null }, { event_id: "<simulated steps.t.event_id>" }, []],
        ["run_task", { task_id }, { run_id: "<simulated steps.t.run_id>" }, []],
        [
          "run_task",
          { task_id, wait: true },
          {
            run_id: "<simulated steps.t.run_id>",
            state: "succeeded",
            output: { steps: { x: "<simulated steps.t.output.steps.x>" } }
          },
          ["output.steps.x"]
        ]
      ] as const
      for (const [tool, input, output, reads] of tools) {
        const read = reads.map((path) => `\${steps.t.${path}}`)
        const steps = yield* shown({
          pipeline: [
            { id: "t", uses: `core.${tool}`, with: input },
            { uses: "a.b", with: read }
          ]
        })
        assert.deepStrictEqual(steps.get("t")?.output, output as JsonValue, tool)
        assert.isTrue(steps.get("t")?.simulated, tool)
        assert.isNull(steps.get("step_2")?.error, tool)
      }
      const long = yield* shown({ pipeline: [{ uses: "core.wait", with: { until: "${now+367d}" } }] })
      assert.strictEqual(long.get("step_1")?.error?.code, "tool_input_invalid")
    })
  )

  it.effect("skips where the condition does not hold, and says so", () =>
    Effect.gen(function* () {
      const steps = yield* shown({
        params: { n: 3 },
        pipeline: [
          log("a", { id: "a", if: "params.n > `5`" }),
          log("b", { id: "b", if: "params.n < `5`" }),
          { id: "c", uses: "core.transform", with: { value: "${steps.a}" } },
          log("d", { id: "d", if: "abs(params)", on_error: "continue" })
        ]
      })
      assert.deepInclude(steps.get("a"), { would_run: false, if: false, input: null, output: null })
      assert.deepInclude(steps.get("b"), { would_run: true, if: true })
      assert.deepInclude(steps.get("c"), { would_run: true, if: null, output: null })
      assert.deepInclude(steps.get("d"), { would_run: true, if: null, output: null })
      assert.strictEqual(steps.get("d")?.error?.code, "condition_error")
    })
  )

  it.effect("ends at a failure, goes on or jumps, as on_error says", () =>
    Effect.gen(function* () {
      const pipeline = (on_error: unknown) => ({
        pipeline: [
          { id: "a", uses: "x.y", with: { q: "${params.nope || `1`}" }, on_error },
          log("b", { id: "b" }),
          log("${errors.a.code}", { id: "c" })
        ]
      })
      const failing = { a: error("tool_http_4xx", { message: "no", retryable: true }) }
      const told = { code: "tool_http_4xx", message: "no", step_id: "a", retryable: true }
      const ends = yield* shown(pipeline("fail"), failing)
      assert.deepStrictEqual(runs(ends), ["a"])
      assert.deepInclude(ends.get("a"), { input: { q: 1 }, output: null, error: told })
      assert.deepInclude(ends.get("b"), { would_run: false, input: null, error: null })
      const goesOn = yield* shown(pipeline("continue"), failing)
      assert.deepStrictEqual(runs(goesOn), ["a", "b", "c"])
      assert.deepStrictEqual(goesOn.get("c")?.input, { message: "tool_http_4xx" })
      const jumps = yield* shown(pipeline({ goto: "c" }), failing)
      assert.deepStrictEqual(runs(jumps), ["a", "c"])
      const missing = yield* shown({ pipeline: [{ id: "a", uses: "x.y", with: "${params.nope}" }, log("b")] })
      assert.strictEqual(missing.get("a")?.error?.code, "template_missing")
      assert.deepStrictEqual(runs(missing), ["a"])
      const key = yield* shown({ pipeline: [{ id: "a", uses: "x.y", idempotency_key: "${params.nope}" }] })
      assert.strictEqual(key.get("a")?.error?.code, "template_missing")
    })
  )

  it.effect("refuses what a core tool does not take, even where its output is given", () =>
    Effect.gen(function* () {
      const pipeline = {
        params: { n: -1 },
        pipeline: [{ id: "w", uses: "core.wait", with: { seconds: "${params.n}" } }]
      }
      const steps = yield* shown(pipeline, { w: { waited_seconds: 1 } })
      assert.strictEqual(steps.get("w")?.error?.code, "tool_input_invalid")
    })
  )

  it.effect("shows the elements of a for_each, with what is given for each", () =>
    Effect.gen(function* () {
      const payload = (on_item_error: string) => ({
        params: { list: ["a", "b", "c"] },
        pipeline: [
          {
            id: "x",
            uses: "m.send",
            for_each: "${params.list}",
            with: { to: "${item}", n: "${index}" },
            on_item_error
          },
          { id: "y", uses: "core.transform", with: { value: ["${steps.x}", "${errors.x[1].code || 'none'}"] } }
        ]
      })
      const outputs = { x: ["A", error("timeout")] }
      const steps = yield* shown(payload("continue"), outputs)
      const x = steps.get("x")
      assert.deepStrictEqual(
        x?.items?.map(({ error: failure, index, input, output, simulated }) => [
          index,
          input,
          simulated ? "simulated" : output,
          failure?.code ?? null
        ]),
        [
          [0, { to: "a", n: 0 }, "A", null],
          [1, { to: "b", n: 1 }, null, "timeout"],
          [2, { to: "c", n: 2 }, "simulated", null]
        ]
      )
      assert.deepInclude(x, { total: 3, would_run: true, error: null, simulated: true, input: null })
      const value = steps.get("y")?.output
      assert.deepStrictEqual(isArray(value) ? value[0] : null, x?.output)
      assert.deepStrictEqual(isArray(value) ? value[1] : null, "timeout")
      const stopped = yield* shown(payload("fail"), outputs)
      assert.lengthOf(stopped.get("x")?.items ?? [], 2)
      assert.strictEqual(stopped.get("x")?.error?.code, "timeout")
      assert.isNull(stopped.get("x")?.output)
      assert.deepStrictEqual(runs(stopped), ["x"])
      const whole = yield* shown(payload("continue"), { x: error("failed") })
      assert.strictEqual(whole.get("x")?.error?.code, "failed")
    })
  )

  it.effect("renders the first hundred elements, 2,000 in all, and counts all of them", () =>
    Effect.gen(function* () {
      const list = Array.from({ length: 250 }, (_, i) => i)
      const each = { uses: "core.transform", for_each: "${params.list}", with: { value: "${item}" } }
      const steps = yield* shown(
        {
          params: { list },
          pipeline: [
            ...Array.from({ length: 21 }, () => each),
            { uses: "core.transform", with: { expression: "length(steps.step_1)" } }
          ]
        },
        { step_1: list.map((n) => -n) }
      )
      assert.lengthOf(steps.get("step_1")?.items ?? [], 100)
      assert.deepInclude(steps.get("step_1"), { total: 250, output: list.map((n) => -n) })
      assert.deepInclude(steps.get("step_2"), { output: list.map((n) => (n < 100 ? n : null)) })
      assert.lengthOf(steps.get("step_20")?.items ?? [], 100)
      assert.deepInclude(steps.get("step_21"), { total: 250, items: [] })
      assert.strictEqual(steps.get("step_22")?.output, 250)
      const beyond = { params: { list }, pipeline: [{ ...each, id: "a", on_item_error: "fail" }] }
      const late = yield* shown(beyond, { a: list.map((n) => (n === 200 ? error("failed") : n)) })
      assert.strictEqual(late.get("a")?.error?.code, "failed")
    })
  )

  it.effect("fails a for_each over what is no array, or too long", () =>
    Effect.gen(function* () {
      const over = (list: JsonValue) =>
        Effect.map(
          shown({ params: { list }, pipeline: [{ id: "x", uses: "m.send", for_each: "${params.list}" }] }),
          (steps) => steps.get("x")
        )
      for (const list of [1, "abc", { a: 1 }, null, Array.from({ length: 10_001 }, () => 0)]) {
        const step = yield* over(list)
        assert.strictEqual(step?.error?.code, "template_error")
        assert.isUndefined(step?.total)
      }
      assert.deepInclude(yield* over([]), { total: 0, items: [], output: [], error: null })
    })
  )

  it.effect("starts together what needs nothing more, and nothing new after a failure", () =>
    Effect.gen(function* () {
      const payload = {
        pipeline: [
          log("${steps.b.v}", { id: "d", needs: ["b", "c"] }),
          log("b", { id: "b", needs: ["a"] }),
          log("c", { id: "c", needs: ["a"] }),
          { id: "a", uses: "core.transform", with: { value: 1 }, needs: [] }
        ]
      }
      const all = yield* shown(payload, { b: { v: 7 } })
      assert.deepStrictEqual([...all.keys()], ["d", "b", "c", "a"])
      assert.deepStrictEqual(all.get("d")?.input, { message: 7 })
      const failed = yield* shown(payload, { b: error("failed") })
      assert.deepStrictEqual(runs(failed), ["b", "c", "a"])
    })
  )

  it.effect("shows on_failure as after a failure, and runs it only after one", () =>
    Effect.gen(function* () {
      const payload = {
        pipeline: [{ id: "a", uses: "x.y" }, log("b", { id: "b" })],
        on_failure: [
          log("${errors.a.message}", { id: "tell", if: "errors.a" }),
          log("${steps.b || 'never'}", { id: "more" })
        ]
      }
      const fine = yield* shown(payload)
      assert.deepStrictEqual(runs(fine), ["a", "b"])
      assert.deepInclude(fine.get("tell"), {
        if: true,
        input: { message: "<simulated errors.a.message>" },
        error: null
      })
      const failed = yield* shown(payload, { a: error("failed", { message: "out of paper" }) })
      assert.deepStrictEqual(runs(failed), ["a", "tell", "more"])
      assert.deepStrictEqual(failed.get("tell")?.input, { message: "out of paper" })
      assert.deepStrictEqual(failed.get("more")?.input, { message: "never" })
    })
  )

  it.effect("takes __proto__ for the name of a step", () =>
    Effect.gen(function* () {
      const steps = yield* shown({
        pipeline: [
          { id: "__proto__", uses: "core.transform", with: { value: { a: 1 } } },
          { id: "b", uses: "core.transform", with: { value: "${steps.__proto__.a}" } }
        ]
      })
      assert.strictEqual(steps.get("b")?.output, 1)
      assert.isFalse("a" in {})
    })
  )

  it.effect("shows at most 16 MiB, and after that fails every step", () =>
    Effect.gen(function* () {
      const pipeline = Array.from({ length: 100 }, () => log("${params.big}", { on_error: "continue" }))
      const steps = [...(yield* shown({ params: { big: "x".repeat(1_000_000) }, pipeline })).values()]
      const first = steps.findIndex((step) => step.error !== null)
      assert.isAbove(first, 10)
      assert.isBelow(JSON.stringify(steps).length, 17 * 1_048_576)
      for (const step of steps.slice(first)) assert.deepInclude(step.error, { code: "output_too_large" })
      const each = { uses: "m.send", for_each: "${params.list}", with: "${params.big}", on_item_error: "continue" }
      const over = yield* shown({
        params: { big: "x".repeat(500_000), list: Array.from({ length: 90 }, () => 1) },
        pipeline: [each]
      })
      assert.strictEqual(over.get("step_1")?.error?.code, "output_too_large")
      assert.isBelow(over.get("step_1")?.items?.length ?? 90, 20)
    })
  )

  it.effect("ends, whatever is written in it", () =>
    Effect.gen(function* () {
      const asked = (text: string) => log("a", { if: `params | (${text})`, on_error: "continue" })
      const expressions = hostile.filter((text) => problems({ pipeline: [asked(text)] }).length === 0)
      assert.isAbove(expressions.length, 50)
      const pipeline = Array.from({ length: 200 }, (_, i) => asked(expressions[i % expressions.length] ?? ""))
      const last = [...(yield* shown({ params: hostileData, pipeline })).values()]
      assert.lengthOf(last, 200)
      // Together they may take as much as twenty of the worst, so that the last finds nothing left.
      assert.isTrue(last.slice(-50).every((step) => step.error?.message.endsWith("too many steps over this data")))
    })
  )
})

type Kind = "call" | "value" | "expression" | "log" | "fail" | "missing"

/** A step of a random pipeline; the numbers choose among what is there at its place. */
const anyStep = FastCheck.record({
  kind: FastCheck.constantFrom<Kind>("call", "value", "expression", "log", "fail", "missing"),
  condition: FastCheck.option(FastCheck.constantFrom("params.yes", "params.no", "steps.NAME", "!(errors.NAME)"), {
    freq: 3
  }),
  onError: FastCheck.constantFrom("fail", "continue", "goto"),
  each: FastCheck.option(FastCheck.constantFrom("params.list", "params.none", "params.yes"), { freq: 4 }),
  onItemError: FastCheck.constantFrom("fail", "continue"),
  reads: FastCheck.nat(),
  jump: FastCheck.nat(),
  needs: FastCheck.array(FastCheck.nat(), { maxLength: 3 }),
  given: FastCheck.option(FastCheck.oneof(FastCheck.constant(error("timeout")), FastCheck.jsonValue({ maxDepth: 1 })), {
    freq: 3
  })
})

type AnyStep = typeof anyStep extends FastCheck.Arbitrary<infer A> ? A : never

/** Steps in order, or with needs; each reads one that always ends before it. */
const payloadOf = (steps: ReadonlyArray<AnyStep>, graph: boolean, inFailure: boolean) => {
  const id = (place: number) => `${inFailure ? "f" : "s"}${place}`
  const pipeline = steps.map((step, place) => {
    const needs = graph ? [...new Set(step.needs.flatMap((need) => (place === 0 ? [] : [need % place])))] : []
    const before = graph ? needs : [...Array(place).keys()]
    const read = before[step.reads % Math.max(1, before.length)]
    const value = read === undefined ? "${params.yes}" : `\${steps.${id(read)}}`
    const condition = step.condition?.replace("NAME", read === undefined ? "" : id(read))
    const later = steps.length - 1 - place
    const withs = {
      call: ["m.send", { v: value }],
      value: ["core.transform", { value }],
      expression: ["core.transform", { expression: read === undefined ? "params" : `[steps.${id(read)}, params.yes]` }],
      log: ["core.log", { message: value }],
      fail: ["core.fail", { message: value, retryable: true }],
      missing: ["m.send", { v: "${params.nope}" }]
    } as const
    const [uses, input] = withs[step.kind]
    return {
      id: id(place),
      uses,
      with:
        step.each === null || step.kind === "expression"
          ? input
          : { ...input, ...(step.kind === "call" && { i: "${item}${index}" }) },
      ...(condition !== undefined && !condition.endsWith(".") && !condition.endsWith(".)") && { if: condition }),
      ...(step.each !== null && { for_each: `\${${step.each}}`, on_item_error: step.onItemError }),
      ...(graph && { needs: needs.map(id) }),
      on_error:
        step.onError !== "goto"
          ? step.onError
          : graph || later === 0
            ? "continue"
            : { goto: id(place + 1 + (step.jump % later)) }
    }
  })
  const outputs = steps.flatMap(({ each, given }, place) =>
    given === null || (each !== null && !(typeof given === "object" && given !== null && "$error" in given))
      ? []
      : [[id(place), given] as const]
  )
  return { pipeline, outputs: Object.fromEntries(outputs) as JsonObject }
}

const steps = FastCheck.array(anyStep, { minLength: 1, maxLength: 7 })
const anyRun = FastCheck.tuple(steps, FastCheck.boolean(), FastCheck.boolean(), steps, FastCheck.boolean()).map(
  ([main, graph, hasFailure, failure, failureGraph]) => {
    const first = payloadOf(main, graph, false)
    const second = payloadOf(failure, failureGraph, true)
    return {
      payload: {
        params: { yes: true, no: false, list: ["a", "b", "c"], none: [] },
        pipeline: first.pipeline,
        ...(hasFailure && { on_failure: second.pipeline })
      },
      outputs: { ...first.outputs, ...(hasFailure && second.outputs) }
    }
  }
)

/** What a step that ended leaves to those that follow. */
const leave = (
  bindings: { steps: Record<string, JsonValue>; errors: Record<string, JsonValue> },
  shownStep: DryRunStep
) => {
  bindings.steps[shownStep.id] = shownStep.output
  const items = shownStep.items?.map((item) => item.error as JsonValue) ?? []
  if (shownStep.error !== null) bindings.errors[shownStep.id] = shownStep.error as unknown as JsonObject
  else if (items.some((item) => item !== null)) bindings.errors[shownStep.id] = items
}

describe("any dry run", () => {
  const contextOf = (pipeline: CheckedPipeline) => ({
    params: pipeline.params,
    event: null,
    run: { id: noId, attempt: 1, scheduled_for: iso, trigger: "schedule" },
    task: { id: noId, title: "dry run", labels: {} },
    now: at,
    zone: chisinau,
    steps: {} as Record<string, JsonValue>,
    errors: {} as Record<string, JsonValue>
  })

  /** Judges one step that was reached, from what those before it left. */
  const judge = (bindings: Bindings, step: CheckedStep, found: DryRunStep) => {
    const held = step.condition === undefined ? null : Either.getOrThrow(holds(step.condition, bindings))
    assert.strictEqual(found.if, held, step.id)
    if (held === false) {
      assert.deepStrictEqual(found, { ...found, would_run: false, input: null, output: null, error: null })
      return
    }
    assert.isTrue(found.would_run, step.id)
    const rendered = (more: Partial<Bindings>) => render(step.input, { ...bindings, ...more }, { strict: true })
    const agrees = (one: Pick<DryRunStep, "input" | "error">, more: Partial<Bindings>) => {
      const input = rendered(more)
      if (Either.isRight(input)) assert.deepStrictEqual(one.input, input.right, step.id)
      else
        assert.deepInclude(one, {
          input: null,
          error: {
            code: input.left.code,
            message: `${input.left.expression}: ${input.left.message}`,
            step_id: step.id,
            retryable: false
          }
        })
    }
    if (step.forEach === undefined) return agrees(found, {})
    const list = Either.getOrThrow(render(step.forEach.items, bindings, { strict: true }))
    if (!isArray(list)) return assert.strictEqual(found.error?.code, "template_error")
    for (const item of found.items ?? []) agrees(item, { item: list[item.index] ?? null, index: item.index })
    if (found.error === null) assert.lengthOf(found.items ?? [], list.length)
  }

  it.effect.prop(
    "has the inputs that render gives with what the steps before left, and starts what the definition says",
    [anyRun],
    ([{ outputs, payload }]) =>
      Effect.gen(function* () {
        const pipeline = valid(payload)
        const found = yield* dry(pipeline, outputs)
        assert.deepStrictEqual(
          found.map(({ id }) => id),
          pipeline.steps.map(({ id }) => id)
        )
        const bindings = contextOf(pipeline)
        const part = ({ needs, steps: all }: CheckedPipeline["main"], from: number) => {
          const left = new Set(all.keys())
          for (;;) {
            const ready = [...left].filter((place) =>
              needs === null ? place === Math.min(...left) : (needs[place] ?? []).every((need) => !left.has(need))
            )
            if (ready.length === 0) return false
            const wave = ready.flatMap((place) => {
              const [step, shownStep] = [all[place], found[from + place]]
              return step === undefined || shownStep === undefined ? [] : [{ place, step, shownStep }]
            })
            for (const { shownStep, step } of wave) judge(bindings, step, shownStep)
            for (const { place, shownStep, step } of wave) {
              leave(bindings, shownStep)
              left.delete(place)
              if (shownStep.error === null || typeof step.onError !== "object") continue
              for (const jumped of all.slice(place + 1, step.onError.goto)) {
                left.delete(
                  pipeline.main.steps.indexOf(jumped) < 0
                    ? pipeline.failure.steps.indexOf(jumped)
                    : pipeline.main.steps.indexOf(jumped)
                )
                bindings.steps[jumped.id] = null
                assert.isFalse(found[jumped.index]?.would_run)
              }
            }
            if (wave.some(({ shownStep, step }) => shownStep.error !== null && step.onError === "fail")) {
              for (const place of left)
                assert.deepInclude(found[from + place], { would_run: false, if: null, input: null })
              return true
            }
          }
        }
        const failed = part(pipeline.main, 0)
        if (failed) part(pipeline.failure, pipeline.main.steps.length)
        else assert.isTrue(found.slice(pipeline.main.steps.length).every((step) => !step.would_run))
      }),
    { fastCheck: { numRuns: 200 } }
  )
})
