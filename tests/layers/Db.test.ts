import * as SqlClient from "@effect/sql/SqlClient"
import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Deferred, Effect, Either, Exit, Fiber, Layer } from "effect"
import { storeErrors } from "../../src/layers/Db.ts"
import * as Migrations from "../../src/layers/Migrations.ts"
import { Wakeups } from "../../src/layers/Wakeups.ts"
import { proxyTo } from "../support/proxy.ts"
import { dbAt, freshDatabase } from "../support/TestDb.ts"

/** A fresh database behind a proxy. */
const behindProxy = Effect.gen(function* () {
  const url = new URL(yield* freshDatabase)
  const proxy = yield* proxyTo(url.hostname, Number(url.port))
  url.port = String(proxy.port)
  return { proxy, url: url.href }
})

const answers = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* storeErrors(sql<{ one: number }>`SELECT 1 AS one`)
})

describe("the pool", () => {
  it.scopedLive(
    "heals when every connection has gone silent: each query ends as an outage, and the next ones are answered",
    () =>
      Effect.gen(function* () {
        const { proxy, url } = yield* behindProxy
        yield* Effect.gen(function* () {
          yield* Effect.all(
            Array.from({ length: 10 }, () => answers),
            { concurrency: 10 }
          )
          proxy.freeze()
          const started = performance.now()
          const silent = yield* Effect.all(
            Array.from({ length: 10 }, () => Effect.either(answers)),
            { concurrency: 10 }
          )
          assert.isBelow(performance.now() - started, 20_000)
          for (const answer of silent) {
            if (Either.isLeft(answer)) assert.strictEqual(answer.left._tag, "StoreUnavailable")
          }
          const healed = yield* Effect.all(
            Array.from({ length: 30 }, () => answers),
            { concurrency: 30 }
          )
          assert.lengthOf(healed, 30)
        }).pipe(Effect.provide(dbAt(url)))
      }),
    40_000
  )

  it.scopedLive("outlives connections that are reset, also inside a transaction", () =>
    Effect.gen(function* () {
      const { proxy, url } = yield* behindProxy
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const cut = Effect.zipRight(
          sql`SELECT 1`,
          Effect.sync(() => proxy.cut())
        ).pipe(Effect.zipRight(sql`SELECT pg_sleep(0.2)`), sql.withTransaction, storeErrors, Effect.either)
        const answer = yield* cut
        assert.strictEqual(Either.isLeft(answer) ? answer.left._tag : "answered", "StoreUnavailable")
        assert.lengthOf(yield* answers, 1)
      }).pipe(Effect.provide(dbAt(url)))
    })
  )

  it.scopedLive("a transaction that is interrupted after its connection was reset is no bug", () =>
    Effect.gen(function* () {
      const { proxy, url } = yield* behindProxy
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const begun = yield* Deferred.make<void>()
        const fiber = yield* sql`SELECT 1`.pipe(
          Effect.zipRight(Deferred.succeed(begun, undefined)),
          Effect.zipRight(Effect.never),
          sql.withTransaction,
          storeErrors,
          Effect.fork
        )
        yield* Deferred.await(begun)
        proxy.cut()
        yield* Effect.sleep("100 millis")
        const exit = yield* Fiber.interrupt(fiber)
        assert.isTrue(Exit.isInterrupted(exit))
        assert.isEmpty(Exit.isFailure(exit) ? [...Cause.defects(exit.cause)] : [])
      }).pipe(Effect.provide(dbAt(url)))
    })
  )

  it.scopedLive("turns a statement that is a bug into a defect, not into an outage", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const exit = yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        return yield* storeErrors(sql`SELECT no_such_column FROM task`)
      }).pipe(Effect.provide(dbAt(url)), Effect.sandbox, Effect.flip)
      assert.strictEqual(exit._tag, "Die")
    })
  )
})

describe("wake-ups", () => {
  it.scopedLive("cross processes, and go on after their connection was lost", () =>
    Effect.gen(function* () {
      const { proxy, url } = yield* behindProxy
      const process = (database: string) =>
        Layer.build(
          Wakeups.layer.pipe(
            Layer.provide(dbAt(database)),
            Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["DATABASE_URL", database]]))))
          )
        ).pipe(
          Effect.map((context) => Effect.provide(Wakeups, context)),
          Effect.flatten
        )
      const one = yield* process(url)
      const other = yield* process(url)
      const crosses = Effect.gen(function* () {
        const started = performance.now()
        yield* Effect.fork(Effect.delay(one.signal("work"), "50 millis"))
        yield* other.wait("work", "5 seconds")
        return performance.now() - started
      })
      // The first wait takes what its connecting signalled.
      yield* other.wait("work", "2 seconds")
      assert.isBelow(yield* crosses, 2000)
      proxy.cut()
      yield* other.wait("work", "5 seconds")
      assert.isBelow(yield* crosses, 2000)
    })
  )
})

describe("migrations", () => {
  it.scopedLive("of several programs at once are applied once", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`DROP SCHEMA public CASCADE`
        yield* sql`CREATE SCHEMA public`
      }).pipe(Effect.provide(dbAt(url)))
      const migrate = Migrations.run.pipe(Effect.provide(dbAt(url)))
      const applied = yield* Effect.all(
        Array.from({ length: 4 }, () => migrate),
        { concurrency: 4 }
      )
      const all = applied.flat()
      assert.strictEqual(all.length, new Set(all).size)
      assert.isAbove(all.length, 1)
      assert.strictEqual(yield* Migrations.pending.pipe(Effect.provide(dbAt(url))), 0)
    })
  )

  it.scopedLive("whose files were changed after they were applied are refused by name", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const error = yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`UPDATE schema_migration SET checksum = 'other' WHERE version = 1`
        return yield* Effect.flip(Migrations.run)
      }).pipe(Effect.provide(dbAt(url)))
      assert.strictEqual(error._tag, "MigrationMismatch")
      assert.include(error.message, "0001_")
    })
  )
})

describe("a statement that nobody waits for any more", () => {
  it.scopedLive(
    "takes none of the others with it",
    () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const left = Effect.timeoutOption(sql`SELECT pg_sleep(0.003)`, "3 millis").pipe(Effect.repeatN(150))
          const kept = sql`SELECT pg_sleep(0.003)`.pipe(Effect.repeatN(150))
          yield* Effect.all(
            Array.from({ length: 16 }, (_, n) => (n % 2 === 0 ? left : kept)),
            { concurrency: 16, discard: true }
          )
          assert.deepStrictEqual(yield* answers, [{ one: 1 }])
        }).pipe(Effect.provide(dbAt(url)))
      }),
    30_000
  )
})
