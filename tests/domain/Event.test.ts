import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Either, Schema } from "effect"
import { EventCreate, isReserved, matches, parsePattern, Topic } from "../../src/domain/Event.ts"

const hears = (pattern: string, topic: string) => matches(Either.getOrThrow(parsePattern(pattern)), topic)

describe("topics and patterns", () => {
  const table: ReadonlyArray<readonly [string, ReadonlyArray<string>, ReadonlyArray<string>]> = [
    // pattern, topics it takes, topics it does not
    ["orders.created", ["orders.created"], ["orders", "orders.created.eu", "Orders.created", "orders.paid"]],
    ["orders.*", ["orders.created", "orders.-"], ["orders", "orders.created.eu", "order.created"]],
    ["*", ["orders"], ["orders.created", "ordinaut"]],
    ["*.created", ["orders.created"], ["created", "a.b.created", "ordinaut.created"]],
    ["orders.**", ["orders", "orders.created", "orders.created.eu"], ["order", "x.orders"]],
    ["**", ["orders", "orders.created.eu"], ["ordinaut", "ordinaut.run.failed"]],
    ["**.failed", ["failed", "a.b.failed"], ["failed.a", "ordinaut.run.failed"]],
    ["a.**.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "z", "a.b", "a.z.b"]],
    ["a.**.*", ["a.b", "a.b.c"], ["a"]],
    ["a.*.**.z", ["a.b.z", "a.b.c.z"], ["a.z"]],
    ["ordinaut.run.*", ["ordinaut.run.failed"], ["ordinaut.task.failed", "x.run.failed"]],
    ["ordinaut.**", ["ordinaut", "ordinaut.run.failed"], ["ordinauts"]],
    ["ordinauts.*", ["ordinauts.x"], ["ordinaut.x"]]
  ]
  for (const [pattern, takes, leaves] of table) {
    it(`${pattern} takes ${takes.join(", ")} and not ${leaves.join(", ")}`, () => {
      for (const topic of takes) assert.isTrue(hears(pattern, topic), topic)
      for (const topic of leaves) assert.isFalse(hears(pattern, topic), topic)
    })
  }

  it("refuses patterns that are none", () => {
    const wrong = [
      "",
      ".",
      "a.",
      ".a",
      "a..b",
      "a b",
      "a.**.**",
      "a*",
      "***",
      "ä",
      "a.*b",
      "a/b",
      "a".repeat(201),
      "a\n"
    ]
    for (const pattern of wrong) assert.isTrue(Either.isLeft(parsePattern(pattern)), JSON.stringify(pattern))
  })

  it("refuses topics with wildcards, empty words or other letters", () => {
    const is = Schema.is(Topic)
    for (const topic of ["a", "orders.created", "A-1_b.c", "a".repeat(200)]) assert.isTrue(is(topic), topic)
    for (const topic of ["", "*", "a.*", "a..b", "a.", ".a", "a b", "a\n", "ä", "a".repeat(201)])
      assert.isFalse(is(topic), topic)
  })

  it("keeps the product's own topics to itself", () => {
    for (const topic of ["ordinaut", "ordinaut.run.failed"]) assert.isTrue(isReserved(topic))
    for (const topic of ["ordinauts", "x.ordinaut", "Ordinaut.run"]) assert.isFalse(isReserved(topic))
  })

  it("takes no unknown fields", () => {
    const decode = Schema.decodeUnknownEither(EventCreate)
    assert.isTrue(Either.isRight(decode({ topic: "a", payload: null, dedupe_key: "k" })))
    assert.isTrue(Either.isLeft(decode({ topic: "a", payload: null, at: "now" })))
    assert.isTrue(Either.isLeft(decode({ topic: "a" })))
    assert.isTrue(Either.isLeft(decode({ topic: "a", payload: null, dedupe_key: "" })))
  })

  it("matches as the pattern's translation to a regular expression does", () => {
    const letter = fc.constantFrom("a", "b", "ordinaut")
    const pattern = fc
      .array(fc.oneof(letter, fc.constant("*"), fc.constant("**")), { minLength: 1, maxLength: 5 })
      .filter((words) => words.filter((word) => word === "**").length < 2)
    fc.assert(
      fc.property(pattern, fc.array(letter, { minLength: 1, maxLength: 6 }), (words, topic) => {
        const parts = words.map((word) => (word === "**" ? "(?:\\w+\\.)*" : word === "*" ? "\\w+\\." : `${word}\\.`))
        const expected =
          new RegExp(`^${parts.join("")}$`).test(`${topic.join(".")}.`) &&
          (topic[0] !== "ordinaut" || words[0] === "ordinaut")
        assert.strictEqual(hears(words.join("."), topic.join(".")), expected)
      }),
      { numRuns: 3000 }
    )
  })
})
