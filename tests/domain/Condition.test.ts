import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import { type Bindings, compileCondition, holds, references } from "../../src/domain/Expression.ts"
import { bindings } from "./bindings.ts"
import { hostile, hostileData } from "./hostile.ts"

const condition = (text: string) => compileCondition(text, "/if")
const held = (text: string, over: Partial<Bindings> = {}) =>
  Either.getOrThrow(condition(text).pipe(Either.flatMap((compiled) => holds(compiled, { ...bindings, ...over }))))
const refusal = (text: string) => Either.getOrThrow(Either.flip(condition(text)))

describe("a condition", () => {
  it("is JMESPath, bare or in ${…}", () => {
    for (const text of [
      "steps.w.temp > `20`",
      "${steps.w.temp > `20`}",
      "  ${ steps.w.ok }  ",
      "!(steps.w.none)",
      "{a: steps.w} && steps.w.ok"
    ]) {
      assert.isTrue(held(text), text)
    }
    assert.isFalse(held("steps.w.temp > `25`"))
  })

  it("is false for what does not exist, and for all that JMESPath calls false", () => {
    for (const text of [
      "steps.w.nope",
      "steps.nope.deep[3]",
      "event.payload.x == `1`",
      "`false`",
      "`null`",
      "''",
      "`[]`",
      "`{}`",
      "steps.w.text > `1`"
    ]) {
      assert.isFalse(held(text), text)
    }
    for (const text of ["`0`", "'false'", "`[0]`", '`{"a": null}`']) assert.isTrue(held(text), text)
  })

  it("is refused with a reason when it cannot be read", () => {
    for (const text of ["", "   ", "${}", "${ }", "a ==", "${a} && ${b}", "${a", "a > 1"]) {
      const error = refusal(text)
      assert.strictEqual(error.code, "condition_error", text)
      assert.strictEqual(error.place, "/if")
    }
    assert.include(refusal("steps.w.temp > 25").message, "`25`")
    assert.include(refusal("${steps.w.temp > 25.5}").message, "`25.5`")
    assert.include(refusal("${a} && ${b}").message, "a && b")
  })

  it("fails with condition_error when it cannot be evaluated", () => {
    const found = condition("abs(steps.w.text) > `1`").pipe(Either.flatMap((compiled) => holds(compiled, bindings)))
    const error = Either.getOrThrow(Either.flip(found))
    assert.strictEqual(error.code, "condition_error")
    assert.include(error.message, "abs()")
  })

  it("tells what it reads", () => {
    assert.deepStrictEqual(references(Either.getOrThrow(condition("steps.a.b > params.c"))), [
      ["steps", "a", "b"],
      ["params", "c"]
    ])
  })

  it("never throws", () => {
    for (const each of hostile) {
      const found = condition(`steps | ${each}`).pipe(
        Either.flatMap((compiled) => holds(compiled, { ...bindings, steps: hostileData }))
      )
      assert.isTrue(Either.isEither(found))
    }
  })
})
