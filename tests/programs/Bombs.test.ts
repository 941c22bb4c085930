import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { bombs } from "../support/bombs.ts"
import type { Bomb } from "../support/bombs.ts"
import * as Programs from "../support/programs.ts"

const Problem = Schema.parseJson(
  Schema.Struct({ code: Schema.String, status: Schema.Int, detail: Schema.NonEmptyString })
)
const decode = Schema.decodeUnknownSync(Problem)

/** Pauses between the looks at liveness, milliseconds. */
const lookEvery = 10
/** What a look may take at the 99th percentile, milliseconds, on a machine that has nothing else to do. */
const bound = 100

/** How much longer than its share of a processor anything takes here now, because others are at work: 1 on a quiet machine. */
const crowding = () => {
  const [started, before] = [performance.now(), process.cpuUsage()]
  let used = 0
  while (used < 200) {
    for (let i = 0; i < 10_000; i++) Math.sqrt(i)
    const { system, user } = process.cpuUsage(before)
    used = (system + user) / 1000
  }
  return Math.max(1, (performance.now() - started) / used)
}

const percentile = (times: ReadonlyArray<number>, share: number) =>
  times.toSorted((a, b) => a - b)[Math.floor(times.length * share)] ?? Infinity

/** Looks at liveness until it is told to stop; answers how long each look took. */
const probe = (url: string) => {
  const times: Array<number> = []
  const state = { going: true }
  const loop = async () => {
    while (state.going) {
      const started = performance.now()
      const answer = await fetch(`${url}/health/live`)
      await answer.text()
      times.push(performance.now() - started)
      if (answer.status !== 200) throw new Error(`/health/live answers ${answer.status}`)
      await new Promise((next) => setTimeout(next, lookEvery))
    }
    return times
  }
  const done = loop()
  return {
    /** Waits for some looks. */
    some: async (count: number) => {
      for (const until = times.length + count; times.length < until;) {
        await new Promise((next) => setTimeout(next, lookEvery / 2))
      }
    },
    stop: () => {
      state.going = false
      return done
    }
  }
}

const drop = async (url: string, key: string, { body, headers, method, path }: Bomb) => {
  const started = performance.now()
  const answer = await fetch(`${url}${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
    body,
    signal: AbortSignal.timeout(20_000)
  })
  return { status: answer.status, text: await answer.text(), took: performance.now() - started }
}

describe("requests that cost more than they should", () => {
  it.scopedLive(
    "are refused or done in time, and keep no other request waiting",
    () =>
      Effect.gen(function* () {
        assert.isAtLeast(bombs.length, 100)
        const folder = yield* Programs.dataFolder
        const { url, ...program } = yield* Programs.start("all", { ORDINAUT_DATA_DIR: folder })
        const key = yield* Effect.promise(async () => (await readFile(join(folder, "admin.key"), "utf8")).trim())
        yield* Effect.promise(async () => {
          // What a sound request costs is paid before: code is compiled at its first use.
          for (const bomb of bombs.slice(0, 5)) await drop(url, key, bomb)
          const before = crowding()
          const meanwhile = probe(url)
          const slow: Array<string> = []
          for (const bomb of bombs) {
            const { status, text, took } = await drop(url, key, bomb)
            assert.isBelow(status, 500, `${bomb.name}: ${text.slice(0, 300)}`)
            if (status >= 400) assert.strictEqual(decode(text).status, status, bomb.name)
            assert.isBelow(text.length, 2_000_000, bomb.name)
            await meanwhile.some(2)
            if (took > 1000) slow.push(`${bomb.name}: ${took.toFixed(0)} ms`)
          }
          const times = await meanwhile.stop()
          const p99 = percentile(times, 0.99)
          const crowded = Math.max(before, crowding())
          process.stdout.write(
            `${bombs.length} bombs, ${times.length} probes: p50 ${percentile(times, 0.5).toFixed(0)} ms, p99 ${p99.toFixed(0)} ms, machine ${crowded.toFixed(1)} times as slow as alone; over a second: ${slow.join(", ") || "none"}\n`
          )
          assert.isAbove(times.length, 50)
          assert.isAtMost(p99, bound * crowded)
        })
        assert.strictEqual(yield* program.stop("SIGTERM"), 0)
      }),
    90_000
  )
})
