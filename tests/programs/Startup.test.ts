import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { randomBytes } from "node:crypto"
import { readFile } from "node:fs/promises"
import { connect, createServer } from "node:net"
import { join } from "node:path"
import { HealthReport } from "../../src/http/SystemApi.ts"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import { freePort } from "../../src/layers/EmbeddedDbServer.ts"
import { settings } from "../../src/layers/Settings.ts"
import { clockOff, falseClock } from "../chaos/FalseClock.ts"
import * as Programs from "../support/programs.ts"
import { freshDatabase } from "../support/TestDb.ts"

const { eventually } = Programs
const decodeHealth = Schema.decodeUnknownSync(HealthReport)

describe("the start of a program", () => {
  it.scopedLive(
    "waits for a database that is not there yet",
    () =>
      Effect.gen(function* () {
        const port = yield* freePort(0)
        const real = new URL(yield* freshDatabase)
        const url = new URL(real)
        url.port = String(port)
        const program = yield* Programs.run("all", {
          DATABASE_URL: url.href,
          ORDINAUT_DATA_DIR: yield* Programs.dataFolder
        })
        const sentences = yield* eventually(
          "word of the missing database",
          20,
          Effect.sync(() => {
            const said = program.errors().split("\n").concat(program.output().split("\n"))
            const found = said.filter((line) => line.includes("The database cannot be reached"))
            return found.length > 1 ? found : undefined
          })
        )
        assert.include(sentences[0], "ECONNREFUSED")
        yield* Effect.acquireRelease(
          Effect.async<ReturnType<typeof createServer>>((resume) => {
            const proxy = createServer((socket) => {
              const other = connect(Number(real.port), real.hostname)
              socket.pipe(other).pipe(socket)
              for (const each of [socket, other]) each.on("error", () => socket.destroy() && other.destroy())
            })
            proxy.listen(port, "127.0.0.1", () => resume(Effect.succeed(proxy)))
          }),
          (proxy) => Effect.sync(() => proxy.close())
        )
        yield* Programs.ready(program)
        assert.strictEqual(yield* program.stop("SIGINT"), 0)
      }),
    60_000
  )

  it.scopedLive(
    "tells a wrong setting by its name, and all settings on demand",
    () =>
      Effect.gen(function* () {
        const wrong = {
          WORKER_CONCURRENCY: ["many", "WORKER_CONCURRENCY takes a whole number from 1 to 10000"],
          PORT: ["70000", "PORT takes a whole number from 0 to 65535"],
          DATABASE_URL: ["mysql://localhost/x", "DATABASE_URL takes a URL such as postgres://"],
          ORDINAUT_ADMIN_KEY: ["secret", "ORDINAUT_ADMIN_KEY takes an API key as `npm run key` makes it"],
          LOG_LEVEL: ["loud", "LOG_LEVEL"]
        }
        yield* Effect.forEach(
          Object.entries(wrong),
          ([name, [value = "", sentence = ""]]) =>
            Effect.gen(function* () {
              const folder = yield* Programs.dataFolder
              const program = yield* Programs.run("all", { ORDINAUT_DATA_DIR: folder, [name]: value })
              assert.strictEqual(yield* program.ended, 1, name)
              assert.include(program.errors(), sentence)
              assert.notInclude(program.errors(), "    at ")
            }),
          { concurrency: 2 }
        )
        const help = yield* Programs.run("all", {}, "--help")
        assert.strictEqual(yield* help.ended, 0)
        for (const { name } of settings) assert.include(help.output(), `  ${name} `)
      }),
    60_000
  )

  it.scopedLive(
    "starts and ends by the script as well",
    () =>
      Effect.gen(function* () {
        const folder = yield* Programs.dataFolder
        const program = yield* Programs.ready(yield* Programs.runScript({ ORDINAUT_DATA_DIR: folder }), 45)
        const key = yield* Effect.promise(() => readFile(join(folder, "admin.key"), "utf8"))
        assert.include(program.output(), key.trim())
        const parts = yield* eventually(
          "health of all parts",
          15,
          Effect.promise(async () => {
            const report = decodeHealth(await (await fetch(`${program.url}/health`)).json())
            return report.state === "healthy" ? report.parts : undefined
          })
        )
        assert.match(parts["clock"]?.detail ?? "", /^within \d+\.\d ms of the database's$/)
        assert.strictEqual(yield* program.stop("SIGINT"), 0)
        assert.isUndefined(yield* Programs.databasePid(folder))
      }),
    90_000
  )

  it.scopedLive(
    "is ready on a host whose clock is wrong",
    ({ skip }) =>
      Effect.gen(function* () {
        const library = yield* falseClock
        if (library === undefined) return skip("libfaketime is not installed")
        const env = {
          DATABASE_URL: yield* freshDatabase,
          ORDINAUT_SECRET: randomBytes(32).toString("base64"),
          ORDINAUT_ADMIN_KEY: fromRandom(randomBytes(41)).text,
          HOST: "127.0.0.1",
          ...clockOff(library, 3600)
        }
        yield* Effect.forEach(["api", "scheduler", "worker"] as const, (name) => Programs.start(name, env), {
          concurrency: 3
        })
      }),
    90_000
  )
})
