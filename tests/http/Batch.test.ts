import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, Schema, TestClock } from "effect"
import { AuditRecord } from "../../src/domain/AuditEntry.ts"
import { Event } from "../../src/domain/Event.ts"
import { Run } from "../../src/domain/Run.ts"
import { Task } from "../../src/domain/Task.ts"
import { EventsAccepted } from "../../src/http/EventsApi.ts"
import { TasksMade } from "../../src/http/TasksApi.ts"
import { Agents } from "../../src/layers/Agents.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import {
  answered,
  ApiServer,
  apiServer,
  member,
  newTask,
  page,
  refusal,
  request,
  taskBody
} from "../support/ApiServer.ts"
import { invariantsHold } from "../support/invariants.ts"
import { work } from "../support/fixtures.ts"

const decodeTasks = Schema.decodeUnknownSync(Schema.encodedSchema(TasksMade))
const decodeEvents = Schema.decodeUnknownSync(Schema.encodedSchema(EventsAccepted))

const postTasks = (items: ReadonlyArray<unknown>, key?: string, headers: Readonly<Record<string, string>> = {}) =>
  Effect.map(
    request("POST", "/tasks/batch", { body: { items }, headers, ...(key === undefined ? {} : { key }) }),
    (answer) => {
      assert.strictEqual(answer.status, 200, answer.text)
      return decodeTasks(answer.body).items
    }
  )

const postEvents = (items: ReadonlyArray<unknown>, key?: string) =>
  Effect.map(request("POST", "/events/batch", { body: { items }, ...(key === undefined ? {} : { key }) }), (answer) => {
    assert.strictEqual(answer.status, 200, answer.text)
    return decodeEvents(answer.body).items
  })

const event = (topic: string, payload: unknown, more: object = {}) => ({ topic, payload, ...more })
const listener = (schedule_expr: string, more: object = {}) =>
  newTask({ schedule_kind: "event", schedule_expr, ...more })
const echo = (value: string) => ({ pipeline: [{ id: "echo", uses: "core.transform", with: { value } }] })
const list = (n: number) => Array.from({ length: n }, (_, i) => i)

layer(apiServer())("POST /tasks/batch", (it) => {
  it.effect("makes what is valid, in order, and gives the others their problems", () =>
    Effect.gen(function* () {
      const { id: bearer } = yield* newTask({ dedupe_key: "taken" })
      const items = yield* postTasks([
        taskBody({ title: "first", concurrency_key: "k", concurrency_limit: 3 }),
        taskBody({ title: "" }),
        taskBody({ schedule_expr: "61 * * * *" }),
        { ...taskBody(), titel: "a typo" },
        taskBody({ payload: { pipeline: ["mail.send", "mail.read"].map((uses) => ({ id: "twice", uses })) } }),
        taskBody({ dedupe_key: "taken" }),
        taskBody({ title: "second", dedupe_key: "fresh", concurrency_key: "k", concurrency_limit: 2 }),
        taskBody({ title: "again", dedupe_key: "fresh" }),
        null,
        taskBody({ description: "x".repeat(1_100_000) })
      ])
      assert.deepStrictEqual(
        items.map(({ error, status, task }) => [status, task?.title ?? error?.code ?? ""]),
        [
          [201, "first"],
          [422, "validation_failed"],
          [422, "invalid_schedule"],
          [422, "validation_failed"],
          [422, "invalid_pipeline"],
          [409, "duplicate_task"],
          [201, "second"],
          [409, "duplicate_task"],
          [422, "validation_failed"],
          [413, "content_too_large"]
        ]
      )
      const paths = items.map(({ error }) => error?.errors?.[0]?.path ?? null)
      assert.deepStrictEqual(paths, [
        null,
        "/items/1/title",
        "/items/2/schedule_expr",
        "/items/3/titel",
        "/items/4/payload/pipeline/1/id",
        null,
        null,
        null,
        "/items/8",
        null
      ])
      assert.deepInclude(items[5]?.error, { task_id: bearer, instance: "/tasks/batch", title: "Conflict" })
      assert.strictEqual(items[7]?.error?.["task_id"], items[6]?.task?.id)
      const made = items.flatMap(({ task }) => (task === null ? [] : [task]))
      const stored = yield* Effect.forEach(made, ({ id }) =>
        Effect.map(request("GET", `/tasks/${id}`), (read) => answered(read, 200, Task.json))
      )
      assert.deepStrictEqual(stored, made)
      const versions = yield* request("GET", `/tasks/${made[0]?.id}/versions`)
      assert.include(versions.text, `"title":"first"`)
      const sql = yield* SqlClient.SqlClient
      assert.deepStrictEqual(yield* sql`SELECT "limit" FROM concurrency WHERE key = 'k'`, [{ limit: 2 }])
      const trail = page(yield* request("GET", "/audit?action=task.created"), AuditRecord)
      assert.deepStrictEqual(
        trail.items.map(({ subject_id }) => subject_id).sort(),
        [bearer, ...made.map(({ id }) => id)].sort()
      )
      assert.include((yield* request("GET", "/audit/verify")).text, `"ok":true`)
    })
  )

  it.effect("makes no more than the agent may have", () =>
    Effect.gen(function* () {
      const { admin } = yield* ApiServer
      const { actor, key } = yield* member("few", ["tasks:*"])
      yield* (yield* Agents).patch(admin, actor.id, { max_tasks: 3 })
      yield* newTask({}, key)
      const items = yield* postTasks(
        list(4).map(() => taskBody()),
        key
      )
      assert.deepStrictEqual(
        items.map(({ error, status }) => [status, error?.code ?? null]),
        [
          [201, null],
          [201, null],
          [422, "too_many_tasks"],
          [422, "too_many_tasks"]
        ]
      )
    })
  )

  it.effect("of two batches with one dedupe key at once, one makes the task", () =>
    Effect.gen(function* () {
      const { key } = yield* member("racing", ["tasks:*"])
      const body = list(20).map((n) => taskBody({ dedupe_key: `d${n}` }))
      const [one, other] = yield* Effect.all([postTasks(body, key), postTasks(body.toReversed(), key)], {
        concurrency: 2
      })
      const made = [...one, ...other].filter(({ status }) => status === 201)
      assert.lengthOf(made, 20)
      assert.lengthOf(new Set(made.map(({ task }) => task?.dedupe_key)), 20)
    })
  )

  it.effect("takes 1 to 1,000 items, on 8 MiB, as who may write", () =>
    Effect.gen(function* () {
      const { key } = yield* member("reader", ["tasks:read"])
      refusal(yield* request("POST", "/tasks/batch", { body: { items: [taskBody()] }, key }), 403, "forbidden")
      refusal(yield* request("POST", "/tasks/batch", { body: { items: [] } }), 422, "validation_failed")
      refusal(yield* request("POST", "/tasks/batch", { body: {} }), 422, "validation_failed")
      refusal(yield* request("POST", "/tasks/batch", { body: { items: [taskBody()], more: 1 } }), 422)
      refusal(yield* request("POST", "/tasks/batch", { body: { items: list(1001) } }), 422)
      const large = list(4).map(() =>
        taskBody({ payload: { params: { text: "x".repeat(900_000) }, pipeline: [{ uses: "a.b" }] } })
      )
      assert.isTrue((yield* postTasks(large)).every(({ status }) => status === 201))
      refusal(yield* request("POST", "/tasks/batch", { body: { items: ["x".repeat(8 * 1_048_576)] } }), 413)
      refusal(yield* request("POST", "/tasks", { body: { title: "x".repeat(1_100_000) } }), 413)

      const items = yield* postTasks(list(1000).map((n) => taskBody({ title: `task ${n}` })))
      assert.deepStrictEqual(
        items.map(({ task }) => task?.title),
        list(1000).map((n) => `task ${n}`)
      )
      yield* invariantsHold
    })
  )

  it.effect("is made once under an Idempotency-Key", () =>
    Effect.gen(function* () {
      const { key } = yield* member("repeating", ["tasks:*"])
      const once = () => postTasks([taskBody(), taskBody({ title: "" })], key, { "idempotency-key": "batch" })
      const first = yield* once()
      assert.deepStrictEqual(yield* once(), first)
      assert.lengthOf(page(yield* request("GET", "/tasks", { key }), Task.json).items, 1)
      const other = { body: { items: [taskBody()] }, key, headers: { "idempotency-key": "batch" } }
      refusal(yield* request("POST", "/tasks/batch", other), 422, "idempotency_key_reused")
    })
  )
})

layer(apiServer())("POST /events/batch", (it) => {
  it.effect("accepts what is valid, in order, and gives the others their problems", () =>
    Effect.gen(function* () {
      const task = yield* listener("batch.*", { payload: echo("${event.payload}") })
      const items = yield* postEvents([
        event("batch.b", 1),
        event("batch.a", 2),
        event("not a topic", 3),
        event("ordinaut.run.failed", 4),
        event("batch.b", 5, { dedupe_key: "d" }),
        event("batch.b", 6, { dedupe_key: "d" }),
        event("other", null),
        event("batch.a", 7, { dedupe_key: "d" })
      ])
      assert.deepStrictEqual(
        items.map(({ status }) => status),
        [202, 202, 422, 422, 202, 202, 202, 202]
      )
      assert.deepStrictEqual(
        items.map(({ error }) => error?.errors?.[0]?.path ?? null),
        [null, null, "/items/2/topic", "/items/3/topic", null, null, null, null]
      )
      assert.strictEqual(items[5]?.event?.event_id, items[4]?.event?.event_id)
      const again = yield* postEvents([event("batch.b", 8, { dedupe_key: "d" }), event("batch.a", 9)])
      assert.deepStrictEqual(again[0], items[4])
      yield* work
      const outputs = yield* Effect.forEach([...items, again[1]], (item) =>
        Effect.gen(function* () {
          const [run] = item?.event?.triggered_runs ?? []
          if (run === undefined) return null
          assert.strictEqual(run.task_id, task.id)
          return answered(yield* request("GET", `/runs/${run.run_id}`), 200, Run).output?.steps["echo"] ?? null
        })
      )
      assert.deepStrictEqual(outputs, [1, 2, null, null, 5, 5, null, 7, 9])

      yield* (yield* EventStream).number
      const seen = page(yield* request("GET", "/events"), Event).items.toReversed()
      assert.deepStrictEqual(
        seen.map(({ payload, topic }) => [topic, payload]),
        [
          ["batch.b", 1],
          ["batch.a", 2],
          ["batch.b", 5],
          ["other", null],
          ["batch.a", 7],
          ["batch.a", 9]
        ]
      )
      const numbers = seen.map(({ stream_id }) => Number(stream_id?.split("-")[0]))
      assert.deepStrictEqual(
        numbers,
        numbers.toSorted((a, b) => a - b)
      )
      assert.lengthOf(new Set(numbers), 6)
      const sql = yield* SqlClient.SqlClient
      assert.deepStrictEqual(yield* sql`SELECT topic, payload FROM topic_last ORDER BY topic`, [
        { topic: "batch.a", payload: 9 },
        { topic: "batch.b", payload: 5 },
        { topic: "other", payload: null }
      ])
      const trail = page(yield* request("GET", "/audit?action=event.published"), AuditRecord)
      assert.lengthOf(trail.items, 6)
    })
  )

  it.effect("lets a condition see each event, with what was said by then", () =>
    Effect.gen(function* () {
      yield* postEvents([event("room.heat", { value: 1 }), event("room.door", { open: false })])
      const task = yield* newTask({
        schedule_kind: "condition",
        schedule_expr: `events."room.heat".value > \`20\` && events."room.door".open`,
        payload: echo("${event.payload}")
      })
      const items = yield* postEvents([
        event("room.heat", { value: 30 }),
        event("elsewhere", 1),
        event("room.door", { open: true }),
        event("room.heat", { value: 3 }),
        event("room.heat", { value: 31 }),
        event("room.door", { open: false })
      ])
      assert.deepStrictEqual(
        items.map(({ event: accepted }) => accepted?.triggered_runs.map(({ task_id }) => task_id)),
        [[], [], [task.id], [], [task.id], []]
      )
      const sql = yield* SqlClient.SqlClient
      assert.deepStrictEqual(yield* sql`SELECT last_value FROM task WHERE id = ${task.id}`, [{ last_value: false }])
    })
  )

  it.effect("collects events into windows as they would come one by one", () =>
    Effect.gen(function* () {
      const payload = {
        ...echo("${join(',', events[*].payload)}"),
        trigger: { batch: { max_events: 3, max_seconds: 60 } }
      }
      yield* listener("many.*", { payload })
      const items = yield* postEvents(list(7).map((n) => event("many.things", String(n))))
      const runs = items.map(({ event: accepted }) => accepted?.triggered_runs.length)
      assert.deepStrictEqual(runs, [0, 0, 1, 0, 0, 1, 0])
      yield* work
      const outputs = yield* Effect.forEach([2, 5], (place) =>
        Effect.map(
          request("GET", `/runs/${items[place]?.event?.triggered_runs[0]?.run_id}`),
          (read) => answered(read, 200, Run).output?.steps["echo"]
        )
      )
      assert.deepStrictEqual(outputs, ["0,1,2", "3,4,5"])
    })
  )

  it.effect("wakes a run that waits by the first that it waits for", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask({
        schedule_expr: "0 0 1 1 *",
        payload: {
          pipeline: [{ id: "wait", uses: "core.wait_event", with: { topic: "wanted.*", if: "event.payload > `1`" } }]
        }
      })
      const started = yield* request("POST", `/tasks/${id}/run_now`)
      yield* work
      yield* TestClock.adjust("1 second")
      yield* postEvents([event("wanted.a", 1), event("unwanted", 2), event("wanted.b", 3), event("wanted.a", 4)])
      yield* work
      const run = answered(
        yield* request("GET", `/runs/${String((started.body as { run_id: string }).run_id)}`),
        200,
        Run
      )
      assert.deepInclude(run.output?.steps["wait"], { topic: "wanted.b", payload: 3 })
    })
  )

  it.effect("takes two at once over the same topics, and 1,000 items", () =>
    Effect.gen(function* () {
      const { key } = yield* member("publisher", ["events:publish"])
      const topics = list(20).map((n) => `wide.t${n}`)
      yield* listener("wide.t7")
      const forth = topics.map((topic) => event(topic, 1))
      const all = yield* Effect.all(
        list(6).map((n) => postEvents(n % 2 === 0 ? forth : forth.toReversed(), key)),
        { concurrency: 6 }
      )
      assert.isTrue(all.flat().every(({ status }) => status === 202))
      const items = yield* postEvents(
        list(1000).map((n) => event(`wide.t${n % 20}`, n)),
        key
      )
      assert.lengthOf(new Set(items.map(({ event: accepted }) => accepted?.event_id)), 1000)
      assert.lengthOf(
        items.flatMap(({ event: accepted }) => accepted?.triggered_runs ?? []),
        50
      )
      yield* invariantsHold
    })
  )
})
