import { assert, describe, it } from "@effect/vitest"
import { JSONSchema } from "effect"
import { references } from "../../src/domain/Expression.ts"
import { PipelineSpec } from "../../src/domain/PipelineSpec.ts"
import { briefing } from "./briefing.ts"
import { call, paths, valid } from "./pipelines.ts"

const withFields = (fields: object) => ({ pipeline: [{ ...call, ...fields }] })

describe("PipelineSpec", () => {
  it("takes the morning briefing", () => {
    const checked = valid({ pipeline: briefing })
    assert.deepStrictEqual(
      checked.steps.map((step) => step.id),
      ["calendar", "weather", "summarize", "notify"]
    )
    assert.deepStrictEqual(
      checked.steps.map((step) => step.saveAs),
      ["events", "weather", "summary", undefined]
    )
    const [calendar, , summarize] = checked.steps
    assert.deepStrictEqual(calendar?.references, [["now"], ["now"]])
    assert.deepStrictEqual(summarize === undefined ? [] : references(summarize.input), [
      ["steps", "events"],
      ["steps", "weather"]
    ])
    assert.isTrue(checked.strict)
  })

  it("refuses unknown fields, wrong types and sizes, each with its place", () => {
    for (const [payload, path] of [
      [{ pipeline: [call], on_falure: [] }, "/on_falure"],
      [withFields({ retries: 3 }), "/pipeline/0/retries"],
      [withFields({ needs: "a" }), "/pipeline/0/needs"],
      [withFields({ needs: ["1st"] }), "/pipeline/0/needs/0"],
      [withFields({ for_each: ["a"] }), "/pipeline/0/for_each"],
      [withFields({ for_each: "${params.a}", max_parallel: 0 }), "/pipeline/0/max_parallel"],
      [withFields({ for_each: "${params.a}", max_parallel: 101 }), "/pipeline/0/max_parallel"],
      [withFields({ expires_seconds: 0 }), "/pipeline/0/expires_seconds"],
      [withFields({ expires_seconds: 366 * 86_400 + 1 }), "/pipeline/0/expires_seconds"],
      [withFields({ input_schema: true }), "/pipeline/0/input_schema"],
      [{ pipeline: [call], on_failure: [] }, "/on_failure"],
      [{ pipeline: [call], on_failure: [{ ...call, use: "a.b" }] }, "/on_failure/0/use"],
      [withFields({ retry: { max_attempts: 1, delay: 2 } }), "/pipeline/0/retry/delay"],
      [withFields({ retry: { max_attempts: 101 } }), "/pipeline/0/retry/max_attempts"],
      [withFields({ retry: { max_attempts: 2, on: ["http"] } }), "/pipeline/0/retry/on/0"],
      [withFields({ retry: { max_attempts: 2, backoff_seconds: -1 } }), "/pipeline/0/retry/backoff_seconds"],
      [withFields({ id: "1st" }), "/pipeline/0/id"],
      [withFields({ id: "a".repeat(65) }), "/pipeline/0/id"],
      [withFields({ save_as: "a.b" }), "/pipeline/0/save_as"],
      [withFields({ uses: "mail" }), "/pipeline/0/uses"],
      [withFields({ uses: "mail." }), "/pipeline/0/uses"],
      [withFields({ uses: "mail.../x" }), "/pipeline/0/uses"],
      [withFields({ timeout_seconds: 0 }), "/pipeline/0/timeout_seconds"],
      [withFields({ timeout_seconds: 86_401 }), "/pipeline/0/timeout_seconds"],
      [withFields({ with: { a: ["\u0000"] } }), "/pipeline/0/with/a/0"],
      [{ pipeline: [] }, "/pipeline"],
      [{ pipeline: Array.from({ length: 201 }, () => call) }, "/pipeline"],
      [{ pipeline: [call], params: [] }, "/params"],
      [{}, "/pipeline"]
    ] as const) {
      assert.include(paths(payload), path, JSON.stringify(payload).slice(0, 80))
    }
    assert.isNotEmpty(paths(withFields({ on_error: "ignore" })))
    assert.isNotEmpty(paths(withFields({ on_error: { goto: "x", also: 1 } })))
  })

  it("has a JSON Schema for the documentation", () => {
    assert.nestedPropertyVal(JSONSchema.make(PipelineSpec), "properties.params.$ref", "#/$defs/JsonObject")
  })
})
