import { randomBytes } from "node:crypto"
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { ConfigProvider, Effect, Layer, Logger, LogLevel } from "effect"
import pg from "pg"
import { Audit } from "../src/layers/Audit.ts"
import { AwaitedEvents } from "../src/layers/AwaitedEvents.ts"
import { ChildRuns } from "../src/layers/ChildRuns.ts"
import * as Db from "../src/layers/Db.ts"
import { Draining } from "../src/layers/Draining.ts"
import { EmbeddedDb } from "../src/layers/EmbeddedDb.ts"
import { Events } from "../src/layers/Events.ts"
import { Extensions } from "../src/layers/Extensions.ts"
import { Heartbeats } from "../src/layers/Heartbeats.ts"
import { JsonSchemas } from "../src/layers/JsonSchemas.ts"
import { Lease } from "../src/layers/Lease.ts"
import { MasterKey } from "../src/layers/MasterKey.ts"
import * as Migrations from "../src/layers/Migrations.ts"
import { Pipeline } from "../src/layers/Pipeline.ts"
import { Plans } from "../src/layers/Plans.ts"
import { Pulse } from "../src/layers/Pulse.ts"
import { RunRights } from "../src/layers/RunRights.ts"
import { Secrets } from "../src/layers/Secrets.ts"
import * as Toolbox from "../src/layers/Toolbox.ts"
import { Wakeups } from "../src/layers/Wakeups.ts"
import { Worker } from "../src/layers/Worker.ts"
import * as WorkerLoop from "../src/layers/WorkerLoop.ts"

/**
 * Drains queued one-step runs with a worker in this process, against a PostgreSQL of its own: `node --import tsx bench/keys.ts
 * --runs 20000 --keys 10000`. Rounds without and with concurrency keys take turns, each on a fresh database, after one that only
 * warms up. `--agents` spreads the runs over so many agents, each with
 * `--agent-limit` runs at once (0: as many as there are), `--dead` leaves so many dead rows that an open snapshot keeps.
 */
const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "20000" },
    keys: { type: "string", default: "10000" },
    limit: { type: "string", default: "5" },
    agents: { type: "string", default: "1" },
    "agent-limit": { type: "string", default: "0" },
    dead: { type: "string", default: "0" },
    concurrency: { type: "string", default: "500" },
    rounds: { type: "string", default: "3" }
  }
})
const runs = Number(values.runs)
const keys = Number(values.keys)
const limit = Number(values.limit)
const agents = Number(values.agents)
const agentLimit = Number(values["agent-limit"])
const dead = Number(values.dead)
const concurrency = Number(values.concurrency)
const rounds = Number(values.rounds)

const taskId = "018f0000-0000-7000-8000-000000000001"

/** CPU time of PostgreSQL's processes so far, milliseconds; a tick of Linux is 10 ms. */
const cpuOf = async (postmaster: number): Promise<number> => {
  let ticks = 0
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ")
    if (Number(pid) !== postmaster && Number(fields[1]) !== postmaster) continue
    ticks += Number(fields[11]) + Number(fields[12])
    // What its ended children used.
    if (Number(pid) === postmaster) ticks += Number(fields[13]) + Number(fields[14])
  }
  return ticks * 10
}

const query = async <A>(url: string, body: (client: pg.Client) => Promise<A>): Promise<A> => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return await body(client)
  } finally {
    await client.end()
  }
}

/** Queues the runs: of one task, all due at once, with keys and agents in turn. */
const queue = (client: pg.Client, keyed: boolean) =>
  client.query(
    `INSERT INTO due_work (id, task_id, key, agent_id, namespace, task_version, trigger, state, scheduled_for, due_at, run_at, priority,
       rank, concurrency_key, created_at)
     SELECT gen_random_uuid(), $1, 's:' || gen_random_uuid(), ('018f0000-0000-7000-8000-' || lpad((n % $5)::text, 12, '0'))::uuid, 'main', 1,
       'schedule', 'ready', clock_timestamp(), clock_timestamp() - interval '1 minute', clock_timestamp(), 5, 5,
       CASE WHEN $2 AND $3 > 0 THEN 'key-' || n % $3 END, clock_timestamp()
     FROM generate_series(1, $4) AS n`,
    [taskId, keyed, Math.max(1, keys), runs, agents]
  )

const prepare = (url: string, keyed: boolean) =>
  query(url, async (client) => {
    const definition = {
      title: "a",
      labels: {},
      timezone: "UTC",
      payload: { pipeline: [{ id: "only", uses: "mail.send", with: { to: "a" } }] },
      max_retries: 0,
      backoff_strategy: "fixed",
      backoff_seconds: 1,
      backoff_max_seconds: 1,
      timeout_seconds: 60
    }
    await client.query("SELECT ensure_history((now() AT TIME ZONE 'UTC')::date, 2)")
    await client.query("ALTER TABLE task_revision DROP CONSTRAINT task_revision_task_id_fkey")
    await client.query(
      `INSERT INTO agent (id, name, scopes, created_at)
       SELECT ('018f0000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'agent-' || n, '{tasks:*}', now() FROM generate_series(0, $1) AS n`,
      [agents - 1]
    )
    await client.query(`INSERT INTO concurrency (namespace, key, "limit") SELECT '@agents', id::text, $1 FROM agent`, [
      agentLimit > 0 ? agentLimit : null
    ])
    await client.query(
      "INSERT INTO task_revision (task_id, version, definition, created_at) VALUES ($1, 1, $2, now())",
      [taskId, definition]
    )
    await client.query(
      `INSERT INTO concurrency (namespace, key, "limit") SELECT 'main', 'key-' || n, $1 FROM generate_series(0, $2) AS n`,
      [limit, keys - 1]
    )
    if (dead === 0) await queue(client, keyed)
    await client.query("VACUUM ANALYZE")
  })

/** Leaves dead rows in front of the queue, which the answered snapshot keeps until it is let go. */
const clutter = async (url: string, keyed: boolean): Promise<() => Promise<void>> => {
  if (dead === 0) return async () => undefined
  const holder = new pg.Client({ connectionString: url })
  await holder.connect()
  await holder.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
  await query(url, async (client) => {
    await client.query(
      `INSERT INTO due_work (id, task_id, key, agent_id, namespace, task_version, trigger, state, scheduled_for, due_at, run_at,
         priority, rank, created_at)
       SELECT gen_random_uuid(), $1, 's:' || gen_random_uuid(), ('018f0000-0000-7000-8000-' || lpad((n % $3)::text, 12, '0'))::uuid,
         'main', 1, 'schedule', 'ready', clock_timestamp(), clock_timestamp() - interval '1 hour', clock_timestamp(), 5, 5, clock_timestamp()
       FROM generate_series(1, $2) AS n`,
      [taskId, dead, agents]
    )
    await holder.query("SELECT count(*) FROM due_work")
    await client.query("UPDATE due_work SET state = 'leased', locked_until = clock_timestamp()")
    await client.query("DELETE FROM due_work")
    await queue(client, keyed)
    await client.query("ANALYZE")
  })
  return () => holder.end()
}

const worker = WorkerLoop.loop.pipe(
  Layer.provide(Worker.layer),
  Layer.provide(Pipeline.layer),
  Layer.provide(Toolbox.layer),
  Layer.provide(Events.layer),
  Layer.provide([Plans.layer, ChildRuns.layer, RunRights.layer, AwaitedEvents.layer]),
  Layer.provide([Lease.layer, Extensions.layer, Secrets.layer]),
  Layer.provide([JsonSchemas.layer, Audit.layer, Heartbeats.layer, Wakeups.layerLocal, MasterKey.layer, Pulse.layer]),
  Layer.provide(Db.layerNamed("bench")),
  Layer.provide(Draining.layer)
)

const drained = (url: string) =>
  Effect.promise(() =>
    query(url, async (client) => {
      for (;;) {
        const { rows } = await client.query<{ left: boolean }>("SELECT EXISTS (SELECT FROM due_work) AS left")
        if (rows[0]?.left !== true) return
        await new Promise((resume) => setTimeout(resume, 20))
      }
    })
  )

/** Fails unless each run ended once, in success, and no slot is lost. */
const check = (url: string) =>
  query(url, async (client) => {
    const { rows } = await client.query<{ runs: number; ids: number; good: number; in_use: number }>(
      `SELECT count(*)::int AS runs, count(DISTINCT id)::int AS ids, (count(*) FILTER (WHERE state = 'succeeded' AND lease_no = 1))::int AS good,
         (SELECT coalesce(sum(in_use), 0)::int FROM concurrency) AS in_use FROM task_run`
    )
    const { rows: steps } = await client.query<{ n: number }>("SELECT count(DISTINCT run_id)::int AS n FROM run_step")
    const [row] = rows
    if (row?.runs !== runs || row.ids !== runs || row.good !== runs || row.in_use !== 0 || steps[0]?.n !== runs)
      throw new Error(`not each run happened exactly once: ${JSON.stringify({ ...row, steps: steps[0]?.n })}`)
  })

interface Figures {
  readonly rate: number
  readonly own: number
  readonly database: number
}

const round = async (server: string, postmaster: number, keyed: boolean, n: number): Promise<Figures> => {
  const name = `keys_${n}_${keyed ? "keys" : "plain"}`
  await query(server, (client) => client.query(`CREATE DATABASE ${name}`))
  const at = new URL(server)
  at.pathname = name
  const url = at.href
  const config = ConfigProvider.fromMap(
    new Map([
      ["DATABASE_URL", url],
      ["ORDINAUT_SECRET", randomBytes(32).toString("base64")],
      ["WORKER_CONCURRENCY", String(concurrency)]
    ])
  )
  const quiet = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.runPromise(
      effect.pipe(
        Effect.withConfigProvider(config),
        Logger.withMinimumLogLevel(LogLevel.Warning),
        Effect.withTracerEnabled(false)
      )
    )
  await quiet(Migrations.run.pipe(Effect.provide(Db.layer)))
  await prepare(url, keyed)
  const release = await clutter(url, keyed)
  const cpu = process.cpuUsage()
  const database = await cpuOf(postmaster)
  const started = performance.now()
  let took = 0
  let spent = 0
  await quiet(
    drained(url).pipe(
      Effect.tap(() =>
        Effect.promise(async () => {
          took = performance.now() - started
          spent = await cpuOf(postmaster)
        })
      ),
      Effect.provide(worker)
    )
  )
  const own = process.cpuUsage(cpu)
  const figures = {
    rate: (runs / took) * 1000,
    own: (own.user + own.system) / runs,
    database: ((spent - database) * 1000) / runs
  }
  await release()
  await check(url)
  await query(server, (client) => client.query(`DROP DATABASE ${name} WITH (FORCE)`))
  return figures
}

const median = (all: ReadonlyArray<number>) => [...all].sort((a, b) => a - b)[all.length >> 1] ?? 0

const program = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "ordinaut-keys-"))),
    (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
  )
  const { url } = yield* EmbeddedDb.start({ dataDir: folder, settings: { max_connections: "50" } })
  yield* Effect.promise(async () => {
    const pid = Number(
      (await readFile(join(folder, "postgres/postmaster.pid"), "utf8").catch(() => "0")).split("\n")[0]
    )
    const all: Record<"plain" | "keys", Array<Figures>> = { plain: [], keys: [] }
    for (let n = 0; n <= rounds; n++) {
      // Who goes first changes: what runs later in a round may find the machine otherwise.
      for (const kind of n % 2 === 0 ? (["plain", "keys"] as const) : (["keys", "plain"] as const)) {
        if (kind === "keys" && keys === 0) continue
        const figures = await round(url, pid, kind === "keys", n)
        if (n > 0) all[kind].push(figures)
        const { database, own, rate } = figures
        console.log(
          `${n === 0 ? "warm-up" : `round ${n}`} ${kind.padEnd(5)} ${rate.toFixed(0)} runs/s, ` +
            `${own.toFixed(0)} µs of the worker and ${database.toFixed(0)} µs of PostgreSQL a run`
        )
      }
    }
    const of = (kind: "plain" | "keys", what: keyof Figures) => median(all[kind].map((figures) => figures[what]))
    if (keys > 0 && rounds > 0)
      console.log(
        `median: ${of("plain", "rate").toFixed(0)} runs/s without keys, ${of("keys", "rate").toFixed(0)} with ${keys}: ` +
          `${(100 - (of("keys", "rate") / of("plain", "rate")) * 100).toFixed(1)} % fewer; ` +
          `PostgreSQL ${of("plain", "database").toFixed(0)} and ${of("keys", "database").toFixed(0)} µs a run`
      )
  })
}).pipe(Effect.scoped)

await Effect.runPromise(program)
