import { Effect, type Scope } from "effect"
import { execFile, spawn } from "node:child_process"
import { access, constants, mkdir, open, writeFile } from "node:fs/promises"
import { connect } from "node:net"
import { delimiter, join } from "node:path"
import { promisify } from "node:util"
import { realClock, stop } from "../../src/layers/EmbeddedDbProcess.ts"
import { freePort } from "../../src/layers/EmbeddedDbServer.ts"

/** Debian's package redis-tools brings the server under this name: one binary that looks at the name it is called by. */
const names = ["redis-server", "valkey-server", "redis-check-rdb"]

const onPath = async (): Promise<string | undefined> => {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    for (const name of names) {
      const path = join(folder, name)
      if (
        await access(path, constants.X_OK).then(
          () => true,
          () => false
        )
      )
        return path
    }
  }
  return undefined
}

/** redis-tools and not redis-server: the latter also installs and starts a system service. */
const install = async () => {
  const apt = (...args: ReadonlyArray<string>) =>
    promisify(execFile)("apt-get", ["-o", "DPkg::Lock::Timeout=120", ...args], {
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
      timeout: 300_000
    })
  await apt("update", "--quiet")
  await apt("install", "--quiet", "--yes", "--no-install-recommends", "redis-tools")
}

const find = async (): Promise<string> => {
  const found = await onPath()
  if (found !== undefined) return found
  if (process.getuid?.() === 0) await install().catch(() => undefined)
  const installed = await onPath()
  if (installed !== undefined) return installed
  throw new Error(
    "The tests need a Redis or Valkey: put redis-server or valkey-server on the PATH (Debian: apt-get install redis-server)."
  )
}

const answers = (port: number): Promise<boolean> =>
  new Promise((done) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("PING\r\n"))
    socket.setTimeout(1000, () => socket.destroy())
    socket.once("data", (reply) => {
      done(reply.toString().startsWith("+PONG"))
      socket.destroy()
    })
    socket.once("error", () => done(false)).once("close", () => done(false))
  })

/**
 * A Redis of its own on the loopback, without persistence unless `settings` say otherwise, below `folder`; it ends with the scope. Its
 * pid and port are recorded in `folder`/redis.pid for a later run to find should this one be killed.
 */
export const startRedis = (
  folder: string,
  settings: ReadonlyArray<string> = ["--appendonly", "no"]
): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function* () {
    const binary = yield* Effect.promise(find)
    const port = yield* freePort(0)
    const pid = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const dir = join(folder, "redis")
        await mkdir(dir)
        const log = await open(join(dir, "log"), "w")
        const bounds = ["--bind", "127.0.0.1", "--port", `${port}`, "--dir", dir, "--save", "", ...settings]
        const child = spawn(binary, bounds, {
          argv0: binary.endsWith("valkey-server") ? "valkey-server" : "redis-server",
          detached: true,
          stdio: ["ignore", log.fd, log.fd]
        })
        child.unref()
        await new Promise((started, refused) => child.once("spawn", started).once("error", refused))
        await log.close()
        await writeFile(join(folder, "redis.pid"), `${child.pid} ${port}`)
        return child.pid ?? 0
      }),
      (started) => stop(started)
    )
    yield* Effect.promise(() => answers(port)).pipe(
      Effect.tap((is) => (is ? Effect.void : Effect.sleep("20 millis"))),
      Effect.repeat({ until: (is) => is }),
      Effect.timeout("20 seconds"),
      Effect.orDieWith(() => new Error(`Redis (process ${pid}) does not answer, see ${folder}/redis/log.`))
    )
    return `redis://127.0.0.1:${port}`
  }).pipe(realClock)
