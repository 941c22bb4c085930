import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Clock, Context, Deferred, Effect, Fiber, Layer, TestClock } from "effect"
import pg from "pg"
import { inject } from "vitest"
import type { DueWork } from "../../src/domain/DueWork.ts"
import type { End, NewWork, Settlement, StepRecord } from "../../src/domain/Settlement.ts"
import * as Ids from "../../src/layers/Ids.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { randomOf } from "../support/accounts.ts"
import { invariantsHold, watched } from "../support/invariants.ts"
import { fromStart } from "../support/schedules.ts"
import { services, start } from "../support/Services.ts"
import { dbAt } from "../support/TestDb.ts"

const workers = Array.from({ length: 8 }, (_, n) => `018f0000-0000-7000-8000-00000000000${n}`)
const [one = "", other = ""] = workers
const agent = "018f0000-0000-7000-8000-0000000000aa"

const error = { code: "tool_failed", message: "it did not work", step_id: "first", retryable: true }
const succeeded: End = { outcome: "ended", state: "succeeded", error: null }
const ends: ReadonlyArray<End> = [
  succeeded,
  { outcome: "retried", error, run_at: start },
  { outcome: "released" },
  { outcome: "parked", signals: 0, expires_at: null }
]

/** Queues a run of a task of its own. */
const enqueue = (more: Partial<NewWork> = {}) =>
  Effect.gen(function* () {
    const id = yield* Ids.next
    const now = yield* Clock.currentTimeMillis
    const work: NewWork = {
      id,
      task_id: yield* Ids.next,
      task_version: 1,
      agent_id: agent,
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
    return work
  })

const limit = (key: string, most: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO concurrency ${sql.insert({ namespace: "main", key, limit: most })}`
  })

const settle = (work: DueWork, end: End, steps: ReadonlyArray<StepRecord> = []): Settlement => ({
  ...end,
  work,
  steps,
  finished_at: work.started_at.epochMillis
})

const step = (step_id: string, more: Partial<StepRecord> = {}): StepRecord => ({
  step_id,
  position: 0,
  item: -1,
  uses: "mail.send",
  state: "succeeded",
  attempt: 1,
  input: { to: "a" },
  output: { sent: step_id },
  error: null,
  simulated: false,
  logs: [],
  started_at: start,
  finished_at: start,
  ...more
})

/** Leases up to so many, for worker `one`. */
const take = (capacity: number, by = one) =>
  Effect.map(
    Effect.flatMap(Lease, (lease) => lease.turn(by, [], capacity)),
    ({ leased }) => leased
  )

const only = (rows: ReadonlyArray<DueWork>): DueWork => {
  const [row] = rows
  assert.strictEqual(rows.length, 1)
  assert.ok(row !== undefined)
  return row
}

const everything = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql`
    SELECT (SELECT jsonb_agg(d ORDER BY d.id) FROM due_work d) AS due_work, (SELECT jsonb_agg(r ORDER BY r.id) FROM task_run r) AS task_run,
      (SELECT jsonb_agg(s) FROM live_step s) AS live_step, (SELECT jsonb_agg(s) FROM run_step s) AS run_step,
      (SELECT jsonb_agg(c) FROM concurrency c) AS concurrency, (SELECT jsonb_agg(o) FROM outbox o) AS outbox`
  return row
})

const states = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{
    id: string
    state: string
  }>`SELECT id, state FROM due_work UNION ALL SELECT id, state FROM task_run`
  return new Map(rows.map(({ id, state }) => [id, state]))
})

const told = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ topic: string }>`
    SELECT e.value ->> 'topic' AS topic
    FROM outbox o CROSS JOIN jsonb_array_elements(o.entries) WITH ORDINALITY AS e (value, n) ORDER BY o.id, e.n`
  return rows.map(({ topic }) => topic)
})

const databaseUrl = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ name: string }>`SELECT current_database() AS name`
  const url = new URL(inject("databaseUrl"))
  url.pathname = row?.name ?? ""
  return url.href
})

const world = <A, E, R>(body: Effect.Effect<A, E, R>) =>
  fromStart.pipe(Effect.zipRight(body), Effect.zipRight(invariantsHold))

layer(Layer.provideMerge(Layer.effectDiscard(watched), services()))("Lease", (it) => {
  it.effect("a key is queued once, also when its run is over", () =>
    world(
      Effect.gen(function* () {
        const lease = yield* Lease
        const work = yield* enqueue()
        const again = { ...work, id: yield* Ids.next }
        assert.deepStrictEqual(yield* lease.enqueue([again]), [])
        yield* lease.turn(one, [settle(only(yield* take(10)), succeeded)], 0)
        assert.deepStrictEqual(yield* lease.enqueue([again]), [])
        assert.deepStrictEqual(yield* states, new Map([[work.id, "succeeded"]]))
      })
    )
  )

  it.effect("leases by priority, then by age, as many as there is room for", () =>
    world(
      Effect.gen(function* () {
        const last = yield* enqueue({ priority: 9, due_at: start - 5000, scheduled_for: start - 5000 })
        const young = yield* enqueue({ due_at: start - 1000, scheduled_for: start - 1000 })
        const old = yield* enqueue({ due_at: start - 2000, scheduled_for: start - 2000 })
        const first = yield* enqueue({ priority: 1 })
        yield* enqueue({ due_at: start + 1, priority: 1 })
        const order = []
        for (let n = 0; n < 5; n++) order.push(...(yield* take(1)).map(({ id }) => id))
        assert.deepStrictEqual(order, [first.id, old.id, young.id, last.id])
      })
    )
  )

  it.effect("a lease counts, names its holder, and starts the attempt", () =>
    world(
      Effect.gen(function* () {
        const lease = yield* Lease
        yield* enqueue()
        yield* TestClock.setTime(start + 1500)
        const first = only(yield* take(1))
        assert.deepStrictEqual([first.lease_no, first.attempt, first.started_at.epochMillis], [1, 1, start + 1500])
        yield* TestClock.setTime(start + 3000)
        const { leased } = yield* lease.turn(one, [settle(first, { outcome: "released" })], 0)
        assert.deepStrictEqual(leased, [])
        const second = only(yield* take(1, other))
        assert.deepStrictEqual(
          [second.lease_no, second.attempt, second.started_at.epochMillis, second.attempt_started_at.epochMillis],
          [2, 1, start + 1500, start + 1500]
        )
        assert.deepStrictEqual(yield* take(1), [])
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql<{
          locked_by: string
          locked_until: Date
        }>`SELECT locked_by, locked_until FROM due_work`
        assert.deepStrictEqual(row, { locked_by: other, locked_until: new Date(start + 18_000) })
      })
    )
  )

  it.effect("one turn settles and leases; a retry waits for its time and counts the attempt", () =>
    world(
      Effect.gen(function* () {
        const lease = yield* Lease
        const waiting = yield* enqueue()
        const first = only(yield* take(1))
        const next = yield* enqueue()
        const result = yield* lease.turn(one, [settle(first, { outcome: "retried", error, run_at: start + 60_000 })], 5)
        assert.deepStrictEqual([result.lost, result.leased.map(({ id }) => id)], [[], [next.id]])
        assert.strictEqual((yield* states).get(waiting.id), "later")
        assert.strictEqual(yield* lease.promote, 0)
        yield* TestClock.setTime(start + 60_000)
        assert.strictEqual(yield* lease.promote, 1)
        const again = only(yield* take(5))
        assert.deepStrictEqual(
          [again.id, again.attempt, again.lease_no, again.due_at.epochMillis, again.attempt_started_at.epochMillis],
          [waiting.id, 2, 2, start, start + 60_000]
        )
      })
    )
  )

  it.effect("a finished run is history: its steps of all attempts, its attempts, its end", () =>
    world(
      Effect.gen(function* () {
        const lease = yield* Lease
        const sql = yield* SqlClient.SqlClient
        const { id } = yield* enqueue()
        const failing = step("second", { position: 1, state: "failed", error, output: null })
        yield* lease.turn(
          one,
          [settle(only(yield* take(1)), { outcome: "retried", error, run_at: start }, [step("first"), failing])],
          0
        )
        const live = yield* sql<{
          kind: string
          step_id: string
          item: number
        }>`SELECT kind, step_id, item FROM live_step ORDER BY 1, 2`
        assert.deepStrictEqual(live, [
          { kind: "attempt", step_id: "", item: 1 },
          { kind: "step", step_id: "first", item: -1 },
          { kind: "step", step_id: "second", item: -1 }
        ])
        const better = step("second", { position: 1, attempt: 2 })
        yield* lease.turn(other, [settle(only(yield* take(1, other)), succeeded, [better])], 0)
        const [run] = yield* sql<{
          state: string
          attempt: number
          lease_no: number
          attempts: ReadonlyArray<unknown>
        }>`
          SELECT state, attempt, lease_no, attempts FROM task_run WHERE id = ${id}`
        const at = new Date(start).toISOString()
        const times = { started_at: at, finished_at: at }
        const sameInstants = JSON.parse(JSON.stringify(run).replaceAll("+00:00", ".000Z")) as unknown
        assert.deepStrictEqual(sameInstants, {
          state: "succeeded",
          attempt: 2,
          lease_no: 2,
          attempts: [
            { attempt: 1, worker_id: one, error, ...times },
            { attempt: 2, worker_id: other, error: null, ...times }
          ]
        })
        const steps = yield* sql<{ step_id: string; state: string; attempt: number; output: unknown }>`
          SELECT step_id, state, attempt, output FROM run_step WHERE run_id = ${id} ORDER BY position`
        assert.deepStrictEqual(steps, [
          { step_id: "first", state: "succeeded", attempt: 1, output: { sent: "first" } },
          { step_id: "second", state: "succeeded", attempt: 2, output: { sent: "second" } }
        ])
        assert.deepStrictEqual(yield* sql`SELECT run_id FROM live_step UNION ALL SELECT id FROM due_work`, [])
        assert.deepStrictEqual(yield* told, ["ordinaut.run.queued", "ordinaut.run.running", "ordinaut.run.succeeded"])
      })
    )
  )

  for (const end of ends) {
    it.effect(`a stale lease changes nothing and is told that it is lost: ${end.outcome}`, () =>
      world(
        Effect.gen(function* () {
          const lease = yield* Lease
          yield* limit("k", 1)
          const { id } = yield* enqueue({ concurrency_key: "k" })
          const stale = only(yield* take(1))
          yield* TestClock.setTime(start + 16_000)
          assert.strictEqual(yield* lease.rescue, 1)
          const held = only(yield* take(1, other))
          assert.strictEqual(held.lease_no, 2)
          const before = yield* everything
          const { leased, lost } = yield* lease.turn(one, [settle(stale, end, [step("first")])], 0)
          assert.deepStrictEqual([leased, lost], [[], [id]])
          assert.deepStrictEqual(yield* lease.renew(one, [stale]), [])
          assert.deepStrictEqual(yield* lease.renew(one, [held]), [])
          assert.deepStrictEqual(yield* everything, before)
          assert.deepStrictEqual((yield* lease.turn(other, [settle(held, succeeded)], 0)).lost, [])
          const after = yield* everything
          assert.deepStrictEqual((yield* lease.turn(other, [settle(held, end)], 0)).lost, [id])
          assert.deepStrictEqual(yield* everything, after)
        })
      )
    )
  }

  it.effect("a renewal locks by id, as others do, whatever the order of what it names", () =>
    Effect.gen(function* () {
      yield* fromStart
      const lease = yield* Lease
      const sql = yield* SqlClient.SqlClient
      yield* Effect.all([enqueue(), enqueue(), enqueue()])
      const held = (yield* take(3)).map(({ id, lease_no }) => ({ id, lease_no })).sort((a, b) => (a.id < b.id ? -1 : 1))
      const lock = (id: string | undefined) => sql`SELECT id FROM due_work WHERE id = ${id ?? ""} FOR NO KEY UPDATE`
      const [lowest, , highest] = held
      // Whoever goes by the end of the leases comes to it last.
      yield* sql`UPDATE due_work SET locked_until = locked_until + interval '1 second' WHERE id = ${lowest?.id ?? ""}`
      const locked = yield* Deferred.make<void>()
      const holder = yield* Effect.fork(
        Effect.gen(function* () {
          yield* lock(lowest?.id)
          yield* Deferred.succeed(locked, undefined)
          const [row] = yield* sql`SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'`.pipe(
            Effect.zipLeft(Effect.promise(() => new Promise((resume) => setTimeout(resume, 5)))),
            Effect.repeat({ until: (rows) => rows.length > 0, times: 200 })
          )
          assert.isDefined(row, "the renewal does not wait")
          // It holds none that is after the one that it waits for.
          yield* sql`SELECT id FROM due_work WHERE id = ${highest?.id ?? ""} FOR NO KEY UPDATE NOWAIT`
        }).pipe(sql.withTransaction)
      )
      yield* Deferred.await(locked)
      assert.lengthOf(yield* lease.renew(one, held.toReversed()), 3)
      yield* Fiber.join(holder)
    })
  )

  it.effect("a renewal moves the end of the leases it names, and no others", () =>
    world(
      Effect.gen(function* () {
        const lease = yield* Lease
        yield* enqueue()
        yield* enqueue()
        const [first, second] = yield* take(2)
        assert.ok(first !== undefined && second !== undefined)
        yield* TestClock.setTime(start + 10_000)
        assert.deepStrictEqual(yield* lease.renew(one, [first]), [
          { id: first.id, lease_no: 1, signals: 0, cancel_requested: false }
        ])
        yield* TestClock.setTime(start + 16_000)
        assert.strictEqual(yield* lease.rescue, 1)
        assert.strictEqual((yield* states).get(first.id), "leased")
        assert.deepStrictEqual(
          (yield* take(5, other)).map(({ id }) => id),
          [second.id]
        )
      })
    )
  )

  it.effect("a slot that is freed is handed to the next of its key; other keys never wait for it", () =>
    world(
      Effect.gen(function* () {
        const lease = yield* Lease
        yield* limit("narrow", 1)
        yield* limit("wide", 3)
        const narrow: Array<string> = []
        for (let n = 0; n < 30; n++) narrow.push((yield* enqueue({ concurrency_key: "narrow", priority: 1 })).id)
        const wide: Array<string> = []
        for (let n = 0; n < 5; n++) wide.push((yield* enqueue({ concurrency_key: "wide" })).id)
        const free = yield* enqueue({ priority: 9 })
        const leased: Array<DueWork> = []
        for (let n = 0; n < 4; n++) leased.push(...(yield* take(10)))
        assert.deepStrictEqual(
          leased.map(({ id }) => id),
          [narrow[0], ...wide.slice(0, 3), free.id]
        )
        assert.strictEqual(yield* lease.promote, 0)
        for (let n = 1; n < 4; n++) {
          const running = leased.filter(({ id }) => narrow.includes(id)).slice(-1)
          yield* lease.turn(
            one,
            running.map((work) => settle(work, succeeded)),
            0
          )
          leased.push(...(yield* take(10)))
          assert.strictEqual(leased.at(-1)?.id, narrow[n])
        }
        yield* invariantsHold
      })
    )
  )

  it.effect("a run that waits for its time, or is parked, holds no slot", () =>
    world(
      Effect.gen(function* () {
        const lease = yield* Lease
        yield* limit("k", 1)
        for (const end of ends.slice(1)) {
          yield* enqueue({ concurrency_key: "k", priority: 1 })
          const next = yield* enqueue({ concurrency_key: "k", priority: 2 })
          const first = only(yield* take(5))
          yield* lease.turn(
            one,
            [settle(first, end.outcome === "retried" ? { ...end, run_at: start + 60_000 } : end)],
            0
          )
          if (end.outcome === "released") yield* lease.cancel([first.id])
          const second = only(yield* take(5, other))
          assert.strictEqual(second.id, next.id)
          yield* lease.turn(other, [settle(second, succeeded)], 0)
          yield* lease.cancel([first.id])
        }
      })
    )
  )

  it.effect("cancel ends what waits at once, with its history, and asks what runs", () =>
    world(
      Effect.gen(function* () {
        const lease = yield* Lease
        yield* limit("k", 1)
        const running = yield* enqueue({ concurrency_key: "k" })
        const blocked = yield* enqueue({ concurrency_key: "k" })
        const later = yield* enqueue({ due_at: start + 1000 })
        const parked = yield* enqueue()
        const leased = yield* take(10)
        const asleep = leased.find(({ id }) => id === parked.id)
        assert.ok(asleep !== undefined)
        yield* lease.turn(
          one,
          [settle(asleep, { outcome: "parked", signals: 0, expires_at: null }, [step("first")])],
          0
        )
        const ready = yield* enqueue()
        const waiting = [blocked, later, parked, ready].map(({ id }) => id)
        const { asked, ended } = yield* lease.cancel([running.id, ...waiting])
        assert.deepStrictEqual([asked, new Set(ended)], [[running.id], new Set(waiting)])
        assert.deepStrictEqual(
          yield* states,
          new Map([[running.id, "leased"], ...waiting.map((id) => [id, "canceled"] as const)])
        )
        const held = leased.filter(({ id }) => id === running.id)
        assert.deepStrictEqual(
          (yield* lease.renew(one, held)).map((renewed) => renewed.cancel_requested),
          [true]
        )
        yield* lease.turn(
          one,
          held.map((work) => settle(work, { outcome: "ended", state: "canceled", error: null })),
          0
        )
        assert.deepStrictEqual(yield* lease.cancel([running.id, ...waiting]), { ended: [], asked: [] })
        assert.strictEqual((yield* told).filter((topic) => topic === "ordinaut.run.canceled").length, 5)
        const sql = yield* SqlClient.SqlClient
        assert.deepStrictEqual(yield* sql`SELECT step_id FROM run_step WHERE run_id = ${parked.id}`, [
          { step_id: "first" }
        ])
      })
    )
  )

  it.effect("a run that is leased while its cancellation is under way is asked to stop", () =>
    world(
      Effect.gen(function* () {
        const lease = yield* Lease
        const { id } = yield* enqueue()
        const url = yield* databaseUrl
        const turn = new pg.Client({ connectionString: url })
        yield* Effect.promise(async () => {
          await turn.connect()
          await turn.query("BEGIN")
          await turn.query(
            `UPDATE due_work SET state = 'leased', lease_no = 1, locked_by = $2, locked_until = $3, started_at = $3, attempt_started_at = $3
            WHERE id = $1`,
            [id, one, new Date(start)]
          )
        })
        const canceling = yield* Effect.fork(lease.cancel([id]))
        const sql = yield* SqlClient.SqlClient
        const waits = Effect.map(sql`SELECT pid FROM pg_locks WHERE NOT granted`, (rows) => rows.length > 0)
        yield* Effect.yieldNow().pipe(Effect.zipRight(waits), Effect.repeat({ until: (waiting) => waiting }))
        yield* Effect.promise(async () => {
          await turn.query("COMMIT")
          await turn.end()
        })
        assert.deepStrictEqual(yield* Fiber.join(canceling), { ended: [], asked: [id] })
      })
    )
  )

  it.effect("eight workers at once never exceed a limit, lease nothing twice, and finish everything", () =>
    world(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const lease = yield* Lease
        const limits = { narrow: 1, middle: 3, wide: 6 }
        for (const [key, most] of Object.entries(limits)) yield* limit(key, most)
        const keys = [null, ...Object.keys(limits)]
        const random = randomOf(8)
        for (let n = 0; n < 320; n++) {
          yield* enqueue({ concurrency_key: keys[n % 4] ?? null, priority: 1 + Math.floor(random() * 9) })
        }
        const separate = Lease.layer.pipe(Layer.provide(dbAt(yield* databaseUrl)), Layer.orDie)
        const services = yield* Effect.forEach(workers, (worker) =>
          Effect.map(Layer.build(Layer.fresh(separate)), (context) => ({ worker, lease: Context.get(context, Lease) }))
        )
        const left = Effect.map(sql<{ n: number }>`SELECT count(*)::integer AS n FROM due_work`, ([row]) => row?.n ?? 0)
        const seen: Array<string> = []
        const loop = ({ lease, worker }: (typeof services)[number]) =>
          Effect.gen(function* () {
            for (let held: ReadonlyArray<DueWork> = []; held.length > 0 || (yield* left) > 0;) {
              const settled = held.map((work) =>
                settle(work, random() < 0.8 ? succeeded : (ends[1 + Math.floor(random() * 2)] ?? succeeded))
              )
              const { leased, lost } = yield* lease.turn(worker, settled, 3)
              assert.deepStrictEqual(lost, [])
              for (const { id, lease_no } of leased) seen.push(`${id} ${lease_no}`)
              held = leased
            }
          })
        const sample = sql<{ key: string; leased: number; in_use: number; limit: number }>`
          SELECT c.key, c.in_use, c."limit", count(d.id)::integer AS leased FROM concurrency c
          LEFT JOIN due_work d ON d.concurrency_key = c.key AND d.state = 'leased' GROUP BY c.key, c.in_use, c."limit"`
        const watching = sample.pipe(
          Effect.tap((rows) => {
            const wrong = rows.filter((row) => row.leased > row.limit || row.leased !== row.in_use)
            if (wrong.length > 0) assert.fail(JSON.stringify(wrong))
          }),
          Effect.zipLeft(lease.promote),
          Effect.repeat({ until: () => Effect.map(left, (n) => n === 0) })
        )
        yield* Effect.all([watching, ...services.map((service) => loop(service))], { concurrency: 9 })
        assert.strictEqual(new Set(seen).size, seen.length)
        const [over] = yield* sql<{ n: number }>`SELECT count(*)::integer AS n FROM task_run WHERE state = 'succeeded'`
        assert.strictEqual(over?.n, 320)
      }).pipe(Effect.scoped)
    )
  )
})
