import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, FastCheck as fc, Layer, Runtime } from "effect"
import pg from "pg"
import { inject } from "vitest"
import { served } from "../../src/domain/Line.ts"
import type { Line } from "../../src/domain/Line.ts"
import type { DueWork } from "../../src/domain/DueWork.ts"
import type { NewWork, Settlement } from "../../src/domain/Settlement.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Worker } from "../../src/layers/Worker.ts"
import { atOnce, twin } from "../simulation/TwinStore.ts"
import { emptyTables, pair, unwatched } from "../simulation/TwinTables.ts"
import { fromStart } from "../support/schedules.ts"
import { services, start } from "../support/Services.ts"

const worker = "018f0000-0000-7000-8000-000000000001"
const agentId = (n: number) => `018f0000-0000-7000-8000-00000000000${n}`
const id = (n: number) => `018f0000-0000-7000-9000-${String(n).padStart(12, "0")}`
const limits = { one: 1, two: 2 } as const

const work = (n: number, more: Partial<NewWork>): NewWork => ({
  id: id(n),
  task_id: id(n),
  task_version: 1,
  agent_id: agentId(1),
  namespace: "main",
  key: `m:${n}`,
  trigger: "manual",
  scheduled_for: start,
  due_at: start,
  priority: 5,
  concurrency_key: null,
  deadline_seconds: null,
  start_within_seconds: null,
  serial: false,
  ...more
})

/** Queues so many runs of an agent by the store itself, from the number `first` on, all due `age` seconds ago. */
const flood = (agent: number, first: number, count: number, age: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const at = new Date(start - age * 1000)
    yield* sql`
      INSERT INTO due_work (id, task_id, key, agent_id, namespace, task_version, trigger, state, scheduled_for, due_at, run_at, priority,
        rank, created_at)
      SELECT ('018f0000-0000-7000-9000-' || lpad(n::text, 12, '0'))::uuid, gen_random_uuid(), 's:' || n, ${agentId(agent)}, 'main', 1,
        'schedule', 'ready', ${at}, ${at}, ${at}, 5, 5, ${at}
      FROM generate_series(${first}::integer, ${first + count - 1}::integer) AS n`
  })

const agentsOf = (leased: ReadonlyArray<DueWork>) => {
  const found: Record<string, number> = {}
  for (const { agent_id } of leased) found[agent_id] = (found[agent_id] ?? 0) + 1
  return found
}

/** What of a turn two stores must agree on. */
const outcome = ({ blocked, leased, lost }: Effect.Effect.Success<ReturnType<typeof Lease.Service.turn>>) => ({
  blocked,
  leased: leased.map(({ key }) => key).sort(),
  lost
})

const succeeded = (one: DueWork): Settlement => ({
  work: one,
  steps: [],
  finished_at: start,
  outcome: "ended",
  state: "succeeded",
  error: null
})

const queued = fc.record({
  agent: fc.integer({ min: 0, max: 4 }),
  priority: fc.integer({ min: 1, max: 3 }),
  age: fc.integer({ min: 0, max: 3 }),
  key: fc.constantFrom(null, null, null, "one", "two")
})

const scene = fc.record({
  rows: fc.array(queued, { minLength: 1, maxLength: 40 }),
  capacity: fc.integer({ min: 1, max: 12 }),
  order: fc.shuffledSubarray([0, 1, 2, 3, 4]),
  from: fc.option(fc.nat(39)),
  turns: fc.integer({ min: 1, max: 4 })
})

/** Opens a snapshot on a connection of its own; answers what closes it. */
const snapshot = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ name: string }>`SELECT current_database() AS name`
  const url = new URL(inject("databaseUrl"))
  url.pathname = row?.name ?? ""
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => new pg.Client({ connectionString: url.href })),
    (open) => Effect.promise(() => open.end())
  )
  yield* Effect.promise(async () => {
    await client.connect()
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await client.query("SELECT count(*) FROM due_work")
  })
  return Effect.promise(() => client.query("COMMIT"))
})

type Scene = typeof scene extends fc.Arbitrary<infer A> ? A : never

layer(services())("turns of agents", (it) => {
  it.effect(
    "the statement leases what the rules in memory lease",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const lease = yield* Lease
        const runtime = yield* Effect.runtime<Effect.Effect.Context<typeof fromStart>>()
        const holds = (given: Scene) =>
          Effect.gen(function* () {
            yield* fromStart
            const tables = emptyTables({
              watch: unwatched,
              leaseMillis: 15_000,
              cluttered: () => false,
              newId: () => ""
            })
            const model = Context.get(twin(tables, atOnce), Lease)
            for (const [key, limit] of Object.entries(limits)) {
              yield* sql`INSERT INTO concurrency ${sql.insert({ namespace: "main", key, limit })}`
              tables.slots.set(pair("main", key), { limit, in_use: 0 })
            }
            const runs = given.rows.map(({ age, agent, key, priority }, n) =>
              work(n, { agent_id: agentId(agent), due_at: start - age * 1000, priority, concurrency_key: key })
            )
            yield* lease.enqueue(runs)
            yield* model.enqueue(runs)
            const all = yield* lease.line(null)
            assert.deepStrictEqual(all, yield* model.line(null))
            const agents = given.order.flatMap((n) => all.agents.filter(({ agent_id }) => agent_id === agentId(n)))
            const first = given.from === null ? undefined : runs[given.from]
            const from = first === undefined ? null : { rank: first.priority, due_at: first.due_at, id: first.id }
            let line: Line = { agents, from, after: null }
            let settled: ReadonlyArray<Settlement> = []
            for (let turn = 0; turn < given.turns; turn++) {
              const is = yield* lease.turn(worker, settled, given.capacity, false, line)
              const should = yield* model.turn(worker, settled, given.capacity, false, line)
              assert.deepStrictEqual(outcome(is), outcome(should))
              settled = is.leased.map((one) => succeeded(one))
              line = served(line, is.leased)
            }
            const slots = yield* sql<{ key: string; in_use: number }>`SELECT key, in_use FROM concurrency ORDER BY key`
            assert.deepStrictEqual(
              slots.map(({ in_use, key }) => [pair("main", key), in_use]),
              [...tables.slots].map(([key, { in_use }]) => [key, in_use])
            )
          })
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(scene, (given) => Runtime.runPromise(runtime)(holds(given))),
            { numRuns: 80, seed: 20_260_302 }
          )
        )
      }),
    60_000
  )

  it.effect("one run of a quiet agent is leased in the next turn, whatever waits of another", () =>
    Effect.gen(function* () {
      yield* fromStart
      const lease = yield* Lease
      yield* flood(1, 1, 20_000, 60)
      yield* flood(2, 30_000, 1, 0)
      const { leased } = yield* lease.turn(worker, [], 20, false, yield* lease.line(null))
      assert.deepStrictEqual(agentsOf(leased), { [agentId(1)]: 19, [agentId(2)]: 1 })
    })
  )

  it.effect("a worker looks who waits, and gives each its turn", () =>
    Effect.gen(function* () {
      yield* fromStart
      const sql = yield* SqlClient.SqlClient
      const turns = yield* Worker
      yield* flood(1, 1, 200, 60)
      yield* flood(2, 300, 1, 0)
      yield* turns.rescue
      yield* turns.turn
      const rows =
        yield* sql`SELECT count(*)::integer AS n FROM due_work WHERE lease_no = 1 GROUP BY agent_id ORDER BY 1`
      assert.deepStrictEqual(rows, [{ n: 1 }, { n: 49 }])
      for (let idle = 0; idle < 20; idle++) yield* turns.turn
    })
  )

  it.effect("shares stay even under several workers at once", () =>
    Effect.gen(function* () {
      yield* fromStart
      const lease = yield* Lease
      yield* flood(1, 1, 2000, 60)
      yield* flood(2, 3000, 2000, 30)
      yield* flood(3, 6000, 2000, 0)
      const drain = (by: string) =>
        Effect.gen(function* () {
          let line = yield* lease.line(null)
          const got: Record<string, number> = {}
          for (let turn = 0; turn < 40; turn++) {
            const { leased } = yield* lease.turn(by, [], 10, false, line)
            assert.lengthOf(leased, 10)
            line = served(line, leased)
            for (const [agent, n] of Object.entries(agentsOf(leased))) got[agent] = (got[agent] ?? 0) + n
          }
          return got
        })
      const workers = [1, 2, 3].map((n) => `018f0000-0000-7000-8000-0000000000f${n}`)
      for (const got of yield* Effect.forEach(workers, drain, { concurrency: 3 })) {
        for (const n of [1, 2, 3]) assert.approximately(got[agentId(n)] ?? 0, 400 / 3, 2)
      }
    })
  )

  it.scoped("begins behind rows that are gone and that an open snapshot keeps", () =>
    Effect.gen(function* () {
      yield* fromStart
      const lease = yield* Lease
      const sql = yield* SqlClient.SqlClient
      yield* flood(1, 1, 200_000, 60)
      const close = yield* snapshot
      yield* sql`DELETE FROM due_work`
      yield* flood(2, 270_000, 3, 0)
      yield* flood(3, 280_000, 3, 0)
      const line = yield* lease.line(null)
      assert.deepStrictEqual(line.from, { rank: 5, due_at: start, id: id(270_000) })
      const { leased } = yield* lease.turn(worker, [], 2, false, line)
      assert.deepStrictEqual(leased.map((one) => one.id).sort(), [id(270_000), id(280_000)])
      yield* close
      // A machine that is busy takes long now and then, whatever the way.
      const { from } = yield* Effect.repeat(lease.line(null), { until: (seen) => seen.from === null, times: 100 })
      assert.strictEqual(from, null)
    })
  )

  it.effect("more agents than one line has are seen in turn", () =>
    Effect.gen(function* () {
      yield* fromStart
      const lease = yield* Lease
      const sql = yield* SqlClient.SqlClient
      yield* flood(1, 1, 250, 0)
      yield* sql`UPDATE due_work SET agent_id = id`
      const met = new Set<string>()
      let after: string | null = null
      for (let n = 0; n < 3; n++) {
        const line: Line = yield* lease.line(after)
        assert.lengthOf(line.agents, 100)
        for (const { agent_id } of line.agents) met.add(agent_id)
        after = line.after
      }
      assert.strictEqual(met.size, 250)
    })
  )
})

layer(Layer.empty)("a line", (it) => {
  it.effect("what does not divide evenly goes round", () =>
    Effect.sync(() => {
      const first = { rank: 5, due_at: 0, id: id(1) }
      let line: Line = { agents: [1, 2, 3].map((n) => ({ agent_id: agentId(n), first })), from: null, after: null }
      const got: Record<string, number> = {}
      for (let turn = 0; turn < 30; turn++) {
        const leased = line.agents.slice(0, 2)
        for (const { agent_id } of leased) got[agent_id] = (got[agent_id] ?? 0) + 1
        line = served(line, leased)
      }
      assert.deepStrictEqual(Object.values(got), [20, 20, 20])
    })
  )
})
