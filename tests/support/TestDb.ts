import type { PgClient } from "@effect/sql-pg/PgClient"
import type { SqlClient } from "@effect/sql/SqlClient"
import { ConfigProvider, Effect, Layer, type Scope } from "effect"
import pg from "pg"
import { inject } from "vitest"
import * as Db from "../../src/layers/Db.ts"

/** Runs statements one by one on a connection of their own to the server's maintenance database. */
const maintain = (...statements: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const client = new pg.Client({ connectionString: inject("databaseUrl") })
    await client.connect()
    try {
      for (const statement of statements) await client.query(statement)
    } finally {
      await client.end()
    }
  })

/** The URL of a new database with every migration applied and no rows; it is dropped when the scope closes. */
export const freshDatabase: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.gen(function* () {
    const name = `test_${crypto.randomUUID().replaceAll("-", "")}`
    yield* maintain(`CREATE DATABASE ${name} TEMPLATE ${inject("templateDatabase")} STRATEGY file_copy`)
    return name
  }),
  (name) => maintain(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
).pipe(
  Effect.map((name) => {
    const url = new URL(inject("databaseUrl"))
    url.pathname = name
    return url.href
  })
)

/** The product's own `Db.layer` on the database of `url`; other settings stay as they are. */
export const dbAt = (url: string): Layer.Layer<PgClient | SqlClient | Db.Renewals | Db.Maintenance> =>
  Layer.unwrapEffect(
    Effect.configProviderWith((rest) => {
      const here = ConfigProvider.fromMap(new Map([["DATABASE_URL", url]]))
      return Effect.succeed(
        Layer.fresh(Db.layer).pipe(
          Layer.provide(Layer.setConfigProvider(ConfigProvider.orElse(here, () => rest))),
          Layer.orDie
        )
      )
    })
  )

/** The product's own `Db.layer` on a fresh database: each place that builds this layer gets a database of its own. */
export const TestDb: Layer.Layer<PgClient | SqlClient | Db.Renewals | Db.Maintenance> = Layer.unwrapScoped(
  Effect.map(freshDatabase, (url) => dbAt(url))
).pipe(Layer.fresh)
