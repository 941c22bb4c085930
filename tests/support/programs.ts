import { Effect, Either, Schedule, Schema, type Scope } from "effect"
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { access, chmod, mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, utimes } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import pg from "pg"
import * as Server from "../../src/layers/EmbeddedDbProcess.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Below `node_modules`, so that the bundles find the packages that are not bundled. */
const builds = join(root, "node_modules/.cache/ordinaut-programs")

/** A build that nobody started a program of for so long is of no use to anybody. */
const keptMillis = 20 * 60_000

const changed = async (path: string): Promise<number> => {
  const found = await stat(path)
  if (!found.isDirectory()) return found.mtimeMs
  const below = await Promise.all((await readdir(path)).map((name) => changed(join(path, name))))
  return Math.max(found.mtimeMs, ...below)
}

/** Builds what the sources are now, unless that is built already, and takes away the builds of before. */
const built = async () => {
  const sources = ["src", "migrations", "package-lock.json", "scripts/build.ts"]
  const name = String(Math.max(...(await Promise.all(sources.map((each) => changed(join(root, each)))))))
  const folder = join(builds, name)
  const isThere = await access(folder).then(
    () => true,
    () => false
  )
  if (isThere) return folder
  await mkdir(builds, { recursive: true })
  await promisify(execFile)(process.execPath, ["--import", "tsx", "scripts/build.ts", folder], { cwd: root })
  // Other test runs may be at work with builds from before this one.
  for (const each of (await readdir(builds)).filter((one) => /^[\d.]+$/.test(one) && one !== name)) {
    const age = Date.now() - (await stat(join(builds, each))).mtimeMs
    if (age > keptMillis) await rm(join(builds, each), { recursive: true, force: true })
  }
  return folder
}

let bundles: Promise<string> | undefined

/** How a process ended: its exit code, or the signal that killed it. */
export type End = number | NodeJS.Signals

/** A program of ours in a process of its own. */
export interface Program {
  readonly pid: number
  /** What it wrote on standard output and standard error, so far. */
  readonly output: () => string
  readonly errors: () => string
  /** Sends a signal and waits for the end; bounded by 60 s. */
  readonly stop: (signal: NodeJS.Signals) => Effect.Effect<End>
  /** Waits for the end. */
  readonly ended: Effect.Effect<End>
  /** Whether it runs. */
  readonly running: () => boolean
}

/** A program that serves HTTP. */
export interface Served extends Program {
  /** Such as `http://127.0.0.1:41234`. */
  readonly url: string
}

export type Name = "all" | "api" | "scheduler" | "worker" | "migrate" | "audit-verify"

/** A test run that is killed takes its programs along: they end themselves once they have another parent. */
export const leash = `data:text/javascript,${encodeURIComponent(
  `const parent = process.ppid; setInterval(() => process.ppid === parent || process.kill(process.pid, "SIGTERM"), 500).unref()`
)}`

const watched = (child: ChildProcess): Program => {
  let output = ""
  let errors = ""
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (output += text))
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (errors += text))
  const running = () => child.exitCode === null && child.signalCode === null
  // `close` and not `exit`: the output is whole by then.
  const closed = once(child, "close")
  const ended = Effect.promise(async (): Promise<End> => {
    await closed
    return child.exitCode ?? child.signalCode ?? -1
  }).pipe(
    Effect.timeout("60 seconds"),
    Effect.orDieWith(() => new Error(`process ${child.pid} goes on:\n${output}\n${errors}`))
  )
  return {
    pid: child.pid ?? 0,
    output: () => output,
    errors: () => errors,
    ended,
    running,
    stop: (signal) =>
      Effect.zipRight(
        Effect.sync(() => child.kill(signal)),
        ended
      )
  }
}

const environment = (more: Readonly<Record<string, string>>): NodeJS.ProcessEnv => ({
  PATH: process.env["PATH"],
  HOME: process.env["HOME"],
  TMPDIR: process.env["TMPDIR"],
  PORT: "0",
  OPS_PORT: "0",
  LOG_FORMAT: "json",
  ...more
})

const launch = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      watched(
        spawn(process.execPath, ["--import", leash, ...args], {
          cwd: root,
          env: environment(env),
          stdio: ["ignore", "pipe", "pipe"]
        })
      )
    ),
    (program) => Effect.suspend(() => (program.running() ? program.stop("SIGKILL") : Effect.void))
  )

/** Starts a built program; it is killed when the scope closes. The ports are free ones unless `env` says otherwise. */
export const run = (
  name: Name,
  env: Readonly<Record<string, string>>,
  ...args: ReadonlyArray<string>
): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.promise(async () => {
    const folder = await (bundles ??= built())
    await utimes(folder, new Date(), new Date())
    return folder
  }).pipe(Effect.flatMap((folder) => launch([join(folder, `${name}.js`), ...args], env)))

/** As `npm start` does, or `npm run start:<name>`. */
export const runScript = (env: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) =>
  launch(["scripts/start.mjs", ...args], env)

/** Looks ten times a second until there is something; dies after `seconds`, telling `what` did not come. */
export const eventually = <A, E, R>(
  what: string,
  seconds: number,
  look: Effect.Effect<A | undefined, E, R>
): Effect.Effect<A, E, R> =>
  look.pipe(
    Effect.filterOrFail(
      (found) => found !== undefined,
      () => "not yet" as const
    ),
    Effect.retry({ while: (error) => error === "not yet", schedule: Schedule.spaced("100 millis") }),
    Effect.timeoutFail({ duration: `${seconds} seconds`, onTimeout: () => "not yet" as const }),
    Effect.catchIf(
      (error): error is "not yet" => error === "not yet",
      () => Effect.dieMessage(`within ${seconds} s there was no ${what}`)
    )
  )

const announced = /(?:is ready on |Listening on ["\\]*)(http:\/\/[^\s"\\]+)/

/** Waits until a program says where it is and `/health/ready` answers 200. */
export const ready = (program: Program, seconds = 30): Effect.Effect<Served> =>
  eventually(
    `program that is ready; process ${program.pid} said:\n`,
    seconds,
    Effect.promise(async () => {
      const url = announced.exec(program.output())?.[1]?.replace("0.0.0.0", "127.0.0.1")
      if (url === undefined) return undefined
      const answer = await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(5000) }).catch(() => undefined)
      await answer?.text()
      return answer?.status === 200 ? { ...program, url } : undefined
    })
  ).pipe(Effect.tapErrorCause(() => Effect.sync(() => process.stderr.write(program.output() + program.errors()))))

/** `run`, then `ready`. */
export const start = (name: Name, env: Readonly<Record<string, string>>) =>
  Effect.flatMap(run(name, env), (program) => ready(program))

const Json = Schema.parseJson()

/** A request with a key; answers the status and the decoded JSON, and dies of an answer that `schema` does not know. */
export const request = <A, I>(
  to: { readonly url: string; readonly key: string },
  method: string,
  path: string,
  schema: Schema.Schema<A, I>,
  body?: unknown
): Effect.Effect<{ readonly status: number; readonly body: A }> =>
  Effect.gen(function* () {
    const { status, text } = yield* Effect.promise(async () => {
      const answer = await fetch(`${to.url}${path}`, {
        method,
        headers: { authorization: `Bearer ${to.key}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(20_000)
      })
      return { status: answer.status, text: await answer.text() }
    })
    const decoded = yield* Effect.orDie(Schema.decodeUnknown(Json)(text === "" ? "null" : text))
    const found = Schema.decodeUnknownEither(schema)(decoded)
    if (Either.isLeft(found)) return yield* Effect.dieMessage(`${method} ${path}: ${status} ${text}\n${found.left}`)
    return { status, body: found.right }
  })

/** A data folder for the all-in-one program; its database is stopped and removed when the scope closes. */
export const dataFolder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(async () => {
    // In the folder of the test run, which the next run takes away should this one be killed.
    const parent = join(tmpdir(), `ordinaut-tests-${process.getuid?.() ?? 0}`, `${process.ppid}`)
    await mkdir(parent, { recursive: true, mode: 0o755 })
    const folder = await mkdtemp(join(parent, "data-"))
    await chmod(folder, 0o755)
    return folder
  }),
  (folder) =>
    Effect.gen(function* () {
      const pid = yield* databasePid(folder)
      if (pid !== undefined) yield* Server.stop(pid)
      yield* Effect.promise(async () => {
        const home = await realpath(join(folder, "postgres")).then(dirname, () => folder)
        for (const each of new Set([home, folder])) await rm(each, { recursive: true, force: true })
      })
    })
)

/** The embedded PostgreSQL of a data folder, while it runs. */
export const databasePid = (folder: string): Effect.Effect<number | undefined> =>
  Effect.promise(async () => {
    const pid = Number.parseInt(await readFile(join(folder, "postgres/postmaster.pid"), "utf8").catch(() => ""), 10)
    return pid > 0 && (await Server.alive(pid)) && (await Server.commandLine(pid)).includes(folder) ? pid : undefined
  })

/** Runs a statement on a connection of its own and decodes its rows. */
export const query = <A, I>(
  url: string,
  row: Schema.Schema<A, I>,
  statement: string,
  values: ReadonlyArray<unknown> = []
): Effect.Effect<ReadonlyArray<A>> =>
  Effect.promise(async () => {
    const client = new pg.Client({ connectionString: url })
    client.on("error", () => undefined)
    await client.connect()
    try {
      return (await client.query(statement, [...values])).rows
    } finally {
      await client.end()
    }
  }).pipe(Effect.flatMap(Schema.decodeUnknown(Schema.Array(row))), Effect.orDie)
