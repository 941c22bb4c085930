import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Clock, ConfigProvider, Context, Effect, Layer, TestClock } from "effect"
import { decodeProtectedHeader, exportJWK, generateKeyPair, SignJWT } from "jose"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Agents } from "../../src/layers/Agents.ts"
import { Audit } from "../../src/layers/Audit.ts"
import { MasterKey } from "../../src/layers/MasterKey.ts"
import { SigningKeys } from "../../src/layers/SigningKeys.ts"
import { Tokens } from "../../src/layers/Tokens.ts"
import { History } from "../../src/layers/History.ts"
import { admin, agent } from "../support/fixtures.ts"
import { services } from "../support/Services.ts"

const secretOf = (byte: string) => Buffer.from(`${byte} is a secret of a test that is long enough`).toString("base64")

/** The services of tokens of another process on the same database; `more` are its settings. */
const process = (more: Readonly<Record<string, string>> = {}) =>
  Effect.gen(function* () {
    const database = yield* Effect.context<SqlClient.SqlClient | Audit | MasterKey>()
    const master =
      "ORDINAUT_SECRET" in more ? MasterKey.layer : Layer.succeed(MasterKey, Context.get(database, MasterKey))
    const built = Layer.provideMerge(Layer.fresh(Tokens.layer), Layer.fresh(SigningKeys.layer)).pipe(
      Layer.provide(Layer.fresh(master)),
      Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(more)))))
    )
    const context = yield* Effect.orDie(Layer.build(built))
    return { tokens: Context.get(context, Tokens), keys: Context.get(context, SigningKeys) }
  })

/** An admin with a key, as whoever authenticates with it. */
const buyer = Effect.gen(function* () {
  const { actor, key } = yield* admin
  return { actor, caller: yield* (yield* Agents).authenticate(key) }
})

const request = { ttl_seconds: 900 }
const kidOf = (token: string) => decodeProtectedHeader(token).kid
const refused = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.flip(effect), ({ _tag }) => assert.strictEqual(_tag, "Unauthorized"))

layer(services())("the keys of tokens", (it) => {
  it.scoped("survive a restart, rotate after 30 days with overlap, and verify until the last token is over", () =>
    Effect.gen(function* () {
      const { actor, caller } = yield* buyer
      const one = yield* process()
      const other = yield* process()
      assert.deepStrictEqual(yield* other.keys.published, [])
      const first = yield* one.tokens.issue(caller, request)
      // The other process has just seen that there is no key.
      assert.strictEqual((yield* other.tokens.authenticate(first.access_token)).id, actor.id)
      assert.strictEqual(kidOf((yield* other.tokens.issue(caller, request)).access_token), kidOf(first.access_token))
      const again = yield* process()
      assert.strictEqual((yield* again.tokens.authenticate(first.access_token)).id, actor.id)
      assert.strictEqual(kidOf((yield* again.tokens.issue(caller, request)).access_token), kidOf(first.access_token))

      yield* TestClock.adjust("30 days")
      const last = yield* one.tokens.issue(caller, request)
      assert.strictEqual(kidOf(last.access_token), kidOf(first.access_token), "a new key is published before it signs")
      assert.lengthOf(yield* (yield* process()).keys.published, 2)
      yield* TestClock.adjust("1 minute")
      const next = yield* other.tokens.issue(caller, request)
      assert.notStrictEqual(kidOf(next.access_token), kidOf(first.access_token))
      assert.strictEqual(kidOf((yield* one.tokens.issue(caller, request)).access_token), kidOf(next.access_token))
      yield* TestClock.adjust("14 minutes")
      for (const { access_token } of [last, next]) {
        assert.strictEqual((yield* again.tokens.authenticate(access_token)).id, actor.id)
      }
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(
        (yield* again.keys.published).map(({ kid }) => kid),
        [kidOf(next.access_token)]
      )
      yield* TestClock.adjust("1 day")
      yield* (yield* History).keep
      const sql = yield* SqlClient.SqlClient
      assert.lengthOf(yield* sql`SELECT kid FROM signing_key`, 1)
    })
  )

  it.scoped("of many processes that start at once one makes the key", () =>
    Effect.gen(function* () {
      const { caller } = yield* buyer
      const sql = yield* SqlClient.SqlClient
      yield* sql`DELETE FROM signing_key`
      const all = yield* Effect.all(Array.from({ length: 8 }, () => process()))
      const issued = yield* Effect.all(
        all.map(({ tokens }) => tokens.issue(caller, request)),
        { concurrency: 8 }
      )
      assert.lengthOf(new Set(issued.map(({ access_token }) => kidOf(access_token))), 1)
      assert.lengthOf(yield* sql`SELECT kid FROM signing_key`, 1)
    })
  )

  it.scoped("are stored encrypted, for their own row alone, and change hands with the secret", () =>
    Effect.gen(function* () {
      const { actor, caller } = yield* buyer
      const sql = yield* SqlClient.SqlClient
      yield* sql`DELETE FROM signing_key`
      const old = yield* process({ ORDINAUT_SECRET: secretOf("one") })
      const { access_token } = yield* old.tokens.issue(caller, request)
      const [stored] = yield* sql<{ private_key: Buffer }>`SELECT private_key FROM signing_key`
      assert.notInclude(stored?.private_key.toString("latin1") ?? "", '"d"')
      const both = yield* process({ ORDINAUT_SECRET: `${secretOf("two")},${secretOf("one")}` })
      assert.strictEqual(kidOf((yield* both.tokens.issue(caller, request)).access_token), kidOf(access_token))
      const strange = yield* process({ ORDINAUT_SECRET: secretOf("three") })
      assert.strictEqual((yield* strange.tokens.authenticate(access_token)).id, actor.id)
      const other = yield* strange.tokens.issue(caller, request)
      assert.notStrictEqual(kidOf(other.access_token), kidOf(access_token))
      yield* sql`UPDATE signing_key SET private_key = (SELECT private_key FROM signing_key WHERE kid = ${kidOf(access_token) ?? ""})`
      const moved = yield* process({ ORDINAUT_SECRET: `${secretOf("three")},${secretOf("one")}` })
      assert.strictEqual(kidOf((yield* moved.tokens.issue(caller, request)).access_token), kidOf(access_token))
    })
  )

  it.scoped("a revocation takes effect in another process within 5 s, and is forgotten when the token is over", () =>
    Effect.gen(function* () {
      const { actor, caller } = yield* buyer
      const sql = yield* SqlClient.SqlClient
      const one = yield* process()
      const other = yield* process()
      const { access_token } = yield* one.tokens.issue(caller, request)
      const [, claims = ""] = access_token.split(".")
      const { jti } = JSON.parse(Buffer.from(claims, "base64url").toString()) as { readonly jti: string }
      yield* other.tokens.authenticate(access_token)
      yield* one.tokens.revoke(actor, jti)
      yield* refused(one.tokens.authenticate(access_token))
      yield* TestClock.adjust("5 seconds")
      yield* refused(other.tokens.authenticate(access_token))
      yield* (yield* History).keep
      assert.lengthOf(yield* sql`SELECT jti FROM revoked_token`, 1)
      yield* TestClock.adjust("16 minutes")
      yield* (yield* History).keep
      assert.lengthOf(yield* sql`SELECT jti FROM revoked_token`, 0)
    })
  )
})

layer(services())("the tokens of a key", (it) => {
  it.scoped("end within 5 s of its revocation in every process, and those of another key of the agent do not", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const { actor } = yield* admin
      const { actor: member } = yield* agent(actor, "rotating", ["tasks:read"])
      const processes = [yield* process(), yield* process()]
      const bought = yield* Effect.forEach(["old", "new"], (name) =>
        Effect.gen(function* () {
          const { id, key } = yield* agents.issueKey(actor, member.id, { name })
          const caller = yield* agents.authenticate(key)
          return { id, token: (yield* (yield* process()).tokens.issue(caller, request)).access_token }
        })
      )
      const [old, other] = [bought[0]!, bought[1]!]
      for (const { tokens } of processes) {
        assert.strictEqual((yield* tokens.authenticate(old.token)).key_id, old.id)
        yield* tokens.authenticate(other.token)
      }
      yield* agents.revokeKey(actor, member.id, old.id)
      yield* TestClock.adjust("5 seconds")
      for (const { tokens } of processes) {
        yield* refused(tokens.authenticate(old.token))
        assert.strictEqual((yield* tokens.authenticate(other.token)).id, member.id)
      }
    })
  )
})

/** A server of keys that a test can take away. */
const issuer = Effect.acquireRelease(
  Effect.promise(async () => {
    const pair = await generateKeyPair("ES256", { extractable: true })
    const state = { keys: [{ ...(await exportJWK(pair.publicKey)), kid: "k1", alg: "ES256" }], away: false, asked: 0 }
    const server = createServer((_, response) => {
      state.asked += 1
      response.writeHead(state.away ? 500 : 200, { "content-type": "application/json" })
      response.end(JSON.stringify({ keys: state.keys }))
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    return {
      state,
      server,
      key: pair.privateKey,
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`
    }
  }),
  ({ server }) => Effect.sync(() => server.close())
)

layer(services())("tokens of an outside issuer", (it) => {
  it.scoped("are taken when everything about them is right, and narrow the scopes of their agent", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const { actor: member } = yield* agent(actor, "outsider", ["tasks:*", "runs:read"])
      const { key, state, url } = yield* issuer
      const iss = "https://login.example/"
      const settings = { JWKS_URL: url, JWT_ISSUER: iss, JWT_AUDIENCE: "our-api" }
      const { tokens } = yield* process(settings)
      const now = Math.floor((yield* Clock.currentTimeMillis) / 1000)
      const good = { iss, aud: ["our-api", "other"], sub: member.id, iat: now - 10, exp: now + 3600, jti: "one" }
      const token = (claims: object = {}, header: object = {}) =>
        Effect.promise(() =>
          new SignJWT({ ...good, ...claims })
            .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: "k1", ...header })
            .sign(key)
        )
      state.away = true
      const away = yield* Effect.flip(tokens.authenticate(yield* token()))
      assert.strictEqual(away._tag, "IssuerUnavailable")
      state.away = false
      assert.deepInclude(yield* tokens.authenticate(yield* token()), {
        id: member.id,
        scopes: ["tasks:*", "runs:read"]
      })
      const narrow = yield* tokens.authenticate(yield* token({ scope: "openid tasks:read runs:read secrets:write" }))
      assert.deepStrictEqual(narrow.scopes, ["tasks:read", "runs:read"])
      const claims = [
        { iss: "https://login.example" },
        { aud: "other" },
        { sub: "somebody" },
        { sub: "019cadc6-9a80-7000-8000-000000000000" },
        { jti: undefined },
        { jti: 1 },
        { exp: undefined },
        { iat: undefined },
        { exp: now - 31 },
        { iat: now + 31 },
        { iat: now - 86_431 },
        { nbf: now + 31 },
        { scope: ["tasks:read"] }
      ]
      for (const wrong of claims) yield* refused(tokens.authenticate(yield* token(wrong)))
      for (const header of [{ typ: "JWT" }, { typ: undefined }, { kid: "k2" }, { jku: url }, { jwk: state.keys[0] }]) {
        yield* refused(tokens.authenticate(yield* token({}, header)))
      }
      const before = state.asked
      for (let i = 0; i < 20; i++) yield* refused(tokens.authenticate(yield* token({}, { kid: `unknown-${i}` })))
      assert.strictEqual(state.asked, before, "unknown keys do not make us ask the issuer again and again")

      yield* tokens.revoke(member, "one")
      yield* refused(tokens.authenticate(yield* token()))
      assert.strictEqual((yield* tokens.authenticate(yield* token({ jti: "two" }))).id, member.id)
      yield* refused((yield* process()).tokens.authenticate(yield* token({ jti: "two" })))
    })
  )

  it.scoped("need all three settings, and an address that nobody can listen to", () =>
    Effect.gen(function* () {
      const wrong = (more: Readonly<Record<string, string>>) =>
        Effect.map(Effect.sandbox(process(more)).pipe(Effect.flip), (cause) => String(cause))
      const full = { JWKS_URL: "https://a.example/keys", JWT_ISSUER: "a", JWT_AUDIENCE: "b" }
      for (const name of Object.keys(full)) {
        const { [name as keyof typeof full]: _, ...rest } = full
        assert.include(yield* wrong(rest), name)
      }
      for (const url of ["http://a.example/keys", "ftp://a.example", "keys", "https://user:pass@a.example/"]) {
        assert.include(yield* wrong({ ...full, JWKS_URL: url }), "JWKS_URL takes", url)
      }
    })
  )
})
