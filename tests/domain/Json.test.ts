import { assert, describe, it } from "@effect/vitest"
import { Either, ParseResult, Schema } from "effect"
import * as fc from "fast-check"
import { JsonObject, JsonValue, maxDepth, pointer, sizeOf, storable } from "../../src/domain/Json.ts"

const nest = (depth: number): JsonValue => {
  let value: JsonValue = 1
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { a: value }
  return value
}

const json = fc
  .jsonValue({ noUnicodeString: false, maxDepth: 5 })
  .map((value): JsonValue => JSON.parse(JSON.stringify(value)))

describe("storable", () => {
  it("finds nothing in what JSON can say and jsonb can hold", () => {
    fc.assert(
      fc.property(
        json.filter((value) => !/\\u0000|\\ud[89a-f]/.test(JSON.stringify(value))),
        (value) => assert.isUndefined(storable(value))
      )
    )
  })

  it("points at the first place that cannot be stored", () => {
    const cases: ReadonlyArray<readonly [unknown, string]> = [
      ["\u0000", ""],
      [{ a: ["x", "\u0000"] }, "/a/1"],
      [{ "a/b~c": { d: "\ud800" } }, "/a~1b~0c/d"],
      [{ a: 1, b: "\udc00x" }, "/b"],
      [{ "k\u0000": 1 }, "/k\u0000"],
      [[{ "\ud800": 1 }], "/0/\ud800"],
      [[1, Number.NaN], "/1"],
      [{ a: Number.POSITIVE_INFINITY }, "/a"],
      [{ a: undefined }, "/a"],
      [[1n], "/0"],
      [{ at: new Date(0) }, "/at"],
      [{ z: "\u0000", a: "\u0000" }, "/z"]
    ]
    for (const [value, path] of cases) assert.strictEqual(storable(value)?.path, path)
    assert.isUndefined(storable("😀 fine"))
  })

  it("allows 64 containers within each other, not 65", () => {
    assert.isUndefined(storable(nest(maxDepth)))
    assert.include(storable(nest(maxDepth + 1))?.message, "64")
  })

  it("does not overflow the stack", () => {
    const deep: unknown = JSON.parse("[".repeat(1_000_000) + "]".repeat(1_000_000))
    assert.include(storable(deep)?.message, "64")
    const loop: { self?: unknown } = {}
    loop.self = loop
    assert.include(storable(loop)?.message, "64")
  })
})

describe("JsonValue", () => {
  it("hands the value on as it is, __proto__ included", () => {
    const value: unknown = JSON.parse('{"__proto__": {"polluted": true}, "a": [null]}')
    const decoded = Schema.decodeUnknownSync(JsonValue)(value)
    assert.strictEqual(decoded, value)
    assert.isFalse("polluted" in {})
  })

  it("names the place of what it refuses", () => {
    const schema = Schema.Struct({ with: JsonValue })
    const decoded = Schema.decodeUnknownEither(schema)({ with: { a: ["\u0000"] } })
    const [issue] = ParseResult.ArrayFormatter.formatErrorSync(Either.getOrThrow(Either.flip(decoded)))
    assert.deepStrictEqual(issue?.path, ["with", "a", 0])
    assert.include(issue?.message, "U+0000")
  })

  it("has a twin for objects", () => {
    const is = Schema.is(JsonObject)
    assert.isTrue(is({ a: 1 }))
    for (const value of [[], null, "a", 1, { a: "\u0000" }]) assert.isFalse(is(value))
  })
})

describe("sizeOf", () => {
  it("is the number of bytes of the compact JSON, and undefined past the limit", () => {
    fc.assert(
      fc.property(json, (value) => {
        const bytes = Buffer.byteLength(JSON.stringify(value))
        // A lone surrogate is written as an escape of six bytes; it is counted as two, and never stored.
        fc.pre(!/\\ud[89a-f]/.test(JSON.stringify(value)))
        assert.strictEqual(sizeOf(value, bytes), bytes)
        assert.isUndefined(sizeOf(value, bytes - 1))
      })
    )
  })

  it("counts every kind of character as JSON.stringify writes it", () => {
    const units = [...Array(0xa0).keys(), 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x1f600]
    for (const text of units.map((unit) => String.fromCodePoint(unit))) {
      assert.strictEqual(sizeOf([text], 100), Buffer.byteLength(JSON.stringify([text])), JSON.stringify(text))
    }
  })

  it("stops at the limit, in a value that shares its parts as well", () => {
    let shared: JsonValue = "x"
    for (let i = 0; i < 60; i++) shared = [shared, shared]
    assert.isUndefined(sizeOf(shared, 1_000_000))
    assert.isUndefined(sizeOf(nest(3), 1000, 2))
  })
})

describe("pointer", () => {
  it("escapes as RFC 6901 says", () => {
    assert.strictEqual(pointer([]), "")
    assert.strictEqual(pointer(["a/b", 0, "m~n", ""]), "/a~1b/0/m~0n/")
  })
})
