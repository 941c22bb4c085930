import * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"
import type { Scope } from "effect"
import { Pool } from "undici"
import type { Dispatcher } from "undici"
import { inject } from "vitest"
import { realClock } from "../../src/layers/EmbeddedDbProcess.ts"
import type { RandomRequest } from "./randomRequests.ts"
import * as Programs from "./programs.ts"
import { secret } from "./Services.ts"

/** An answer as it came; a stream is left after its head. */
export interface FuzzAnswer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  readonly body: unknown
}

/** The program `api`, on the database of the test's services. */
export interface FuzzTarget {
  /** Undefined for a request that was left before it was answered: one that asks to be kept waiting. */
  readonly send: (key: string, request: RandomRequest) => Effect.Effect<FuzzAnswer | undefined>
  /** What it logged of a request. */
  readonly logOf: (requestId: string | null) => Effect.Effect<string>
  /** MiB of its heap after a collection. */
  readonly heap: Effect.Effect<number>
}

/** A program that is preloaded with this tells its heap on SIGUSR2. */
const teller = `data:text/javascript,${encodeURIComponent(`
  import { setFlagsFromString } from "node:v8"
  import { runInNewContext } from "node:vm"
  import { setTimeout } from "node:timers/promises"
  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc")
  process.on("SIGUSR2", async () => {
    for (let i = 0; i < 3; i++) {
      collect()
      await setTimeout(20)
    }
    process.stderr.write("heap " + process.memoryUsage().heapUsed + "\\n")
  })
`)}`

/** Nothing is limited but what a request is. */
const env = {
  RATE_AGENT: "10000000",
  RATE_ADDRESS: "10000000",
  RATE_AUTH_FAILURES: "10000000",
  STREAMS_AGENT: "1000",
  ORDINAUT_SECRET: secret,
  // Room for the young, and short traces: what is under test is neither.
  NODE_OPTIONS: `--import=${teller} --max-semi-space-size=32 --stack-trace-limit=2`
}

/** A client sends any method, whatever the types of this one say. */
const verb = (method: string) => method as Dispatcher.HttpMethod

const waits = (path: string) => path.startsWith("/work/lease")

const json = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Starts it, with `connections` to it that are kept. */
export const fuzzTarget = (connections: number): Effect.Effect<FuzzTarget, never, Scope.Scope | SqlClient.SqlClient> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [{ name } = { name: "" }] = yield* Effect.orDie(sql<{ name: string }>`SELECT current_database() AS name`)
    const database = new URL(inject("databaseUrl"))
    database.pathname = name
    const program = yield* realClock(Programs.start("api", { ...env, DATABASE_URL: database.href }))
    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => new Pool(program.url, { connections })),
      (open) => Effect.promise(() => open.destroy())
    )
    const told = () => [...program.errors().matchAll(/^heap (\d+)$/gm)].map(([, bytes]) => Number(bytes) / 2 ** 20)
    return {
      logOf: (requestId) =>
        Effect.delay(
          Effect.sync(() =>
            (program.output() + program.errors())
              .split("\n")
              .filter((line) => requestId !== null && line.includes(requestId))
              .join("\n")
          ),
          "2 seconds"
        ).pipe(realClock),
      heap: Effect.gen(function* () {
        const before = told().length
        process.kill(program.pid, "SIGUSR2")
        return yield* Programs.eventually(
          "size of the heap",
          10,
          Effect.sync(() => told()[before])
        )
      }).pipe(realClock),
      send: (key, request) =>
        Effect.promise(() =>
          answerOf(pool, key, request).catch((error: unknown) => {
            if (waits(request.path) && error instanceof Error && error.name === "TimeoutError") return undefined
            throw error
          })
        )
    }
  })

const answerOf = async (pool: Pool, key: string, { body, headers, method, path }: RandomRequest) => {
  const answer = await pool.request({
    method: verb(method),
    path,
    headers: { authorization: `Bearer ${key}`, ...headers },
    ...(body === undefined || method === "GET" || method === "HEAD" ? {} : { body }),
    ...(waits(path) ? { signal: AbortSignal.timeout(50) } : {})
  })
  const answered = Object.entries(answer.headers).flatMap(([header, value]): Array<[string, string]> =>
    value === undefined ? [] : [[header, String(value)]]
  )
  const isStream = answer.headers["content-type"] === "text/event-stream"
  if (isStream) answer.body.on("error", () => undefined).destroy()
  const text = isStream ? "" : await answer.body.text()
  return { status: answer.statusCode, headers: new Headers(answered), text, body: json(text) }
}
