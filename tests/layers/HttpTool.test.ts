import { assert, layer } from "@effect/vitest"
import { DateTime, Effect, Layer } from "effect"
import type { JsonObject, JsonValue } from "../../src/domain/Json.ts"
import { HttpTool } from "../../src/layers/HttpTool.ts"
import { Outgoing } from "../../src/layers/Outgoing.ts"
import { answering, serve } from "../support/httpServer.ts"
import { outgoing, toolCall } from "../support/toolCalls.ts"

const call = (input: JsonObject, more = {}) =>
  Effect.flatMap(HttpTool, (tool) => tool.call(toolCall("core.http", input, more)))

const failure = (input: JsonObject) => Effect.flip(call(input))

const json = { "content-type": "application/json" }

layer(HttpTool.layer.pipe(Layer.provide(outgoing)), { excludeTestServices: true })("core.http", (it) => {
  it.scoped("sends what its input says, with the key and the lease of the call", () =>
    Effect.gen(function* () {
      const server = yield* answering(200, json, `{"a":[1]}`)
      const output = yield* call({
        url: `${server.url}/x?a=1`,
        method: "POST",
        headers: { Authorization: "Bearer t", "X-N": 5 },
        query: { b: ["2", 3] },
        body: { é: 1 }
      })
      assert.deepInclude(output, { status: 200, body: { a: [1] } })
      const [seen] = server.seen
      assert.deepInclude(seen, { method: "POST", path: "/x?a=1&b=2&b=3", body: `{"é":1}` })
      assert.deepInclude(seen?.headers, {
        authorization: "Bearer t",
        "x-n": "5",
        "content-type": "application/json",
        "idempotency-key": "018f0000-0000-7000-8000-000000000001:call",
        "ordinaut-lease": "7",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      })
    })
  )

  it.scoped("leaves to the step its key and its content type, and sends a text as it stands", () =>
    Effect.gen(function* () {
      const server = yield* answering(200, {}, "")
      const headers = { "Idempotency-Key": "mine", "Content-Type": "application/xml" }
      yield* call({ url: server.url, method: "PUT", headers, body: "<a/>" })
      yield* call({ url: server.url, method: "PUT", body: `"text"` })
      yield* call({ url: server.url }, { idempotencyKey: "schlüssel\r\nX: y" })
      yield* call({ url: server.url, method: "PUT", body: null })
      const [first, second, third, fourth] = server.seen
      assert.deepInclude(first?.headers, { "idempotency-key": "mine", "content-type": "application/xml" })
      assert.strictEqual(first?.body, "<a/>")
      assert.strictEqual(second?.headers["content-type"], "text/plain; charset=utf-8")
      assert.strictEqual(second?.body, `"text"`)
      assert.match(String(third?.headers["idempotency-key"]), /^[0-9a-f]{64}$/)
      assert.isUndefined(third?.headers["x"])
      assert.strictEqual(fourth?.body, "null")
    })
  )

  it.scoped("gives JSON as JSON, and text as text", () =>
    Effect.gen(function* () {
      const bodies: ReadonlyArray<readonly [type: string | undefined, body: string | Uint8Array, expected: JsonValue]> =
        [
          ["application/json", " [1] ", [1]],
          ["application/problem+json; charset=utf-8", "5", 5],
          ["application/json", "", null],
          ["text/plain", `{"a":1}`, { a: 1 }],
          [undefined, "[1", "[1"],
          ["text/plain", "5", "5"],
          ["text/html", "<a>", "<a>"],
          ["text/plain; charset=iso-8859-1", Buffer.from("é", "latin1"), "é"],
          ["text/plain", "\ufeffx", "x"]
        ]
      for (const [type, body, expected] of bodies) {
        const server = yield* answering(200, type === undefined ? {} : { "content-type": type }, body)
        assert.deepInclude(yield* call({ url: server.url }), { body: expected }, String(body))
      }
      const none = yield* answering(204, {}, "")
      assert.deepInclude(yield* call({ url: none.url }), { status: 204, body: null })
    })
  )

  it.scoped("fails with tool_output_invalid where an answer cannot be read or stored", () =>
    Effect.gen(function* () {
      const bodies: ReadonlyArray<readonly [type: string, body: string | Uint8Array]> = [
        ["application/json", "{"],
        ["application/json", "<html>"],
        ["application/json", `{"a":"\\u0000"}`],
        ["application/json", `{"a\\u0000":1}`],
        ["application/json", `["\\ud800"]`],
        ["application/json", "1e999999"],
        ["application/json", "[".repeat(70) + "]".repeat(70)],
        ["application/json", "[".repeat(500_000) + "]".repeat(500_000)],
        ["text/plain", "a\u0000"],
        ["text/plain", Buffer.from([0xff, 0xfe, 0xfd])],
        ["text/plain; charset=klingon", "x"],
        ["image/png", Buffer.from([0x89, 0x50, 0x4e, 0x47, 0])]
      ]
      for (const [type, body] of bodies) {
        const server = yield* answering(200, { "content-type": type }, body)
        const error = yield* failure({ url: server.url })
        assert.strictEqual(error.code, "tool_output_invalid", String(body).slice(0, 40))
        assert.isTrue(error.retryable)
      }
    })
  )

  it.scoped("keeps __proto__ a key like any other", () =>
    Effect.gen(function* () {
      const body = `{"__proto__":{"polluted":true},"constructor":1}`
      const server = yield* answering(200, { ...json, __PROTO__x: "1" }, body)
      const output = yield* call({ url: server.url })
      assert.strictEqual(JSON.stringify(Reflect.get(Object(output), "body")), body)
      assert.isUndefined(Reflect.get({}, "polluted"))
    })
  )

  it.scoped("sorts the statuses that a step does not expect", () =>
    Effect.gen(function* () {
      const server = yield* serve((request, response) =>
        response.writeHead(Number(request.path.slice(1)), { location: "http://127.0.0.1:1/" }).end()
      )
      const ends: ReadonlyArray<readonly [status: number, code: string, retryable: boolean]> = [
        [301, "target_forbidden", false],
        [302, "target_forbidden", false],
        [307, "target_forbidden", false],
        [400, "tool_http_4xx", false],
        [404, "tool_http_4xx", false],
        [408, "tool_http_4xx", true],
        [425, "tool_http_4xx", true],
        [429, "tool_http_4xx", true],
        [500, "tool_http_5xx", true],
        [503, "tool_http_5xx", true]
      ]
      for (const [status, code, retryable] of ends) {
        const url = `${server.url}/${status}`
        const error = yield* failure({ url })
        assert.deepStrictEqual([error.code, error.retryable], [code, retryable], String(status))
        assert.deepInclude(yield* call({ url, expect_status: [status] }), { status })
      }
      const unexpected = yield* failure({ url: `${server.url}/201`, expect_status: 200 })
      assert.strictEqual(unexpected.code, "tool_output_invalid")
    })
  )

  it.scoped("passes on when to try again, at most a day off", () =>
    Effect.gen(function* () {
      let value = ""
      const server = yield* serve(({ path }, response) =>
        response.writeHead(Number(path.slice(1)), { "retry-after": value }).end()
      )
      const asked = (status: number, text: string) =>
        Effect.suspend(() => {
          value = text
          return Effect.map(failure({ url: `${server.url}/${status}` }), (error) => error.retry_after_seconds)
        })
      const now = yield* DateTime.now
      const later = (seconds: number) => new Date(DateTime.toEpochMillis(now) + seconds * 1000).toUTCString()
      assert.strictEqual(yield* asked(429, "7"), 7)
      assert.strictEqual(yield* asked(503, "0"), 0)
      assert.strictEqual(yield* asked(429, "99999999999999999999"), 86_400)
      const date = yield* asked(503, later(100))
      assert.isTrue(date !== undefined && date > 90 && date <= 101, String(date))
      assert.strictEqual(yield* asked(429, later(-1000)), 0)
      assert.strictEqual(yield* asked(429, later(1_000_000)), 86_400)
      for (const text of ["-1", "1.5", "soon", "2026-03-02T09:00:00Z", ""])
        assert.isUndefined(yield* asked(429, text), text)
      assert.isUndefined(yield* asked(404, "7"))
    })
  )

  it.scoped("gives up a moment before its step does", () =>
    Effect.gen(function* () {
      const server = yield* serve(() => undefined)
      const tool = yield* HttpTool
      const step = tool.call(toolCall("core.http", { url: server.url }, {}, 1))
      const error = yield* Effect.flip(Effect.timeout(step, "1 second"))
      assert.deepInclude(error, { _tag: "StepFailed", code: "timeout" })
      yield* Effect.promise(() => server.idle())
    })
  )
})

/** `{port}` is that of a server that must see no connection. */
const loopback = [
  ...[
    "127.0.0.1",
    "127.0.0.2",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0X7F.0x0.0x0.0x1"
  ],
  ...[
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "00000177.1",
    "127.0.0.1.",
    "127.1.",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1"
  ],
  ...[
    "①②⑦.⓪.⓪.①",
    "１２７.０.０.１",
    "127。0。0。1",
    "127．0．0．1",
    "127｡0｡0｡1",
    "0",
    "0.0.0.0",
    "0x0",
    "00",
    "localhost"
  ],
  ...["LOCALHOST", "localhost.", "ⓛocalhost", "ｌocalhost", "a.localhost", "127.0.0.1.localhost", "local\u00adhost"],
  ...["[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::127.0.0.1]", "[::7f00:1]", "[::ffff:127.0.0.1]"],
  ...[
    "[::ffff:7f00:1]",
    "[::FFFF:0x7f.1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]"
  ],
  ...["[64:ff9b:1::127.0.0.1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[::1%25lo]", "[::1%lo]", "[fe80::1%25eth0]"],
  ...["user@127.0.0.1", "user:pass@127.0.0.1", ":pass@127.0.0.1", "example.com@127.0.0.1", "@127.0.0.1"],
  ...["example.com%40127.0.0.1", "example.com\\@127.0.0.1", "127.0.0.1\\@example.com", "example.com#@127.0.0.1"]
]

const elsewhere = [
  ...[
    "http://10.0.0.1/",
    "http://10.255.255.255:8080/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.0.1/"
  ],
  ...[
    "http://192.168.1.1:8443/",
    "http://100.64.0.1/",
    "http://100.100.100.200/latest/meta-data/",
    "http://0xa9fea9fe/"
  ],
  ...[
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://[fd00:ec2::254]/latest/"
  ],
  ...[
    "http://2852039166/latest/meta-data/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://[::ffff:a9fe:a9fe]/"
  ],
  ...["http://168.63.129.16/metadata", "http://192.0.0.192/opc/v1/instance/", "http://[fd20:ce::254]/computeMetadata/"],
  ...["http://192.0.2.1/", "http://198.51.100.1/", "http://203.0.113.1/", "http://198.18.0.1/", "http://192.88.99.1/"],
  ...[
    "http://224.0.0.1/",
    "http://239.255.255.255/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[ff02::1]/"
  ],
  ...["http://[fc00::1]/", "http://[fdff::1]/", "http://[fe80::1]/", "http://[fec0::1]/", "http://[2001:db8::1]/"],
  ...["http://[3fff::1]/", "http://[100::1]/", "http://[2001:2::1]/", "http://[2001:20::1]/", "http://[5f00::1]/"],
  ...[
    "https://1.1.1.1:22/",
    "https://example.com:25/",
    "http://8.8.8.8:0/",
    "http://8.8.8.8:1023/",
    "http://8.8.8.8:65536/"
  ],
  ...["ftp://8.8.8.8/", "file:///etc/passwd", "gopher://8.8.8.8:8080/_x", "javascript:alert(1)", "data:text/plain,x"],
  ...["ws://8.8.8.8/", "unix:/var/run/docker.sock", "//127.0.0.1/", "127.0.0.1", "http://", "http:///", "", " "]
]

layer(Layer.empty, { excludeTestServices: true })("targets that may not be called", (it) => {
  it.scoped("are refused, in every spelling, without a connection or a question to the resolver", () =>
    Effect.gen(function* () {
      const server = yield* answering(200, {}, "secret")
      const asked: Array<string> = []
      const guarded = HttpTool.layer.pipe(
        Layer.provide(
          Outgoing.layerWith((host, done) => {
            asked.push(host)
            done(null, [{ address: "127.0.0.1", family: 4 }])
          })
        )
      )
      const targets = [...loopback.map((host) => `http://${host}:${server.port}/`), ...elsewhere]
      assert.isAbove(targets.length, 100)
      yield* Effect.gen(function* () {
        for (const url of targets) {
          const error = yield* failure({ url })
          assert.include(["target_forbidden", "tool_input_invalid"], error.code, url)
          assert.strictEqual(server.accepted(), 0, url)
        }
        for (const host of ["example.com", "127.0.0.1.nip.io", "localhost.example"]) {
          const error = yield* failure({ url: `http://${host}:${server.port}/` })
          assert.strictEqual(error.code, "target_forbidden", host)
        }
      }).pipe(Effect.provide(guarded))
      assert.strictEqual(server.accepted(), 0)
      for (const host of asked) assert.match(host, /^(127\.0\.0\.1\.nip\.io|localhost\.example|example\.com)$/)
    })
  )
})
