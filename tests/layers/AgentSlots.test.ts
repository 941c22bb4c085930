import * as SqlClient from "@effect/sql/SqlClient"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Layer, TestClock } from "effect"
import { inject } from "vitest"
import type { DueWork } from "../../src/domain/DueWork.ts"
import type { End, NewWork, Settlement } from "../../src/domain/Settlement.ts"
import { Agents } from "../../src/layers/Agents.ts"
import * as Ids from "../../src/layers/Ids.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { randomOf } from "../support/accounts.ts"
import { admin, agent } from "../support/fixtures.ts"
import { invariantsHold } from "../support/invariants.ts"
import { services } from "../support/Services.ts"
import { dbAt } from "../support/TestDb.ts"

const workers = Array.from({ length: 6 }, (_, n) => `018f0000-0000-7000-8000-00000000000${n}`)
const [one = "", other = ""] = workers

const world = <A, E>(body: Effect.Effect<A, E, Layer.Layer.Success<ReturnType<typeof services>>>) =>
  Effect.zipLeft(body, invariantsHold).pipe(Effect.provide(services()))

const owner = (name: string, most: number | null) =>
  Effect.gen(function* () {
    const { actor: by } = yield* admin
    const { actor } = yield* agent(by, name, ["tasks:*"])
    const limit = (max_concurrent_runs: number | null) =>
      Effect.flatMap(Agents, (agents) => agents.patch(by, actor.id, { max_concurrent_runs }))
    yield* limit(most)
    return { id: actor.id, limit }
  })

const enqueue = (agent_id: string, more: Partial<NewWork> = {}) =>
  Effect.gen(function* () {
    const id = yield* Ids.next
    const now = yield* Clock.currentTimeMillis
    const work: NewWork = {
      id,
      task_id: yield* Ids.next,
      task_version: 1,
      agent_id,
      namespace: "main",
      key: `m:${id}`,
      trigger: "manual",
      scheduled_for: now,
      due_at: now,
      priority: 5,
      concurrency_key: null,
      deadline_seconds: null,
      start_within_seconds: null,
      serial: false,
      ...more
    }
    yield* Effect.flatMap(Lease, (lease) => lease.enqueue([work]))
    return id
  })

const several = (n: number, agent_id: string, more: Partial<NewWork> = {}) =>
  Effect.forEach(Array.from({ length: n }), () => enqueue(agent_id, more))

const succeeded: End = { outcome: "ended", state: "succeeded", error: null }
const settle = (work: DueWork, end: End = succeeded): Settlement => ({
  ...end,
  work,
  steps: [],
  finished_at: work.started_at.epochMillis
})
const turn = (settled: ReadonlyArray<Settlement>, capacity: number, by = one) =>
  Effect.map(
    Effect.flatMap(Lease, (lease) => lease.turn(by, settled, capacity)),
    ({ leased }) => leased
  )
const promote = Effect.flatMap(Lease, (lease) => lease.promote)
const key = (name: string, most: number) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`INSERT INTO concurrency ${sql.insert({ namespace: "main", key: name, limit: most })}`
  )
const idsOf = (leased: ReadonlyArray<DueWork>) => leased.map(({ id }) => String(id))

describe("max_concurrent_runs", () => {
  it.effect("bounds the runs of an agent that are leased at once, and hands a place on", () =>
    world(
      Effect.gen(function* () {
        const { id } = yield* owner("bound", 2)
        const free = yield* owner("free", null)
        const ids = yield* several(5, id)
        const others = yield* several(2, free.id)
        const first = yield* turn([], 4)
        const second = yield* turn([], 4, other)
        assert.sameMembers(idsOf([...first, ...second]), [...ids.slice(0, 2), ...others])
        const bound = first.find(({ agent_id }) => agent_id === id)
        yield* turn([settle(bound ?? assert.fail())], 0)
        assert.deepStrictEqual(idsOf(yield* turn([], 10)), ids.slice(2, 3))
      })
    )
  )

  it.effect("gives the place back when a run parks, is retried, or is rescued", () =>
    world(
      Effect.gen(function* () {
        const { id } = yield* owner("giving", 1)
        const [a = "", b = "", c = ""] = yield* several(3, id, { priority: 5 })
        const [parked = assert.fail()] = yield* turn([], 3)
        yield* turn([settle(parked, { outcome: "parked", signals: 0, expires_at: null })], 0)
        assert.strictEqual(parked.id, a)
        const [retried = assert.fail()] = yield* turn([], 3)
        assert.strictEqual(retried.id, b)
        const now = yield* Clock.currentTimeMillis
        const error = { code: "internal", message: "no", step_id: null, retryable: true } as const
        yield* turn([settle(retried, { outcome: "retried", error, run_at: now + 3_600_000 })], 0)
        const [lost = assert.fail()] = yield* turn([], 3)
        assert.strictEqual(lost.id, c)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(yield* (yield* Lease).rescue, 1)
        yield* (yield* Lease).signal([a])
        assert.lengthOf(yield* turn([], 3), 1)
      })
    )
  )

  it.effect("holds beside a key, and neither keeps those waiting who wait for the other alone", () =>
    world(
      Effect.gen(function* () {
        const { id } = yield* owner("both", 2)
        const third = yield* owner("third", null)
        yield* key("k", 1)
        const [holder = ""] = yield* several(1, third.id, { concurrency_key: "k", priority: 1 })
        const [mine = ""] = yield* several(1, id, { priority: 1 })
        const held = yield* turn([], 2)
        assert.sameMembers(idsOf(held), [holder, mine])
        // One place of the agent is left, and the first in line cannot take it.
        const [keyed = ""] = yield* several(1, id, { concurrency_key: "k", priority: 2 })
        const [plain = "", last = ""] = yield* several(2, id, { priority: 3 })
        assert.deepStrictEqual(idsOf(yield* turn([], 10)), [plain])
        yield* promote
        assert.deepStrictEqual(yield* turn([], 10), [])
        // The key is free, and the agent has no place.
        yield* turn(
          held.filter(({ id: run }) => run === holder).map((work) => settle(work)),
          0
        )
        yield* promote
        assert.deepStrictEqual(yield* turn([], 10), [])
        yield* turn(
          held.filter(({ id: run }) => run === mine).map((work) => settle(work)),
          0
        )
        yield* promote
        assert.deepStrictEqual(idsOf(yield* turn([], 10)), [keyed])
        const sql = yield* SqlClient.SqlClient
        assert.deepStrictEqual(yield* sql`SELECT id, agent_slot FROM due_work WHERE state = 'blocked'`, [
          { id: last, agent_slot: true }
        ])
      })
    )
  )

  it.effect("may be set, lowered, raised and taken away while runs run and wait", () =>
    world(
      Effect.gen(function* () {
        const { id, limit } = yield* owner("changing", null)
        yield* several(9, id)
        const running = yield* turn([], 4)
        assert.lengthOf(running, 4)
        yield* limit(3)
        assert.lengthOf(yield* turn([], 10), 0)
        yield* turn(
          running.slice(0, 2).map((work) => settle(work)),
          0
        )
        const fifth = yield* turn([], 10)
        assert.lengthOf(fifth, 1)
        yield* limit(5)
        yield* promote
        assert.lengthOf(yield* turn([], 10), 2)
        yield* limit(null)
        yield* invariantsHold
        yield* promote
        const all = yield* turn([], 10)
        assert.lengthOf(all, 2)
        yield* limit(1)
        yield* turn(
          [...running.slice(2), ...fifth, ...all].map((work) => settle(work)),
          0
        )
      })
    )
  )

  it.effect("is never exceeded by six workers at once, with and without keys, while all runs come to an end", () =>
    world(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const [a, b, c] = [yield* owner("a", 1), yield* owner("b", 4), yield* owner("c", null)]
        const agents = [a, b, c]
        for (const [name, most] of [
          ["narrow", 1],
          ["wide", 3]
        ] as const)
          yield* key(name, most)
        const keys = [null, "narrow", "wide", null]
        const random = randomOf(11)
        for (let n = 0; n < 240; n++) {
          yield* enqueue(agents[n % 3]?.id ?? "", {
            concurrency_key: keys[Math.floor(random() * 4)] ?? null,
            priority: 1 + Math.floor(random() * 9)
          })
        }
        const [{ name = "" } = {}] = yield* sql<{ name: string }>`SELECT current_database() AS name`
        const url = new URL(inject("databaseUrl"))
        url.pathname = name
        const separate = Lease.layer.pipe(Layer.provide(dbAt(url.href)), Layer.orDie)
        const stores = yield* Effect.forEach(workers, (worker) =>
          Effect.map(Layer.build(Layer.fresh(separate)), (context) => ({ worker, lease: Context.get(context, Lease) }))
        )
        const left = Effect.map(sql<{ n: number }>`SELECT count(*)::integer AS n FROM due_work`, ([row]) => row?.n ?? 0)
        const loop = ({ lease, worker }: (typeof stores)[number]) =>
          Effect.gen(function* () {
            for (let held: ReadonlyArray<DueWork> = []; held.length > 0 || (yield* left) > 0;) {
              const ends = held.map((work) => settle(work, random() < 0.8 ? succeeded : { outcome: "released" }))
              held = (yield* lease.turn(worker, ends, 3)).leased
            }
          })
        const watching = sql<{ wrong: boolean }>`
          SELECT (c.namespace = '@agents' AND count(d.id) > min(c."limit")) OR (c.namespace = 'main' AND count(k.id) > min(c."limit")) AS wrong
          FROM concurrency c LEFT JOIN due_work d ON d.agent_id::text = c.key AND d.state = 'leased'
            LEFT JOIN due_work k ON k.concurrency_key = c.key AND k.state = 'leased' GROUP BY c.namespace, c.key`.pipe(
          Effect.tap((rows) => assert.isFalse(rows.some(({ wrong }) => wrong))),
          Effect.zipRight(invariantsHold),
          Effect.zipLeft(promote),
          Effect.repeat({ until: () => Effect.map(left, (n) => n === 0) })
        )
        yield* Effect.all([watching, ...stores.map((store) => loop(store))], { concurrency: 7 })
        const [done] = yield* sql<{ n: number }>`SELECT count(*)::integer AS n FROM task_run WHERE state = 'succeeded'`
        assert.strictEqual(done?.n, 240)
      }).pipe(Effect.scoped)
    )
  )
})
