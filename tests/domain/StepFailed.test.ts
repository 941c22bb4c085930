import fc from "fast-check"
import { assert, describe, it } from "vitest"
import { isStorable } from "../../src/domain/Json.ts"
import { StepFailed } from "../../src/domain/StepFailed.ts"

describe("what runs tell of a failure", () => {
  it("can be stored, whatever a tool answered", () => {
    const units = fc.array(fc.oneof(fc.integer({ min: 0, max: 0xffff }), fc.constantFrom(0, 0xd800, 0xdfff)))
    fc.assert(
      fc.property(units, (codes) => {
        const message = String.fromCharCode(...codes)
        const told = StepFailed.of("tool_output_invalid", message).toldOf("s")
        assert.isTrue(isStorable(told))
        assert.strictEqual(told.message.length, message.length)
        if (isStorable(message)) assert.strictEqual(told.message, message)
      })
    )
  })

  it("is cut where it is long, also within a character", () => {
    for (const start of ["", "x"]) {
      const told = StepFailed.of("failed", start + "😀".repeat(10_000)).toldOf(null)
      assert.isTrue(isStorable(told))
      assert.isAtMost(told.message.length, 4001)
    }
  })
})
