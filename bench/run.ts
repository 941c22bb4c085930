import { fork } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Effect } from "effect"
import pg from "pg"
import { EmbeddedDb } from "../src/layers/EmbeddedDb.ts"
import { startRedis } from "../tests/support/redisServer.ts"
import { contests, quantile } from "./contender.ts"
import type { Contest, Figures } from "./contender.ts"
import type { contenders, Order } from "./contest.ts"

/**
 * Ordinaut beside its peers, in one run on a PostgreSQL (fsync on) and a Redis (append-only file, fsync every second) of their own:
 * `npm run bench -- --only drain,create --rounds 3 --jobs 20000`. In each round every contender has its turn, on an empty database,
 * and who goes first changes. Each contest fails unless each job ran exactly once. CPU is that of the contender's processes and
 * of the servers together.
 */
const { values } = parseArgs({
  options: {
    only: { type: "string", default: contests.join(",") },
    contenders: { type: "string", default: "Ordinaut,graphile-worker,pg-boss,BullMQ" },
    rounds: { type: "string", default: "3" },
    jobs: { type: "string", default: "20000" },
    creates: { type: "string", default: "3000" },
    clients: { type: "string", default: "32" },
    samples: { type: "string", default: "100" },
    schedules: { type: "string", default: "10000" }
  }
})
const jobsOf: Record<Contest, number> = {
  drain: Number(values.jobs),
  create: Number(values.creates),
  pickUp: Number(values.samples),
  due: Number(values.schedules)
}
type Name = keyof typeof contenders
const isName = (name: string): name is Name => ["Ordinaut", "graphile-worker", "pg-boss", "BullMQ"].includes(name)
const names = values.contenders.split(",").filter(isName)
const chosen = contests.filter((contest) => values.only.split(",").includes(contest))

/** CPU time so far of processes and of all that they started and that has not left them, milliseconds; a tick of Linux is 10 ms. */
const cpuOf = async (roots: ReadonlyArray<number>): Promise<number> => {
  const found = new Map<number, { parent: number; ticks: number; ended: number }>()
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")
    const fields = text
      .slice(text.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number)
    const [user = 0, system = 0, endedUser = 0, endedSystem = 0] = fields.slice(11, 15)
    found.set(Number(pid), { parent: fields[1] ?? 0, ticks: user + system, ended: endedUser + endedSystem })
  }
  const isBelow = (pid: number): boolean =>
    roots.includes(pid) || (found.has(pid) && isBelow(found.get(pid)?.parent ?? 0))
  let ticks = 0
  for (const [pid, one] of found) if (isBelow(pid)) ticks += one.ticks + one.ended
  return ticks * 10
}

interface Stand {
  readonly postgres: string
  readonly redis: string
  readonly pids: ReadonlyArray<number>
}

interface Measured extends Figures {
  /** CPU microseconds a job. */
  readonly cpu?: number
}

const onServer = async (url: string, statement: string) => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(statement).finally(() => client.end())
}

/** One contest of one contender, in a process of its own, bounded by four minutes. */
const held = async (stand: Stand, contender: Name, contest: Contest): Promise<Measured> => {
  const database = `bench_${process.hrtime.bigint()}`
  await onServer(stand.postgres, `CREATE DATABASE ${database}`)
  const postgres = new URL(stand.postgres)
  postgres.pathname = database
  await emptied(stand.redis)
  const child = fork(fileURLToPath(new URL("contest.ts", import.meta.url)), [], { execArgv: ["--import", "tsx"] })
  const limit = setTimeout(() => child.kill("SIGKILL"), 240_000)
  try {
    const order: Order = {
      contender,
      contest,
      jobs: jobsOf[contest],
      clients: Number(values.clients),
      postgres: postgres.href,
      redis: stand.redis
    }
    child.send(order)
    return await followed(child, stand, jobsOf[contest])
  } finally {
    clearTimeout(limit)
    child.kill("SIGKILL")
    await onServer(stand.postgres, `DROP DATABASE ${database} WITH (FORCE)`)
  }
}

interface Message {
  readonly mark?: "begin" | "end"
  readonly figures?: Figures
}

const followed = (child: ChildProcess, stand: Stand, jobs: number) =>
  new Promise<Measured>((resolve, reject) => {
    const cpu = { begin: 0, end: 0 }
    child.on("message", async ({ figures, mark }: Message) => {
      if (mark !== undefined) cpu[mark] = await cpuOf([...stand.pids, child.pid ?? 0])
      if (figures !== undefined) {
        resolve({ ...figures, ...(cpu.end > 0 ? { cpu: ((cpu.end - cpu.begin) * 1000) / jobs } : {}) })
      }
      child.send("go on")
    })
    child.on("exit", (code, signal) => reject(new Error(`the contest ended with ${code ?? signal}`)))
  })

const emptied = async (url: string) => {
  const { Redis } = await import("ioredis")
  const client = new Redis(url)
  await client.flushall()
  await client.quit()
}

const shown: Record<Contest, (figures: Measured) => number> = {
  drain: ({ rate }) => rate ?? 0,
  create: ({ rate }) => rate ?? 0,
  pickUp: ({ p50 }) => p50 ?? Number.POSITIVE_INFINITY,
  due: ({ last }) => last ?? Number.POSITIVE_INFINITY
}
const units: Record<Contest, string> = { drain: "/s", create: "/s", pickUp: " ms", due: " ms" }
const isRate = (contest: Contest) => units[contest] === "/s"
const digits = (n: number) => (n < 100 ? n.toFixed(1) : n.toFixed(0))

const described = (contest: Contest, measured: Measured) =>
  [
    Number.isFinite(shown[contest](measured))
      ? `${digits(shown[contest](measured))}${units[contest]}`
      : `${measured.done} in time`,
    ...(measured.p99 === undefined ? [] : [`p50 ${digits(measured.p50 ?? 0)} ms, p99 ${digits(measured.p99)} ms`]),
    ...(measured.cpu === undefined ? [] : [`${measured.cpu.toFixed(0)} µs CPU a job`])
  ].join(", ")

const compete = async (stand: Stand) => {
  for (const contest of chosen) {
    const all = new Map<Name, Array<Measured>>(names.map((name) => [name, []]))
    for (let round = 0; round < Number(values.rounds); round++) {
      const turn = names.map((_, n) => names[(n + round) % names.length] ?? "Ordinaut")
      for (const name of turn) {
        const measured = await held(stand, name, contest).catch((error: Error) => error)
        if (measured instanceof Error) console.log(`${contest} ${round + 1} ${name}: ${measured.message}`)
        else {
          all.get(name)?.push(measured)
          console.log(`${contest} ${round + 1} ${name}: ${described(contest, measured)}`)
        }
      }
    }
    const median = (name: Name) => quantile((all.get(name) ?? []).map(shown[contest]), 0.5)
    const cpu = (name: Name) =>
      quantile(
        (all.get(name) ?? []).flatMap((one) => one.cpu ?? []),
        0.5
      )
    console.log(
      `\n| ${contest}, median | ${isRate(contest) ? "jobs/s" : "ms"} | µs CPU a job | Ordinaut is |\n| --- | --- | --- | --- |`
    )
    for (const name of names) {
      const ratio = isRate(contest) ? median("Ordinaut") / median(name) : median(name) / median("Ordinaut")
      console.log(`| ${name} | ${digits(median(name))} | ${cpu(name).toFixed(0)} | ${ratio.toFixed(2)}× as fast |`)
    }
    console.log("")
  }
}

const program = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "ordinaut-bench-"))),
    (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
  )
  const { url } = yield* EmbeddedDb.start({ dataDir: folder, settings: { max_connections: "200" } })
  const redis = yield* startRedis(folder, ["--appendonly", "yes", "--appendfsync", "everysec"])
  const pidIn = async (path: string) => Number.parseInt(await readFile(join(folder, path), "utf8"), 10)
  const pids = yield* Effect.promise(() => Promise.all([pidIn("postgres/postmaster.pid"), pidIn("redis.pid")]))
  yield* Effect.promise(() => compete({ postgres: url, redis, pids }))
}).pipe(Effect.scoped)

await Effect.runPromise(program)
