import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, Either, Layer } from "effect"
import { inject } from "vitest"
import { Events } from "../../src/layers/Events.ts"
import type { Emission } from "../../src/layers/Events.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Redis } from "../../src/layers/Redis.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { Wakeups } from "../../src/layers/Wakeups.ts"
import { agent, work } from "../support/fixtures.ts"
import { create } from "../support/schedules.ts"
import { inWords, listening, Owner, runsOf, say, second, tick, world } from "../support/listening.ts"
import { dbAt } from "../support/TestDb.ts"

const change = { reason: null, version: null }
const failing = { payload: { pipeline: [{ id: "no", uses: "core.fail", with: { message: "no" } }] }, max_retries: 0 }
const hearer = (schedule_expr: string, more: Record<string, unknown> = {}) =>
  Effect.flatMap(Owner, (actor) => create(actor, { schedule_kind: "event", schedule_expr, ...more }))

const runNow = (id: string) =>
  Effect.flatMap(Owner, (actor) => Effect.flatMap(TaskStates, (states) => states.runNow(actor, id, null, null))).pipe(
    Effect.orDie
  )

/** Publishes until there is nothing more to number. */
const publishAll = Effect.flatMap(EventStream, (stream) =>
  Effect.repeat(stream.number, { until: (numbered) => numbered === 0 })
).pipe(Effect.orDie)

const toldOf = (id: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      sql<{ topic: string; state: string }>`
        SELECT e.value ->> 'topic' AS topic, e.value -> 'payload' ->> 'state' AS state
        FROM outbox o CROSS JOIN LATERAL jsonb_array_elements(o.entries) WITH ORDINALITY AS e (value, n)
        WHERE e.value -> 'payload' ->> 'task_id' = ${id} AND e.value ->> 'topic' LIKE 'ordinaut.task.%' ORDER BY o.id, e.n`,
      (rows) => rows.map(({ state, topic }) => `${topic.slice("ordinaut.task.".length)} ${state}`)
    )
  )

layer(listening())("Chaining", (it) => {
  it.effect("a failed run starts what hears it, once, with the run in its event", () =>
    world((actor) =>
      Effect.gen(function* () {
        const source = yield* hearer("never", failing)
        const alert = yield* hearer(`ordinaut.run.failed if event.payload.task_id == '${source.id}'`, {
          payload: {
            pipeline: [
              {
                id: "say",
                uses: "core.transform",
                with: { value: "${event.payload.run_id} ${event.payload.error.code} ${event.topic} ${events[0].id}" }
              }
            ]
          }
        })
        const other = yield* hearer("ordinaut.run.canceled")
        yield* hearer("**")
        const failed = yield* runNow(source.id)
        yield* work
        yield* publishAll
        yield* work
        const [run] = yield* runsOf(alert.id)
        assert.isEmpty(yield* runsOf(other.id))
        const told = yield* Effect.flatMap(Runs, (runs) => runs.get(actor, run?.id ?? ""))
        assert.deepStrictEqual(told.output, {
          steps: { say: `${failed} failed ordinaut.run.failed ${run?.key.slice(2)}` }
        })
        assert.deepStrictEqual(told.event_ids, [told.event_id ?? ""])
        yield* publishAll
        assert.lengthOf(yield* runsOf(alert.id), 1)
      })
    )
  )

  it.effect("what a run leads to is of its trace: runs that hear it, that it starts, and that are skipped", () =>
    world((actor) =>
      Effect.gen(function* () {
        const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        const child = yield* hearer("never")
        const source = yield* hearer("never", {
          payload: { pipeline: [{ id: "go", uses: "core.run_task", with: { task_id: child.id } }] }
        })
        const heard = yield* hearer(`ordinaut.run.succeeded if event.payload.task_id == '${source.id}'`)
        const after = yield* hearer(`ordinaut.run.succeeded if event.payload.task_id == '${heard.id}'`)
        const late = yield* hearer(`ordinaut.run.succeeded if event.payload.task_id == '${heard.id}'`)
        const states = yield* TaskStates
        yield* states.pause(actor, late.id, change)
        yield* states.runNow(actor, source.id, null, `00-${trace}-00f067aa0ba902b7-01`)
        for (let round = 0; round < 3; round++) {
          yield* work
          yield* publishAll
        }
        yield* work
        const runs = yield* Runs
        for (const { id } of [source, child, heard, after, late]) {
          const { items } = yield* runs.list(actor, { task_id: id }, { limit: 5, before: null })
          assert.deepStrictEqual(
            items.map(({ trace_id }) => trace_id),
            [trace],
            id
          )
        }
      })
    )
  )

  it.effect("an agent's tasks hear of its own runs alone, an admin's too", () =>
    world((actor) =>
      Effect.gen(function* () {
        const member = (yield* agent(actor, `member-${crypto.randomUUID().slice(0, 8)}`, ["tasks:*", "runs:*"])).actor
        const theirs = yield* create(member, {
          schedule_kind: "event",
          schedule_expr: "ordinaut.run.succeeded",
          max_runs: 1
        })
        const admins = yield* hearer("ordinaut.run.succeeded", { max_runs: 1 })
        const source = yield* create(member, { schedule_kind: "event", schedule_expr: "never" })
        yield* Effect.flatMap(TaskStates, (states) => states.runNow(member, source.id, null, null))
        yield* work
        yield* publishAll
        assert.lengthOf(yield* runsOf(theirs.id), 1)
        assert.isEmpty(yield* runsOf(admins.id))
      })
    )
  )

  it.effect("two publishers at once start each run once, in the order of the log", () =>
    world(() =>
      Effect.gen(function* () {
        const source = yield* hearer("go")
        const heard = yield* hearer(`ordinaut.run.queued if event.payload.task_id == '${source.id}'`)
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql<{ name: string }>`SELECT current_database() AS name`
        const url = new URL(inject("databaseUrl"))
        url.pathname = row?.name ?? ""
        const other = EventStream.layer.pipe(
          Layer.provide(Lease.layer),
          Layer.provide([Wakeups.layerLocal, Redis.layer]),
          Layer.provide(dbAt(url.href)),
          Layer.fresh
        )
        yield* Effect.gen(function* () {
          const theirs = yield* EventStream
          const publisher = Effect.repeatN(theirs.number, 15)
          const says = Effect.forEach(Array.from({ length: 40 }), () => say("go"), { concurrency: 4 })
          yield* Effect.all([says, publisher, Effect.repeatN(publishAll, 15), publisher], { concurrency: 4 })
        }).pipe(Effect.provide(other))
        yield* publishAll
        const chained = yield* runsOf(heard.id)
        assert.lengthOf(chained, 40)
        const wanted = yield* sql<{ id: string }>`
          SELECT e.value ->> 'id' AS id FROM outbox o CROSS JOIN LATERAL jsonb_array_elements(o.entries) WITH ORDINALITY AS e (value, n)
          WHERE e.value ->> 'topic' = 'ordinaut.run.queued' AND e.value -> 'payload' ->> 'task_id' = ${source.id}
          ORDER BY o.first_number, e.n`
        assert.deepStrictEqual(
          chained.map(({ key }) => key),
          wanted.map(({ id }) => `e:${id}`)
        )
      })
    )
  )

  it.effect("a circle ends at sixteen, with a run that says so", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* hearer("ordinaut.run.succeeded")
        yield* runNow(id)
        for (let round = 0; round < 25; round++) {
          yield* work
          yield* publishAll
        }
        const runs = yield* runsOf(id)
        assert.lengthOf(runs, 1 + 16 + 1)
        const last = runs.at(-1)
        assert.include(last ?? {}, { state: "failed", code: "loop_detected" })
        const refused = yield* Effect.flatMap(Runs, (all) => all.get(actor, last?.id ?? ""))
        assert.strictEqual(refused.error?.code, "loop_detected")
        assert.isNull(refused.started_at)
      })
    )
  )

  it.effect(
    "what hears everything hears of its own runs when they have ended, so that its circle is no avalanche",
    () =>
      world(() =>
        Effect.gen(function* () {
          const { id } = yield* hearer("ordinaut.run.**")
          yield* publishAll
          yield* runNow(id)
          for (let round = 0; round < 25; round++) {
            yield* work
            yield* publishAll
          }
          assert.lengthOf(yield* runsOf(id), 1 + 16 + 1)
        })
      )
  )

  it.effect("what hears of failures does not hear of the refusal that ends its own circle", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* hearer("ordinaut.run.failed", failing)
        yield* runNow(id)
        for (let round = 0; round < 25; round++) {
          yield* work
          yield* publishAll
        }
        assert.lengthOf(yield* runsOf(id), 18)
      })
    )
  )

  it.effect("state changes are collected as other events are", () =>
    world(() =>
      Effect.gen(function* () {
        const source = yield* hearer("go")
        const { id } = yield* hearer(`ordinaut.run.queued if event.payload.task_id == '${source.id}'`, {
          payload: {
            trigger: { debounce_seconds: 5 },
            pipeline: [{ id: "count", uses: "core.transform", with: { value: "${length(events)}" } }]
          }
        })
        for (const n of [1, 2, 3]) yield* say("go", n)
        yield* publishAll
        assert.isEmpty(yield* runsOf(id))
        yield* second(5)
        yield* tick
        const [run] = yield* runsOf(id)
        assert.lengthOf(run?.payloads ?? [], 3)
      })
    )
  )

  it.effect("a paused hearer has its skip, and loses nothing of the order", () =>
    world((actor) =>
      Effect.gen(function* () {
        const source = yield* hearer("go")
        const { id } = yield* hearer(`ordinaut.run.queued if event.payload.task_id == '${source.id}'`)
        yield* Effect.flatMap(TaskStates, (states) => states.pause(actor, id, change))
        yield* say("go")
        yield* publishAll
        assert.deepStrictEqual(yield* inWords(id), ["0 e skipped paused"])
      })
    )
  )

  it.effect("changes of tasks are events: what happened, and the state that followed", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const tasks = yield* Tasks
        const { id } = yield* create(actor, {})
        yield* tasks.patch(actor, id, { title: "b" }, null)
        yield* states.pause(actor, id, change)
        yield* states.pause(actor, id, change)
        yield* states.resume(actor, id, { ...change, onMissed: null })
        yield* states.cancel(actor, id, change)
        assert.deepStrictEqual(yield* toldOf(id), [
          "created active",
          "changed active",
          "paused paused",
          "resumed active",
          "canceled canceled"
        ])
        const once = yield* create(actor, { schedule_kind: "once", schedule_expr: "2026-03-02T09:00:30Z" })
        const bad = yield* create(actor, {})
        yield* Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql`UPDATE task SET schedule_expr = 'no' WHERE id = ${bad.id}`
        )
        const alert = yield* hearer("ordinaut.task.quarantined")
        yield* second(60)
        yield* tick
        assert.deepStrictEqual(yield* toldOf(once.id), ["created active", "completed completed"])
        assert.deepStrictEqual(yield* toldOf(bad.id), ["created active", "quarantined quarantined"])
        yield* publishAll
        assert.lengthOf(yield* runsOf(alert.id), 1)
      })
    )
  )
})

layer(listening())("Events.emit", (it) => {
  const emission = (more: Partial<Emission["run"]> = {}, rest: Partial<Emission> = {}) =>
    Effect.map(Owner, ({ id, namespace }): Emission => ({
      run: { id: crypto.randomUUID(), agent_id: id, namespace, hops: 0, ...more },
      key: crypto.randomUUID(),
      topic: "shipped",
      payload: { n: 1 },
      ...rest
    }))

  it.effect("publishes once for a key, whenever it is said again, and at once", () =>
    world((actor) =>
      Effect.gen(function* () {
        const events = yield* Events
        const { id } = yield* hearer("shipped")
        const one = yield* emission()
        const first = yield* events.emit(one)
        const again = yield* Effect.all(
          Array.from({ length: 6 }, () => events.emit(one)),
          { concurrency: 6 }
        )
        assert.deepStrictEqual(new Set(again.map(({ event_id }) => event_id)), new Set([first.event_id]))
        yield* second(3 * 86_400)
        assert.deepStrictEqual(yield* events.emit(one), first)
        assert.lengthOf(yield* runsOf(id), 1)
        const event = yield* events.get(actor, first.event_id)
        assert.include(event, { topic: "shipped", published_by: actor.id })
        assert.notStrictEqual((yield* events.emit(yield* emission())).event_id, first.event_id)
        const long = yield* emission({}, { key: "k".repeat(100_000) })
        assert.deepStrictEqual(yield* events.emit(long), yield* events.emit(long))
      })
    )
  )

  it.effect("hands one hop more on, and is refused past sixteen", () =>
    world(() =>
      Effect.gen(function* () {
        const events = yield* Events
        const { id } = yield* hearer("shipped")
        yield* events.emit(yield* emission({ hops: 4 }))
        yield* events.emit(yield* emission({ hops: 15 }))
        const refused = yield* Effect.flip(events.emit(yield* emission({ hops: 16 })))
        assert.ok(refused._tag === "StepFailed" && refused.code === "loop_detected" && !refused.retryable)
        const sql = yield* SqlClient.SqlClient
        const hops = yield* sql<{ hops: number }>`SELECT hops FROM due_work WHERE task_id = ${id} ORDER BY id`
        assert.deepStrictEqual(
          hops.map((row) => row.hops),
          [5, 16]
        )
      })
    )
  )

  it.effect("refuses what is no topic, and the product's own", () =>
    world(() =>
      Effect.gen(function* () {
        const events = yield* Events
        for (const topic of ["ordinaut", "ordinaut.run.failed", "a b", "", "a.*", "x".repeat(201)]) {
          const refused = yield* Effect.either(events.emit(yield* emission({}, { topic })))
          assert.ok(Either.isLeft(refused) && refused.left._tag === "StepFailed", topic)
          assert.strictEqual(refused.left.code, "tool_input_invalid")
        }
      })
    )
  )
})
