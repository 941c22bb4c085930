import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import type { Bindings } from "../../src/domain/Expression.ts"
import type { JsonValue } from "../../src/domain/Json.ts"
import type { CheckedPipeline } from "../../src/domain/CheckedPipeline.ts"
import { check } from "../../src/domain/PipelineChecks.ts"
import type { PipelineSpec } from "../../src/domain/PipelineSpec.ts"
import { simulate } from "../../src/domain/Simulation.ts"
import { render } from "../../src/domain/Template.ts"
import { zone } from "./bindings.ts"
import { briefing } from "./briefing.ts"

const at = "2026-11-24T08:30:00.000Z"
const now = Date.UTC(2026, 10, 24, 8, 30)

const checked = (pipeline: PipelineSpec["pipeline"]): CheckedPipeline => Either.getOrThrow(check({ pipeline }))

const bindings: Omit<Bindings, "steps"> = {
  params: {},
  errors: {},
  event: null,
  run: {},
  task: {},
  now,
  zone: zone("Europe/Chisinau")
}

/** Runs every step simulated; the inputs as rendered. */
const flow = (pipeline: CheckedPipeline): ReadonlyArray<JsonValue> => {
  const outputs: Record<string, JsonValue> = {}
  return pipeline.steps.map((step) => {
    const input = Either.getOrThrow(render(step.input, { ...bindings, steps: { ...outputs } }, { strict: true }))
    const output = simulate(pipeline, step.index, input, at)
    for (const name of [step.id, step.saveAs ?? step.id]) outputs[name] = output
    return input
  })
}

/** What stands beside the five fields in the output of the first of two steps, the second of which reads `reads`. */
const placeholders = (...reads: ReadonlyArray<string>) => {
  const output = simulate(
    checked([
      { uses: "a.b", id: "x", save_as: "y" },
      { uses: "a.c", with: reads.map((read) => `\${${read}}`) }
    ]),
    0,
    { q: 1 },
    at
  )
  const { input_args, message, status, timestamp, tool_address, ...rest } = JSON.parse(JSON.stringify(output))
  assert.deepStrictEqual([status, tool_address, input_args, timestamp], ["simulated", "a.b", { q: 1 }, at])
  assert.include(message, "a.b")
  return rest
}

describe("simulate", () => {
  it("lets the morning briefing flow to its end", () => {
    const [calendar, , summarize, notify] = flow(checked(briefing))
    assert.deepStrictEqual(calendar, { start: "2026-11-24T08:30:00.000Z", end: "2026-11-25T08:30:00.000Z" })
    assert.nestedPropertyVal(summarize, "calendar.status", "simulated")
    assert.nestedPropertyVal(summarize, "weather.tool_address", "weather-mcp.forecast")
    assert.deepStrictEqual(notify, { chat_id: 12345, text: "<simulated steps.summary.text>" })
  })

  it("answers the five fields alone where nothing below is read", () => {
    assert.deepStrictEqual(placeholders("steps.x", "steps", "now", "params.z"), {})
  })

  it("puts a placeholder at every path that is read, by either name", () => {
    assert.deepStrictEqual(placeholders("steps.x.a.b", "steps.y.c", 'steps.x."d-e"'), {
      a: { b: "<simulated steps.x.a.b>" },
      c: "<simulated steps.y.c>",
      "d-e": '<simulated steps.x."d-e">'
    })
  })

  it("makes arrays of what is read by position or by projection", () => {
    assert.deepStrictEqual(
      placeholders("steps.x.a[*].name", "steps.x.b[1]", "steps.x.c[-1].d", "sort_by(steps.x.e, &k)[0].v"),
      {
        a: [{ name: "<simulated steps.x.a[0].name>" }],
        b: [null, "<simulated steps.x.b[1]>"],
        c: [{ d: "<simulated steps.x.c[-1].d>" }],
        e: [{ k: "<simulated steps.x.e[0].k>", v: "<simulated steps.x.e[0].v>" }]
      }
    )
    assert.deepStrictEqual(placeholders("steps.x.a[999999999]"), { a: [] })
  })

  it("keeps what goes deeper, whichever is read first", () => {
    for (const reads of [
      ["steps.x.a", "steps.x.a.b"],
      ["steps.x.a.b", "steps.x.a"]
    ]) {
      assert.deepStrictEqual(placeholders(...reads), { a: { b: "<simulated steps.x.a.b>" } })
    }
  })

  it("never stands over the five fields", () => {
    assert.deepStrictEqual(
      placeholders("steps.x.status", "steps.x.input_args.q", "steps.x.message.a", "steps.x.timestamp"),
      {}
    )
  })

  it("takes __proto__ for a name", () => {
    assert.strictEqual(
      JSON.stringify(placeholders("steps.x.__proto__.a")),
      '{"__proto__":{"a":"<simulated steps.x.__proto__.a>"}}'
    )
    assert.isFalse("a" in {})
  })

  it("counts what conditions and keys read, and only later steps", () => {
    const pipeline = checked([
      { uses: "a.b", id: "x" },
      { uses: "a.c", id: "z", if: "steps.x.ok", idempotency_key: "${steps.x.key}" },
      { uses: "core.transform", with: { expression: "steps.x.t" } }
    ])
    const first = simulate(pipeline, 0, null, at)
    assert.include(JSON.stringify(first), "<simulated steps.x.ok>")
    assert.include(JSON.stringify(first), "<simulated steps.x.key>")
    assert.include(JSON.stringify(first), "<simulated steps.x.t>")
    assert.notInclude(JSON.stringify(simulate(pipeline, 1, null, at)), "<simulated")
  })

  it("gives an array of one where a later step runs over it", () => {
    const pipeline = checked([
      { uses: "a.list", id: "x" },
      { uses: "a.each", id: "y", for_each: "${steps.x.rows}", with: "${item.name}" },
      { uses: "a.last", with: "${steps.y[0].id}" }
    ])
    const [first, second] = [0, 1].map((index) => simulate(pipeline, index, null, at))
    assert.deepInclude(first, { rows: [{ name: "<simulated steps.x.rows[0].name>" }] })
    assert.deepInclude(second, { id: "<simulated steps.y[0].id>" })
  })

  it("takes placeholders from the schema of the output, where that says something", () => {
    const output_schema = {
      $defs: { row: { properties: { id: { type: "integer" }, kind: { enum: ["a", "b"] } } } },
      properties: {
        rows: { type: "array", items: { $ref: "#/$defs/row" } },
        ok: { default: true },
        name: { type: ["string", "null"] },
        loop: { $ref: "#/properties/loop" }
      }
    }
    const pipeline = checked([
      { uses: "a.list", id: "x", output_schema },
      { uses: "a.b", with: ["${steps.x.rows[0].id}", "${steps.x.rows[0].kind}", "${steps.x.ok}", "${steps.x.name}"] },
      { uses: "a.c", with: ["${steps.x.loop}", "${steps.x.other}"] }
    ])
    assert.deepInclude(simulate(pipeline, 0, null, at, output_schema), {
      rows: [{ id: 0, kind: "a" }],
      ok: true,
      name: "",
      loop: "<simulated steps.x.loop>",
      other: "<simulated steps.x.other>"
    })
  })
})
