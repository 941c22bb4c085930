import { assert, layer } from "@effect/vitest"
import { Effect, Either, Layer } from "effect"
import { randomBytes } from "node:crypto"
import { Webhook } from "standardwebhooks"
import type { Credentials, Extension } from "../../src/domain/Extension.ts"
import { HttpExtensions } from "../../src/layers/HttpExtensions.ts"
import { answering, serve } from "../support/httpServer.ts"
import { extensionAt, noCredentials, outgoing, toolCall } from "../support/toolCalls.ts"

const call = (
  extension: Extension,
  credentials: Credentials = noCredentials,
  more: Parameters<typeof toolCall>[2] = {},
  timeoutSeconds?: number
) =>
  Effect.flatMap(HttpExtensions, (extensions) =>
    extensions.call(extension, credentials, toolCall("mail.send", { to: "a@b.c" }, more, timeoutSeconds))
  )

const failure = (...args: Parameters<typeof call>) => Effect.flip(call(...args))
const at = (url: string) => extensionAt("http", url, "send")
const key = randomBytes(32)
const ok = { "content-type": "application/json" }

layer(HttpExtensions.layer.pipe(Layer.provide(outgoing)), { excludeTestServices: true })("an http extension", (it) => {
  it.scoped("is sent the whole call, signed so that the Standard Webhooks library accepts it", () =>
    Effect.gen(function* () {
      const server = yield* answering(200, ok, `{"sent":true}`)
      const output = yield* call(at(`${server.url}/tools/`), { auth: null, signingSecret: key })
      assert.deepStrictEqual(output, { sent: true })
      const [seen] = server.seen
      assert.deepInclude(seen, { method: "POST", path: "/tools/send" })
      const headers = Object.fromEntries(
        Object.entries(seen?.headers ?? {}).map(([name, value]) => [name, String(value)])
      )
      const body = seen?.body ?? ""
      const verify = (secret: Uint8Array, text: string) => new Webhook(secret, { format: "raw" }).verify(text, headers)
      assert.deepStrictEqual(verify(key, body), {
        tool: "mail.send",
        input: { to: "a@b.c" },
        run: { id: "018f0000-0000-7000-8000-000000000001", attempt: 2, scheduled_for: "2026-03-02T09:00:00.000Z" },
        step: "call",
        idempotency_key: "018f0000-0000-7000-8000-000000000001:call",
        lease: 7
      })
      assert.strictEqual(headers["webhook-id"], "018f0000-0000-7000-8000-000000000001:call")
      assert.throws(() => verify(randomBytes(32), body))
      assert.throws(() => verify(key, body.replace("a@b.c", "x@b.c")))
    })
  )

  it.scoped("gets the index of an element, and a hash of a key that fits no header", () =>
    Effect.gen(function* () {
      const server = yield* answering(200, ok, "null")
      const credentials = { auth: null, signingSecret: key }
      yield* call(at(server.url), credentials, { item: 3, idempotencyKey: "ключ\n" })
      yield* call(at(server.url), noCredentials)
      const [seen, unsigned] = server.seen
      assert.deepInclude(JSON.parse(seen?.body ?? ""), { index: 3, idempotency_key: "ключ\n" })
      assert.match(String(seen?.headers["webhook-id"]), /^[0-9a-f]{64}$/)
      const headers = Object.fromEntries(
        Object.entries(seen?.headers ?? {}).map(([name, value]) => [name, String(value)])
      )
      new Webhook(key, { format: "raw" }).verify(seen?.body ?? "", headers)
      assert.isUndefined(unsigned?.headers["webhook-signature"])
    })
  )

  it.scoped("is sent its credentials, which go nowhere else", () =>
    Effect.gen(function* () {
      const server = yield* answering(200, ok, "1")
      const sent = (auth: Credentials["auth"]) =>
        Effect.gen(function* () {
          yield* call(at(server.url), { auth, signingSecret: null })
          return server.seen.at(-1)?.headers
        })
      assert.deepInclude(yield* sent({ kind: "bearer", secret: "canary" }), { authorization: "Bearer canary" })
      assert.deepInclude(yield* sent({ kind: "basic", secret: "u:canary" }), { authorization: "Basic dTpjYW5hcnk=" })
      assert.deepInclude(yield* sent({ kind: "header", header: "X-Key", secret: "canary" }), { "x-key": "canary" })

      const other = yield* answering(200, ok, "1")
      const moving = yield* answering(307, { location: `${other.url}/send` }, "")
      const auth = { kind: "bearer", secret: "canary" } as const
      const moved = yield* failure(at(moving.url), { auth, signingSecret: null })
      assert.strictEqual(moved.code, "target_forbidden")
      assert.strictEqual(other.accepted(), 0)

      const unfit = [
        { kind: "bearer", secret: "canary\r\nX: y" },
        { kind: "header", secret: "canary" },
        { kind: "header", header: "Host", secret: "canary" },
        { kind: "header", header: "Content-Length", secret: "canary" }
      ] as const
      for (const one of unfit) {
        const error = yield* failure(at(server.url), { auth: one, signingSecret: null })
        assert.strictEqual(error.code, "tool_unavailable")
        assert.notInclude(error.message, "canary")
      }
    })
  )

  it.scoped("may answer with any JSON, or with nothing", () =>
    Effect.gen(function* () {
      const answers: ReadonlyArray<readonly [number, string, string]> = [
        [200, "application/json", "[1]"],
        [201, "text/html", `"x"`],
        [202, "application/json", ""]
      ]
      const outputs = yield* Effect.forEach(answers, ([status, type, body]) =>
        Effect.flatMap(answering(status, { "content-type": type }, body), ({ url }) => call(at(url)))
      )
      assert.deepStrictEqual(outputs, [[1], "x", null])
      const none = yield* answering(204, {}, "")
      assert.isNull(yield* call(at(none.url)))
      for (const body of ["<html>", "{", `"\\u0000"`, "\u0000"]) {
        const server = yield* answering(200, { "content-type": "text/html" }, body)
        assert.strictEqual((yield* failure(at(server.url))).code, "tool_output_invalid", body)
      }
    })
  )

  it.scoped("is called again where that may help", () =>
    Effect.gen(function* () {
      const ends = [
        [400, "tool_http_4xx", false],
        [422, "tool_http_4xx", false],
        [408, "tool_http_4xx", true],
        [429, "tool_http_4xx", true],
        [500, "tool_http_5xx", true]
      ] as const
      for (const [status, code, retryable] of ends) {
        const server = yield* answering(status, { "retry-after": "9" }, "canary")
        const error = yield* failure(at(server.url))
        assert.deepStrictEqual([error.code, error.retryable], [code, retryable])
        assert.strictEqual(error.retry_after_seconds, retryable ? 9 : undefined)
        assert.notInclude(error.message, "canary")
      }
      const nowhere = yield* failure({ ...at(""), base_url: null })
      assert.strictEqual(nowhere.code, "tool_unavailable")
      const forbidden = yield* failure(at("http://10.0.0.1/"))
      assert.strictEqual(forbidden.code, "target_forbidden")
    })
  )

  it.scoped("that does not answer is left alone, until its next version", () =>
    Effect.gen(function* () {
      const server = yield* serve(() => undefined)
      const extension = { ...at(server.url), name: "slow" }
      for (let i = 0; i < 5; i++)
        assert.strictEqual((yield* failure(extension, noCredentials, {}, 0.2)).code, "timeout")
      const before = server.seen.length
      const held = yield* failure(extension)
      assert.deepInclude(held, { code: "tool_connection", retryable: true })
      assert.isTrue((held.retry_after_seconds ?? 0) > 20 && (held.retry_after_seconds ?? 0) <= 30)
      assert.strictEqual(server.seen.length, before)
      const changed = yield* Effect.either(call({ ...extension, version: 2 }, noCredentials, {}, 0.2))
      assert.isTrue(Either.isLeft(changed) && changed.left.code === "timeout")
      assert.strictEqual(server.seen.length, before + 1)
    })
  )
})
