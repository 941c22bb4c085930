import { Duration, Effect, Option } from "effect"
import { spawn } from "node:child_process"
import { link, open, readFile, rename, stat, unlink } from "node:fs/promises"
import { createServer } from "node:net"
import { join } from "node:path"
import pg from "pg"
import { environment, type Place } from "./EmbeddedDbAccount.ts"
import type { Binaries } from "./EmbeddedDbBinaries.ts"
import { diskFull, EmbeddedDbError, onFolder, tellsDiskFull } from "./EmbeddedDbError.ts"
import { alive, commandLine, listed } from "./EmbeddedDbProcess.ts"

/** A server process: its pid and its port on 127.0.0.1. */
export interface Server {
  readonly pid: number
  readonly port: number
}

/** A server process that this program started. */
export interface Launched extends Server {
  readonly running: () => boolean
  /** Completes when the process has ended. */
  readonly ended: Effect.Effect<void>
  /** Where its lines begin in the log, in bytes. */
  readonly logFrom: number
}

/** Recovery after a crash replays up to a gigabyte of log before the server answers. */
const answersWithin = Duration.minutes(2)

const pause = Effect.sleep("20 millis")

/** Lines 1 and 4 of postmaster.pid (PostgreSQL manual, "Database File Layout") are pid and port. */
const readPidFile = async (file: string) => {
  const text = await readFile(file, "utf8").catch(() => "")
  const lines = text.split("\n")
  return { text, pid: Number(lines[0] || Number.NaN), port: Number(lines[3] || Number.NaN) }
}

/**
 * Takes away the pid file of a server that is gone, when another process of ours has its pid now: PostgreSQL itself sees
 * through a dead pid only. A file that a new server wrote meanwhile is put back.
 */
const discard = async (file: string, stale: string) => {
  const aside = `${file}.${process.pid}`
  await rename(file, aside).catch(() => undefined)
  if ((await readFile(aside, "utf8").catch(() => stale)) !== stale) await link(aside, file).catch(() => undefined)
  await unlink(aside).catch(() => undefined)
}

/** The server that owns the data folder at this moment, whether it answers already or not. */
export const owner = ({ data }: Place): Effect.Effect<Option.Option<Server>> =>
  Effect.promise(async () => {
    const file = join(data, "postmaster.pid")
    const { pid, port, text } = await readPidFile(file)
    if (text === "" || Number.isNaN(port)) return Option.none()
    const line = await commandLine(pid)
    if (line.includes("postgres") && line.includes(data)) return Option.some({ pid, port })
    if (listed(pid)) await discard(file, text)
    return Option.none()
  })

/**
 * Whether the server takes a connection with our password. A refused one, and SQLSTATE 57P03 (starting up or shutting
 * down), mean not now; 53300 (too many connections) is an answer too.
 */
const answers = (url: string): Effect.Effect<boolean, EmbeddedDbError> =>
  Effect.tryPromise({
    try: async () => {
      const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 })
      client.on("error", () => undefined)
      try {
        await client.connect()
        return true
      } finally {
        await client.end().catch(() => undefined)
      }
    },
    catch: (cause) => (cause instanceof pg.DatabaseError ? cause : undefined)
  }).pipe(
    Effect.catchAll((refusal) => {
      if (refusal?.code === undefined || refusal.code === "57P03") return Effect.succeed(false)
      if (refusal.code === "53300") return Effect.succeed(true)
      return new EmbeddedDbError({
        reason: "StartFailed",
        message: `The embedded PostgreSQL on port ${new URL(url).port} refuses us: ${refusal.message}.`
      })
    })
  )

/** Waits until the server answers; false when its process ended first or it stays silent too long. */
export const ready = (server: Server, url: string): Effect.Effect<boolean, EmbeddedDbError> =>
  Effect.gen(function* () {
    while (yield* Effect.promise(() => alive(server.pid))) {
      if (yield* answers(url)) return true
      yield* pause
    }
    return false
  }).pipe(Effect.timeoutTo({ duration: answersWithin, onSuccess: (is) => is, onTimeout: () => false }))

/** A port of 127.0.0.1 that nobody listens on at this moment; `wanted` when that is one. */
export const freePort = (wanted: number): Effect.Effect<number> =>
  Effect.async((resume) => {
    const probe = createServer()
    probe.once("error", () => resume(wanted === 0 ? Effect.dieMessage("no free port") : freePort(0)))
    probe.listen(wanted, "127.0.0.1", () => {
      const address = probe.address()
      const port = typeof address === "object" && address !== null ? address.port : wanted
      probe.close(() => resume(Effect.succeed(port)))
    })
  })

/** Starts the process. Its log is `home`/postgres.log, begun anew once it is past 8 MB. */
export const launch = (
  place: Place,
  binaries: Binaries,
  port: number,
  settings: Readonly<Record<string, string>>
): Effect.Effect<Launched, EmbeddedDbError> =>
  onFolder(place.home, async () => {
    const path = join(place.home, "postgres.log")
    const size = await stat(path).then(
      (found) => found.size,
      () => 0
    )
    const log = await open(path, size > 8_000_000 ? "w" : "a", 0o600)
    const all = {
      listen_addresses: "127.0.0.1",
      port: `${port}`,
      unix_socket_directories: "",
      timezone: "UTC",
      log_timezone: "UTC",
      ...settings
    }
    const options = Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`])
    try {
      // A process group of its own: Ctrl-C reaches the whole foreground group, and the database has to outlast our drain.
      const child = spawn(binaries.postgres, ["-D", place.data, ...options], {
        ...place.account,
        cwd: place.data,
        detached: true,
        env: environment,
        stdio: ["ignore", log.fd, log.fd]
      })
      child.unref()
      await new Promise((started, refused) => child.once("spawn", started).once("error", refused))
      const running = () => child.exitCode === null && child.signalCode === null
      const ended = Effect.async<void>((resume) => {
        if (running()) child.once("exit", () => resume(Effect.void))
        else resume(Effect.void)
      })
      return { pid: child.pid ?? 0, port, running, ended, logFrom: size > 8_000_000 ? 0 : size }
    } finally {
      await log.close()
    }
  })

/** Fails with why the server cannot run, by what it wrote since `from` bytes into its log. */
export const complain = ({ home }: Place, from: number): Effect.Effect<never, EmbeddedDbError> =>
  Effect.gen(function* () {
    const path = join(home, "postgres.log")
    const text = yield* onFolder(home, async () => (await readFile(path)).subarray(from).toString())
    if (tellsDiskFull(text)) return yield* diskFull(home)
    // While it starts, the server logs each connection of ours that it turns away.
    const why = /(?:FATAL|PANIC): {2}(?!the database system is)(.*)/.exec(text)?.[1] ?? "it ended without a word"
    return yield* new EmbeddedDbError({
      reason: "StartFailed",
      message: `The embedded PostgreSQL does not start: ${why} (its log is ${path}).`
    })
  })
