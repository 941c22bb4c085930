import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import * as fc from "fast-check"
import { compile, search } from "../../src/domain/JmesPath.ts"
import { Meter } from "../../src/domain/JmesPathMeter.ts"
import type { JsonValue } from "../../src/domain/Json.ts"
import { hostile, hostileData } from "./hostile.ts"

const refusal = (expression: string) => {
  const compiled = compile(expression)
  return Either.isLeft(compiled) ? compiled.left.message : undefined
}

const value = (expression: string, data: JsonValue) =>
  Either.getOrThrow(compile(expression).pipe(Either.flatMap((compiled) => search(compiled, data))))

const failure = (expression: string, data: JsonValue) =>
  Either.getOrThrow(Either.flip(compile(expression).pipe(Either.flatMap((compiled) => search(compiled, data)))))

const references = (expression: string) =>
  Either.getOrThrow(compile(expression)).references.map((path) => path.join("/"))

/** What is not JMESPath, though the package lets most of it pass. */
const malformed =
  `'abc   \`1   "a   [a b]   sort(a b)   (a b)   sort(a,)   ()   a.   a = b   [1-2]   [:::]   &a   [&a]   not_null(&a)
  sort_by(a, b)   map(a, &b)   (a)(b, c)   a[::0]   nothing(a)   abs()   abs(a, b)`.split(/\s{2,}/)

const varied =
  `a   *   []   [*].a   keys(@)   sort(@)   length(@)   to_string(@)   max_by(@, &a)   @ == @   [?a > \`0\`]
  values(@)[0]   {a: @, b: [@]}   reverse(@)   merge(@, @)   map(&type(@), @)   [::-1]`
    .split(/\s{2,}/)
    .map((expression) => Either.getOrThrow(compile(expression)))

const pair = (fits: string, over: string, word: string) => {
  assert.isUndefined(refusal(fits), fits.slice(0, 60))
  assert.include(refusal(over), word, over.slice(0, 60))
}

const list = (width: number) => `[${Array(width).fill("a").join(",")}]`

describe("JmesPath.compile", () => {
  it("refuses a bare number with a hint at backticks", () => {
    for (const [expression, number] of [
      ["a > 25", "25"],
      ["a > -2.5", "-2.5"],
      ["a[?b == 3]", "3"],
      ["length(a) >= 10", "10"],
      ["{n: 1}", "1"],
      ["5", "5"]
    ] as const) {
      assert.include(refusal(expression), `backticks: \`${number}\``, expression)
    }
    for (const expression of ["a[0]", "a[-1]", "a[1:2]", "a[::2]", "[0]", "a[5:]"])
      assert.isUndefined(refusal(expression))
  })

  it("explains what a name with a hyphen, a digit and a negated path need", () => {
    assert.include(refusal("steps.get-user.id"), "quoted")
    assert.include(refusal("steps.step-1"), "quoted")
    assert.include(refusal("a.1b"), 'quoted: "1"')
    assert.include(refusal("!a.b"), "!(a.b)")
    assert.isUndefined(refusal("!(a.b)"))
    assert.isUndefined(refusal('steps."get-user".id'))
  })

  it("refuses what the parser would let pass", () => {
    for (const expression of malformed) {
      assert.isString(refusal(expression), expression)
    }
  })

  it("ends for any soup of tokens", () => {
    const token = fc.constantFrom(
      ..."a 'b' \"c\" `1` 2 -1 . * [ ] [] [? ( ) { } , : | || && & ! == < @ sort_by( \r".split(" ")
    )
    const glue = fc.constantFrom("", " ")
    fc.assert(
      fc.property(fc.array(token, { maxLength: 25 }), glue, (tokens, between) => {
        const compiled = compile(tokens.join(between))
        if (Either.isRight(compiled)) assert.isTrue(Either.isEither(search(compiled.right, { a: [{ c: 1 }] })))
      }),
      { numRuns: 3000 }
    )
  })

  it("takes every kind of blank", () => assert.strictEqual(value("a\r\n\t || \r\n b", { b: 1 }), 1))

  it("undoes every escape of a piece", () => {
    assert.strictEqual(value("'it\\'s Ann\\'s \\n \\\\'", null), "it's Ann's \\n \\\\")
    assert.strictEqual(value('`"a\\`b\\`c"`', null), "a`b`c")
    assert.strictEqual(value("'`x`'", null), "`x`")
  })

  it("holds the static limits, to the last that fits", () => {
    pair("a".repeat(1000), "a".repeat(1001), "1000 characters")
    pair(Array(32).fill("a").join("."), Array(33).fill("a").join("."), "deeper than 32")
    pair(Array(9).fill("a").join("|"), Array(10).fill("a").join("|"), "8 pipes")
    pair(`${list(100)}.${list(100)}`, `${list(101)}.${list(100)}`, "10000")
    pair("sort_by(a, &b) | map(&c, @)", "sort_by(a, &map(&c, d))", "another &")
  })

  it("refuses literals and names that no row can hold", () => {
    for (const expression of ['`"\\u0000"`', '`"\\ud800"`', '"\\ud800"', '{"\\u0000": a}', "`1e999`"]) {
      assert.isString(refusal(expression), expression)
    }
  })
})

describe("JmesPath.search", () => {
  it("orders numbers only; anything else compared is null", () => {
    assert.strictEqual(value("a < b", { a: 1, b: 2 }), true)
    for (const expression of ["a < `5`", "s > `1`", "s < 't'", "t >= f", "`null` <= `0`"]) {
      assert.isNull(value(expression, { s: "s", t: true, f: false }), expression)
    }
  })

  it("compares values whole, keys in any order", () => {
    assert.strictEqual(value("a == b", { a: { x: [1, { y: 2 }], z: 0 }, b: { z: 0, x: [1, { y: 2 }] } }), true)
    assert.strictEqual(value("a == b", { a: { x: 1 }, b: { y: 1 } }), false)
    assert.strictEqual(value("contains(a, `[1]`)", { a: [[1]] }), true)
  })

  it("reads own keys only, and __proto__ is one like any other", () => {
    for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty", "prototype", "length"]) {
      assert.isNull(value(name, {}), name)
      assert.isNull(value(`a.${name}`, { a: [] }), name)
      assert.isNull(value(`a.${name}`, { a: "text" }), name)
      const data: JsonValue = JSON.parse(`{"${name}": {"a": 1}}`)
      assert.strictEqual(value(`${name}.a`, data), 1, name)
      assert.strictEqual(JSON.stringify(value(`{${name}: @}`, 1)), `{"${name}":1}`)
      assert.strictEqual(JSON.stringify(value("merge(@, @)", data)), JSON.stringify(data))
    }
    assert.strictEqual(value("a == b", JSON.parse('{"a": {"__proto__": {}}, "b": {}}')), false)
  })

  it("measures, reverses and sorts texts by code point", () => {
    assert.strictEqual(value("length('a😀')", null), 2)
    assert.strictEqual(value("reverse('a😀b')", null), "b😀a")
    assert.deepStrictEqual(value("sort(@)", ["\u{1f600}", "\uffee", "a"]), ["a", "\uffee", "\u{1f600}"])
    assert.strictEqual(value("max(@)", ["\u{1f600}", "\uffee"]), "\u{1f600}")
  })

  it("finds a text in another as the language does", () => {
    const text = fc.stringOf(fc.constantFrom("a", "b"), { maxLength: 60 })
    fc.assert(
      fc.property(text, text, text, (left, part, right) => {
        const long = part + "a".repeat(20)
        for (const whole of [left + long + right, left + right]) {
          assert.strictEqual(value("contains(w, p)", { w: whole, p: long }), whole.includes(long))
        }
      })
    )
  })

  it("refuses numbers that JSON cannot write", () => {
    assert.include(failure("sum(@)", [1e308, 1e308]).message, "out of range")
    assert.isNull(value("to_number('1e999')", null))
    assert.isNull(value("to_number('0x10')", null))
    assert.isNull(value("to_number('')", null))
    assert.strictEqual(value("to_number('-1.5e2')", null), -150)
  })

  it("names the function and the argument of a wrong type", () => {
    const error = failure("abs(a)", { a: "x" })
    assert.strictEqual(error.code, "template_error")
    assert.strictEqual(error.message, "argument 1 of abs() must be a number")
  })

  it("never throws, whatever the data", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), fc.constantFrom(...varied), (data, expression) => {
        const json: JsonValue = JSON.parse(JSON.stringify(data))
        assert.isTrue(Either.isEither(search(expression, json)))
      })
    )
  })
})

describe("the step budget", () => {
  it("has enough hostile expressions to hold against", () => assert.isAtLeast(new Set(hostile).size, 60))

  it("ends every hostile expression, twice alike, and leaves the prototypes alone", () => {
    let ended = 0
    for (const expression of hostile) {
      const outcomes = [0, 1].map(() => {
        const started = performance.now()
        const found = compile(expression).pipe(Either.flatMap((compiled) => search(compiled, hostileData)))
        assert.isBelow(performance.now() - started, 3000, expression)
        return Either.isLeft(found) ? found.left.message : "a value"
      })
      assert.strictEqual(outcomes[0], outcomes[1], expression)
      if (outcomes[0]?.includes("too many steps")) ended++
    }
    assert.isAtLeast(ended, 20)
    assert.isFalse("polluted" in {})
  })

  it("is one for all that share a meter", () => {
    const meter = new Meter(100)
    const sum = Either.getOrThrow(compile("sum(@)"))
    const once = () => search(sum, Array(60).fill(1), meter)
    assert.isTrue(Either.isRight(once()))
    assert.isTrue(Either.isLeft(once()))
  })
})

describe("JmesPath.references", () => {
  it("are the paths that are read, not those that are walked through", () => {
    assert.deepStrictEqual(references("steps.summary.text"), ["steps/summary/text"])
    assert.deepStrictEqual(references('a.b[0]."c-d"'), ["a/b/0/c-d"])
    assert.deepStrictEqual(references("a.b || c"), ["a/b", "c"])
    assert.deepStrictEqual(references("a && !b"), ["a", "b"])
    assert.deepStrictEqual(references("a > b"), ["a", "b"])
    assert.deepStrictEqual(references("a | b"), ["a/b"])
    assert.deepStrictEqual(references("`1`"), [])
    assert.deepStrictEqual(references("@"), [""])
  })

  it("follow projections, filters, functions and built objects", () => {
    assert.deepStrictEqual(references("a.items[*].name"), ["a/items/0/name"])
    assert.deepStrictEqual(references("a.items[].name"), ["a/items/0/name"])
    assert.deepStrictEqual(references("a[*].b[].c"), ["a/0/b/0/c"])
    assert.deepStrictEqual(references("a[?price > max].name"), ["a/0/price", "a/0/max", "a/0/name"])
    assert.deepStrictEqual(references("a[1:3].b"), ["a/0/b"])
    assert.deepStrictEqual(references("a.*.b"), ["a"])
    assert.deepStrictEqual(references("sort_by(a, &k)[0].n"), ["a/0/k", "a/0/n"])
    assert.deepStrictEqual(references("map(&n, a)"), ["a/0/n"])
    assert.deepStrictEqual(references("max_by(a, &k).n"), ["a/0/k", "a/0/n"])
    assert.deepStrictEqual(references("length(a.b)"), ["a/b"])
    assert.deepStrictEqual(references("not_null(a, b).c"), ["a/c", "b/c"])
    assert.deepStrictEqual(references("{x: a.b, y: c} | x.d"), ["a/b/d"])
    assert.deepStrictEqual(references("[a, b][1].c"), ["b/c"])
  })

  it("are bounded", () => {
    const doubling = Array(9).fill("[@.a||@.b][0]").join("|")
    assert.include(refusal(doubling), "too many places")
  })
})
