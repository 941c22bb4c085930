import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import * as fc from "fast-check"
import { type Bindings, references } from "../../src/domain/Expression.ts"
import type { JsonValue } from "../../src/domain/Json.ts"
import { compileTemplate, constantTemplate, render, renderText } from "../../src/domain/Template.ts"
import { bindings, zone } from "./bindings.ts"
import { hostile, hostileData } from "./hostile.ts"

const rendered = (value: JsonValue, over: Partial<Bindings> = {}, strict = true) =>
  compileTemplate(value, "/with").pipe(
    Either.mapLeft(([error]) => error),
    Either.flatMap((template) => render(template, { ...bindings, ...over }, { strict }))
  )

const value = (template: JsonValue, over: Partial<Bindings> = {}, strict = true) =>
  Either.getOrThrow(rendered(template, over, strict))

const failure = (template: JsonValue, over: Partial<Bindings> = {}, strict = true) =>
  Either.getOrUndefined(Either.flip(rendered(template, over, strict)))

const json = fc.jsonValue({ maxDepth: 4 }).map((each): JsonValue => JSON.parse(JSON.stringify(each)))

describe("a template", () => {
  it("that is the whole string keeps the type of its value", () => {
    fc.assert(fc.property(json, (held) => assert.deepStrictEqual(value("${params.x}", { params: { x: held } }), held)))
    assert.strictEqual(value("${steps.w.temp}"), 21.5)
    assert.deepStrictEqual(value({ a: ["${steps.w.tags}", 1], b: '${steps."get-user".id}' }), {
      a: [["a", "b"], 1],
      b: 7
    })
  })

  it("inside of text leaves strings as they are and writes all else as compact JSON", () => {
    assert.strictEqual(value("in ${params.city}: ${steps.w.temp}, ${steps.w.ok}"), "in Chisinau: 21.5, true")
    assert.strictEqual(value("${steps.w.tags} ${task.labels} ${steps.w.none}"), '["a","b"] {} null')
    assert.strictEqual(value(" ${steps.w.temp}"), " 21.5")
    assert.strictEqual(value("${params.city}${params.city}"), "ChisinauChisinau")
  })

  it("may hold braces and quotes of its own", () => {
    assert.deepStrictEqual(value("${{a: params.n, b: {c: steps.w.ok}}}"), { a: 3, b: { c: true } })
    assert.strictEqual(value("<${params.nope || '}'}>"), "<}>")
    assert.strictEqual(value("<${params.nope || '\\'}'}>"), "<'}>")
    assert.strictEqual(value('<${params."}" || `"}"`}>'), "<}>")
  })

  it("is written literally as $${", () => {
    assert.strictEqual(value("$${params.city}"), "${params.city}")
    assert.strictEqual(value("cost: $5 $$ $${a} ${params.n}$"), "cost: $5 $$ ${a} 3$")
    assert.deepStrictEqual(value({ a: ["$${x}", 1] }), { a: ["${x}", 1] })
  })

  it("is never rendered again when it came out of a template", () => {
    assert.strictEqual(value("${steps.w.text}"), "${params.city} $${x}")
    assert.strictEqual(value("> ${steps.w.text}"), "> ${params.city} $${x}")
    fc.assert(
      fc.property(fc.stringOf(fc.constantFrom("$", "{", "}", "params.x", "a")), (text) => {
        assert.strictEqual(value("${params.x}", { params: { x: text } }), text)
        assert.strictEqual(value("<${params.x}>", { params: { x: text } }), `<${text}>`)
      })
    )
  })

  it("is not looked for in keys", () => {
    assert.deepStrictEqual(value({ "${params.city}": "${params.n}" }), { "${params.city}": 3 })
  })

  it("with a plain path that does not exist fails, or is null when not strict", () => {
    for (const path of [
      "steps.w.nope",
      "steps.w.none.x",
      "event.payload",
      "steps.w.tags[2]",
      "steps.w.tags.a",
      'steps."no"',
      "item"
    ]) {
      const error = failure(`a \${${path}}`)
      assert.strictEqual(error?.code, "template_missing", path)
      assert.strictEqual(error?.expression, path)
      assert.strictEqual(error?.place, "/with")
      assert.isNull(value(`\${${path}}`, {}, false))
    }
    assert.isNull(value("${steps.w.none}"))
    assert.strictEqual(value("${steps.w.tags[-1]}"), "b")
  })

  it("with any other expression takes null for what does not exist", () => {
    assert.strictEqual(value("${steps.w.nope || 'x'}"), "x")
    assert.isNull(value("${steps.nope | a}"))
    assert.isNull(value("${@.nope}"))
  })

  it("reads item and index where they are bound", () => {
    assert.deepStrictEqual(value(["${item.a}", "${index}"], { item: { a: 1 }, index: 0 }), [1, 0])
  })

  it("takes prototypes for data", () => {
    const data: JsonValue = JSON.parse('{"__proto__": {"a": 1}, "constructor": 2}')
    assert.strictEqual(value("${params.__proto__.a}", { params: data }), 1)
    assert.strictEqual(JSON.stringify(value({ x: "${params}" }, { params: data })), `{"x":${JSON.stringify(data)}}`)
    assert.strictEqual(JSON.stringify(value(JSON.parse('{"__proto__": "${params.n}"}'))), '{"__proto__":3}')
    for (const path of ["params.__proto__", "params.constructor.name", "params.toString", "steps.w.tags.length"]) {
      assert.strictEqual(failure(`\${${path}}`)?.code, "template_missing", path)
    }
  })
})

describe("a time", () => {
  it("is now, in RFC 3339", () => {
    assert.strictEqual(value("${now}"), "2026-11-24T08:30:00.000Z")
    assert.strictEqual(value("at ${ now }"), "at 2026-11-24T08:30:00.000Z")
    assert.strictEqual(value("${now || 'x'}"), "2026-11-24T08:30:00.000Z")
  })

  it("moves by elapsed time", () => {
    assert.strictEqual(value("${now+24h}"), "2026-11-25T08:30:00.000Z")
    assert.strictEqual(value("${now - 1d12h}"), "2026-11-22T20:30:00.000Z")
    assert.strictEqual(value("${now+1w2d3h4m5s6ms}"), "2026-12-03T11:34:05.006Z")
  })

  it("begins at the day, week and month of the task's zone", () => {
    assert.strictEqual(value("${now.start_of_day}"), "2026-11-23T22:00:00.000Z")
    assert.strictEqual(value("${now.start_of_week}"), "2026-11-22T22:00:00.000Z")
    assert.strictEqual(value("${now.start_of_month+9h}"), "2026-11-01T07:00:00.000Z")
    // Summer time ends on 25 October: the month begins three hours before UTC's.
    assert.strictEqual(value("${now.start_of_month}", { now: Date.UTC(2026, 9, 31) }), "2026-09-30T21:00:00.000Z")
    assert.strictEqual(value("${now.start_of_day}", { zone: zone("America/New_York") }), "2026-11-24T05:00:00.000Z")
    assert.strictEqual(
      value("${now.start_of_week}", { now: Date.UTC(2026, 10, 22, 12), zone: zone("UTC") }),
      "2026-11-16T00:00:00.000Z"
    )
  })

  it("that cannot be read is refused with the forms that can", () => {
    for (const text of [
      "now+",
      "now+1",
      "now+1y",
      "now+1.5h",
      "now.start_of_year",
      "now.start_of_day+",
      "now+24 h",
      "now-1h foo"
    ]) {
      assert.include(failure(`\${${text}}`)?.message, "start_of_week", text)
    }
    assert.include(failure("${now+99999999999999w}")?.message, "ten thousand years")
    assert.include(failure("${now-9000w}", { now: Date.UTC(100, 0, 1) })?.message, "0000 to 9999")
  })
})

describe("compileTemplate", () => {
  it("finds all problems of a document, each with its place", () => {
    const found = compileTemplate(
      { a: ["${b.}", "fine ${c}"], "d/e": "${", f: { g: "${ } ${a > 1}" }, h: "${abs()}" },
      "/pipeline/0/with"
    )
    const errors = Either.getOrThrow(Either.flip(found))
    assert.deepStrictEqual(
      errors.map((error) => error.place),
      [
        "/pipeline/0/with/a/0",
        "/pipeline/0/with/d~1e",
        "/pipeline/0/with/f/g",
        "/pipeline/0/with/f/g",
        "/pipeline/0/with/h"
      ]
    )
    assert.isTrue(errors.every((error) => error.code === "template_error"))
  })

  it("refuses what is not closed, is empty, or cannot be stored", () => {
    for (const text of ["${", "a ${b", "${'}", '${a || "}', "${{a: b}", "${}", "${  }", "\u0000"]) {
      assert.strictEqual(failure(text)?.code, "template_error", text)
    }
  })

  it("tells what is read, each path once", () => {
    const template = Either.getOrThrow(
      compileTemplate(["${steps.a.b}", "${steps.a.b} ${now+1h} ${params.x || item}"], "")
    )
    assert.deepStrictEqual(references(template), [["steps", "a", "b"], ["now"], ["params", "x"], ["item"]])
  })

  it("bounds the number of expressions", () => {
    assert.strictEqual(failure(Array(10_001).fill("${now}"))?.code, "template_error")
  })
})

describe("render", () => {
  it("bounds the bytes and the nesting of what comes out", () => {
    const big = "x".repeat(600_000)
    assert.strictEqual(value("${params.b}", { params: { b: big } }), big)
    const both = failure(["${params.b}", "${params.b}"], { params: { b: big } })
    assert.include(both?.message, "1048576")
    assert.strictEqual(both?.place, "/with/1")
    assert.include(failure("${params.b}${params.b}", { params: { b: big } })?.message, "1048576")
    let deep: JsonValue = 1
    for (let i = 0; i < 64; i++) deep = [deep]
    assert.deepStrictEqual(value("${params.d}", { params: { d: deep } }), deep)
    assert.include(failure(["${params.d}"], { params: { d: deep } })?.message, "64")
  })

  it("shares one step budget among all expressions of the document", () => {
    const over = { params: { n: Array(30_000).fill(1) } }
    assert.strictEqual(value("${sum(params.n)}", over), 30_000)
    assert.include(failure(Array(100).fill("${sum(params.n)}"), over)?.message, "too many steps")
  })

  it("never throws", () => {
    const text = fc.oneof(
      fc.string(),
      fc.constantFrom(...hostile).map((each) => `\${${each}}`),
      fc.stringOf(fc.constantFrom("$", "{", "}", "'", "`", "now", "steps.", "w", "+", "1", "h", "|"))
    )
    const small = { params: { n: [1], s: "a" }, steps: { w: hostile.slice(0, 3) } }
    fc.assert(
      fc.property(fc.array(text, { maxLength: 4 }), fc.boolean(), (texts, strict) => {
        assert.isTrue(Either.isEither(rendered({ texts, text: texts.join("") }, small, strict)))
      }),
      { numRuns: 400 }
    )
  })

  it("ends hostile expressions in templates", () => {
    for (const each of hostile)
      assert.isTrue(Either.isEither(rendered(`\${params | ${each}}`, { params: hostileData })))
  })

  it("gives text where text is asked for", () => {
    const key = (text: string) =>
      Either.getOrThrow(
        compileTemplate(text, "").pipe(Either.flatMap((template) => renderText(template, bindings, { strict: true })))
      )
    assert.deepStrictEqual([key("${params.n}"), key("k-${run.id}"), key("${steps.w.tags}")], ["3", "k-r1", '["a","b"]'])
  })

  it("leaves a constant document alone", () => {
    const document = { a: "${b}" }
    assert.strictEqual(Either.getOrThrow(render(constantTemplate(document), bindings, { strict: true })), document)
  })
})
