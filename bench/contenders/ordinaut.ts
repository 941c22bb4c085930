import { Effect, Exit, Scope } from "effect"
import { randomBytes } from "node:crypto"
import pg from "pg"
import { Pool } from "undici"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import * as Programs from "../../tests/support/programs.ts"
import { byClients, lags, latencies, now, patience, pause, pickUps, rated, until } from "../contender.ts"
import type { Contender, Place } from "../contender.ts"

/** Programs of a place, with its database and a client of its API. */
interface House {
  readonly start: (name: Programs.Name) => Promise<Programs.Served>
  readonly client: pg.Client
  /** A request to the API that must be answered with a status below 300; answers its body. */
  readonly call: (to: Pool, method: "POST" | "GET", path: string, body: unknown) => Promise<unknown>
}

/** Runs at once in the worker: the batches that a worker leases and settles are as large as its free places. */
const WORKER_CONCURRENCY = "500"

const within = async <A>(place: Place, body: (house: House) => Promise<A>): Promise<A> => {
  const scope = Effect.runSync(Scope.make())
  const key = fromRandom(randomBytes(41)).text
  const env = {
    DATABASE_URL: place.postgres,
    REDIS_URL: place.redis,
    ORDINAUT_ADMIN_KEY: key,
    ORDINAUT_SECRET: randomBytes(32).toString("base64"),
    HOST: "127.0.0.1",
    WORKER_CONCURRENCY
  }
  const client = new pg.Client({ connectionString: place.postgres })
  client.on("error", () => undefined)
  try {
    const migrated = await Effect.runPromise(
      Programs.run("migrate", env).pipe(
        Scope.extend(scope),
        Effect.flatMap(({ ended }) => ended)
      )
    )
    if (migrated !== 0) throw new Error(`the migration ended with ${migrated}`)
    await client.connect()
    return await body({
      client,
      start: (name) => Effect.runPromise(Scope.extend(Programs.start(name, env), scope)),
      call: async (to, method, path, content) => {
        const answer = await to.request({
          method,
          path,
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
          body: content === undefined ? null : JSON.stringify(content)
        })
        const text = await answer.body.text()
        if (answer.statusCode >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`)
        return JSON.parse(text)
      }
    })
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    await client.end()
  }
}

/** An API with an agent whom no limit stops. */
const api = async ({ client, start }: House, connections: number) => {
  const { url } = await start("api")
  await client.query("UPDATE agent SET max_tasks = 1000000, rate_per_minute = 100000000")
  return new Pool(url, { connections, pipelining: 1 })
}

const payload = { pipeline: [{ id: "only", uses: "mail.send", with: { to: "a" } }] }

/** Far enough that it never runs here. */
const later = (n: number) => ({
  title: `later ${n}`,
  schedule_kind: "once",
  schedule_expr: "2099-01-01T00:00:00Z",
  payload
})

const idOf = (body: unknown, name = "id") => String(Reflect.get(Object(body), name))

const numbers = async (client: pg.Client, statement: string): Promise<ReadonlyArray<number>> => {
  const { rows } = await client.query({ text: statement, rowMode: "array" })
  return (rows[0] ?? []).map(Number)
}

/** Fails unless each run ended once, in success, under its first lease. */
const check = async (client: pg.Client, jobs: number) => {
  const [runs, ids, good, steps] = await numbers(
    client,
    `SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE state = 'succeeded' AND lease_no = 1),
       (SELECT count(DISTINCT run_id) FROM run_step) FROM task_run`
  )
  if (runs !== jobs || ids !== jobs || good !== jobs || steps !== jobs)
    throw new Error(`not each run happened exactly once: ${JSON.stringify({ runs, ids, good, steps, jobs })}`)
}

const isEmpty = (client: pg.Client) => async () =>
  (await numbers(client, "SELECT (EXISTS (SELECT FROM due_work))::integer"))[0] === 0

export const ordinaut: Contender = {
  drain: (place, jobs) =>
    within(place, async (house) => {
      const { call, client } = house
      const door = await api(house, 1)
      const task = idOf(await call(door, "POST", "/tasks", later(0)))
      await house.start("worker")
      await pause(500)
      await place.begin()
      await client.query(
        `INSERT INTO due_work (id, task_id, key, agent_id, namespace, task_version, trigger, state, scheduled_for, due_at, run_at,
           priority, rank, created_at)
         SELECT gen_random_uuid(), t.id, 's:' || n, t.created_by, t.namespace, 1, 'schedule', 'ready', clock_timestamp(),
           clock_timestamp(), clock_timestamp(), 5, 5, clock_timestamp()
         FROM task t, generate_series(1, $2) AS n WHERE t.id = $1`,
        [task, jobs]
      )
      await until(isEmpty(client), patience)
      const ended = now()
      await place.end()
      await check(client, jobs)
      const [first] = await numbers(client, "SELECT extract(epoch FROM min(started_at)) * 1000 FROM task_run")
      await door.close()
      return { rate: (jobs / (ended - (first ?? 0))) * 1000, done: jobs }
    }),

  create: (place, clients, jobs) =>
    within(place, async (house) => {
      const door = await api(house, clients)
      await byClients(clients, 2 * clients, (n) => house.call(door, "POST", "/tasks", later(n)))
      await place.begin()
      const began = now()
      const took = await byClients(clients, jobs, (n) => house.call(door, "POST", "/tasks", later(n)))
      const figures = rated(took, now() - began)
      await place.end()
      const [there] = await numbers(house.client, "SELECT count(*) FROM task")
      if (there !== jobs + 2 * clients) throw new Error(`${there} tasks are there`)
      await door.close()
      return figures
    }),

  pickUp: (place, samples) =>
    within(place, async (house) => {
      const door = await api(house, 1)
      await house.start("worker")
      const task = idOf(await house.call(door, "POST", "/tasks", later(0)))
      const ids = new Map<string, number>()
      const called = await pickUps(samples, async (n) =>
        ids.set(idOf(await house.call(door, "POST", `/tasks/${task}/run_now`, undefined), "run_id"), n)
      )
      await check(house.client, samples)
      const { rows } = await house.client.query<{ id: string; at: string }>(
        "SELECT id, extract(epoch FROM started_at) * 1000 AS at FROM task_run"
      )
      await door.close()
      return latencies(called, new Map(rows.map(({ at, id }) => [ids.get(id) ?? -1, Number(at)])))
    }),

  due: (place, schedules) =>
    within(place, async (house) => {
      const { call, client } = house
      const door = await api(house, 2)
      await Promise.all([house.start("scheduler"), house.start("worker")])
      const at = Math.ceil((now() + 40_000) / 1000) * 1000
      const due = new Date(at)
      const expression = `${due.getUTCSeconds()} ${due.getUTCMinutes()} * * * *`
      for (let n = 0; n < schedules; n += 1000) {
        await call(door, "POST", "/tasks/batch", {
          items: Array.from({ length: Math.min(1000, schedules - n) }, (_, i) => ({
            title: `schedule ${n + i}`,
            schedule_kind: "cron",
            schedule_expr: expression,
            timezone: "UTC",
            payload
          }))
        })
      }
      if (now() > at) throw new Error("the schedules were not made in time")
      await pause(at - now() - 1000)
      await place.begin()
      const all = async () => (await numbers(client, "SELECT count(*) FROM task_run"))[0] === schedules
      await until(all, patience, 50)
      await place.end()
      const { rows } = await client.query<{ at: string }>(
        "SELECT extract(epoch FROM started_at) * 1000 AS at FROM task_run"
      )
      await check(client, schedules)
      await door.close()
      return lags(at, new Map(rows.map((row, n) => [n, Number(row.at)])), schedules)
    })
}
