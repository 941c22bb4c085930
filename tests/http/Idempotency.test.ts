import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { History } from "../../src/layers/History.ts"
import { ApiServer, apiServer, member, newTask, refusal, request, taskBody } from "../support/ApiServer.ts"
import type { Call } from "../support/ApiServer.ts"

const keyed = (key: string, path: string, body?: unknown, more: Call = {}) =>
  request("POST", path, { ...more, ...(body === undefined ? {} : { body }), headers: { "idempotency-key": key } })

const count = (table: "task" | "due_work" | "event" | "backfill" | "audit_log" | "idempotency_key") =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ n: number }>`SELECT count(*)::integer AS n FROM ${sql(table)}`
    return row?.n ?? 0
  })

const idOf = (body: unknown, name: string) => (body as Readonly<Record<string, unknown>>)[name]

layer(apiServer())("Idempotency-Key", (it) => {
  it.effect("gives the first answer again, whole, on every route that takes it", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask({ schedule_expr: "0 * * * *" })
      const window = { from: "2026-03-01T00:00:00Z", to: "2026-03-01T03:00:00Z" }
      const requests = [
        { path: "/tasks", body: taskBody(), table: "task", status: 201 },
        { path: `/tasks/${id}/run_now`, body: undefined, table: "due_work", status: 202 },
        { path: `/tasks/${id}/backfill`, body: window, table: "backfill", status: 202 },
        { path: "/events", body: { topic: "a.b", payload: 1 }, table: "event", status: 202 }
      ] as const
      for (const { body, path, status, table } of requests) {
        const before = yield* count(table)
        const first = yield* keyed(`again ${path}`, path, body)
        assert.strictEqual(first.status, status, first.text)
        assert.isNull(first.headers.get("idempotency-replayed"))
        const trail = yield* count("audit_log")
        const second = yield* keyed(`again ${path}`, path, body)
        assert.strictEqual(second.status, status)
        assert.strictEqual(second.text, first.text)
        for (const name of ["location", "etag", "content-type"]) {
          assert.strictEqual(second.headers.get(name), first.headers.get(name), name)
        }
        assert.strictEqual(second.headers.get("idempotency-replayed"), "true")
        assert.strictEqual(yield* count(table), before + 1, path)
        assert.strictEqual(yield* count("audit_log"), trail)
      }
    })
  )

  it.effect("the same body is the same JSON value, however it is written", () =>
    Effect.gen(function* () {
      const first = yield* keyed("layout", "/events", '{"topic":"l","payload":{"a":1,"b":[2.50]}}')
      const again = yield* keyed("layout", "/events/", '{ "payload": {"b": [2.5], "a": 1.0},\n "topic": "\\u006c" }')
      assert.strictEqual(again.text, first.text)
      const empty = yield* newTask()
      const left = yield* keyed("empty", `/tasks/${empty.id}/run_now`)
      assert.strictEqual((yield* keyed("empty", `/tasks/${empty.id}/run_now`, {})).text, left.text)
    })
  )

  it.effect("another body, or another route, is refused with 422", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask()
      const other = yield* newTask()
      assert.strictEqual((yield* keyed("taken", `/tasks/${id}/run_now`)).status, 202)
      const before = yield* count("due_work")
      const refused = [
        yield* keyed("taken", `/tasks/${id}/run_now`, { params: { a: 1 } }),
        yield* keyed("taken", `/tasks/${other.id}/run_now`),
        yield* keyed("taken", "/tasks", taskBody())
      ]
      for (const answer of refused) {
        const { errors } = refusal(answer, 422, "idempotency_key_reused")
        assert.strictEqual(errors?.[0]?.path, "header.Idempotency-Key")
      }
      assert.strictEqual(yield* count("due_work"), before)
    })
  )

  it.effect("belongs to one agent", () =>
    Effect.gen(function* () {
      const other = yield* member("other", ["events:publish"])
      const mine = yield* keyed("shared", "/events", { topic: "t", payload: 1 })
      const theirs = yield* keyed("shared", "/events", { topic: "t", payload: 2 }, { key: other.key })
      assert.strictEqual(theirs.status, 202, theirs.text)
      assert.notStrictEqual(idOf(theirs.body, "event_id"), idOf(mine.body, "event_id"))
    })
  )

  it.effect("of 50 requests at once one does the work, and all get its answer", () =>
    Effect.gen(function* () {
      const before = yield* count("task")
      const answers = yield* Effect.all(
        Array.from({ length: 50 }, () => keyed("at once", "/tasks", taskBody())),
        { concurrency: 50 }
      )
      assert.lengthOf(new Set(answers.map(({ text }) => text)), 1)
      assert.isTrue(answers.every(({ status }) => status === 201))
      assert.lengthOf(
        answers.filter(({ headers }) => headers.get("idempotency-replayed") === null),
        1
      )
      assert.strictEqual(yield* count("task"), before + 1)
    })
  )

  it.effect("a request that failed leaves its key free", () =>
    Effect.gen(function* () {
      refusal(yield* keyed("free", "/tasks", taskBody({ schedule_expr: "no cron" })), 422)
      const { id } = yield* newTask()
      yield* request("POST", `/tasks/${id}/cancel`)
      refusal(yield* keyed("free", `/tasks/${id}/run_now`), 409, "task_canceled")
      const done = yield* keyed("free", "/tasks", taskBody())
      assert.strictEqual(done.status, 201)
      assert.isNull(done.headers.get("idempotency-replayed"))
    })
  )

  it.effect("a malformed key is refused by the header's name, and nothing is done", () =>
    Effect.gen(function* () {
      const before = yield* count("task")
      for (const key of ["", "a\tb", "x".repeat(256)]) {
        const { detail } = refusal(yield* keyed(key, "/tasks", taskBody()), 400, "invalid_header")
        assert.include(detail, "Idempotency-Key")
      }
      assert.strictEqual(yield* count("task"), before)
      assert.strictEqual((yield* keyed("x".repeat(255), "/tasks", taskBody())).status, 201)
    })
  )

  it.effect("is forgotten after 24 h, by the answer at once and by the table at the next cleaning", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask({ schedule_kind: "event", schedule_expr: "nothing.here" })
      const first = yield* keyed("old", `/tasks/${id}/run_now`)
      yield* TestClock.adjust("23 hours")
      assert.strictEqual((yield* keyed("old", `/tasks/${id}/run_now`)).text, first.text)
      yield* TestClock.adjust("61 minutes")
      const later = yield* keyed("old", `/tasks/${id}/run_now`)
      assert.notStrictEqual(later.text, first.text)
      assert.strictEqual((yield* keyed("old", `/tasks/${id}/run_now`)).text, later.text)
      yield* (yield* History).keep
      assert.strictEqual(yield* count("idempotency_key"), 1)
    })
  )

  it.effect("a request that is cut off in the middle has done nothing, and its repeat does it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { adminKey, origin } = yield* ApiServer
      const before = yield* count("task")
      // The transaction stands still at its last write but one: the trail is locked.
      yield* Effect.gen(function* () {
        yield* sql`LOCK TABLE audit_head IN ACCESS EXCLUSIVE MODE`
        yield* Effect.promise(async () => {
          const cut = new AbortController()
          const headers = {
            authorization: `Bearer ${adminKey}`,
            "content-type": "application/json",
            "idempotency-key": "cut"
          }
          const body = JSON.stringify(taskBody())
          const answer = fetch(`${origin}/tasks`, { method: "POST", headers, body, signal: cut.signal })
          await new Promise((wait) => setTimeout(wait, 300))
          cut.abort()
          await answer.catch(() => undefined)
        })
      }).pipe(sql.withTransaction)
      const answer = yield* keyed("cut", "/tasks", taskBody())
      assert.strictEqual(answer.status, 201)
      assert.isNull(answer.headers.get("idempotency-replayed"))
      assert.strictEqual(yield* count("task"), before + 1)
    })
  )
})
