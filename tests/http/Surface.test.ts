import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { createConnection } from "node:net"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect } from "effect"
import * as NodeServer from "../../src/http/NodeServer.ts"
import { securityHeaders } from "../../src/http/SecurityHeaders.ts"
import { apiServer, ApiServer, newTask, refusal, request } from "../support/ApiServer.ts"
import * as EventSource from "../support/eventSource.ts"
import { answersIn, exchange, say, statusOf } from "../support/rawSocket.ts"
import type { Exchange } from "../support/rawSocket.ts"

/** Every header that an answer bears whoever wrote it, and none that tells of the server. */
const secured = (headers: ReadonlyMap<string, string>, place: string) => {
  for (const [name, value] of Object.entries(securityHeaders))
    assert.strictEqual(headers.get(name), value, `${place} ${name}`)
  for (const absent of ["server", "x-powered-by"]) assert.isFalse(headers.has(absent), `${place} ${absent}`)
  assert.match(headers.get("x-request-id") ?? "", /^[\w.:-]{1,128}$/, place)
}

const headersIn = ({ text }: Exchange): ReadonlyMap<string, string> =>
  new Map(
    (text.split("\r\n\r\n")[0] ?? "")
      .split("\r\n")
      .slice(1)
      .map((line) => {
        const at = line.indexOf(":")
        return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()]
      })
  )

const get = (path: string, more = "") => `GET ${path} HTTP/1.1\r\nHost: a\r\n${more}\r\n`

layer(apiServer([["CORS_ORIGINS", "https://app.example.com"]]))("every answer", (it) => {
  it.scoped("bears the security headers: good ones, refusals, streams, the page, and what comes before any route", () =>
    Effect.gen(function* () {
      const { adminKey, origin } = yield* ApiServer
      const { id } = yield* newTask()
      const asked = [
        ["GET", "/tasks", {}, 200],
        ["GET", `/tasks/${id}`, {}, 200],
        ["DELETE", `/tasks/${id}`, {}, 204],
        ["HEAD", "/tasks", {}, 200],
        ["POST", "/tasks", { body: "{" }, 400],
        ["GET", "/tasks", { key: null }, 401],
        ["GET", "/nowhere", {}, 404],
        ["PUT", "/tasks", {}, 405],
        ["POST", "/events", { body: "x".repeat(2_000_000) }, 413],
        ["POST", "/events", { body: "a", headers: { "content-type": "text/plain" } }, 415],
        ["POST", "/events", { body: {} }, 422],
        ["GET", "/docs", { key: null }, 200],
        ["GET", "/openapi.json", { key: null }, 200],
        ["GET", "/health", { key: null }, 200],
        ["GET", "/metrics", { key: null }, 200],
        ["GET", "/.well-known/jwks.json", { key: null }, 200],
        [
          "OPTIONS",
          "/tasks",
          { headers: { origin: "https://app.example.com", "access-control-request-method": "GET" } },
          204
        ]
      ] as const
      for (const [method, path, call, status] of asked) {
        const answer = yield* request(method, path, call)
        assert.strictEqual(answer.status, status, `${method} ${path}`)
        secured(new Map(answer.headers), `${method} ${path}`)
      }
      const stream = yield* EventSource.open(`${origin}/stream`, adminKey)
      secured(new Map(Object.entries(stream.headers).map(([name, value]) => [name, String(value)])), "/stream")

      const raw: ReadonlyArray<readonly [string, number, string]> = [
        ["nonsense\r\n\r\n", 400, "malformed_request"],
        [get("/tasks", `X-Long: ${"x".repeat(17_000)}\r\n`), 431, "headers_too_large"],
        [`GET /${"a".repeat(17_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 431, "headers_too_large"],
        [get("/tasks", "Expect: miracles\r\n"), 417, "expectation_failed"]
      ]
      for (const [text, status, code] of raw) {
        const said = yield* Effect.promise(() => say(origin, text))
        assert.strictEqual(statusOf(said), status, said.text)
        const headers = headersIn(said)
        secured(headers, text.slice(0, 20))
        assert.isTrue(said.closed)
        const body: unknown = JSON.parse(said.text.split("\r\n\r\n")[1] ?? "")
        const told = { status, headers: new Headers([...headers]), text: said.text, body }
        assert.strictEqual(refusal(told, status, code).status, status)
      }
    })
  )
})

layer(apiServer())("the parser", (it) => {
  it.effect("is strict: what two parsers could read in two ways is refused, and nothing behind it is answered", () =>
    Effect.gen(function* () {
      const { adminKey, origin } = yield* ApiServer
      const post = (headers: string, body: string) =>
        `POST /events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${adminKey}\r\nContent-Type: application/json\r\n${headers}\r\n${body}`
      const smuggled = get("/health/live")
      const texts: Readonly<Record<string, string>> = {
        "two ways of length": post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", `0\r\n\r\n${smuggled}`),
        "two lengths": post("Content-Length: 2\r\nContent-Length: 40\r\n", `{}${smuggled}`),
        "a length with a sign": post("Content-Length: +2\r\n", `{}${smuggled}`),
        "a length in hex": post("Content-Length: 0x2\r\n", `{}${smuggled}`),
        "a length of a list": post("Content-Length: 2, 2\r\n", `{}${smuggled}`),
        "another encoding": post("Transfer-Encoding: identity, chunked, x\r\n", `0\r\n\r\n${smuggled}`),
        "chunked twice": post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", `0\r\n\r\n${smuggled}`),
        "a chunk of no size": post("Transfer-Encoding: chunked\r\n", `zz\r\n{}\r\n0\r\n\r\n${smuggled}`),
        "a chunk that is too long": post("Transfer-Encoding: chunked\r\n", `1\r\n{}\r\n0\r\n\r\n${smuggled}`),
        "a space before the colon": get("/health/live", "Content-Length : 5\r\n") + smuggled,
        "a folded line": get("/health/live", "X-A: b\r\n c\r\n") + smuggled,
        "a line feed alone": `GET /health/live HTTP/1.1\nHost: a\n\n${smuggled}`,
        "a carriage return alone": get("/health/live", "X-A: b\rX-B: c\r\n") + smuggled,
        "U+0000 in a header": get("/health/live", "X-A: b\0c\r\n") + smuggled,
        "a name that is none": get("/health/live", "X(A): b\r\n") + smuggled,
        "no host": `GET /health/live HTTP/1.1\r\n\r\n${smuggled}`,
        "a space in the path": `GET /health/ live HTTP/1.1\r\nHost: a\r\n\r\n${smuggled}`,
        "another version": `GET /health/live HTTP/3.7\r\nHost: a\r\n\r\n${smuggled}`,
        "HTTP/2": `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${smuggled}`,
        "a method that is none": `GE(T /health/live HTTP/1.1\r\nHost: a\r\n\r\n${smuggled}`,
        TLS: "\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003"
      }
      for (const [name, text] of Object.entries(texts)) {
        const said = yield* Effect.promise(() => say(origin, text))
        assert.isTrue(said.closed, name)
        assert.isAtMost(answersIn(said), 1, `${name}: ${said.text}`)
        if (answersIn(said) === 1) assert.isAtLeast(statusOf(said), 400, `${name}: ${said.text}`)
      }
      // CONNECT is no way through, and nothing is fetched from elsewhere: of an absolute URI the path counts (RFC 9112 §3.2.2).
      const tunnel = yield* Effect.promise(() => say(origin, "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: a\r\n\r\n"))
      assert.isTrue(tunnel.closed)
      assert.notStrictEqual(statusOf(tunnel), 200)
      const proxied = yield* Effect.promise(() =>
        say(origin, "GET http://127.0.0.1:22/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
      )
      assert.strictEqual(statusOf(proxied), 200)
      secured(headersIn(proxied), "an absolute URI")
    })
  )

  it.effect("answers requests that follow each other on one connection, each its own", () =>
    Effect.gen(function* () {
      const { origin } = yield* ApiServer
      const said = yield* Effect.promise(() =>
        say(origin, get("/health/live") + get("/nowhere") + get("/health/live", "Connection: close\r\n"))
      )
      assert.deepStrictEqual(
        [...said.text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status),
        ["200", "404", "200"]
      )
    })
  )

  it.effect("knows no protocol to change to, and does not stumble over those who ask", () =>
    Effect.gen(function* () {
      const { adminKey, origin } = yield* ApiServer
      const upgrade =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
      const asked = [
        get("/health/live", upgrade),
        get("/tasks", `Authorization: Bearer ${adminKey}\r\n${upgrade}`),
        get("/stream", `Authorization: Bearer ${adminKey}\r\n${upgrade}`),
        get("/nowhere", upgrade),
        `POST /events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${adminKey}\r\nContent-Type: application/json\r\n${upgrade}Content-Length: 28\r\n\r\n{"topic":"a.b","payload":17}`
      ]
      for (const text of asked) {
        const said = yield* Effect.promise(() => say(origin, text + get("/health/live"), 2))
        assert.notStrictEqual(statusOf(said), 101, said.text)
        assert.notInclude(said.text, "HTTP/1.1 500", text)
        secured(headersIn(said), text.slice(0, 30))
      }
      assert.strictEqual((yield* request("GET", "/health/live", { key: null })).status, 200)
    })
  )
})

/** The server's own, with times that a test can wait for. */
const quick: NodeServer.Limits = {
  headersWithin: Duration.millis(400),
  requestWithin: Duration.millis(1200),
  silentFor: Duration.seconds(2),
  lookEvery: Duration.millis(50),
  headerBytes: 16_384,
  connections: 10
}

const serving = (limits: NodeServer.Limits) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = NodeServer.make(limits)
      server.on("request", (incoming, response) => {
        if (incoming.url === "/never") return
        if (incoming.url === "/large") return void response.end(Buffer.alloc(64 * 1_048_576, "x"))
        incoming.on("data", () => undefined).on("end", () => response.end("done"))
      })
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
    }),
    ({ server }) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )

const open = (server: Server) =>
  new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count)))

/** Asks for more than any buffer holds, and takes nothing of it; answers after how many seconds the server had no connection left. */
const deaf = async (origin: string, server: Server) => {
  const socket = createConnection(Number(new URL(origin).port), "127.0.0.1").on("error", () => undefined)
  socket.write(get("/large"))
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  while (seconds() < 1 || ((await open(server)) > 0 && seconds() < 10))
    await new Promise((next) => setTimeout(next, 20))
  socket.destroy()
  return seconds()
}

layer(apiServer())("the server", (it) => {
  it.effect("has the limits that are promised", () =>
    Effect.sync(() => {
      const { headersWithin, lookEvery, requestWithin } = NodeServer.limits
      assert.deepStrictEqual([headersWithin, requestWithin, lookEvery].map(Duration.toSeconds), [10, 30, 1])
      assert.strictEqual(NodeServer.limits.headerBytes, 16 * 1024)
    })
  )

  it.scoped("waits no longer than its limits for headers, for a body, and for a client that takes nothing", () =>
    Effect.gen(function* () {
      const { origin, server } = yield* serving(quick)
      const drip = (first: string, piece: string) =>
        exchange(
          origin,
          (socket) => {
            socket.write(first)
            const timer = setInterval(() => socket.write(piece), 50)
            socket.on("close", () => clearInterval(timer))
          },
          6
        )
      const [silent, headers, body, waiting, left] = yield* Effect.promise(() =>
        Promise.all([
          exchange(origin, () => undefined, 6),
          drip("GET / HTTP/1.1\r\nHost: a\r\n", "X-A: b\r\n"),
          drip("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", "x"),
          say(origin, get("/never"), 6),
          deaf(origin, server)
        ])
      )
      assert.isTrue(silent.closed)
      assert.isBelow(silent.seconds, 2.5)
      assert.strictEqual(statusOf(headers), 408, headers.text)
      assert.include(headers.text, "request_timeout")
      assert.isBelow(headers.seconds, 2)
      assert.strictEqual(statusOf(body), 408, body.text)
      assert.isAtLeast(body.seconds, 1)
      assert.isBelow(body.seconds, 3)
      // Nobody answers: the connection is closed, and nothing is made up.
      assert.isTrue(waiting.closed)
      assert.strictEqual(waiting.text, "")
      assert.isBelow(waiting.seconds, 4)
      assert.isAtLeast(left, 1.9)
      assert.isBelow(left, 5)
    })
  )

  it.scoped("keeps no more connections than its limit, and takes new ones when some are gone", () =>
    Effect.gen(function* () {
      const { origin, server } = yield* serving({
        ...quick,
        headersWithin: Duration.seconds(5),
        requestWithin: Duration.seconds(5),
        silentFor: Duration.seconds(10)
      })
      const { port } = new URL(origin)
      const idle = Array.from({ length: 40 }, () =>
        createConnection(Number(port), "127.0.0.1").on("error", () => undefined)
      )
      yield* Effect.promise(async () => {
        for (const start = performance.now(); idle.filter((socket) => socket.closed).length < 30;) {
          if (performance.now() - start > 3000) throw new Error("more connections are open than there may be")
          await new Promise((next) => setTimeout(next, 10))
        }
        assert.strictEqual(await open(server), 10)
        assert.strictEqual(statusOf(await say(origin, get("/"), 1)), 0)
        for (const socket of idle) socket.destroy()
        for (const start = performance.now(); (await open(server)) > 0 && performance.now() - start < 3000;) {
          await new Promise((next) => setTimeout(next, 10))
        }
        assert.strictEqual(statusOf(await say(origin, get("/", "Connection: close\r\n"))), 200)
      })
    })
  )
})
