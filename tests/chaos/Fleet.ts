import { Effect, Fiber, Schema, Scope } from "effect"
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import { EmbeddedDb } from "../../src/layers/EmbeddedDb.ts"
import * as Programs from "../support/programs.ts"
import { type Proxy, proxyTo } from "../support/proxy.ts"
import type { Record } from "./Record.ts"
import { type RedisProcess, redisProcess } from "./RedisProcess.ts"

/** Statements with an empty line between them. */
const witness = readFileSync(new URL("witness.sql", import.meta.url), "utf8").split(/;\n\n/)

/** A place for one program, which may be killed and started there over and over. */
export interface Slot {
  readonly name: string
  readonly program: "api" | "scheduler" | "worker"
  readonly env: Readonly<globalThis.Record<string, string>>
  /** What runs there, or ran last. */
  process: Programs.Served | undefined
  /** A fault has it in hand: that it ends is no surprise. */
  taken: boolean
}

/** PostgreSQL, Redis, a proxy and real programs, all on the loopback and in a folder that goes with the scope. */
export interface Fleet {
  /** Past the proxy. */
  readonly database: string
  readonly redis: RedisProcess
  readonly proxy: Proxy
  readonly slots: ReadonlyArray<Slot>
  /** Of an admin. */
  readonly key: string
  readonly leaseSeconds: number
  /** Where the API is, while it runs. */
  readonly api: () => string | undefined
  /** Starts a slot's program and waits until it is ready. */
  readonly up: (slot: Slot, more?: Readonly<globalThis.Record<string, string>>) => Effect.Effect<void>
  /** Ends a slot's program; answers how it ended. */
  readonly down: (slot: Slot, signal: NodeJS.Signals) => Effect.Effect<Programs.End>
  /** Sends PostgreSQL a signal; whoever started it starts it again. */
  readonly signalPostgres: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Takes down what the programs have complained of; from here on they may end. */
  readonly finish: Effect.Effect<void>
}

/** Lines of an error that a program logged; a bug ends in one. */
const complaints = ({ errors, output }: Programs.Program) =>
  `${output()}\n${errors()}`.split("\n").filter((line) => /"logLevel":"(ERROR|FATAL)"/.test(line))

const tail = ({ errors, output }: Programs.Program) => `${output().slice(-600)}${errors().slice(-1500)}`

/** Starts all of it. A program that ends by itself, complains of an error or does not come up is a violation. */
export const makeFleet = (record: Record, leaseSeconds: number): Effect.Effect<Fleet, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const folder = yield* Programs.dataFolder
    const [{ url: database }, redis] = yield* Effect.all(
      [
        EmbeddedDb.start({ dataDir: folder, settings: { max_connections: "100" } }).pipe(Effect.orDie),
        redisProcess(folder)
      ],
      { concurrency: 2 }
    )
    const proxy = yield* proxyTo("127.0.0.1", Number(new URL(database).port))
    const behind = new URL(database)
    behind.port = `${proxy.port}`
    const key = fromRandom(randomBytes(41)).text
    const shared = {
      DATABASE_URL: database,
      DATABASE_CONNECTIONS: "5",
      REDIS_URL: redis.url,
      ORDINAUT_ADMIN_KEY: key,
      ORDINAUT_SECRET: randomBytes(32).toString("base64"),
      // The load is one agent's, from one address.
      RATE_AGENT: "1000000",
      RATE_ADDRESS: "1000000",
      ORDINAUT_ALLOW_PRIVATE_TARGETS: "127.0.0.0/8",
      HOST: "127.0.0.1",
      WORKER_CONCURRENCY: "20",
      LEASE_SECONDS: `${leaseSeconds}`,
      SHUTDOWN_GRACE_SECONDS: "3"
    }
    const proxied = { ...shared, DATABASE_URL: behind.href }
    const slot = (name: string, program: Slot["program"], env: Slot["env"]): Slot => ({
      name,
      program,
      env,
      process: undefined,
      taken: false
    })
    const api = slot("api", "api", proxied)
    const slots = [
      api,
      slot("scheduler 1", "scheduler", shared),
      slot("scheduler 2", "scheduler", proxied),
      slot("worker 1", "worker", shared),
      slot("worker 2", "worker", proxied),
      slot("worker 3", "worker", shared)
    ]

    const migrator = yield* Programs.run("migrate", shared)
    if ((yield* migrator.ended) !== 0) return yield* Effect.dieMessage(`the migrations fail: ${tail(migrator)}`)
    yield* Effect.forEach(witness, (statement) => Programs.query(database, Schema.Unknown, statement))

    const known = new Set<string>()
    const hear = (slot: Slot) => {
      for (const line of slot.process === undefined ? [] : complaints(slot.process)) {
        if (!known.has(line)) record.wrong(`${slot.name} complains: ${line}`)
        known.add(line)
      }
    }
    const up: Fleet["up"] = (slot, more = {}) =>
      Programs.run(slot.program, { ...slot.env, ...more }).pipe(
        Effect.flatMap((program) => Programs.ready(program, 60)),
        Effect.tap((served) =>
          Effect.sync(() => {
            slot.process = served
            record.tell(`${slot.name} is up`)
          })
        ),
        Scope.extend(scope),
        Effect.catchAllDefect((defect) =>
          Effect.sync(() => record.wrong(`${slot.name} does not come up: ${String(defect)}`))
        ),
        Effect.asVoid
      )
    const down: Fleet["down"] = (slot, signal) =>
      Effect.suspend(() => slot.process?.stop(signal) ?? Effect.succeed(signal)).pipe(
        Effect.tap((end) =>
          Effect.sync(() => {
            record.tell(`${slot.name} ended: ${end}`)
            hear(slot)
          })
        ),
        Effect.catchAllDefect((defect) =>
          Effect.sync((): Programs.End => {
            record.wrong(`${slot.name} does not end by ${signal}: ${String(defect)}`)
            return signal
          })
        )
      )

    yield* Effect.forEach(slots, (each) => up(each), { concurrency: 3 })
    const guard = Effect.forEach(slots, (each) =>
      Effect.gen(function* () {
        if (each.taken || each.process === undefined || each.process.running()) return
        each.taken = true
        record.wrong(`${each.name} ended by itself: ${tail(each.process)}`)
        yield* up(each)
        each.taken = false
      })
    )
    const guarding = yield* Effect.forkScoped(guard.pipe(Effect.delay("250 millis"), Effect.forever))

    return {
      database,
      redis,
      proxy,
      slots,
      key,
      leaseSeconds,
      api: () => api.process?.url,
      up,
      down,
      signalPostgres: (signal) =>
        Effect.gen(function* () {
          const pid = yield* Programs.databasePid(folder)
          if (pid !== undefined) yield* Effect.ignore(Effect.try(() => process.kill(pid, signal)))
        }),
      finish: Effect.zipRight(
        Fiber.interrupt(guarding),
        Effect.sync(() => slots.forEach((each) => hear(each)))
      )
    }
  })
