import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { randomBytes } from "node:crypto"
import { Redis } from "ioredis"
import { inject } from "vitest"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import * as Programs from "../support/programs.ts"
import { freshDatabase } from "../support/TestDb.ts"
import { coverage, lags, perSecond, slow } from "./coverage.ts"

const { eventually, query, request } = Programs

const streamKey = "ordinaut:events"

const Work = Schema.Struct({ id: Schema.String, lease_no: Schema.Int, attempt: Schema.Int })
const Count = Schema.Struct({ n: Schema.Int })
const Entry = Schema.Struct({ number: Schema.Int, id: Schema.String })

/** A database without a schema, an empty Redis (database `number`), and the settings that all programs share. */
const shared = Effect.fnUntraced(function* (number: number) {
  const DATABASE_URL = yield* freshDatabase
  const REDIS_URL = `${inject("redisUrl")}/${number}`
  const redis = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Redis(REDIS_URL)
      await client.flushdb()
      return client
    }),
    (client) => Effect.promise(() => client.quit())
  )
  const key = fromRandom(randomBytes(41)).text
  const env = {
    DATABASE_URL,
    REDIS_URL,
    ORDINAUT_ADMIN_KEY: key,
    ORDINAUT_SECRET: randomBytes(32).toString("base64"),
    HOST: "127.0.0.1",
    WORKER_CONCURRENCY: "200"
  }
  yield* query(DATABASE_URL, Schema.Unknown, "DROP SCHEMA public CASCADE")
  yield* query(DATABASE_URL, Schema.Unknown, "CREATE SCHEMA public")
  return { database: DATABASE_URL, env, key, redis }
})

/** What a worker process holds. */
const heldBy = (database: string, pid: number) =>
  query(
    database,
    Work,
    `SELECT d.id, lease_no, attempt FROM due_work d JOIN worker_heartbeat w ON w.id = d.locked_by WHERE w.pid = $1 AND state = 'leased'`,
    [pid]
  )

const someHeldBy = (database: string, pid: number, atLeast: number) =>
  eventually(
    `work of process ${pid}`,
    20,
    Effect.map(heldBy(database, pid), (rows) => (rows.length >= atLeast ? rows : undefined))
  )

/** Waits until all of these runs were leased again. */
const leasedAgain = (database: string, before: ReadonlyArray<typeof Work.Type>, seconds: number) =>
  eventually(
    "other lease of all runs",
    seconds,
    Effect.map(
      query(database, Work, "SELECT id, lease_no, attempt FROM due_work WHERE id = ANY ($1) AND lease_no > 1", [
        before.map(({ id }) => id)
      ]),
      (rows) => (rows.length === before.length ? rows : undefined)
    )
  )

const numbered = (database: string) =>
  query(
    database,
    Entry,
    `SELECT (first_number + i - 1)::integer AS number, entry ->> 'id' AS id
     FROM outbox, jsonb_array_elements(entries) WITH ORDINALITY AS e (entry, i) WHERE first_number IS NOT NULL ORDER BY 1`
  )

/** Waits until the stream holds each entry of the log once, in order, numbered from 1 without gaps. */
const streamIsWhole = (database: string, redis: Redis) =>
  eventually(
    "whole stream",
    20,
    Effect.gen(function* () {
      const [open] = yield* query(
        database,
        Count,
        "SELECT count(*)::integer AS n FROM outbox WHERE first_number IS NULL"
      )
      const log = yield* numbered(database)
      const stream = yield* Effect.promise(() => redis.xrange(streamKey, "-", "+"))
      const ids = new Set(log.map(({ id }) => id))
      assert.strictEqual(ids.size, log.length, "an entry is in the log twice")
      if (open?.n !== 0 || stream.length < log.length) return undefined
      assert.deepStrictEqual(
        log.map(({ number }) => number),
        log.map((_, i) => i + 1)
      )
      const [, fields] = stream[0] ?? []
      const at = (fields ?? []).indexOf("id") + 1
      assert.deepStrictEqual(
        stream.map(([id, values]) => `${id} ${values[at]}`),
        log.map(({ id, number }) => `${number}-0 ${id}`)
      )
      return log.length
    })
  )

describe("separate programs", { concurrent: true }, () => {
  it.scopedLive(
    "share the work, and lose nothing when some of them are killed",
    () =>
      Effect.gen(function* () {
        const { database, env, key, redis } = yield* shared(7)
        const migrators = yield* Effect.all([Programs.run("migrate", env), Programs.run("migrate", env)])
        for (const migrator of migrators) assert.strictEqual(yield* migrator.ended, 0, migrator.errors())

        const start = (name: Programs.Name, more: Readonly<Record<string, string>> = {}) =>
          Programs.start(name, { ...env, ...more })
        const [api, otherApi, scheduler, otherScheduler, worker, otherWorker] = yield* Effect.all(
          [
            start("api"),
            start("api"),
            start("scheduler"),
            start("scheduler"),
            start("worker"),
            start("worker", { SHUTDOWN_GRACE_SECONDS: "1" })
          ],
          { concurrency: 6 }
        )

        yield* perSecond({ ...api, key }, 200, { payload: { pipeline: [{ id: "only", uses: "mail.send" }] } })
        const created = new Date()
        yield* eventually(
          "five seconds of all tasks",
          30,
          Effect.map(coverage(database), (found) =>
            found.fired >= 1000 && found.through.getTime() > created.getTime() + 5000 ? found : undefined
          )
        )
        const lag = yield* lags(database)
        assert.isBelow(lag.p50, 1000)

        // A killed scheduler, which is one of the publishers too.
        assert.strictEqual(yield* scheduler.stop("SIGKILL"), "SIGKILL")
        assert.strictEqual(yield* otherApi.stop("SIGKILL"), "SIGKILL")
        const killed = new Date()
        yield* eventually(
          "decision of all seconds by the other scheduler",
          20,
          Effect.map(coverage(database), ({ through }) =>
            through.getTime() > killed.getTime() + 2000 ? through : undefined
          )
        )
        yield* query(database, Schema.Unknown, "UPDATE task SET status = 'paused'")

        // Work that takes most of a minute is met under way. It is due at moments of its own, so that every worker gets of it.
        const third = yield* start("worker")
        yield* perSecond({ ...api, key }, 8, { payload: slow(100), jitter_seconds: 1 })
        yield* Effect.forEach([worker, otherWorker, third], ({ pid }) => someHeldBy(database, pid, 3))
        yield* query(database, Schema.Unknown, "UPDATE task SET status = 'paused'")

        const released = yield* heldBy(database, otherWorker.pid)
        const told = performance.now()
        assert.strictEqual(yield* otherWorker.stop("SIGTERM"), 0)
        const left = (performance.now() - told) / 1000
        assert.isBelow(left, 8)
        assert.isEmpty(yield* heldBy(database, otherWorker.pid))
        yield* leasedAgain(database, released, 5)
        assert.isEmpty(yield* query(database, Work, "SELECT id, lease_no, attempt FROM due_work WHERE attempt > 1"))

        const orphaned = yield* heldBy(database, worker.pid)
        assert.strictEqual(yield* worker.stop("SIGKILL"), "SIGKILL")
        const leases = new Map(orphaned.map((row) => [row.id, row.lease_no]))
        yield* eventually(
          "rescue of all runs of the killed worker",
          20,
          Effect.map(heldBy(database, third.pid), (rows) => {
            const rescued = rows.filter(({ id, lease_no }) => lease_no === (leases.get(id) ?? Infinity) + 1)
            return rescued.length === orphaned.length ? rescued : undefined
          })
        )
        yield* coverage(database)
        yield* streamIsWhole(database, redis)

        yield* Effect.promise(() => redis.flushdb())
        yield* streamIsWhole(database, redis)
        for (const program of [api, otherScheduler]) assert.strictEqual(yield* program.stop("SIGTERM"), 0)
      }),
    120_000
  )

  it.scopedLive(
    "let the runs of a worker that is told to stop end within its grace, past the length of a lease",
    () =>
      Effect.gen(function* () {
        const { database, env, key } = yield* shared(8)
        const migrator = yield* Programs.run("migrate", env)
        assert.strictEqual(yield* migrator.ended, 0, migrator.errors())
        const start = (name: Programs.Name) => Programs.start(name, { ...env, LEASE_SECONDS: "10" })
        const [api, worker] = yield* Effect.all([start("api"), start("worker")], { concurrency: 2 })
        const to = { ...api, key }
        const task = yield* request(to, "POST", "/tasks", Schema.Struct({ id: Schema.String }), {
          title: "longer than a lease",
          schedule_kind: "once",
          schedule_expr: "2100-01-01T00:00:00Z",
          max_retries: 0,
          payload: slow(26)
        })
        yield* request(to, "POST", `/tasks/${task.body.id}/run_now`, Schema.Unknown)
        yield* someHeldBy(database, worker.pid, 1)
        // It would take over a lease that nobody renews.
        yield* start("worker")
        assert.strictEqual(yield* worker.stop("SIGTERM"), 0)
        const [run] = yield* query(
          database,
          Schema.Struct({ state: Schema.String, lease_no: Schema.Int, calls: Schema.Int }),
          `SELECT r.state, lease_no, s.attempt AS calls FROM task_run r JOIN run_step s ON s.run_id = r.id`
        )
        assert.deepStrictEqual(run, { state: "failed", lease_no: 1, calls: 26 })
      }),
    90_000
  )
})
