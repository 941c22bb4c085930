import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { Event, EventAccepted, TopicSeen } from "../../src/domain/Event.ts"
import { Run, RunSummary } from "../../src/domain/Run.ts"
import { Previewed } from "../../src/http/SchedulesApi.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import { answered, apiServer, member, newTask, page, refusal, request, taskBody } from "../support/ApiServer.ts"
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

layer(apiServer())("schedules of events and conditions", (it) => {
  const places = (body: Readonly<Record<string, unknown>>) =>
    Effect.map(request("POST", "/tasks", { body: taskBody(body) }), (answer) =>
      refusal(answer, 422).errors?.map(({ path }) => path)
    )

  it.effect("names the place of every new field that is wrong", () =>
    Effect.gen(function* () {
      const event = { schedule_kind: "event", schedule_expr: "orders.*" }
      const pipeline = [{ id: "only", uses: "mail.send" }]
      const table: ReadonlyArray<readonly [object, string]> = [
        [{}, "/payload/trigger/debounce_seconds"],
        [{ debounce_seconds: 0 }, "/payload/trigger/debounce_seconds"],
        [{ debounce_seconds: "5" }, "/payload/trigger/debounce_seconds"],
        [{ debounce_seconds: 5, batch: { max_events: 1, max_seconds: 1 } }, "/payload/trigger/debounce_seconds"],
        [{ debounce_seconds: 5, debounce_max_seconds: 4 }, "/payload/trigger/debounce_max_seconds"],
        [{ batch: { max_events: 0, max_seconds: 1 } }, "/payload/trigger/batch/max_events"],
        [{ batch: { max_events: 1 } }, "/payload/trigger/batch/max_seconds"],
        [{ batch: { max_events: 1, max_seconds: 1, more: 1 } }, "/payload/trigger/batch/more"],
        [{ debounce_seconds: 5, key: "${params.a}" }, "/payload/trigger/key"],
        [{ debounce_seconds: 5, key: "${event." }, "/payload/trigger/key"],
        [{ debounce_seconds: 5, wait: 1 }, "/payload/trigger/wait"]
      ]
      for (const [trigger, path] of table) {
        assert.deepStrictEqual(
          yield* places({ ...event, payload: { pipeline, trigger } }),
          [path],
          JSON.stringify(trigger)
        )
      }
      const trigger = { debounce_seconds: 5 }
      assert.deepStrictEqual(yield* places({ payload: { pipeline, trigger } }), ["/payload/trigger"])
      const both = { pipeline: [{ uses: "core.nope" }], trigger: { ...trigger, key: "${x}" } }
      assert.deepStrictEqual(yield* places({ ...event, payload: both }), [
        "/payload/pipeline/0/uses",
        "/payload/trigger/key"
      ])
      for (const schedule_expr of ["events.*", "events.a > 3", "true", "now.hours", "ordinaut", "events.a ||"]) {
        const condition = { schedule_kind: "condition", schedule_expr }
        assert.deepStrictEqual(yield* places(condition), ["/schedule_expr"], schedule_expr)
      }
      for (const schedule_kind of ["event", "condition"]) {
        const elsewhere = { schedule_kind, schedule_expr: "events.a", timezone: "Mars/Base" }
        assert.deepStrictEqual(yield* places(elsewhere), ["/timezone"])
      }
    })
  )

  it.effect("a condition runs when an event makes it true", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask({
        schedule_kind: "condition",
        schedule_expr: 'events."stock.level".n < `3`',
        payload: { pipeline: [{ id: "echo", uses: "core.transform", with: { value: "${event.payload.n}" } }] }
      })
      yield* publish({ topic: "stock.level", payload: { n: 5 } })
      const { triggered_runs } = yield* publish({ topic: "stock.level", payload: { n: 2 } })
      assert.deepStrictEqual(
        triggered_runs.map(({ task_id }) => task_id),
        [id]
      )
      yield* work
      const run = answered(yield* request("GET", `/runs/${triggered_runs[0]?.run_id}`), 200, Run)
      assert.include(run, { state: "succeeded", trigger: "condition" })
      assert.deepStrictEqual(run.output, { steps: { echo: 2 } })
      const occurrences = yield* request("GET", `/tasks/${id}/occurrences`)
      assert.deepStrictEqual(occurrences.body, { items: [] })
      yield* request("DELETE", `/tasks/${id}`)
    })
  )

  it.effect("a preview reads what waits for events, and has no fire times", () =>
    Effect.gen(function* () {
      const preview = (schedule_kind: string, schedule_expr: string) =>
        request("POST", "/schedules/preview", { body: { schedule_kind, schedule_expr, timezone: "UTC" } })
      const condition = answered(yield* preview("condition", 'events."a.b".c && now.hour == `9`'), 200, Previewed)
      assert.isEmpty(condition.occurrences)
      assert.strictEqual(condition.description, "when it becomes true; looked at on events of a.b and once a minute")
      const event = answered(yield* preview("event", "orders.* if event.payload.n"), 200, Previewed)
      assert.strictEqual(event.description, "at every event of orders.*, if event.payload.n")
      for (const [kind, expr] of [
        ["condition", "events"],
        ["event", "a..b"]
      ] as const) {
        assert.deepStrictEqual(
          refusal(yield* preview(kind, expr), 422).errors?.map(({ path }) => path),
          ["/schedule_expr"]
        )
      }
    })
  )
})

layer(apiServer())("GET /events/topics", (it) => {
  it.effect("lists topics by name with the tasks that one may see", () =>
    Effect.gen(function* () {
      const other = yield* member("hearer", ["events:read", "tasks:*"])
      const mine = yield* listener("b.*", { title: "mine" })
      const theirs = yield* newTask({ schedule_kind: "condition", schedule_expr: 'events."b.one".x' }, other.key)
      yield* newTask({ schedule_kind: "event", schedule_expr: "ordinaut.**" }, other.key)
      for (const topic of ["b.two", "a", "b.one", "B"]) yield* publish({ topic, payload: 1 })
      const seen = (path: string, key?: string) =>
        Effect.map(request("GET", path, key === undefined ? {} : { key }), (answer) => page(answer, TopicSeen))
      const all = yield* seen("/events/topics")
      assert.deepStrictEqual(
        all.items.map(({ tasks, topic }) => [topic, tasks.map(({ id }) => id)]),
        [
          ["B", []],
          ["a", []],
          ["b.one", [mine.id, theirs.id]],
          ["b.two", [mine.id]]
        ]
      )
      const few = yield* seen("/events/topics?limit=3", other.key)
      assert.deepStrictEqual(few.items.at(-1)?.tasks, [
        { id: theirs.id, title: theirs.title, schedule_kind: "condition" }
      ])
      assert.strictEqual(few.next_cursor, "b.one")
      const rest = yield* seen("/events/topics?limit=3&cursor=b.one", other.key)
      assert.deepStrictEqual(
        rest.items.map(({ tasks, topic }) => [topic, tasks.length]),
        [["b.two", 0]]
      )
      refusal(yield* request("GET", "/events/topics?cursor=a..b"), 422)
      refusal(yield* request("GET", "/events/topics?topic=a"), 422)
      const blind = yield* member("blind", ["tasks:*"])
      refusal(yield* request("GET", "/events/topics", { key: blind.key }), 403)
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
