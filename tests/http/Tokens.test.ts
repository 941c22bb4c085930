import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Clock, Effect, TestClock } from "effect"
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from "jose"
import { TokenIssued } from "../../src/domain/Token.ts"
import { SigningKeys } from "../../src/layers/SigningKeys.ts"
import { answered, apiServer, member, refusal, request } from "../support/ApiServer.ts"
import { badTokens, signed } from "../support/badTokens.ts"

const bought = (key: string, body?: object) =>
  Effect.map(request("POST", "/auth/token", body === undefined ? { key } : { key, body }), (answer) =>
    answered(answer, 200, TokenIssued)
  )

const status = (key: string, path = "/tasks") => Effect.map(request("GET", path, { key }), (answer) => answer.status)

const jtiOf = (token: string) => decodeJwt(token).jti ?? ""

layer(apiServer())("access tokens", (it) => {
  it.effect("stand in for the key that bought them, with its scopes or fewer", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("buyer", ["tasks:*", "runs:read"])
      const all = yield* bought(key)
      assert.deepInclude(all, { token_type: "Bearer", expires_in: 900, scopes: ["tasks:*", "runs:read"] })
      assert.strictEqual(yield* status(all.access_token), 200)
      assert.strictEqual(yield* status(all.access_token, "/runs"), 200)
      const few = yield* bought(key, { scopes: ["tasks:read"], ttl_seconds: 60 })
      assert.deepInclude(few, { expires_in: 60, scopes: ["tasks:read"] })
      assert.strictEqual(yield* status(few.access_token), 200)
      refusal(yield* request("GET", "/runs", { key: few.access_token }), 403, "forbidden")
      assert.strictEqual(decodeJwt(few.access_token).sub, actor.id)
      assert.strictEqual(yield* status((yield* bought(key, { scopes: [] })).access_token), 403)
    })
  )

  it.effect("grant nothing that the buyer does not have, and no other token", () =>
    Effect.gen(function* () {
      const { key } = yield* member("modest", ["tasks:read"])
      for (const scope of ["admin", "tasks:*", "tasks:write", "runs:read"]) {
        refusal(
          yield* request("POST", "/auth/token", { key, body: { scopes: ["tasks:read", scope] } }),
          403,
          "forbidden"
        )
      }
      refusal(yield* request("POST", "/auth/token", { key, body: { scopes: ["tasks:eat"] } }), 422)
      for (const ttl_seconds of [0, 901, 1.5, "60", null]) {
        refusal(yield* request("POST", "/auth/token", { key, body: { ttl_seconds } }), 422, "validation_failed")
      }
      refusal(yield* request("POST", "/auth/token", { key, body: { subject: "other" } }), 422)
      const { access_token } = yield* bought(key)
      refusal(yield* request("POST", "/auth/token", { key: access_token }), 403, "api_key_required")
      refusal(yield* request("POST", "/auth/token", { key: `${access_token}A` }), 401, "unauthorized")
      refusal(yield* request("POST", "/auth/token", { key: null }), 401, "unauthorized")
    })
  )

  it.effect("are verified by anybody, with the published keys", () =>
    Effect.gen(function* () {
      const { key } = yield* member("published", ["tasks:read"])
      const { access_token } = yield* bought(key)
      const set = yield* request("GET", "/.well-known/jwks.json", { key: null })
      assert.strictEqual(set.status, 200, set.text)
      assert.notInclude(set.text, '"d"')
      const verify = createLocalJWKSet(set.body as Parameters<typeof createLocalJWKSet>[0])
      const currentDate = new Date(yield* Clock.currentTimeMillis)
      const { protectedHeader } = yield* Effect.promise(() =>
        jwtVerify(access_token, verify, { issuer: "ordinaut", audience: "ordinaut", typ: "at+jwt", currentDate })
      )
      assert.deepInclude(protectedHeader, { alg: "EdDSA" })
    })
  )

  it.effect("end after their time, with 30 s of leeway, and with the key that bought them", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("brief", ["tasks:read"])
      const { access_token } = yield* bought(key, { ttl_seconds: 100 })
      yield* TestClock.adjust("129 seconds")
      assert.strictEqual(yield* status(access_token), 200)
      yield* TestClock.adjust("2 seconds")
      refusal(yield* request("GET", "/tasks", { key: access_token }), 401, "unauthorized")
      const expires_at = new Date((yield* Clock.currentTimeMillis) + 50_000).toISOString()
      const issued = yield* request("POST", `/agents/${actor.id}/keys`, { body: { expires_at } })
      const short = (issued.body as { readonly key: string }).key
      assert.strictEqual((yield* bought(short)).expires_in, 50)
    })
  )

  it.effect("lose what their agent loses within 5 s, and all when it is disabled", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("narrowed", ["tasks:*", "runs:read"])
      const { access_token } = yield* bought(key)
      assert.strictEqual(yield* status(access_token, "/runs"), 200)
      const patch = (body: object) => request("PATCH", `/agents/${actor.id}`, { body })
      yield* patch({ scopes: ["tasks:read"] })
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* status(access_token, "/runs"), 403)
      assert.strictEqual(yield* status(access_token, "/tasks"), 200)
      yield* patch({ scopes: ["admin"] })
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* status(access_token, "/runs"), 200)
      assert.strictEqual(yield* status(access_token, "/agents"), 403)
      yield* patch({ disabled: true })
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* status(access_token), 401)
    })
  )

  it.effect("are revoked by their own agent or by an admin, and by nobody else", () =>
    Effect.gen(function* () {
      const one = yield* member("revoker", ["tasks:read"])
      const two = yield* member("stranger", ["tasks:read", "agents:admin"])
      const revoke = (key: string | undefined, jti: unknown) =>
        request("POST", "/auth/revoke", key === undefined ? { body: { jti } } : { key, body: { jti } })
      const [first, second, third] = yield* Effect.all([bought(one.key), bought(one.key), bought(one.key)])
      const unknown = refusal(yield* revoke(two.key, jtiOf(first.access_token)), 404, "token_not_found")
      assert.strictEqual(refusal(yield* revoke(two.key, "nothing"), 404).detail, unknown.detail)
      assert.strictEqual(yield* status(first.access_token), 200)
      assert.strictEqual((yield* revoke(one.key, jtiOf(first.access_token))).status, 204)
      assert.strictEqual(yield* status(first.access_token), 401)
      assert.strictEqual((yield* revoke(second.access_token, jtiOf(second.access_token))).status, 204)
      assert.strictEqual((yield* revoke(second.access_token, jtiOf(second.access_token))).status, 401)
      assert.strictEqual((yield* revoke(undefined, jtiOf(third.access_token))).status, 204)
      assert.strictEqual((yield* revoke(undefined, jtiOf(third.access_token))).status, 204)
      assert.strictEqual(yield* status(third.access_token), 401)
      for (const jti of ["", 1, null, "x".repeat(201)]) refusal(yield* revoke(one.key, jti), 422)
      const sql = yield* SqlClient.SqlClient
      const trail = yield* sql`SELECT action FROM audit_log WHERE subject_id = ${jtiOf(third.access_token)} ORDER BY at`
      assert.deepStrictEqual(
        trail.map(({ action }) => action),
        ["token.issued", "token.revoked"]
      )
    })
  )
})

layer(apiServer())("bad tokens", (it) => {
  it.effect("over a hundred of them are refused, all with the same answer", () =>
    Effect.gen(function* () {
      const { key } = yield* member("victim", ["tasks:read"])
      const { access_token } = yield* bought(key)
      const signer = yield* (yield* SigningKeys).signer
      const [published] = yield* (yield* SigningKeys).published
      const now = Math.floor((yield* Clock.currentTimeMillis) / 1000)
      const [head = "", claims = ""] = access_token.split(".").map((part) => Buffer.from(part, "base64url").toString())
      const again = yield* Effect.promise(() => signed(signer.key, head, claims))
      assert.strictEqual(again, access_token, "the corpus would prove nothing if its signatures were bad")
      assert.strictEqual(yield* status(again), 200)
      assert.strictEqual(decodeProtectedHeader(access_token).kid, signer.kid)
      const bad = yield* Effect.promise(() =>
        badTokens({ token: access_token, kid: signer.kid, key: signer.key, publicKey: published?.x ?? "", now })
      )
      assert.isAbove(new Set(bad.map(({ token }) => token)).size, 150)
      const expected = refusal(yield* request("GET", "/tasks", { key: "nothing" }), 401, "unauthorized")
      for (const { token, why } of bad) {
        const answer = yield* request("GET", "/tasks", { key: token })
        assert.strictEqual(answer.status, 401, why)
        assert.strictEqual(answer.headers.get("www-authenticate"), "Bearer", why)
        assert.deepStrictEqual({ ...refusal(answer), request_id: "" }, { ...expected, request_id: "" }, why)
      }
      assert.strictEqual(yield* status(access_token), 200)
    })
  )
})
