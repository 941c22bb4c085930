import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import * as fc from "fast-check"
import { Effect, Either, Layer } from "effect"
import { inject } from "vitest"
import { DueTasks } from "../../src/layers/DueTasks.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Occurrences } from "../../src/layers/Occurrences.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { Wakeups } from "../../src/layers/Wakeups.ts"
import { task, work } from "../support/fixtures.ts"
import { create } from "../support/schedules.ts"
import { inWords, listening, Owner, runsOf, say, second, tick, world } from "../support/listening.ts"
import { dbAt } from "../support/TestDb.ts"

const change = { reason: null, version: null }
const pipeline = [{ id: "only", uses: "mail.send", with: { to: "a" } }]

const listener = (trigger: object | null, more: Record<string, unknown> = {}) =>
  Effect.flatMap(Owner, (actor) =>
    create(actor, {
      schedule_kind: "event",
      schedule_expr: "orders.*",
      payload: { pipeline, ...(trigger === null ? {} : { trigger }) },
      ...more
    })
  )

layer(listening())("Windows of events", (it) => {
  it.effect("debounce: one run once the topic was quiet, with all events and the last", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* listener({ debounce_seconds: 10 })
        for (const at of [0, 5, 14]) {
          yield* second(at)
          assert.isEmpty((yield* say("orders.created", at)).triggered_runs)
        }
        const { nextAt } = yield* tick
        assert.strictEqual(new Date(nextAt ?? 0).toISOString(), "2026-03-02T09:00:24.000Z")
        yield* second(23.999)
        yield* tick
        assert.isEmpty(yield* runsOf(id))
        yield* second(24)
        yield* Effect.all([tick, tick], { concurrency: 2 })
        assert.deepStrictEqual(yield* inWords(id), ["14 e queued [0,5,14]"])
        assert.strictEqual((yield* runsOf(id))[0]?.due, 24)
      })
    )
  )

  it.effect("debounce ends at its longest, and a late tick joins nothing that came after", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* listener({ debounce_seconds: 10, debounce_max_seconds: 25 })
        for (const at of [0, 8, 16, 24]) {
          yield* second(at)
          yield* say("orders.created", at)
        }
        // Nobody ticked at 25: the event itself ends the window, and begins the next.
        yield* second(30)
        assert.isEmpty((yield* say("orders.created", 30)).triggered_runs)
        assert.deepStrictEqual(yield* inWords(id), ["24 e queued [0,8,16,24]"])
        yield* second(60)
        yield* tick
        assert.deepStrictEqual(yield* inWords(id), ["24 e queued [0,8,16,24]", "30 e queued [30]"])
        assert.deepStrictEqual(
          (yield* runsOf(id)).map(({ due }) => due),
          [25, 40]
        )
      })
    )
  )

  it.effect("a key parts the events, whatever it is", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* listener({ debounce_seconds: 10, key: "${event.payload.customer}" })
        const long = "x".repeat(5000)
        const payloads = [
          { customer: "a", n: 1 },
          { customer: "b", n: 2 },
          { customer: "a", n: 3 },
          { n: 4 },
          { customer: null, n: 5 },
          { customer: long, n: 6 },
          { customer: `${long}y`, n: 7 }
        ]
        for (const payload of payloads) yield* say("orders.created", payload)
        yield* second(10)
        yield* tick
        const groups = (yield* runsOf(id)).map(({ payloads: all }) =>
          all?.map((one) => (typeof one === "object" && one !== null && "n" in one ? one.n : null))
        )
        assert.sameDeepMembers(groups, [[1, 3], [2], [4, 5], [6], [7]])
      })
    )
  )

  it.effect("batch: full, it runs in the event's own transaction; else after its time", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* listener({ batch: { max_events: 3, max_seconds: 60 } })
        const started: Array<number> = []
        for (const n of [1, 2, 3, 4, 5]) {
          yield* second(n)
          const { event_id, triggered_runs } = yield* say("orders.created", n)
          started.push(triggered_runs.length)
          const [run] = triggered_runs
          if (run !== undefined) assert.strictEqual((yield* runsOf(id))[0]?.key, `e:${event_id}`)
        }
        assert.deepStrictEqual(started, [0, 0, 1, 0, 0])
        yield* second(63)
        yield* tick
        assert.lengthOf(yield* runsOf(id), 1)
        yield* second(64)
        yield* tick
        assert.deepStrictEqual(yield* inWords(id), ["3 e queued [1,2,3]", "5 e queued [4,5]"])
      })
    )
  )

  it.effect("the run gets events and event, and names all that it stands for", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* listener(null, {
          payload: {
            trigger: { batch: { max_events: 2, max_seconds: 60 } },
            pipeline: [
              {
                id: "echo",
                uses: "core.transform",
                with: { value: "${events[0].payload}, ${event.payload}, ${event.topic}, ${length(events)}" }
              }
            ]
          }
        })
        const first = yield* say("orders.created", 1)
        const last = yield* say("orders.paid", 2)
        yield* work
        const runs = yield* Runs
        const run = yield* runs.get(actor, last.triggered_runs[0]?.run_id ?? "")
        assert.deepStrictEqual(run.output, { steps: { echo: "1, 2, orders.paid, 2" } })
        assert.deepStrictEqual(run.event_ids, [first.event_id, last.event_id])
        assert.strictEqual(run.event_id, last.event_id)
        assert.strictEqual(run.task_id, id)
        const plain = yield* create(actor, {
          schedule_kind: "event",
          schedule_expr: "plain",
          payload: { pipeline: [{ id: "echo", uses: "core.transform", with: { expression: "events[].payload" } }] }
        })
        const one = yield* say("plain", 7)
        yield* work
        const single = yield* runs.get(actor, one.triggered_runs[0]?.run_id ?? "")
        assert.strictEqual(single.task_id, plain.id)
        assert.deepStrictEqual(single.output, { steps: { echo: [7] } })
        assert.deepStrictEqual(single.event_ids, [one.event_id])
      })
    )
  )

  it.effect("of more than it can carry the run gets the ids, in order", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* listener({ debounce_seconds: 10 })
        const big = "x".repeat(400_000)
        const ids: Array<string> = []
        for (const payload of [big, big, big, 4]) ids.push((yield* say("orders.created", payload)).event_id)
        yield* second(10)
        yield* tick
        const [run] = yield* runsOf(id)
        assert.deepStrictEqual(
          run?.payloads?.map((payload) => (payload === big ? "big" : payload)),
          ["big", "big", null, null]
        )
        const runs = yield* Runs
        assert.deepStrictEqual((yield* runs.get(actor, run?.id ?? "")).event_ids, ids)
        const sql = yield* SqlClient.SqlClient
        const [given] = yield* sql<{
          last: number
        }>`SELECT input -> 'event' -> 'payload' AS last FROM occurrence WHERE task_id = ${id}`
        assert.strictEqual(given?.last, 4)
      })
    )
  )

  it.effect("a pause or a cancel records what was collected as skipped; while paused each event is a skip", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const { id } = yield* listener({ debounce_seconds: 10 })
        const first = yield* say("orders.created", 1)
        const second_ = yield* say("orders.created", 2)
        yield* states.pause(actor, id, change)
        yield* second(1)
        yield* say("orders.created", 3)
        yield* second(20)
        yield* tick
        yield* states.resume(actor, id, { ...change, onMissed: null })
        yield* say("orders.created", 4)
        yield* states.cancel(actor, id, change)
        yield* second(40)
        yield* tick
        assert.deepStrictEqual(yield* inWords(id), [
          "0 e skipped paused [1,2]",
          "1 e skipped paused",
          "20 e skipped canceled [4]"
        ])
        const runs = yield* Runs
        const [skip] = yield* runsOf(id)
        assert.deepStrictEqual((yield* runs.get(actor, skip?.id ?? "")).event_ids, [first.event_id, second_.event_id])
      })
    )
  )

  it.effect(
    "an edit of the schedule or the trigger runs what was collected, by the old version; another edit leaves it open",
    () =>
      world((actor) =>
        Effect.gen(function* () {
          const tasks = yield* Tasks
          const { id, payload } = yield* listener({ debounce_seconds: 10 })
          yield* say("orders.created", 1)
          yield* tasks.patch(actor, id, { priority: 1 }, null)
          assert.isEmpty(yield* runsOf(id))
          yield* second(5)
          yield* tasks.patch(actor, id, { payload: { ...payload, trigger: { debounce_seconds: 20 } } }, null)
          yield* say("orders.created", 2)
          yield* second(6)
          yield* tasks.patch(actor, id, { schedule_expr: "paid" }, null)
          const runs = yield* runsOf(id)
          assert.deepStrictEqual(
            runs.map(({ due, payloads, version }) => [due, payloads, version]),
            [
              [5, [1], 2],
              [6, [2], 3]
            ]
          )
        })
      )
  )

  it.effect("the rules of the task bind the run of a window", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* listener({ batch: { max_events: 2, max_seconds: 60 } }, { overlap_policy: "skip" })
        for (const n of [1, 2, 3, 4]) yield* say("orders.created", n)
        assert.deepStrictEqual(yield* inWords(id), ["0 e queued [1,2]", "0 e skipped overlap [3,4]"])
      })
    )
  )

  it.effect("goes on in another process: what is open is in the database alone", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* listener({ debounce_seconds: 10, key: "${event.payload}" })
        for (const n of [1, 2, 1]) yield* say("orders.created", n)
        yield* second(10)
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql<{ name: string }>`SELECT current_database() AS name`
        const url = new URL(inject("databaseUrl"))
        url.pathname = row?.name ?? ""
        // Schedulers that never heard of the events, several at once, beside the first.
        const other = Scheduler.layer.pipe(
          Layer.provide(DueTasks.layer),
          Layer.provide(Lease.layer),
          Layer.provide(Wakeups.layerLocal),
          Layer.provide(dbAt(url.href)),
          Layer.fresh
        )
        const elsewhere = Effect.provide(
          Effect.flatMap(Scheduler, (scheduler) => scheduler.tick),
          other
        )
        yield* Effect.all([elsewhere, elsewhere, tick], { concurrency: 3 })
        yield* tick
        const runs = yield* runsOf(id)
        assert.sameDeepMembers(
          runs.map(({ payloads }) => payloads),
          [[1, 1], [2]]
        )
      })
    )
  )

  it.effect("events at once are each in one window, and each full window runs once", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* listener({ batch: { max_events: 4, max_seconds: 60 } })
        const started = yield* Effect.all(
          Array.from({ length: 42 }, (_, n) =>
            Effect.map(say("orders.created", n), (one) => one.triggered_runs.length)
          ),
          { concurrency: 8 }
        )
        assert.strictEqual(
          started.reduce((sum, n) => sum + n, 0),
          10
        )
        yield* second(60)
        yield* Effect.all([tick, tick], { concurrency: 2 })
        yield* tick
        const runs = yield* runsOf(id)
        assert.lengthOf(runs, 11)
        assert.sameMembers(
          runs.flatMap(({ payloads }) => payloads ?? []),
          Array.from({ length: 42 }, (_, n) => n)
        )
      })
    )
  )

  it.effect("over random histories the runs have the events that the model says", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const step = fc.record({
          gap: fc.constantFrom(0, 1, 3, 7, 12),
          key: fc.constantFrom("a", "b"),
          ticks: fc.boolean()
        })
        const trigger = fc.oneof(
          fc.record({
            debounce_seconds: fc.integer({ min: 1, max: 6 }),
            debounce_max_seconds: fc.integer({ min: 6, max: 15 })
          }),
          fc.record({
            batch: fc.record({
              max_events: fc.integer({ min: 1, max: 4 }),
              max_seconds: fc.integer({ min: 2, max: 15 })
            })
          })
        )
        let now = 0
        const worlds = fc.sample(fc.tuple(trigger, fc.array(step, { minLength: 5, maxLength: 25 })), {
          numRuns: 12,
          seed: 11
        })
        for (const [rule, steps] of worlds) {
          const { id } = yield* listener({ ...rule, key: "${event.payload.key}" })
          const [quiet, longest, most] =
            "batch" in rule
              ? [Infinity, rule.batch.max_seconds, rule.batch.max_events]
              : [rule.debounce_seconds, rule.debounce_max_seconds, Infinity]
          const groups: Record<string, Array<Array<{ at: number; n: number }>>> = { a: [], b: [] }
          for (const [n, { gap, key, ticks }] of steps.entries()) {
            now += gap
            yield* second(now)
            if (ticks) yield* Effect.all([tick, tick], { concurrency: 2 })
            yield* say("orders.created", { key, n })
            const last = groups[key]?.at(-1)
            const ended =
              last === undefined ||
              last.length === most ||
              now - (last.at(-1)?.at ?? 0) >= quiet ||
              now - (last[0]?.at ?? 0) >= longest
            if (ended) groups[key]?.push([{ at: now, n }])
            else last.push({ at: now, n })
          }
          now += 100
          yield* second(now)
          yield* tick
          const runs = yield* runsOf(id)
          assert.sameDeepMembers(
            runs.map(({ payloads }) => payloads),
            Object.entries(groups).flatMap(([key, all]) => all.map((group) => group.map(({ n }) => ({ key, n })))),
            JSON.stringify([rule, steps])
          )
          yield* states.cancel(actor, id, change)
        }
      })
    )
  )

  it.effect("each event is in one run or one skip, whatever is changed, paused and published meanwhile", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const tasks = yield* Tasks
        const stream = yield* EventStream
        const { id, payload } = yield* listener({ batch: { max_events: 3, max_seconds: 60 }, key: "${event.payload}" })
        const plain = yield* listener(null)
        yield* say("orders.base", 0)
        const condition = yield* create(actor, {
          schedule_kind: "condition",
          schedule_expr: 'events."orders.a" > `1` && events."orders.b" > `1` && now.minute >= `0`'
        })
        yield* create(actor, { schedule_kind: "event", schedule_expr: "ordinaut.task.*", max_runs: 5 })
        const ids = yield* Effect.all(
          Array.from({ length: 90 }, (_, n) =>
            Effect.gen(function* () {
              if (n % 9 === 4) yield* states.pause(actor, n % 2 === 0 ? id : condition.id, change)
              if (n % 9 === 6)
                yield* states.resume(actor, n % 2 === 0 ? condition.id : id, { ...change, onMissed: null })
              if (n % 15 === 7)
                yield* tasks.patch(actor, id, { payload: { ...payload, trigger: { debounce_seconds: 1 + n } } }, null)
              if (n % 15 === 8) yield* tasks.patch(actor, condition.id, { title: `t${n}` }, null)
              if (n % 4 === 0) yield* tick
              if (n % 5 === 0) yield* stream.number
              return (yield* say(n % 2 === 0 ? "orders.a" : "orders.b", n % 3)).event_id
            })
          ),
          { concurrency: 8 }
        )
        yield* second(1000)
        yield* states.resume(actor, id, { ...change, onMissed: null })
        yield* Effect.all([tick, tick], { concurrency: 2 })
        yield* tick
        const sql = yield* SqlClient.SqlClient
        const heardBy = (taskId: string) =>
          Effect.map(
            sql<{ id: string }>`
              SELECT coalesce(e.value ->> 'id', r.event_id::text) AS id FROM (
                SELECT task_id, key, event_id FROM due_work UNION ALL SELECT task_id, key, event_id FROM task_run) AS r
              LEFT JOIN occurrence o ON o.task_id = r.task_id AND o.key = r.key
              LEFT JOIN LATERAL jsonb_array_elements(o.input -> 'events') AS e (value) ON true
              WHERE r.task_id = ${taskId}`,
            (rows) => rows.map((row) => row.id).sort()
          )
        const [base] = yield* sql<{ id: string }>`SELECT id FROM event WHERE topic = 'orders.base'`
        const all = [...ids, base?.id ?? ""].sort()
        assert.deepStrictEqual(yield* heardBy(id), all)
        assert.deepStrictEqual(yield* heardBy(plain.id), all)
      })
    )
  )

  it.effect("the explanation says what is collected, and until when", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* listener({ debounce_seconds: 10 })
        yield* say("orders.created", 1)
        yield* say("orders.created", 2)
        const { checks } = yield* Effect.flatMap(Occurrences, (occurrences) => occurrences.explain(actor, id, null))
        const sentence = checks.find(({ name }) => name === "has_next")?.sentence
        assert.include(sentence, "2 by now")
        assert.include(sentence, "2026-03-02T09:00:10.000Z")
      })
    )
  )

  it.effect(
    "refuses a trigger of another kind of task, and a key that reads what is not there, at creation and by a change",
    () =>
      world((actor) =>
        Effect.gen(function* () {
          const tasks = yield* Tasks
          const places = <A, E extends { readonly _tag: string }>(made: Either.Either<A, E>) =>
            Either.isLeft(made) && "errors" in made.left && Array.isArray(made.left.errors)
              ? made.left.errors.map((problem: { readonly path: string }) => problem.path)
              : made
          const trigger = { debounce_seconds: 10 }
          const timed = yield* Effect.either(tasks.create(actor, task({ payload: { pipeline, trigger } })))
          assert.deepStrictEqual(places(timed), ["/payload/trigger"])
          const event = { schedule_kind: "event", schedule_expr: "a" }
          const keyed = task({ ...event, payload: { pipeline, trigger: { ...trigger, key: "${params.x}" } } })
          assert.deepStrictEqual(places(yield* Effect.either(tasks.create(actor, keyed))), ["/payload/trigger/key"])
          const { id } = yield* listener(trigger)
          const cron = { schedule_kind: "cron" as const, schedule_expr: "* * * * *" }
          assert.deepStrictEqual(places(yield* Effect.either(tasks.patch(actor, id, cron, null))), ["/payload/trigger"])
        })
      )
  )
})
