import { assert, layer } from "@effect/vitest"
import { Effect, Either, Fiber, Layer } from "effect"
import type { JsonValue } from "../../src/domain/Json.ts"
import { McpTools } from "../../src/layers/McpTools.ts"
import { Outgoing } from "../../src/layers/Outgoing.ts"
import { answering } from "../support/httpServer.ts"
import { mcpServer, type Pages } from "../support/mcpServer.ts"
import { extensionAt, loopbackAllowed, noCredentials, outgoing, toolCall } from "../support/toolCalls.ts"

const schema = { type: "object" as const, properties: { a: { type: "string" } } }
const one: Pages = () => ({ tools: [{ name: "echo", inputSchema: schema }] })

const at = (url: string) => extensionAt("mcp", url)

const call = (url: string, tool: string, input: JsonValue = {}, timeoutSeconds?: number) =>
  Effect.flatMap(McpTools, (tools) =>
    tools.call(at(url), noCredentials, toolCall(`mail.${tool}`, input, {}, timeoutSeconds))
  )

const failure = (...args: Parameters<typeof call>) => Effect.flip(call(...args))
const list = (url: string) => Effect.flatMap(McpTools, (tools) => tools.list(at(url), noCredentials))

layer(McpTools.layer.pipe(Layer.provide(outgoing)), { excludeTestServices: true })("an MCP server", (it) => {
  it.scoped("lists its tools, over all pages", () =>
    Effect.gen(function* () {
      const server = yield* mcpServer((cursor) =>
        cursor === undefined
          ? {
              tools: [
                { name: "echo", description: "x".repeat(3000), inputSchema: schema, outputSchema: schema },
                { name: "not an address", inputSchema: schema }
              ],
              nextCursor: "two"
            }
          : { tools: [{ name: "text", inputSchema: schema, annotations: { idempotentHint: true } }] }
      )
      const specs = yield* list(server.url)
      assert.deepStrictEqual(specs, [
        {
          name: "echo",
          description: "x".repeat(2000),
          input_schema: schema,
          output_schema: schema,
          idempotent: false
        },
        { name: "text", input_schema: schema, idempotent: true }
      ])
      assert.strictEqual(server.ended(), 1)
      assert.strictEqual(server.sessions(), 0)
    })
  )

  it.scoped("that has no last page is given up", () =>
    Effect.gen(function* () {
      const server = yield* mcpServer((cursor) => ({ tools: [], nextCursor: `${cursor ?? ""}x` }))
      assert.strictEqual((yield* Effect.flip(list(server.url))).code, "tool_output_invalid")
      const many = Array.from({ length: 1001 }, (_, i) => ({ name: `t${i}`, inputSchema: schema }))
      const large = yield* mcpServer(() => ({ tools: many }))
      assert.strictEqual((yield* Effect.flip(list(large.url))).code, "tool_output_invalid")
    })
  )

  it.scoped("is called with the arguments, the key and the lease, and keeps its session", () =>
    Effect.gen(function* () {
      for (const json of [false, true]) {
        const server = yield* mcpServer(one, json)
        const output = yield* call(server.url, "echo", { a: "1" })
        assert.deepStrictEqual(output, {
          args: { a: "1" },
          meta: {
            "ordinaut/idempotency_key": "018f0000-0000-7000-8000-000000000001:call",
            "ordinaut/lease": 7,
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
          }
        })
        assert.deepStrictEqual(yield* call(server.url, "text"), { content: [{ type: "text", text: "hello" }] })
        const many = Array.from({ length: 20 }, () => call(server.url, "text"))
        yield* Effect.all(many, { concurrency: "unbounded" })
        assert.strictEqual(server.opened(), 1)
        // No stream is held open for messages that nobody wants.
        assert.isFalse(server.seen.some(({ method }) => method === "GET"))
      }
    })
  )

  it.scoped("is sent the extension's credentials with every request", () =>
    Effect.gen(function* () {
      const server = yield* mcpServer(one)
      const tools = yield* McpTools
      yield* tools.list(at(server.url), { auth: { kind: "bearer", secret: "canary" }, signingSecret: null })
      assert.isAbove(server.seen.length, 3)
      for (const { headers } of server.seen) assert.strictEqual(headers.authorization, "Bearer canary")
    })
  )

  it.scoped("tells how a call failed", () =>
    Effect.gen(function* () {
      for (const json of [false, true]) {
        const server = yield* mcpServer(one, json)
        const failed = yield* failure(server.url, "fail")
        assert.deepInclude(failed, { code: "failed", message: "no such file", retryable: false })
        const ends = [
          ["invalid", "tool_input_invalid", false],
          ["nosuch", "tool_unavailable", false],
          ["internal", "tool_connection", true],
          ["nul", "tool_output_invalid", true],
          ["large", "tool_response_too_large", false],
          ["cut", "tool_connection", true]
        ] as const
        for (const [tool, code, retryable] of ends) {
          const error = yield* failure(server.url, tool)
          assert.deepStrictEqual([error.code, error.retryable], [code, retryable], tool)
        }
        // Whatever happened to others, the next call is fine.
        yield* call(server.url, "text")
      }
      assert.strictEqual((yield* failure("http://127.0.0.1:1234/", "echo", "text")).code, "tool_input_invalid")
    })
  )

  it.scoped("keeps __proto__ a key like any other", () =>
    Effect.gen(function* () {
      const server = yield* mcpServer(one)
      assert.strictEqual(JSON.stringify(yield* call(server.url, "proto")), `{"a":{"__proto__":{"polluted":1}}}`)
      assert.isUndefined(Reflect.get({}, "polluted"))
    })
  )

  it.scoped("may end a stream early and be asked for the rest", () =>
    Effect.gen(function* () {
      const server = yield* mcpServer(one)
      assert.deepStrictEqual(yield* call(server.url, "later"), { resumed: true })
      assert.strictEqual(server.seen.filter(({ method }) => method === "GET").length, 1)
    })
  )

  it.scoped("that was started again in between is asked for a new session", () =>
    Effect.gen(function* () {
      const server = yield* mcpServer(one)
      yield* call(server.url, "text")
      yield* server.forget
      yield* call(server.url, "text")
      assert.strictEqual(server.opened(), 2)
      yield* server.restart
      // A connection that ends at the moment at which it is used is a failure that may be tried again.
      yield* call(server.url, "text").pipe(Effect.retry({ times: 1, while: ({ retryable }) => retryable }))
      assert.strictEqual(server.opened(), 3)
    })
  )

  it.scoped("is told that a call is canceled, and its connection ends, at the deadline", () =>
    Effect.gen(function* () {
      const server = yield* mcpServer(one)
      yield* call(server.url, "text")
      const error = yield* failure(server.url, "hang", {}, 0.3)
      assert.deepInclude(error, { code: "timeout", retryable: true })
      yield* Effect.promise(() => Promise.all([server.canceled, server.dropped]))
    })
  )

  it.scoped("is told that a call is canceled, and its connection ends, when the call is interrupted", () =>
    Effect.gen(function* () {
      const server = yield* mcpServer(one, true)
      yield* call(server.url, "text")
      const fiber = yield* Effect.fork(call(server.url, "hang"))
      yield* Effect.promise(() => server.hanging)
      yield* Fiber.interrupt(fiber)
      yield* Effect.promise(() => Promise.all([server.canceled, server.dropped]))
      yield* call(server.url, "text")
      assert.strictEqual(server.opened(), 1)
    })
  )

  it.scoped("that could not be found is looked for again", () =>
    Effect.gen(function* () {
      const server = yield* mcpServer(one)
      const url = server.url.replace("127.0.0.1", "name.test")
      let asked = 0
      const client = Outgoing.layerWith((_, done) =>
        asked++ === 0
          ? done(Object.assign(new Error("absent"), { code: "ENOTFOUND" }), [])
          : done(null, [{ address: "127.0.0.1", family: 4 }])
      ).pipe(Layer.provide(loopbackAllowed))
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* failure(url, "text")).code, "target_forbidden")
        yield* call(url, "text")
      }).pipe(Effect.provide(McpTools.layer.pipe(Layer.provide(client), Layer.fresh)))
    })
  )

  it.scoped("hears a farewell when the service ends", () =>
    Effect.gen(function* () {
      const server = yield* mcpServer(one)
      yield* call(server.url, "text").pipe(
        Effect.provide(McpTools.layer.pipe(Layer.provide(Layer.fresh(outgoing)), Layer.fresh))
      )
      assert.strictEqual(server.ended(), 1)
    })
  )

  it.scoped("may be none: what answers is sorted all the same", () =>
    Effect.gen(function* () {
      const json = { "content-type": "application/json" }
      const ends = [
        [200, { "content-type": "text/html" }, "<html>", "tool_output_invalid", true],
        [200, json, "{", "tool_output_invalid", true],
        [200, json, `{"jsonrpc":"3"}`, "tool_output_invalid", true],
        [302, { location: "http://127.0.0.1:1/" }, "", "target_forbidden", false],
        [308, { location: "/elsewhere" }, "", "target_forbidden", false],
        [400, {}, "", "tool_http_4xx", false],
        [401, {}, "", "tool_http_4xx", false],
        [404, {}, "", "tool_http_4xx", false],
        [429, { "retry-after": "5" }, "", "tool_http_4xx", true],
        [503, {}, "", "tool_http_5xx", true]
      ] as const
      for (const [status, headers, body, code, retryable] of ends) {
        const server = yield* answering(status, headers, body)
        const error = yield* failure(server.url, "echo")
        assert.deepStrictEqual([error.code, error.retryable], [code, retryable], `${status} ${body}`)
        if (status === 429) assert.strictEqual(error.retry_after_seconds, 5)
        assert.isBelow(server.seen.length, 3)
      }
      assert.strictEqual((yield* failure("http://169.254.169.254/", "echo")).code, "target_forbidden")
      assert.strictEqual((yield* failure("http://127.0.0.1:1025/", "echo")).code, "tool_connection")
      const silent = yield* answering(200, { "content-type": "text/event-stream" }, ": nothing\n\n")
      const either = yield* Effect.either(call(silent.url, "echo"))
      assert.isTrue(Either.isLeft(either) && either.left.code === "tool_connection")
    })
  )
})
