import { assert, layer } from "@effect/vitest"
import { Effect, Either, Fiber, Layer } from "effect"
import type { LookupAddress } from "node:dns"
import { readFileSync } from "node:fs"
import { createServer as createTcpServer, type Socket } from "node:net"
import { createServer as createTlsServer } from "node:tls"
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from "node:zlib"
import { Outgoing, type OutgoingRequest } from "../../src/layers/Outgoing.ts"
import { answering, serve } from "../support/httpServer.ts"
import { portOf } from "../support/ports.ts"
import { loopbackAllowed, outgoing } from "../support/toolCalls.ts"

const get = (url: string, more: Partial<OutgoingRequest & { readonly timeoutMillis: number }> = {}) =>
  Effect.flatMap(Outgoing, (client) =>
    client.request({ method: "GET", url: new URL(url), headers: new Map(), timeoutMillis: 5000, ...more })
  )

const failure = (url: string, more?: Parameters<typeof get>[1]) => Effect.flip(get(url, more))

const text = (body: Uint8Array) => Buffer.from(body).toString()

/** A server that speaks raw TCP: it answers whatever comes with `bytes`, and may go on with the socket. */
const rawServer = (bytes: string, then: (socket: Socket) => void = () => undefined) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = createTcpServer((socket) => {
        socket.on("error", () => undefined)
        socket.once("data", () => {
          socket.write(bytes, "latin1", () => then(socket))
        })
      })
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      return server
    }),
    (server) => Effect.sync(() => server.close())
  ).pipe(Effect.map((server) => `http://127.0.0.1:${portOf(server)}`))

const ok = "HTTP/1.1 200 OK\r\n"

layer(outgoing, { excludeTestServices: true })("the guarded client", (it) => {
  it.scoped("sends what it is told to, and gives what comes back", () =>
    Effect.gen(function* () {
      const server = yield* serve((_, response) => {
        response.setHeader("X-Twice", ["a", "b"])
        response.writeHead(201, { "content-type": "text/plain" }).end("héllo")
      })
      const { body, headers, status } = yield* get(`${server.url}/a%20b?c=d#e`, {
        method: "PUT",
        headers: new Map([["x-mine", "1"]]),
        body: "ü",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      })
      assert.strictEqual(status, 201)
      assert.strictEqual(headers.get("x-twice"), "a, b")
      assert.strictEqual(text(body), "héllo")
      const [seen] = server.seen
      assert.strictEqual(seen?.method, "PUT")
      assert.strictEqual(seen?.path, "/a%20b?c=d")
      assert.strictEqual(seen?.body, "ü")
      assert.strictEqual(seen?.headers["x-mine"], "1")
      assert.strictEqual(seen?.headers.host, `127.0.0.1:${server.port}`)
      assert.match(String(seen?.headers["traceparent"]), /^00-0af7651916cd43dd8448eb211c80319c/)
    })
  )

  it.scoped("does not follow redirects", () =>
    Effect.gen(function* () {
      const inner = yield* answering(200, {}, "secret")
      const server = yield* answering(302, { location: `${inner.url}/` }, "")
      assert.strictEqual((yield* get(server.url)).status, 302)
      assert.strictEqual(inner.accepted(), 0)
    })
  )

  it.scoped("undoes every encoding that it asks for, and no other", () =>
    Effect.gen(function* () {
      const plain = "x".repeat(100_000)
      const bodies: ReadonlyArray<readonly [string, Uint8Array]> = [
        ["gzip", gzipSync(plain)],
        ["X-GZIP", gzipSync(plain)],
        ["deflate", deflateSync(plain)],
        ["deflate", deflateRawSync(plain)],
        ["br", brotliCompressSync(plain)],
        ["gzip, br", brotliCompressSync(gzipSync(plain))],
        ["identity", Buffer.from(plain)]
      ]
      for (const [encoding, body] of bodies) {
        const server = yield* answering(200, { "content-encoding": encoding }, body)
        assert.strictEqual(text((yield* get(server.url)).body), plain, encoding)
        assert.strictEqual(server.seen[0]?.headers["accept-encoding"], "gzip, deflate, br")
      }
      for (const encoding of ["gzip", "deflate", "br"]) {
        const empty = yield* answering(200, { "content-encoding": encoding }, "")
        assert.strictEqual((yield* get(empty.url)).body.length, 0, `nothing in ${encoding}`)
        const garbage = yield* answering(200, { "content-encoding": encoding }, "not compressed")
        assert.strictEqual((yield* failure(garbage.url)).code, "tool_output_invalid", `garbage in ${encoding}`)
        const head = yield* answering(200, { "content-encoding": encoding, "content-length": "5000000" }, "")
        assert.strictEqual((yield* get(head.url, { method: "HEAD" })).body.length, 0)
      }
      const truncated = yield* answering(200, { "content-encoding": "gzip" }, gzipSync(plain).subarray(0, 50))
      assert.strictEqual((yield* failure(truncated.url)).code, "tool_output_invalid")
      for (const encoding of ["zstd", "compress", "gzip, gzip, gzip"]) {
        const server = yield* answering(200, { "content-encoding": encoding }, "x")
        assert.strictEqual((yield* failure(server.url)).code, "tool_output_invalid", encoding)
      }
    })
  )

  it.scoped("reads a mebibyte and not a byte more, compressed or not", () =>
    Effect.gen(function* () {
      const limit = 1_048_576
      const bomb = Buffer.alloc(20 * limit)
      const most = yield* answering(200, {}, Buffer.alloc(limit))
      assert.strictEqual((yield* get(most.url)).body.length, limit)
      const announced = yield* answering(200, { "content-length": String(30 * limit) }, Buffer.alloc(30 * limit))
      const chunked = yield* serve((_, response) => {
        const write = () => {
          while (!response.destroyed && response.write(Buffer.alloc(65_536)));
        }
        response.on("drain", write)
        write()
      })
      const gzipped = yield* answering(200, { "content-encoding": "gzip" }, gzipSync(bomb))
      const deflated = yield* answering(200, { "content-encoding": "deflate" }, deflateRawSync(bomb))
      const brotli = yield* answering(200, { "content-encoding": "br" }, brotliCompressSync(bomb))
      const twice = yield* answering(200, { "content-encoding": "gzip, gzip" }, gzipSync(gzipSync(bomb)))
      const headers = yield* answering(200, { "x-large": "x".repeat(20_000) }, "")
      for (const server of [announced, chunked, gzipped, deflated, brotli, twice, headers])
        assert.strictEqual((yield* failure(server.url)).code, "tool_response_too_large")
      for (const server of [announced, chunked]) yield* Effect.promise(() => server.idle())
      // Nothing comes out of empty blocks, of which there is no end.
      const blocks = yield* serve((_, response) => {
        response.writeHead(200, { "content-encoding": "gzip" })
        response.write(gzipSync("").subarray(0, 10))
        const empty = Buffer.from(Array.from({ length: 20_000 }, () => [0, 0, 0, 255, 255]).flat())
        const write = () => {
          while (!response.destroyed && response.write(empty));
        }
        response.on("drain", write)
        write()
      })
      assert.strictEqual((yield* failure(blocks.url)).code, "tool_response_too_large")
    })
  )

  it.scoped("gives up what hangs or trickles at its deadline, and ends the connection", () =>
    Effect.gen(function* () {
      const hanging = yield* serve(() => undefined)
      const half = yield* serve((_, response) => response.writeHead(200).write("x"))
      const trickling = yield* serve((_, response) => {
        const timer = setInterval(() => response.write("x"), 20)
        response.on("close", () => clearInterval(timer))
      })
      const headers = yield* rawServer(`${ok}x-never: `, () => undefined)
      for (const url of [hanging.url, half.url, trickling.url, headers]) {
        const error = yield* failure(url, { timeoutMillis: 300 })
        assert.strictEqual(error.code, "timeout", url)
        assert.isTrue(error.retryable)
      }
      for (const server of [hanging, half, trickling]) yield* Effect.promise(() => server.idle())
    })
  )

  it.scoped("ends the connection of a call that is interrupted", () =>
    Effect.gen(function* () {
      let came = () => {}
      const arrived = new Promise<void>((resolve) => (came = resolve))
      const before = yield* serve(() => came())
      const waiting = yield* Effect.fork(get(before.url, { timeoutMillis: 60_000 }))
      yield* Effect.promise(() => arrived)
      yield* Fiber.interrupt(waiting)
      yield* Effect.promise(() => before.idle())

      const within = yield* serve((_, response) => response.writeHead(200).write("x", () => came()))
      const halfway = new Promise<void>((resolve) => (came = resolve))
      const reading = yield* Effect.fork(get(within.url, { timeoutMillis: 60_000 }))
      yield* Effect.promise(() => halfway)
      yield* Fiber.interrupt(reading)
      yield* Effect.promise(() => within.idle())
    })
  )

  it.scoped("tells a connection that broke off from an answer", () =>
    Effect.gen(function* () {
      const reset = (socket: Socket) => socket.resetAndDestroy()
      const end = (socket: Socket) => socket.end()
      const servers = yield* Effect.all([
        rawServer("", reset),
        rawServer("", end),
        rawServer(`${ok}content-length: 100\r\n\r\nx`, reset),
        rawServer(`${ok}content-length: 100\r\n\r\nx`, end),
        rawServer(`${ok}transfer-encoding: chunked\r\n\r\n5\r\nhel`, end),
        rawServer(`${ok}transfer-encoding: chunked\r\n\r\nzz\r\nhel`),
        rawServer("SSH-2.0-OpenSSH_9.2\r\n"),
        rawServer("\u0000\u0001\u0002garbage")
      ])
      for (const [index, url] of servers.entries()) {
        const error = yield* failure(url)
        assert.strictEqual(error.code, "tool_connection", String(index))
        assert.isTrue(error.retryable)
      }
      const gone = yield* Effect.scoped(Effect.map(answering(200, {}, ""), ({ url }) => url))
      const error = yield* failure(gone)
      assert.strictEqual(error.code, "tool_connection")
      assert.notInclude(error.message, "REFUSED")
    })
  )

  it.scoped("lets hostile headers of an answer do no harm", () =>
    Effect.gen(function* () {
      const url = yield* rawServer(`${ok}__proto__: x\r\nconstructor: y\r\n__proto__: z\r\ncontent-length: 2\r\n\r\nhi`)
      const { body, headers } = yield* get(url)
      assert.strictEqual(headers.get("__proto__"), "x, z")
      assert.strictEqual(headers.get("constructor"), "y")
      assert.strictEqual(text(body), "hi")
      assert.isUndefined(Reflect.get({}, "x"))
    })
  )

  it.scoped("sends no header that rules the connection or breaks its line", () =>
    Effect.gen(function* () {
      const server = yield* answering(200, {}, "")
      const refused = [
        ["host", "other.example"],
        ["content-length", "5"],
        ["transfer-encoding", "chunked"],
        ["connection", "close"],
        ["keep-alive", "1"],
        ["te", "trailers"],
        ["trailer", "x"],
        ["upgrade", "websocket"],
        ["expect", "100-continue"],
        ["proxy-authorization", "x"],
        ["x-a", "1\r\nx-b: 2"],
        ["x-a", "1\nx-b: 2"],
        ["x-a", "nul\u0000"],
        ["x-a", "\u010d\u010a"],
        ["x-a", "x".repeat(20_000)],
        ["x a", "1"],
        ["x-a:", "1"],
        ["x-a\r\nx-b", "1"],
        ["", "1"]
      ] as const
      for (const [name, value] of refused) {
        const error = yield* failure(server.url, { headers: new Map([[name, value]]) })
        assert.strictEqual(error.code, "tool_input_invalid", name)
        assert.isFalse(error.retryable)
        assert.isFalse(value.length > 1 && error.message.includes(value))
      }
      assert.strictEqual(server.accepted(), 0)
    })
  )

  it.scoped("keeps connections, and closes them with its scope", () =>
    Effect.gen(function* () {
      const server = yield* answering(200, {}, "x")
      yield* Effect.gen(function* () {
        for (let i = 0; i < 10; i++) yield* get(server.url)
        assert.isBelow(server.accepted(), 5)
        assert.isAbove(server.open(), 0)
      }).pipe(Effect.provide(outgoing.pipe(Layer.fresh)))
      yield* Effect.promise(() => server.idle())
    })
  )

  it.scoped("one target that hangs keeps no others waiting", () =>
    Effect.gen(function* () {
      const hanging = yield* serve(() => undefined)
      const well = yield* answering(200, {}, "x")
      const stuck = yield* Effect.fork(
        Effect.forEach(Array.from({ length: 300 }), () => Effect.either(get(hanging.url, { timeoutMillis: 2000 })), {
          concurrency: "unbounded"
        })
      )
      yield* Effect.forEach(Array.from({ length: 20 }), () => get(well.url), { concurrency: "unbounded" })
      assert.isAtMost(hanging.accepted(), 128)
      const ends = yield* Fiber.join(stuck)
      assert.isTrue(ends.every((end) => Either.isLeft(end) && end.left.code === "timeout"))
    })
  )
})

/** Runs a call with a resolver that answers, one after the other, with these; gives how often it was asked. */
const resolving = <A, E>(
  answers: ReadonlyArray<ReadonlyArray<string> | "ENOTFOUND" | "EAI_AGAIN">,
  run: Effect.Effect<A, E, Outgoing>
) =>
  Effect.suspend(() => {
    let asked = 0
    const client = Outgoing.layerWith((_, done) => {
      const answer = answers[Math.min(asked++, answers.length - 1)] ?? []
      if (typeof answer === "string") return done(Object.assign(new Error(answer), { code: answer }), [])
      done(
        null,
        answer.map((address): LookupAddress => ({ address, family: address.includes(":") ? 6 : 4 }))
      )
    }).pipe(Layer.provide(loopbackAllowed))
    return Effect.map(Effect.provide(run, client), (result) => ({ result, asked: asked }))
  })

layer(Layer.empty, { excludeTestServices: true })("names", (it) => {
  it.scoped("are resolved once a connection, and the address that was judged is the one that is called", () =>
    Effect.gen(function* () {
      const server = yield* answering(200, { connection: "close" }, "x")
      const url = `http://rebinding.test:${server.port}/`
      // Allowed, then not: the second connection judges anew.
      const turning = yield* resolving([["127.0.0.1"], ["10.0.0.1"]], Effect.all([get(url), Effect.flip(get(url))]))
      assert.strictEqual(turning.asked, 2)
      assert.strictEqual(turning.result[1].code, "target_forbidden")
      assert.strictEqual(server.accepted(), 1)
      assert.strictEqual(server.seen[0]?.headers.host, `rebinding.test:${server.port}`)
    })
  )

  it.scoped("are called only where every address may be", () =>
    Effect.gen(function* () {
      const server = yield* answering(200, {}, "x")
      const url = `http://mixed.test:${server.port}/`
      const private_ = [
        "10.0.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "::1",
        "fe80::1%lo",
        "fd00:ec2::254",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "0.0.0.0"
      ]
      for (const address of private_) {
        for (const addresses of [[address], ["127.0.0.1", address], [address, "127.0.0.1"]]) {
          const { result } = yield* resolving([addresses], failure(url))
          assert.strictEqual(result.code, "target_forbidden", addresses.join())
        }
      }
      assert.strictEqual(server.accepted(), 0)
    })
  )

  it.scoped("are what a certificate must bear, and a certificate must be vouched for", () =>
    Effect.gen(function* () {
      const pem = readFileSync(new URL("../data/name.test.pem", import.meta.url))
      const names: Array<string> = []
      const server = createTlsServer({
        key: pem,
        cert: pem,
        SNICallback: (name, done) => {
          names.push(name)
          done(null)
        }
      })
      server.on("tlsClientError", () => undefined)
      yield* Effect.acquireRelease(
        Effect.promise(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))),
        () => Effect.sync(() => server.close())
      )
      const { result } = yield* resolving([["127.0.0.1"]], failure(`https://name.test:${portOf(server)}/`))
      assert.strictEqual(result.code, "tool_connection")
      assert.include(result.message, "DEPTH_ZERO_SELF_SIGNED_CERT")
      assert.deepStrictEqual(names, ["name.test"])
    })
  )

  it.scoped("that do not exist look like those that are private", () =>
    Effect.gen(function* () {
      const url = "http://name.test:8080/"
      const { result: absent } = yield* resolving(["ENOTFOUND"], failure(url))
      const { result: nothing } = yield* resolving([[]], failure(url))
      const { result: hidden } = yield* resolving([["10.0.0.1"]], failure(url))
      assert.deepStrictEqual({ ...absent }, { ...hidden })
      assert.deepStrictEqual({ ...nothing }, { ...hidden })
      assert.isTrue(hidden.retryable)
      const { result: unanswered } = yield* resolving(["EAI_AGAIN"], failure(url))
      assert.strictEqual(unanswered.code, "tool_connection")
    })
  )
})
