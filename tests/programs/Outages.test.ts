import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { randomBytes } from "node:crypto"
import { connect, createServer } from "node:net"
import type { Socket } from "node:net"
import { Redis } from "ioredis"
import { inject } from "vitest"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import { HealthReport } from "../../src/http/SystemApi.ts"
import { freePort } from "../../src/layers/EmbeddedDbServer.ts"
import * as Programs from "../support/programs.ts"
import { freshDatabase } from "../support/TestDb.ts"
import { coverage, perSecond } from "./coverage.ts"

const { eventually, query } = Programs

/** Past a lease, the patience of every statement, and the pauses of every loop. */
const longOutage = "25 seconds"

const Log = Schema.Struct({ size: Schema.Int, head: Schema.Int })
const Count = Schema.Struct({ n: Schema.Int })
const decodeHealth = Schema.decodeUnknownSync(HealthReport)

/** A port of its own before a server: while it is shut nobody is there, and whoever was connected is not any more. */
const doorTo = (server: URL) =>
  Effect.gen(function* () {
    const port = yield* freePort(0)
    const sockets = new Set<Socket>()
    const door = createServer((near) => {
      const far = connect(Number(server.port), server.hostname)
      for (const [from, to] of [
        [near, far],
        [far, near]
      ] as const) {
        sockets.add(from)
        from.pipe(to)
        from.on("error", () => to.destroy())
        from.on("close", () => sockets.delete(from) && to.destroy())
      }
    })
    const shut = Effect.sync(() => {
      door.close()
      for (const socket of sockets) socket.destroy()
    })
    const open = Effect.async<void>((resume) => {
      door.listen(port, "127.0.0.1", () => resume(Effect.void))
    })
    yield* Effect.addFinalizer(() => shut)
    const url = new URL(server)
    url.hostname = "127.0.0.1"
    url.port = String(port)
    return { open, shut, url: url.href }
  })

const statusOf = (program: Programs.Served, path: string) =>
  Effect.promise(async () => {
    const answer = await fetch(`${program.url}${path}`, { signal: AbortSignal.timeout(10_000) })
    return { status: answer.status, body: await answer.text() }
  })

const becomes = (program: Programs.Served, status: number) =>
  eventually(
    `${status} of process ${program.pid}`,
    30,
    Effect.map(statusOf(program, "/health/ready"), (answer) => (answer.status === status ? answer : undefined))
  )

const redisIs = (program: Programs.Served, state: string) =>
  eventually(
    `Redis that is ${state}`,
    20,
    Effect.map(statusOf(program, "/health"), ({ body }) => {
      const found = decodeHealth(JSON.parse(body)).parts["redis"]?.state
      return found === state ? found : undefined
    })
  )

describe("an outage", { concurrent: true }, () => {
  it.scopedLive(
    "of Redis or PostgreSQL at the start, in the middle, and for long costs time and nothing else",
    () =>
      Effect.gen(function* () {
        const database = yield* freshDatabase
        const postgres = yield* doorTo(new URL(database))
        const redis = yield* doorTo(new URL(`${inject("redisUrl")}/11`))
        const client = yield* Effect.acquireRelease(
          Effect.promise(async () => {
            const made = new Redis(`${inject("redisUrl")}/11`)
            await made.flushdb()
            return made
          }),
          (made) => Effect.promise(() => made.quit())
        )
        const key = fromRandom(randomBytes(41)).text
        const env = {
          DATABASE_URL: postgres.url,
          REDIS_URL: redis.url,
          ORDINAUT_ADMIN_KEY: key,
          ORDINAUT_SECRET: randomBytes(32).toString("base64"),
          HOST: "127.0.0.1",
          LEASE_SECONDS: "6"
        }
        const names = ["migrate", "api", "scheduler", "worker"] as const
        const [migrator, ...started] = yield* Effect.forEach(names, (name) => Programs.run(name, env))
        yield* Effect.sleep("3 seconds")
        assert.deepStrictEqual(
          started.map((program) => program.running()),
          [true, true, true]
        )

        // Neither was there at the start, and Redis is not yet.
        yield* postgres.open
        assert.strictEqual(yield* migrator?.ended ?? Effect.succeed(1), 0)
        const programs = yield* Effect.forEach(started, (program) => Programs.ready(program, 45), { concurrency: 3 })
        const [api] = programs
        if (api === undefined) return yield* Effect.dieMessage("there is no api")
        yield* redisIs(api, "degraded")
        yield* perSecond({ ...api, key }, 5, { payload: { pipeline: [{ id: "only", uses: "mail.send" }] } })
        const goesOn = (what: string) =>
          Effect.gen(function* () {
            const since = new Date()
            const before = (yield* coverage(database)).fired
            yield* eventually(
              `work ${what}`,
              30,
              Effect.map(coverage(database), ({ fired, through }) =>
                fired > before + 10 && through.getTime() > since.getTime() + 2000 ? fired : undefined
              )
            )
          })
        const streamIsWhole = eventually(
          "whole stream",
          30,
          Effect.gen(function* () {
            const [log] = yield* query(
              database,
              Log,
              "SELECT (SELECT sum(size)::integer FROM outbox) AS size, number::integer AS head FROM stream_head"
            )
            const [length, last] = yield* Effect.promise(async () => [
              await client.xlen("ordinaut:events"),
              (await client.xrevrange("ordinaut:events", "+", "-", "COUNT", 1))[0]?.[0]
            ])
            return log !== undefined && length === log.head && last === `${log.head}-0` ? length : undefined
          })
        )
        yield* goesOn("without Redis")

        yield* redis.open
        yield* redisIs(api, "healthy")
        yield* streamIsWhole
        yield* redis.shut
        yield* redisIs(api, "degraded")
        yield* goesOn("after Redis has gone")

        yield* postgres.shut
        yield* Effect.forEach(programs, (program) => becomes(program, 503), { concurrency: 3 })
        yield* Effect.sleep(longOutage)
        assert.deepStrictEqual(
          programs.map((program) => program.running()),
          [true, true, true]
        )
        yield* postgres.open
        yield* Effect.forEach(programs, (program) => becomes(program, 200), { concurrency: 3 })
        yield* goesOn("after PostgreSQL has come back")
        const [crashed] = yield* query(
          database,
          Count,
          "SELECT count(*)::integer AS n FROM task_run WHERE crashes > 0 OR state = 'failed'"
        )
        assert.strictEqual(crashed?.n, 0)

        yield* redis.open
        yield* query(database, Schema.Unknown, "UPDATE task SET status = 'paused'")
        yield* streamIsWhole
        for (const program of programs) assert.strictEqual(yield* program.stop("SIGTERM"), 0)
      }),
    180_000
  )
})
