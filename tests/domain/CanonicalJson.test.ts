import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { canonical } from "../../src/domain/CanonicalJson.ts"
import type { JsonValue } from "../../src/domain/Json.ts"

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The same value with its keys in another order. */
const shuffled = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(shuffled)
  if (!isPlain(value)) return value
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, held]) => [key, shuffled(held)])
  )
}

describe("the canonical text of a JSON value", () => {
  it("is the same for every layout of one value, and reads back as that value", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        const text = JSON.stringify(value)
        const read = JSON.parse(text) as JsonValue
        assert.strictEqual(canonical(shuffled(read) as JsonValue), canonical(read))
        assert.deepStrictEqual(JSON.parse(canonical(read)), read)
      })
    )
  })

  it("differs for different values", () => {
    const values = [
      null,
      false,
      true,
      0,
      1,
      "",
      "0",
      "null",
      [],
      {},
      [[]],
      [{}],
      { a: 1 },
      { a: "1" },
      { b: 1 },
      [1, 2],
      [2, 1]
    ]
    assert.lengthOf(new Set(values.map((value) => canonical(value))), values.length)
    for (const [one, other] of [
      ["1.0", "1"],
      ["-0", "0"],
      ["1e2", "100"],
      ['"\\u0041"', '"A"']
    ] as const) {
      assert.strictEqual(canonical(JSON.parse(one) as JsonValue), canonical(JSON.parse(other) as JsonValue))
    }
  })

  it("keeps a key that names a prototype", () => {
    assert.strictEqual(canonical(JSON.parse('{"b":1,"__proto__":{"a":2}}') as JsonValue), '{"__proto__":{"a":2},"b":1}')
  })
})
