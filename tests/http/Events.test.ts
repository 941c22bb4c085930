import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { Event, EventAccepted } from "../../src/domain/Event.ts"
import { Run, RunSummary } from "../../src/domain/Run.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import { answered, apiServer, member, newTask, page, refusal, request } from "../support/ApiServer.ts"
import { start } from "../support/Services.ts"
import { work } from "../support/fixtures.ts"

const publish = (body: object, key?: string) =>
  Effect.map(request("POST", "/events", key === undefined ? { body } : { body, key }), (answer) =>
    answered(answer, 202, EventAccepted)
  )

const listener = (schedule_expr: string, more: object = {}) =>
  newTask({ schedule_kind: "event", schedule_expr, ...more })

layer(apiServer())("POST /events", (it) => {
  it.effect("runs the tasks that match, with the event in their templates", () =>
    Effect.gen(function* () {
      const task = yield* listener("orders.created", {
        payload: {
          pipeline: [{ id: "echo", uses: "core.transform", with: { value: "${event.payload.total}, ${event.topic}" } }]
        }
      })
      const { event_id, triggered_runs } = yield* publish({ topic: "orders.created", payload: { total: 12.5 } })
      const [triggered] = triggered_runs
      assert.deepStrictEqual(
        triggered_runs.map(({ task_id }) => task_id),
        [task.id]
      )
      yield* work
      const run = answered(yield* request("GET", `/runs/${triggered?.run_id}`), 200, Run)
      assert.include(run, { state: "succeeded", trigger: "event", event_id })
      assert.strictEqual(run.scheduled_for, new Date(start).toISOString())
      assert.deepStrictEqual(run.output, { steps: { echo: "12.5, orders.created" } })
      yield* request("DELETE", `/tasks/${task.id}`)
      assert.isEmpty((yield* publish({ topic: "orders.created", payload: null })).triggered_runs)
    })
  )

  it.effect("a pattern takes one word for *, any number for **", () =>
    Effect.gen(function* () {
      const patterns = ["m.a", "m.*", "m.**", "m.*.z", "m.**.z", "**", "*"]
      const tasks = yield* Effect.forEach(patterns, (pattern) => listener(pattern))
      const hears = (topic: string) =>
        Effect.map(publish({ topic, payload: {} }), ({ triggered_runs }) =>
          triggered_runs.map(({ task_id }) => patterns[tasks.findIndex(({ id }) => id === task_id)]).sort()
        )
      assert.deepStrictEqual(yield* hears("m"), ["*", "**", "m.**"])
      assert.deepStrictEqual(yield* hears("m.a"), ["**", "m.*", "m.**", "m.a"])
      assert.deepStrictEqual(yield* hears("m.z"), ["**", "m.*", "m.**", "m.**.z"])
      assert.deepStrictEqual(yield* hears("m.x.z"), ["**", "m.**", "m.**.z", "m.*.z"])
      assert.deepStrictEqual(yield* hears("m.x.y.z"), ["**", "m.**", "m.**.z"])
      assert.deepStrictEqual(yield* hears("n.a"), ["**"])
      yield* Effect.forEach(tasks, ({ id }) => request("DELETE", `/tasks/${id}`))
    })
  )

  it.effect("a filter takes what it holds for; one that cannot be evaluated takes nothing", () =>
    Effect.gen(function* () {
      const { id } = yield* listener("paid if event.payload.total > `10`")
      const heard = (payload: unknown) =>
        Effect.map(publish({ topic: "paid", payload }), ({ triggered_runs }) => triggered_runs.length)
      assert.strictEqual(yield* heard({ total: 11 }), 1)
      for (const payload of [{ total: 10 }, { total: "11" }, {}, null, [], "x"]) {
        assert.strictEqual(yield* heard(payload), 0, JSON.stringify(payload))
      }
      yield* request("DELETE", `/tasks/${id}`)
    })
  )

  it.effect("for a paused task an event is recorded as a skip", () =>
    Effect.gen(function* () {
      const { id } = yield* listener("door.opened")
      yield* request("POST", `/tasks/${id}/pause`)
      const { event_id, triggered_runs } = yield* publish({ topic: "door.opened", payload: {} })
      assert.isEmpty(triggered_runs)
      const { items } = page(yield* request("GET", `/runs?task_id=${id}`), RunSummary)
      assert.lengthOf(items, 1)
      assert.include(items[0] ?? {}, { state: "skipped", skip_reason: "paused", trigger: "event", event_id })
    })
  )

  it.effect("a repeat of a dedupe_key answers the first event, per agent and topic, for 24 hours", () =>
    Effect.gen(function* () {
      const { id } = yield* listener("dedupe.*")
      const other = yield* member("publisher", ["events:*"])
      const body = { topic: "dedupe.a", payload: 1, dedupe_key: "k" }
      const first = yield* publish(body)
      assert.lengthOf(first.triggered_runs, 1)
      assert.deepStrictEqual(yield* publish({ ...body, payload: 2 }), first)
      const others = [
        yield* publish({ ...body, topic: "dedupe.b" }),
        yield* publish({ ...body, dedupe_key: "l" }),
        yield* publish(body, other.key)
      ]
      assert.lengthOf(new Set([first, ...others].map(({ event_id }) => event_id)), 4)
      const twins = yield* Effect.all(
        Array.from({ length: 5 }, () => publish({ ...body, dedupe_key: "twins" })),
        { concurrency: 5 }
      )
      assert.lengthOf(new Set(twins.map(({ event_id }) => event_id)), 1)
      yield* TestClock.adjust("24 hours")
      assert.notStrictEqual((yield* publish(body)).event_id, first.event_id)
      yield* TestClock.setTime(start)
      yield* request("DELETE", `/tasks/${id}`)
    })
  )

  it.effect("topics below ordinaut are the product's own; no ** hears them", () =>
    Effect.gen(function* () {
      for (const topic of ["ordinaut", "ordinaut.run.failed"]) {
        const { errors } = refusal(yield* request("POST", "/events", { body: { topic, payload: 1 } }), 422)
        assert.deepStrictEqual(
          errors?.map(({ path }) => path),
          ["/topic"]
        )
      }
      assert.strictEqual(
        (yield* request("POST", "/events", { body: { topic: "ordinautic.x", payload: 1 } })).status,
        202
      )
    })
  )
})

layer(apiServer())("GET /events", (it) => {
  it.effect("lists newest first, by topic, and names the stream's entry once it is published", () =>
    Effect.gen(function* () {
      const topics = ["a", "b", "a"]
      const events = yield* Effect.forEach(topics, (topic) =>
        Effect.zipRight(TestClock.adjust("1 millis"), publish({ topic, payload: { topic, ["__proto__"]: [1] } }))
      )
      const made = events.map(({ event_id }) => event_id).toReversed()
      const list = (query: string) => Effect.map(request("GET", `/events?${query}`), (answer) => page(answer, Event))
      const first = yield* list("limit=2")
      assert.deepStrictEqual(
        first.items.map(({ id }) => id),
        made.slice(0, 2)
      )
      const rest = yield* list(`limit=2&cursor=${first.next_cursor}`)
      assert.deepStrictEqual(
        rest.items.map(({ id }) => id),
        made.slice(2)
      )
      assert.isNull(rest.next_cursor)
      assert.deepStrictEqual(
        (yield* list("topic=b")).items.map(({ id }) => id),
        [made[1]]
      )
      const one = () => Effect.map(request("GET", `/events/${made[1]}`), (answer) => answered(answer, 200, Event))
      const before = yield* one()
      assert.include(before, { topic: "b", stream_id: null })
      assert.strictEqual(JSON.stringify(before.payload), '{"topic":"b","__proto__":[1]}')
      const stream = yield* EventStream
      yield* stream.number
      assert.match((yield* one()).stream_id ?? "", /^\d+-0$/)
      for (const id of ["x", "019cadc6-9a80-7000-8000-000000000000"]) {
        refusal(yield* request("GET", `/events/${id}`), 404, "event_not_found")
      }
    })
  )
})
