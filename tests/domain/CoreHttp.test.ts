import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import { coreHttpProblems, readCoreHttp } from "../../src/domain/CoreHttp.ts"
import type { JsonObject, JsonValue } from "../../src/domain/Json.ts"

const isOpen = (value: JsonValue) => typeof value === "string" && value.includes("${")
const paths = (input: JsonObject) => coreHttpProblems(input, isOpen).map(({ path }) => path)
const request = (input: JsonValue) => Either.getOrThrow(readCoreHttp(input))
const url = "https://example.com/a?b=1"

describe("the input of core.http", () => {
  it("needs a URL alone", () => {
    const { body, expects, headers, method, url: target } = request({ url })
    assert.deepStrictEqual([method, target.href, headers.size, body], ["GET", url, 0, undefined])
    assert.deepStrictEqual([199, 200, 204, 299, 300].map(expects), [false, true, true, true, false])
    assert.deepStrictEqual(paths({}), ["/url"])
  })

  it("is read as it is meant", () => {
    const given = request({
      url,
      method: "post",
      headers: { "X-A": 1, "X-B": true },
      query: { c: "ü &", d: [1, "2"], e: false },
      body: null,
      expect_status: [200, 404]
    })
    assert.strictEqual(given.method, "POST")
    assert.deepStrictEqual(
      [...given.headers],
      [
        ["x-a", "1"],
        ["x-b", "true"]
      ]
    )
    assert.strictEqual(given.url.search, "?b=1&c=%C3%BC+%26&d=1&d=2&e=false")
    assert.isNull(given.body)
    assert.deepStrictEqual([200, 201, 404].map(given.expects), [true, false, true])
    assert.isTrue(request({ url, expect_status: 302 }).expects(302))
  })

  it("names every field that is wrong", () => {
    const wrong: ReadonlyArray<readonly [JsonObject, ...ReadonlyArray<string>]> = [
      [{ url: 1 }, "/url"],
      [{ url: "/relative" }, "/url"],
      [{ url: "ftp://example.com" }, "/url"],
      [{ url: "file:///etc/passwd" }, "/url"],
      [{ url: "https://user:pass@example.com" }, "/url"],
      [{ url: "https://user@example.com" }, "/url"],
      [{ url, method: "TRACE" }, "/method"],
      [{ url, method: "CONNECT" }, "/method"],
      [{ url, method: 1 }, "/method"],
      [{ url, headers: [] }, "/headers"],
      [
        { url, headers: { "X A": "1", Host: "x", "X-B": "a\r\nb", "X-C": null } },
        "/headers/X A",
        "/headers/Host",
        "/headers/X-B",
        "/headers/X-C"
      ],
      [{ url, headers: { "X-A": "1", "x-a": "2" } }, "/headers/x-a"],
      [{ url, headers: { "Ordinaut-Lease": "9" } }, "/headers/Ordinaut-Lease"],
      [{ url, query: "a=b" }, "/query"],
      [{ url, query: { a: {}, b: [[1]], c: null } }, "/query/a", "/query/b", "/query/c"],
      [{ url, body: {} }, "/body"],
      [{ url, method: "HEAD", body: "" }, "/body"],
      [{ url, expect_status: "200" }, "/expect_status"],
      [{ url, expect_status: [] }, "/expect_status"],
      [{ url, expect_status: [200, 600] }, "/expect_status"],
      [{ url, follow: true, "a/b": 1 }, "/follow", "/a~1b"]
    ]
    for (const [input, ...expected] of wrong) {
      assert.deepStrictEqual(paths(input), expected, JSON.stringify(input))
      const read = readCoreHttp(input)
      assert.isTrue(
        Either.isLeft(read) &&
          read.left.code === "tool_input_invalid" &&
          read.left.message.startsWith(expected[0] ?? "-")
      )
    }
    assert.isTrue(Either.isLeft(readCoreHttp("x")))
  })

  it("may be open anywhere but in the names", () => {
    const open = "${params.x}"
    const all = {
      url: open,
      method: open,
      headers: { "X-A": open },
      query: { a: [open] },
      body: open,
      expect_status: [open]
    }
    assert.deepStrictEqual(paths(all), [])
    assert.deepStrictEqual(paths({ url: open, headers: open, query: open, expect_status: open }), [])
    assert.deepStrictEqual(paths({ url, headers: { Host: open } }), ["/headers/Host"])
  })
})
