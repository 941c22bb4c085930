import { assert, layer } from "@effect/vitest"
import { Effect, Either } from "effect"
import type { JsonObject, JsonValue } from "../../src/domain/Json.ts"
import { JsonSchemas } from "../../src/layers/JsonSchemas.ts"

const check = (schema: JsonObject) => Effect.flatMap(JsonSchemas, (schemas) => schemas.check(schema))
const validate = (schema: JsonObject, value: JsonValue) =>
  Effect.flatMap(JsonSchemas, (schemas) => schemas.validate(schema, value))
const refused = (schema: JsonObject) => Effect.flip(check(schema))
const parsed = (text: string): JsonObject => JSON.parse(text)
const repeat = <A>(count: number, of: (i: number) => A) => Array.from({ length: count }, (_, i) => of(i))

/** Runs an effect beside a timer of this thread: the longest that the timer had to wait, milliseconds, with the exit. */
const beside = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    let last = performance.now()
    let longest = 0
    const tick = () => {
      const now = performance.now()
      longest = Math.max(longest, now - last)
      last = now
    }
    const timer = setInterval(tick, 5)
    const began = performance.now()
    const outcome = yield* Effect.either(effect).pipe(Effect.ensuring(Effect.sync(() => clearInterval(timer))))
    tick()
    return { outcome, longest, took: performance.now() - began }
  })

/** Each name stands for two ways to the one before it: 2^n ways in all. */
const exponential = (n: number): JsonObject => ({
  $defs: Object.fromEntries([
    ["a0", { const: 1 }],
    ...repeat(n, (i) => [`a${i + 1}`, { anyOf: [{ $ref: `#/$defs/a${i}` }, { $ref: `#/$defs/a${i}` }] }])
  ]),
  properties: { x: { $ref: `#/$defs/a${n}` } }
})

const nested = (depth: number): JsonObject => (depth === 0 ? { type: "string" } : { items: nested(depth - 1) })

layer(JsonSchemas.layer)("JSON Schemas", (it) => {
  it.effect("say what is wrong with a value, and where", () =>
    Effect.gen(function* () {
      const schema = {
        type: "object",
        properties: { to: { type: "string", format: "email" }, how: { enum: ["fast", "slow"] } },
        required: ["to"],
        additionalProperties: false
      }
      yield* check(schema)
      assert.deepStrictEqual(yield* validate(schema, { to: "a@example.com", how: "fast" }), [])
      assert.deepStrictEqual(yield* validate(schema, {}), [{ path: "", message: "must have required property 'to'" }])
      assert.deepStrictEqual(yield* validate(schema, { to: "a" }), [
        { path: "/to", message: 'must match format "email"' }
      ])
      assert.deepStrictEqual(yield* validate(schema, { to: "a@example.com", "a/b": 1 }), [
        { path: "", message: 'must not have the property "a/b"' }
      ])
      assert.deepStrictEqual(yield* validate(schema, { to: "a@example.com", how: "so" }), [
        { path: "/how", message: 'must be equal to one of the allowed values: ["fast","slow"]' }
      ])
    })
  )

  it.effect("are those of 2020-12, and of draft-07 where the schema says so", () =>
    Effect.gen(function* () {
      assert.isNotEmpty(yield* validate({ prefixItems: [{ type: "string" }] }, [1]))
      assert.isEmpty(yield* validate({ type: "object", "x-unknown": 1, format: "unknown-to-us" }, {}))
      const draft = { $schema: "http://json-schema.org/draft-07/schema#", items: [{ type: "string" }] }
      assert.isNotEmpty(yield* validate(draft, [1]))
      assert.deepInclude(yield* refused({ $schema: "http://json-schema.org/draft-04/schema#" }), { path: "/$schema" })
      assert.isNotEmpty(yield* validate({ properties: { next: { $ref: "#" } }, type: "object" }, { next: 1 }))
      assert.isNotEmpty(
        yield* validate(
          { $defs: { t: { $id: "https://example.com/t", type: "string" } }, $ref: "/t", $id: "https://example.com/" },
          1
        )
      )
    })
  )

  it.effect("that are none are refused with the place", () =>
    Effect.gen(function* () {
      assert.deepInclude(yield* refused({ properties: { a: { type: "strin" } } }), { path: "/properties/a/type" })
      assert.deepInclude(yield* refused({ required: "a" }), { path: "/required" })
      assert.match((yield* refused({ pattern: "(?=a)b" })).message, /\(\?=/)
      assert.match((yield* refused({ pattern: "(" })).message, /missing closing/)
      assert.deepInclude(yield* refused({ $async: true }), { path: "/$async" })
      assert.deepInclude(yield* refused({ maximum: { $data: "1/b" } }), { path: "/maximum" })
    })
  )

  it.effect("see own members alone, and speak of no __proto__", () =>
    Effect.gen(function* () {
      for (const name of ["constructor", "toString", "__proto__"]) {
        assert.isNotEmpty(yield* validate({ required: [name] }, {}), name)
      }
      const own = parsed('{"__proto__": 1}')
      assert.isEmpty(yield* validate({ required: ["__proto__"] }, own))
      assert.isNotEmpty(yield* validate({ additionalProperties: false }, own))
      assert.isNotEmpty(yield* validate({ properties: { constructor: { type: "string" } } }, { constructor: 1 }))
      const { path } = yield* refused(
        parsed('{"properties": {"a": {"properties": {"__proto__": {"type": "string"}}}}}')
      )
      assert.strictEqual(path, "/properties/a/properties/__proto__")
    })
  )

  it.effect("fetch nothing, and know no schema of another", () =>
    Effect.gen(function* () {
      yield* check({ $id: "https://example.com/mine", $defs: { inner: { $id: "https://example.com/inner" } } })
      for (const $ref of [
        "https://example.com/mine",
        "https://example.com/inner",
        "http://127.0.0.1:1/s",
        "file:///etc/passwd",
        "other.json",
        "#/$defs/none",
        "https://json-schema.org/draft/2020-12/schema"
      ]) {
        assert.match((yield* refused({ $ref })).message, /nothing is fetched|can't resolve/, $ref)
      }
    })
  )

  it.effect("keep within their limits of size and depth", () =>
    Effect.gen(function* () {
      yield* check(nested(31))
      assert.match((yield* refused(nested(32))).message, /at most 65536 bytes and nests at most 32 deep/)
      assert.match((yield* refused({ enum: repeat(40_000, (i) => i) })).message, /65536 bytes/)
      yield* check({ enum: repeat(10_000, (i) => i) })
    })
  )

  it.effect(
    "that are hostile are ended in time, while this thread stays responsive",
    () =>
      Effect.gen(function* () {
        // Both threads are loaded before anything is measured.
        yield* Effect.all([validate({}, 1), validate({}, 1)], { concurrency: 2 })
        const loops: ReadonlyArray<JsonObject> = [
          { $ref: "#" },
          { $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } }, $ref: "#/$defs/a" },
          { $defs: { a: { anyOf: [{ $ref: "#/$defs/a" }, { type: "string" }] } }, $ref: "#/$defs/a" }
        ]
        for (const loop of loops) assert.match((yield* refused(loop)).message, /refers to itself without end/)

        const hostile: ReadonlyArray<readonly [string, JsonObject, JsonValue]> = [
          ["exponential anyOf", exponential(26), { x: 2 }],
          ["evil pattern", { pattern: "^(a+)+$" }, `${"a".repeat(100_000)}!`],
          ["quadratic uniqueItems", { uniqueItems: true }, repeat(30_000, (i) => ({ i }))],
          ["huge enum of objects", { items: { enum: repeat(3000, (i) => ({ i })) } }, repeat(3000, () => ({ i: -1 }))],
          ["loop at one place", { properties: { x: { $defs: {}, $ref: "#/properties/x" } } }, { x: 1 }],
          [
            "deep value",
            { $ref: "#/$defs/l", $defs: { l: { items: { $ref: "#/$defs/l" } } } },
            parsed("[".repeat(60) + "]".repeat(60))
          ]
        ]
        for (const [name, schema, value] of hostile) {
          const { longest, outcome, took } = yield* beside(validate(schema, value))
          assert.isBelow(longest, 250, `${name}: the event loop was held`)
          assert.isBelow(took, 4000, `${name}: it was not ended`)
          if (Either.isLeft(outcome)) assert.match(outcome.left.message, /takes (longer|more)|itself without end/, name)
        }
        // What was ended leaves a pool that works.
        assert.isNotEmpty(yield* validate({ type: "string" }, 1))
      }),
    60_000
  )

  it.effect("of one that takes its time do not keep another waiting", () =>
    Effect.gen(function* () {
      yield* Effect.all([validate({}, 1), validate({}, 1)], { concurrency: 2 })
      const slow = yield* Effect.fork(
        validate(
          { uniqueItems: true },
          repeat(30_000, (i) => ({ i }))
        )
      )
      const { took } = yield* beside(validate({ type: "string" }, "a"))
      assert.isBelow(took, 1000)
      assert.match((yield* Effect.flip(slow)).message, /takes longer than 2 s/)
    })
  )
})
