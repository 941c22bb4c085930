import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import { runCore } from "../../src/domain/CoreTools.ts"
import type { Bindings } from "../../src/domain/Expression.ts"
import { ExpressionError } from "../../src/domain/ExpressionError.ts"
import type { JsonValue } from "../../src/domain/Json.ts"
import { ErrorCode, isRetryable, StepFailed } from "../../src/domain/StepFailed.ts"
import { zone } from "./bindings.ts"

const bindings: Bindings = {
  params: { n: [3, 1] },
  steps: {},
  errors: {},
  event: null,
  run: {},
  task: {},
  now: 0,
  zone: zone("UTC")
}

const result = (tool: string, input: JsonValue) => Either.getOrThrow(runCore(tool, input, bindings))
const failure = (tool: string, input: JsonValue) => Either.getOrThrow(Either.flip(runCore(tool, input, bindings)))

describe("core tools", () => {
  it("transform gives its value, or what its expression finds", () => {
    assert.deepStrictEqual(result("transform", { value: [1] }), { output: [1], log: undefined })
    assert.deepStrictEqual(result("transform", { expression: "sort(params.n)" }).output, [1, 3])
    assert.isNull(result("transform", { expression: "steps.nope" }).output)
    assert.strictEqual(failure("transform", { expression: "abs(params.n)" }).code, "template_error")
    assert.strictEqual(failure("transform", { expression: "[?" }).code, "template_error")
    assert.strictEqual(failure("transform", { value: 1, expression: "a" }).code, "tool_input_invalid")
  })

  it("transform's output is bounded", () => {
    const big = { ...bindings, params: "x".repeat(600_000) }
    const found = runCore("transform", { expression: "[params, params]" }, big)
    assert.strictEqual(Either.getOrThrow(Either.flip(found)).code, "output_too_large")
  })

  it("log answers that it logged, with the line beside", () => {
    assert.deepStrictEqual(result("log", { message: "hello" }), {
      output: { logged: true },
      log: { level: "info", message: "hello", data: null }
    })
    assert.deepStrictEqual(result("log", { message: { a: 1 }, level: "warn", data: [1] }).log, {
      level: "warn",
      message: '{"a":1}',
      data: [1]
    })
    assert.strictEqual(failure("log", { message: "a", level: "loud" }).code, "tool_input_invalid")
  })

  it("fail fails, finally unless it says otherwise", () => {
    const final = failure("fail", { message: "no" })
    assert.deepStrictEqual([final.code, final.message, final.retryable], ["failed", "no", false])
    assert.isTrue(failure("fail", { message: "no", retryable: true }).retryable)
  })

  it("refuse any other input and any other name", () => {
    for (const input of [null, [], "x", {}, { message: "a", other: 1 }, { constructor: 1 }] as const) {
      assert.strictEqual(failure("log", input).code, "tool_input_invalid")
    }
    assert.strictEqual(failure("constructor", {}).code, "tool_unavailable")
  })
})

describe("StepFailed", () => {
  it("is retryable by its code", () => {
    assert.deepStrictEqual(
      ErrorCode.literals.filter((code) => isRetryable(code)),
      ["tool_output_invalid", "tool_http_5xx", "tool_connection", "timeout", "internal"]
    )
    assert.isTrue(StepFailed.of("timeout", "late").retryable)
  })

  it("says which expression failed", () => {
    const failed = StepFailed.ofExpression(
      new ExpressionError({ code: "template_missing", expression: "steps.a.b", message: "this does not exist" })
    )
    assert.deepStrictEqual(
      [failed.code, failed.message, failed.retryable],
      ["template_missing", "steps.a.b: this does not exist", false]
    )
  })
})
