import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Fiber, Layer, TestClock } from "effect"
import { Redis as Client } from "ioredis"
import { inject } from "vitest"
import { isExceeded } from "../../src/domain/RateLimit.ts"
import { RateLimits } from "../../src/layers/RateLimits.ts"
import { Redis } from "../../src/layers/Redis.ts"
import { proxyTo } from "../support/proxy.ts"
import { services } from "../support/Services.ts"

const charge = { scope: "agent" as const, id: "one", limit: 10 }

/** The limits of another process on the same database; `redis` is a URL. */
const process = (redis?: string) =>
  Effect.gen(function* () {
    const settings = new Map(redis === undefined ? [] : [["REDIS_URL", redis]])
    const built = Layer.fresh(RateLimits.layer).pipe(
      Layer.provide(Layer.fresh(Redis.layer)),
      Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(settings)))
    )
    return Context.get(yield* Effect.orDie(Layer.build(built)), RateLimits)
  })

const count = (limits: RateLimits["Type"], times = 1) =>
  Effect.gen(function* () {
    let last = 0
    for (let i = 0; i < times; i++) last = (yield* limits.charge([charge]))[0]?.count ?? 0
    return last
  })

layer(services())("limits in the database", (it) => {
  it.scoped("are counted in each process at once, and in all of them when they have shared", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [one, other] = [yield* process(), yield* process()]
      assert.strictEqual(yield* count(one, 8), 8)
      assert.strictEqual(yield* count(other, 3), 3)
      yield* one.share
      yield* other.share
      yield* one.charge([{ ...charge, id: "two" }])
      yield* one.share
      assert.strictEqual(yield* count(other), 12)
      assert.isTrue(isExceeded((yield* other.charge([charge]))[0] ?? { ...charge, count: 0, resets_in: 1 }))
      const before = yield* sql<{ n: string }>`SELECT xmin::text || ctid::text AS n FROM rate_window ORDER BY key`
      yield* one.share
      yield* one.share
      assert.deepStrictEqual(yield* sql`SELECT xmin::text || ctid::text AS n FROM rate_window ORDER BY key`, before)
      assert.strictEqual(yield* count(one), 9, "a process learns of the others when it has something to share")
      yield* one.share
      assert.isAbove(yield* count(one), 12)
    })
  )

  it.scoped("begin anew each minute, and nothing is left of those before", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const one = yield* process()
      yield* TestClock.adjust("1 minute")
      yield* count(one, 20)
      yield* one.share
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* count(one), 1)
      yield* TestClock.adjust("2 minutes")
      yield* one.charge([{ ...charge, id: "late" }])
      yield* one.share
      assert.deepStrictEqual(
        (yield* sql<{ key: string }>`SELECT key FROM rate_window`).map(({ key }) => key),
        ["agent:late"]
      )
    })
  )

  it.scoped("hold for each process while the database is away", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const one = yield* process()
      yield* TestClock.adjust("1 minute")
      yield* count(one, 4)
      yield* sql`ALTER TABLE rate_window RENAME TO away`
      assert.strictEqual((yield* Effect.flip(one.share))._tag, "StoreUnavailable")
      assert.strictEqual(yield* count(one), 5)
      yield* sql`ALTER TABLE away RENAME TO rate_window`
      yield* one.share
      assert.deepStrictEqual(yield* sql`SELECT count FROM rate_window WHERE key = 'agent:one'`, [{ count: 5 }])
    })
  )
})

/** Charges until Redis has counted one: a connection stands a moment after it was asked for. */
const connected = (limits: RateLimits["Type"], redis: Client) =>
  Effect.gen(function* () {
    const key = `warm-${Math.round(yield* Effect.sync(() => performance.now() * 1000))}`
    for (;;) {
      yield* limits.charge([{ ...charge, id: key }])
      if ((yield* Effect.promise(() => redis.exists(`ordinaut:rate:agent:${key}`))) === 1) return
      yield* TestClock.adjust("1 second")
      yield* Effect.promise(() => new Promise((resume) => setImmediate(resume)))
    }
  })

layer(services())("limits in Redis", (it) => {
  const database = `${inject("redisUrl")}/7`

  const client = Effect.acquireRelease(
    Effect.promise(async () => {
      const made = new Client(database)
      await made.flushdb()
      return made
    }),
    (made) => Effect.promise(() => made.quit())
  )

  it.scoped("are one count in all processes, by the server's clock, and end by themselves", () =>
    Effect.gen(function* () {
      const redis = yield* client
      const [one, other] = [yield* process(database), yield* process(database)]
      yield* connected(one, redis)
      yield* connected(other, redis)
      const counts = yield* Effect.all(
        Array.from({ length: 30 }, (_, i) => (i % 2 === 0 ? one : other).charge([charge])),
        { concurrency: 30 }
      )
      const all = counts.map(([standing]) => standing?.count ?? 0).sort((a, b) => a - b)
      // Where a minute begins in between, the count begins anew once.
      const again = all.lastIndexOf(1)
      const wanted = Array.from({ length: 30 - again }, (_, i) => i + 1)
      assert.includeMembers(wanted, all)
      assert.isTrue(again === 0 || all[1] === 1, all.join(","))
      const left = yield* Effect.promise(() => redis.pttl("ordinaut:rate:agent:one"))
      assert.isTrue(left > 0 && left <= 60_000, String(left))
    })
  )

  it.scoped("hold for each process while Redis is away or silent, from where they stood", () =>
    Effect.gen(function* () {
      const redis = yield* client
      const url = new URL(database)
      const proxy = yield* proxyTo(url.hostname, Number(url.port))
      const one = yield* process(`redis://127.0.0.1:${proxy.port}/7`)
      yield* connected(one, redis)
      const stood = yield* count(one, 5)
      proxy.freeze()
      const silent = yield* Effect.fork(count(one))
      yield* TestClock.adjust("250 millis")
      assert.strictEqual(yield* Fiber.join(silent), stood + 1)
      assert.strictEqual(yield* count(one, 3), stood + 4)
      const away = yield* process("redis://127.0.0.1:1/0")
      assert.strictEqual(yield* count(away, 12), 12)
      assert.strictEqual((yield* away.exhausted(charge))._tag, "Some")
      assert.strictEqual((yield* away.exhausted({ ...charge, id: "two" }))._tag, "None")
    })
  )

  it.scoped("mend a counter that has lost its end", () =>
    Effect.gen(function* () {
      const redis = yield* client
      const limits = yield* process(database)
      yield* connected(limits, redis)
      yield* Effect.promise(() => redis.set("ordinaut:rate:agent:one", "3"))
      assert.strictEqual(yield* count(limits), 4)
      assert.isAbove(yield* Effect.promise(() => redis.pttl("ordinaut:rate:agent:one")), 0)
    })
  )
})
