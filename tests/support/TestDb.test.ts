import * as SqlClient from "@effect/sql/SqlClient"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { inject } from "vitest"
import { dbAt, freshDatabase, TestDb } from "./TestDb.ts"

const databaseName = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ name: string }>`SELECT current_database() AS name`
  return row?.name
})

const migrations = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql`SELECT version FROM schema_migration`
})

describe("freshDatabase", () => {
  it.scoped("is migrated, and no two are the same", () =>
    Effect.gen(function* () {
      const [one, other] = yield* Effect.all([freshDatabase, freshDatabase], { concurrency: 2 })
      const names = yield* Effect.forEach([one, other], (url) => Effect.provide(databaseName, dbAt(url)))
      assert.strictEqual(new Set(names).size, 2)
      assert.isAbove((yield* Effect.provide(migrations, dbAt(one))).length, 0)
    })
  )

  it.effect("is gone after its scope", () =>
    Effect.gen(function* () {
      const name = yield* freshDatabase.pipe(
        Effect.map((url) => new URL(url).pathname.slice(1)),
        Effect.scoped
      )
      const found = yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        return yield* sql`SELECT 1 FROM pg_database WHERE datname = ${name}`
      }).pipe(Effect.provide(dbAt(inject("databaseUrl"))))
      assert.lengthOf(found, 0)
    })
  )
})

layer(TestDb)("TestDb", (it) => {
  it.effect("runs the product's own client under the clock of tests", () =>
    Effect.gen(function* () {
      assert.match((yield* databaseName) ?? "", /^test_/)
    })
  )
})

describe("redisUrl", () => {
  it("names a server that answers", async () => {
    const client = new Redis(inject("redisUrl"), { lazyConnect: true, maxRetriesPerRequest: 0 })
    await client.connect()
    assert.strictEqual(await client.ping(), "PONG")
    client.disconnect()
  })
})
