import { Effect, type Scope } from "effect"
import { spawn } from "node:child_process"
import { readFile, readlink } from "node:fs/promises"
import { basename, join } from "node:path"
import { Redis } from "ioredis"
import { stop } from "../../src/layers/EmbeddedDbProcess.ts"
import { startRedis } from "../support/redisServer.ts"

/** A Redis of its own that can be stopped, frozen, emptied and started again on its port; it keeps nothing over a restart. */
export interface RedisProcess {
  readonly url: string
  readonly client: Redis
  readonly stop: Effect.Effect<void>
  readonly start: Effect.Effect<void>
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  /** Waits until nobody else has it in hand. */
  readonly alone: <A>(use: Effect.Effect<A>) => Effect.Effect<A>
}

const pidAndPort = async (folder: string) => {
  const [pid = "", port = ""] = (await readFile(join(folder, "redis.pid"), "utf8")).split(" ")
  return { pid: Number(pid), port }
}

/** Starts it below `folder`; it ends with the scope. Starting it again needs Linux, whose kernel names its binary. */
export const redisProcess = (folder: string): Effect.Effect<RedisProcess, never, Scope.Scope> =>
  Effect.gen(function* () {
    const url = yield* startRedis(folder)
    const first = yield* Effect.promise(() => pidAndPort(folder))
    const binary = yield* Effect.promise(() => readlink(`/proc/${first.pid}/exe`))
    const hand = yield* Effect.makeSemaphore(1)
    let pid = first.pid
    yield* Effect.addFinalizer(() => Effect.suspend(() => stop(pid)))
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const made = new Redis(url, { maxRetriesPerRequest: null, retryStrategy: () => 200 })
        made.on("error", () => undefined)
        return made
      }),
      (made) => Effect.sync(() => made.disconnect())
    )
    const signal = (name: NodeJS.Signals) => Effect.sync(() => void process.kill(pid, name))
    return {
      url,
      client,
      stop: Effect.suspend(() => stop(pid)),
      start: Effect.promise(async () => {
        const bounds = ["--bind", "127.0.0.1", "--port", first.port, "--save", "", "--appendonly", "no"]
        const argv0 = basename(binary).startsWith("valkey") ? "valkey-server" : "redis-server"
        const child = spawn(binary, bounds, { argv0, cwd: join(folder, "redis"), detached: true, stdio: "ignore" })
        child.unref()
        await new Promise((started, refused) => child.once("spawn", started).once("error", refused))
        pid = child.pid ?? 0
      }),
      alone: hand.withPermits(1),
      freeze: signal("SIGSTOP"),
      thaw: signal("SIGCONT")
    }
  })
