import { randomBytes } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import { assert, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer } from "effect"
import type { Actor } from "../../src/domain/Agent.ts"
import { AgentId } from "../../src/domain/Agent.ts"
import { Audit } from "../../src/layers/Audit.ts"
import { Extensions } from "../../src/layers/Extensions.ts"
import * as HandedOut from "../../src/layers/HandedOut.ts"
import { JsonSchemas } from "../../src/layers/JsonSchemas.ts"
import { MasterKey } from "../../src/layers/MasterKey.ts"
import * as Resealing from "../../src/layers/Resealing.ts"
import * as Sealing from "../../src/layers/Sealing.ts"
import { Secrets } from "../../src/layers/Secrets.ts"
import { dbAt, freshDatabase } from "../support/TestDb.ts"

const made = () => randomBytes(32).toString("base64")
const actor: Actor = {
  id: AgentId.make("019cadc6-9a80-7000-8000-000000000000"),
  name: "admin",
  namespace: "main",
  scopes: ["admin"]
}
const target = { tool: "core.http", host: "api.example.com" }
const reveal = Effect.flatMap(Secrets, (secrets) => secrets.resolve("main", "secret://token", target))
const auth = Effect.flatMap(Extensions, (extensions) => extensions.credentials("main", "mail"))

/** A process whose `ORDINAUT_SECRET` holds these. */
const process = (url: string, ...secrets: ReadonlyArray<string>) =>
  Layer.mergeAll(Secrets.layer, Extensions.layer).pipe(
    Layer.provide([Audit.layer, JsonSchemas.layer]),
    Layer.provideMerge(MasterKey.layer),
    Layer.provideMerge(dbAt(url)),
    Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["ORDINAUT_SECRET", secrets.join(",")]])))),
    Layer.orDie
  )

it.scoped("ORDINAUT_SECRET rotates: the first seals, all open, and what is sealed moves to the first", () =>
  Effect.gen(function* () {
    const url = yield* freshDatabase
    const [old, young] = [made(), made()]
    const before = Effect.provide(process(url, old))
    const both = Effect.provide(process(url, young, old))
    const after = Effect.provide(process(url, young))

    yield* Effect.gen(function* () {
      const secrets = yield* Secrets
      const extensions = yield* Extensions
      yield* secrets.put(actor, "token", { value: "the value", bound_to: { hosts: ["api.example.com"] } })
      yield* extensions.put(
        actor,
        "mail",
        {
          kind: "http",
          base_url: "https://tools.example.com",
          tools: [],
          auth: { kind: "bearer", secret: "the auth" }
        },
        null
      )
      assert.strictEqual(yield* Resealing.pass, 0)
    }).pipe(before)

    // Before the pass, a process without the old key can open nothing, and breaks nothing.
    yield* Effect.gen(function* () {
      assert.deepInclude(yield* Effect.flip(reveal), { code: "internal" })
      assert.deepInclude(yield* Effect.flip(auth), { _tag: "Unopenable", reason: "unknown_key" })
      assert.strictEqual(yield* Resealing.pass, 0)
    }).pipe(after)

    yield* Effect.gen(function* () {
      assert.strictEqual(yield* reveal, "the value")
      assert.deepStrictEqual((yield* auth)?.auth, { kind: "bearer", secret: "the auth" })
      const sql = yield* SqlClient.SqlClient
      const sealed = sql<{ sealed: Uint8Array }>`SELECT sealed FROM secret`
      const [first] = yield* sealed
      assert.strictEqual(yield* Resealing.pass, 2)
      assert.deepStrictEqual(yield* sealed, [first ?? { sealed: new Uint8Array() }])
      assert.strictEqual(yield* Resealing.pass, 0)
      assert.strictEqual(yield* reveal, "the value")
    }).pipe(both)

    yield* Effect.gen(function* () {
      assert.strictEqual(yield* reveal, "the value")
      assert.deepStrictEqual((yield* auth)?.auth, { kind: "bearer", secret: "the auth" })
      assert.isNotNull((yield* auth)?.signingSecret)
    }).pipe(after)

    const failed = yield* Effect.flip(reveal).pipe(before)
    assert.match(failed.message, /secret token was sealed with a key that ORDINAUT_SECRET no longer holds/)
  })
)

it.scoped("what was handed out with an open item moves to the first key, too", () =>
  Effect.gen(function* () {
    const url = yield* freshDatabase
    const [old, young] = [made(), made()]
    const id = "019cadc6-9a80-7000-8000-000000000001"
    const handed = Effect.gen(function* () {
      const key = yield* MasterKey
      return HandedOut.make(yield* SqlClient.SqlClient, Sealing.make(key.derive("secret")))
    })
    const values: HandedOut.HandedValues = [["token", "the value"]]
    yield* Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`INSERT INTO pending_item (id, run_id, step_id, kind, agent_id, namespace, lease_no, created_at)
        VALUES (${id}, ${id}, 'x', 'tool', ${id}, 'main', 1, ${new Date(0)})`
      assert.isTrue(yield* (yield* handed).keep("main", id, 1, values))
      assert.isFalse(yield* (yield* handed).keep("main", id, 2, values))
    }).pipe(Effect.provide(process(url, old)))
    yield* Effect.gen(function* () {
      assert.strictEqual(yield* Resealing.pass, 1)
      assert.strictEqual(yield* Resealing.pass, 0)
    }).pipe(Effect.provide(process(url, young, old)))
    yield* Effect.gen(function* () {
      assert.deepStrictEqual(yield* (yield* handed).of("main", id), values)
    }).pipe(Effect.provide(process(url, young)))
  })
)
