import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import type { JsonValue } from "../../src/domain/Json.ts"
import { BoundTo, isSecretName, mayUse } from "../../src/domain/Secret.ts"
import { redact, redactText, references, substitute } from "../../src/domain/SecretReferences.ts"
import { compileTemplate } from "../../src/domain/Template.ts"
import { Schema } from "effect"

const named = (input: JsonValue) => [...references(input).keys()]
const template = (value: JsonValue) => Either.getOrThrow(compileTemplate(value, ""))

describe("references to secrets", () => {
  it("end where the name can go on no more, and not in a dot or a hyphen", () => {
    const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
      ["secret://token", ["token"]],
      ["Bearer secret://token", ["token"]],
      ["Use secret://token.", ["token"]],
      ["secret://a.b-c_d/e", ["a.b-c_d"]],
      ["https://u:secret://pw@host", ["pw"]],
      ["secret://one,secret://two--", ["one", "two"]],
      ["secret://", []],
      ["secret://1a", []],
      ["secret://-a", []],
      [`secret://${"a".repeat(64)}`, ["a".repeat(64)]],
      [`secret://${"a".repeat(65)}`, []],
      ["Secret://token", []],
      ["secret:/token", []],
      [`secret://${".".repeat(100_000)}`, []]
    ]
    for (const [text, expected] of cases) assert.deepStrictEqual(named({ deep: [text] }), expected, text.slice(0, 80))
  })

  it("stand in values, not in keys", () => {
    assert.deepStrictEqual(named({ "secret://key": "secret://value" }), ["value"])
  })

  it("are replaced once: a value that looks like a reference is none", () => {
    const values = new Map([
      ["a", "secret://b"],
      ["b", "$& $1 value of b"]
    ])
    assert.deepStrictEqual(substitute({ x: ["secret://a", "<secret://b>"], "secret://a": 1, n: null }, values), {
      x: ["secret://b", "<$& $1 value of b>"],
      "secret://a": 1,
      n: null
    })
    const own: JsonValue = JSON.parse('{"__proto__": "secret://b"}')
    assert.strictEqual(JSON.stringify(substitute(own, values)), '{"__proto__":"$& $1 value of b"}')
  })

  it("are only what the pipeline wrote, when its template is known", () => {
    const written = template({
      auth: "Bearer secret://token",
      text: "${event.payload.text}",
      mixed: "secret://token for ${event.payload.text}",
      glued: "secret://tok${event.payload.text}",
      dynamic: "secret://${event.payload.text}",
      list: ["${event.payload.text}", "secret://token"],
      escaped: "$${ secret://token"
    })
    const rendered = {
      auth: "Bearer secret://token",
      text: "secret://token",
      mixed: "secret://token for secret://other",
      glued: "secret://token",
      dynamic: "secret://token",
      list: ["secret://token", "secret://token"],
      escaped: "${ secret://token"
    }
    assert.deepStrictEqual([...references(rendered, written)], [["token", 4]])
    const values = new Map([
      ["token", "VALUE"],
      ["other", "OTHER"],
      ["tok", "TOK"]
    ])
    assert.deepStrictEqual(substitute(rendered, values, written), {
      auth: "Bearer VALUE",
      text: "secret://token",
      mixed: "VALUE for secret://other",
      glued: "secret://token",
      dynamic: "secret://token",
      list: ["secret://token", "VALUE"],
      escaped: "${ VALUE"
    })
    assert.deepStrictEqual([...references("secret://token", template("${event.payload}"))], [])
    assert.deepStrictEqual([...references({ a: "secret://token" }, template("${event.payload}"))], [])
  })
})

describe("redaction", () => {
  it("finds a value of digits that comes back as a number, and leaves other numbers alone", () => {
    const digits = new Map([["pin", "471148"]])
    const output = { a: 471148, b: [4711481, 0.471148, -471148] }
    assert.deepStrictEqual(redact(output, digits), { ...output, a: "secret://pin" })
  })

  const used = new Map([
    ["long", "hunter2hunter2"],
    ["part", "hunter2"],
    ["quoted", 'say "friend" & enter'],
    ["short", "abcde"],
    ["looks", "secret://part"]
  ])

  it("puts the name wherever a value of at least six characters stands, in any of its forms", () => {
    const cases: ReadonlyArray<readonly [string, string]> = [
      ["got hunter2hunter2!", "got secret://long!"],
      ["hunter2 hunter2", "secret://part secret://part"],
      ['{"x":"say \\"friend\\" & enter"}', '{"x":"secret://quoted"}'],
      ["q=say%20%22friend%22%20%26%20enter", "q=secret://quoted"],
      [`Basic ${btoa("hunter2hunter2")}`, "Basic secret://long"],
      ["abcde", "abcde"],
      ["secret://part", "secret://looks"],
      ["nothing", "nothing"]
    ]
    for (const [text, expected] of cases) {
      const redacted = redactText(text, used)
      assert.strictEqual(redacted.replace(/=$/, ""), expected)
    }
  })

  it("reaches keys and values at any depth, and leaves the rest as it is", () => {
    const output = { a: [{ hunter2hunter2: "x hunter2hunter2" }], n: 1, t: true, z: null }
    assert.deepStrictEqual(redact(output, used), {
      a: [{ "secret://long": "x secret://long" }],
      n: 1,
      t: true,
      z: null
    })
    assert.strictEqual(redact(output, new Map()), output)
  })

  it("takes its time in proportion", () => {
    const many = new Map(
      Array.from({ length: 32 }, (_, i) => [`s${i}`, `value-number-${i}-${"x".repeat(50)}`] as const)
    )
    const began = performance.now()
    redact({ text: "value-number-x ".repeat(70_000) }, many)
    assert.isBelow(performance.now() - began, 1500)
  })
})

describe("what a secret is bound to", () => {
  const isBound = Schema.is(BoundTo)
  const bound = (value: unknown) => Schema.decodeUnknownSync(BoundTo)(value)

  it("is at least one host or tool, each of its form", () => {
    const good = [
      { hosts: ["api.example.com"] },
      { hosts: ["*.example.com", "127.0.0.1", "[::1]", "localhost"] },
      { tools: ["mail.send", "mail.*", "a-b.c.d"] }
    ]
    const bad = [
      {},
      { hosts: [], tools: [] },
      { hosts: ["*"] },
      { hosts: ["*.com"] },
      { hosts: ["*.0.0.1"] },
      { hosts: ["a.*.com"] },
      { hosts: ["https://a.com"] },
      { hosts: ["a.com:443"] },
      { hosts: ["A.com"] },
      { hosts: [""] },
      { tools: ["*"] },
      { tools: ["mail"] },
      { tools: ["*.send"] },
      { tools: ["core.http"] },
      { tools: ["core.*"] }
    ]
    for (const value of good) assert.isTrue(isBound(value), JSON.stringify(value))
    for (const value of bad) assert.isFalse(isBound(value), JSON.stringify(value))
  })

  it("is matched exactly, or below a wildcard", () => {
    const hosts = bound({ hosts: ["api.example.com", "*.example.org"] })
    const at = (host: string | null) => mayUse(hosts, { tool: "core.http", host })
    for (const host of ["api.example.com", "API.example.com", "api.example.com.", "a.example.org", "a.b.example.org"])
      assert.isTrue(at(host), host)
    for (const host of [
      "example.com",
      "xapi.example.com",
      "api.example.com.evil.com",
      "example.org",
      "evilexample.org",
      "a.example.org.evil.com",
      "",
      null
    ])
      assert.isFalse(at(host), String(host))
    const tools = bound({ tools: ["mail.send", "chat.*"] })
    const by = (tool: string) => mayUse(tools, { tool, host: null })
    for (const tool of ["mail.send", "chat.post", "chat.a.b"]) assert.isTrue(by(tool), tool)
    for (const tool of ["mail.send.all", "mail.read", "chatty.post", "chat", "core.http"])
      assert.isFalse(by(tool), tool)
  })

  it("and named by a name that ends in no dot", () => {
    for (const name of ["a", "A1", "a.b-c_", "a".repeat(64)]) assert.isTrue(isSecretName(name), name)
    for (const name of ["", "1a", "_a", "a.", "a-", "a b", "a/b", "é", "a".repeat(65)])
      assert.isFalse(isSecretName(name), name)
  })
})
