import { assert, layer } from "@effect/vitest"
import { Effect, Schema, TestClock } from "effect"
import type { Page } from "../../src/domain/Page.ts"
import { Revision, Task } from "../../src/domain/Task.ts"
import { answered, apiServer, member, newTask, page, refusal, request, taskBody } from "../support/ApiServer.ts"
import { start } from "../support/Services.ts"
import { tickAfter } from "../support/fixtures.ts"

const minute = 60_000
const unknownId = "019cadc6-9a80-7000-8000-000000000000"
const iso = (millis: number) => new Date(millis).toISOString()

/** A task that is newer than those before: ids of one millisecond have no order. */
const newer = (more: Readonly<Record<string, unknown>>, key: string) =>
  Effect.zipRight(TestClock.adjust("1 millis"), newTask(more, key))

const ids = (path: string, key?: string) =>
  Effect.gen(function* () {
    const found: Array<string> = []
    for (let cursor: string | null = ""; cursor !== null;) {
      const more: string = cursor === "" ? "" : `${path.includes("?") ? "&" : "?"}cursor=${cursor}`
      const { items, next_cursor } = page(
        yield* request("GET", `${path}${more}`, key === undefined ? {} : { key }),
        Task.json
      )
      found.push(...items.map(({ id }) => id))
      cursor = next_cursor
    }
    return found
  })

layer(apiServer())("POST /tasks", (it) => {
  it.effect("answers 201 with the whole task, its address and its version", () =>
    Effect.gen(function* () {
      const answer = yield* request("POST", "/tasks", { body: taskBody() })
      const task = answered(answer, 201, Task.json)
      assert.strictEqual(answer.headers.get("location"), `/tasks/${task.id}`)
      assert.strictEqual(answer.headers.get("etag"), '"1"')
      const expected = {
        description: "",
        priority: 5,
        labels: {},
        max_retries: 3,
        backoff_strategy: "exponential_jitter",
        backoff_seconds: 1,
        backoff_max_seconds: 3600,
        timeout_seconds: 3600,
        deadline_seconds: null,
        start_within_seconds: null,
        dedupe_key: null,
        dedupe_window_seconds: 0,
        concurrency_key: null,
        concurrency_limit: 1,
        overlap_policy: "allow",
        misfire_policy: "fire_once",
        misfire_grace_seconds: 60,
        jitter_seconds: 0,
        dtstart: null,
        starts_at: null,
        ends_at: null,
        max_runs: null,
        status: "active",
        status_reason: null,
        version: 1,
        next_run_at: iso(start + minute),
        snoozed_until: null,
        last_run: null,
        created_at: iso(start),
        updated_at: iso(start)
      }
      const { created_by, id: _, ...rest } = task
      assert.deepStrictEqual(rest, { ...taskBody(), ...expected } as unknown as typeof rest)
      assert.match(created_by, /^[0-9a-f-]{36}$/)
      const again = yield* request("GET", `/tasks/${task.id}`)
      assert.deepStrictEqual(answered(again, 200, Task.json), task)
      assert.strictEqual(again.headers.get("etag"), '"1"')
    })
  )

  it.effect("keeps what is given, instants in UTC and the zone's default where none is", () =>
    Effect.gen(function* () {
      const { timezone: _, ...body } = taskBody({
        labels: { team: "ops", "a:b": "" },
        starts_at: "2026-03-02T12:00:00+02:00",
        payload: { params: { ["__proto__"]: { x: 1 }, constructor: [null] }, pipeline: [{ uses: "mail.send" }] }
      })
      const task = answered(yield* request("POST", "/tasks", { body }), 201, Task.json)
      assert.strictEqual(task.timezone, "Europe/Chisinau")
      assert.strictEqual(task.starts_at, "2026-03-02T10:00:00.000Z")
      assert.deepStrictEqual(task.labels, { team: "ops", "a:b": "" })
      assert.strictEqual(JSON.stringify(task.payload), JSON.stringify(body["payload"]))
    })
  )

  it.effect("refuses a label that it cannot keep, on every way in", () =>
    Effect.gen(function* () {
      const labels = { ["__proto__"]: "x", team: "ops" }
      const { id } = yield* newTask({ labels: { constructor: "kept", toString: "too" } })
      const kept = answered(yield* request("GET", `/tasks/${id}`), 200, Task.json).labels
      assert.deepStrictEqual({ ...kept }, { constructor: "kept", toString: "too" } as unknown as typeof kept)
      const ways = [
        yield* request("POST", "/tasks", { body: taskBody({ labels }) }),
        yield* request("PATCH", `/tasks/${id}`, { body: { labels } }),
        yield* request("PUT", `/tasks/${id}`, { body: { labels } })
      ]
      for (const way of ways) {
        const { errors } = refusal(way, 422, "validation_failed")
        assert.deepStrictEqual(
          errors?.map(({ path }) => path),
          ["/labels/__proto__"]
        )
      }
      const batch = yield* request("POST", "/tasks/batch", { body: { items: [taskBody({ labels })] } })
      assert.include(JSON.stringify(batch.body), '/labels/__proto__"')
    })
  )

  it.effect("refuses a second task with the dedupe_key of one that lives, and names it", () =>
    Effect.gen(function* () {
      const first = yield* newTask({ dedupe_key: "one" })
      const answer = yield* request("POST", "/tasks", { body: taskBody({ dedupe_key: "one" }) })
      refusal(answer, 409, "duplicate_task")
      assert.include(answer.body as object, { task_id: first.id })
      yield* request("DELETE", `/tasks/${first.id}`)
      yield* newTask({ dedupe_key: "one" })
    })
  )

  it.effect("refuses more tasks than the agent may have", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("frugal", ["tasks:*"])
      answered(
        yield* request("PATCH", `/agents/${actor.id}`, { body: { max_tasks: 1 } }),
        200,
        Schema.Struct({ max_tasks: Schema.Literal(1) }).pipe(
          Schema.extend(Schema.Record({ key: Schema.String, value: Schema.Unknown }))
        )
      )
      yield* newTask({}, key)
      refusal(yield* request("POST", "/tasks", { body: taskBody(), key }), 422, "too_many_tasks")
    })
  )
})

layer(apiServer())("GET /tasks", (it) => {
  it.effect("pages newest first, each task once, while others are made", () =>
    Effect.gen(function* () {
      const { key } = yield* member("pager", ["tasks:*"])
      const made: Array<string> = []
      for (let i = 0; i < 7; i++) made.unshift((yield* newer({ title: `task ${i}` }, key)).id)
      const first = page(yield* request("GET", "/tasks?limit=3", { key }), Task.json)
      const late = (yield* newer({}, key)).id
      assert.deepStrictEqual(
        first.items.map(({ id }) => id),
        made.slice(0, 3)
      )
      const second = page(yield* request("GET", `/tasks?limit=4&cursor=${first.next_cursor}`, { key }), Task.json)
      assert.deepStrictEqual(
        second.items.map(({ id }) => id),
        made.slice(3)
      )
      assert.isNull(second.next_cursor)
      assert.deepStrictEqual(yield* ids("/tasks?limit=2", key), [late, ...made])
    })
  )

  it.effect("filters by each parameter, and by all together", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("filterer", ["tasks:*"])
      const a = yield* newer({ title: "Wash 100%", labels: { team: "ops", floor: "1" } }, key)
      const b = yield* newer({ description: "then wash_up", labels: { team: "ops" } }, key)
      const c = yield* newer({ schedule_kind: "once", schedule_expr: "2026-05-01T00:00:00Z" }, key)
      const d = yield* newer({ schedule_kind: "event", schedule_expr: "orders.*", labels: { url: "a:b" } }, key)
      yield* request("POST", `/tasks/${b.id}/pause`, { key })
      yield* request("POST", `/tasks/${d.id}/cancel`, { key })
      const expect = (query: string, wanted: ReadonlyArray<string>) =>
        Effect.map(ids(`/tasks?${query}`, key), (found) => assert.deepStrictEqual(found, wanted, query))
      yield* expect("status=active", [c.id, a.id])
      yield* expect("status=paused", [b.id])
      yield* expect("status=canceled", [d.id])
      yield* expect("schedule_kind=once", [c.id])
      yield* expect("schedule_kind=event", [d.id])
      yield* expect("label=team:ops", [b.id, a.id])
      yield* expect("label=team:ops&label=floor:1", [a.id])
      yield* expect("label=team:ops&label=floor:2", [])
      yield* expect("label=url:a:b", [d.id])
      yield* expect("q=WASH", [b.id, a.id])
      yield* expect("q=100%25", [a.id])
      yield* expect("q=h_u", [b.id])
      yield* expect("q=%25", [a.id])
      yield* expect("due_before=2026-03-02T10:00:00Z", [b.id, a.id])
      yield* expect(`created_by=${actor.id}`, [d.id, c.id, b.id, a.id])
      yield* expect(`created_by=${unknownId}`, [])
      yield* expect("status=active&q=wash&label=team:ops&schedule_kind=cron", [a.id])
    })
  )
})

layer(apiServer())("GET /tasks/{id}/versions", (it) => {
  it.effect("pages the definitions that a task had, newest first", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask({ title: "first" })
      for (const title of ["second", "third"]) yield* request("PATCH", `/tasks/${id}`, { body: { title } })
      const titles: Array<unknown> = []
      let next: string | null = ""
      for (let pages = 0; pages < 3 && next !== null; pages++) {
        const cursor: string = next === "" ? "" : `&cursor=${next}`
        const found: Page<typeof Revision.Encoded> = page(
          yield* request("GET", `/tasks/${id}/versions?limit=2${cursor}`),
          Revision
        )
        titles.push(...found.items.map(({ definition, version }) => `${version} ${String(definition["title"])}`))
        next = found.next_cursor
      }
      assert.deepStrictEqual(titles, ["3 third", "2 second", "1 first"])
      assert.isNull(next)
      for (const cursor of ["x", "-1", "1.5", "99999999999"]) {
        const { errors } = refusal(yield* request("GET", `/tasks/${id}/versions?cursor=${cursor}`), 422)
        assert.strictEqual(errors?.[0].path, "query.cursor")
      }
      const { key } = yield* member("stranger", ["tasks:*"])
      refusal(yield* request("GET", `/tasks/${id}/versions`, { key }), 404, "task_not_found")
    })
  )
})

layer(apiServer())("visibility", (it) => {
  it.effect("another agent's task answers as an unknown one; an admin sees it", () =>
    Effect.gen(function* () {
      const mine = yield* member("owner", ["tasks:*", "runs:read"])
      const other = yield* member("stranger", ["tasks:*", "runs:read"])
      const { id } = yield* newTask({}, mine.key)
      const calls = [
        ["GET", ""],
        ["PATCH", "", { title: "x" }],
        ["PUT", "", { title: "x" }],
        ["DELETE", ""],
        ["POST", "/run_now"],
        ["POST", "/snooze", { delay_seconds: 60 }],
        ["POST", "/pause"],
        ["POST", "/resume"],
        ["POST", "/cancel"]
      ] as const
      for (const [method, action, body] of calls) {
        const told = yield* Effect.forEach([id, unknownId, "not-an-id"], (target) =>
          Effect.map(request(method, `/tasks/${target}${action}`, { key: other.key, body }), (answer) => {
            const { request_id: _, ...problem } = refusal(answer, 404, "task_not_found")
            return JSON.stringify(problem).replaceAll(target, "it")
          })
        )
        assert.strictEqual(new Set(told).size, 1, `${method} ${action}`)
      }
      assert.deepStrictEqual(yield* ids("/tasks", other.key), [])
      const same = answered(yield* request("GET", `/tasks/${id}`, { key: mine.key }), 200, Task.json)
      assert.include(same, { version: 1, status: "active", title: "a task" })
      assert.strictEqual((yield* request("GET", `/tasks/${id}`)).status, 200)
    })
  )
})

layer(apiServer())("changes", (it) => {
  it.effect("PATCH and PUT change the given fields alone, and count the version", () =>
    Effect.gen(function* () {
      const task = yield* newTask({ labels: { a: "b" } })
      for (const [version, method] of [
        [2, "PATCH"],
        [3, "PUT"]
      ] as const) {
        const answer = yield* request(method, `/tasks/${task.id}`, { body: { title: method, max_runs: 5 } })
        const changed = answered(answer, 200, Task.json)
        assert.strictEqual(answer.headers.get("etag"), `"${version}"`)
        assert.deepStrictEqual(changed, {
          ...task,
          title: method,
          max_runs: 5,
          version,
          updated_at: changed.updated_at
        })
      }
    })
  )

  it.effect("a new schedule is computed anew, from the definition as a whole", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask()
      const at = (body: object) =>
        Effect.map(request("PATCH", `/tasks/${id}`, { body }), (answer) => answered(answer, 200, Task.json).next_run_at)
      assert.strictEqual(yield* at({ schedule_expr: "0 12 * * *" }), "2026-03-02T12:00:00.000Z")
      assert.strictEqual(yield* at({ timezone: "Europe/Chisinau" }), "2026-03-02T10:00:00.000Z")
      assert.strictEqual(yield* at({ title: "x" }), "2026-03-02T10:00:00.000Z")
      const bad = yield* request("PATCH", `/tasks/${id}`, { body: { schedule_kind: "rrule" } })
      assert.deepStrictEqual(
        refusal(bad, 422).errors?.map(({ path }) => path),
        ["/schedule_expr"]
      )
    })
  )

  it.effect("If-Match lets a change of the version through that it names, and no other", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask()
      const patch = (etag: string) =>
        request("PATCH", `/tasks/${id}`, { body: { title: "x" }, headers: { "if-match": etag } })
      const stale = yield* patch('"7"')
      refusal(stale, 412, "version_mismatch")
      assert.include(stale.body as object, { version: 1 })
      assert.strictEqual((yield* patch('"1"')).status, 200)
      assert.strictEqual((yield* patch("*")).status, 200)
      for (const wrong of ["3", "'3'", '"x"', '"', ""]) refusal(yield* patch(wrong), 400, "invalid_header")
      for (const action of ["pause", "resume", "cancel", "snooze"]) {
        const body = action === "snooze" ? { delay_seconds: 60 } : {}
        const answer = yield* request("POST", `/tasks/${id}/${action}`, { body, headers: { "if-match": '"1"' } })
        refusal(answer, 412, "version_mismatch")
      }
      refusal(yield* request("DELETE", `/tasks/${id}`, { headers: { "if-match": '"1"' } }), 412, "version_mismatch")
      assert.strictEqual(answered(yield* request("GET", `/tasks/${id}`), 200, Task.json).status, "active")
    })
  )

  it.effect("a snooze moves the next occurrence alone", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask({ schedule_expr: "0 * * * *" })
      const snoozed = answered(
        yield* request("POST", `/tasks/${id}/snooze`, { body: { delay_seconds: 600, reason: "lunch" } }),
        200,
        Task.json
      )
      assert.include(snoozed, { next_run_at: "2026-03-02T11:00:00.000Z", snoozed_until: "2026-03-02T10:10:00.000Z" })
      const again = answered(
        yield* request("POST", `/tasks/${id}/snooze`, { body: { until: "2026-03-02T10:30:00Z" } }),
        200,
        Task.json
      )
      assert.strictEqual(again.snoozed_until, "2026-03-02T10:30:00.000Z")
      const early = yield* request("POST", `/tasks/${id}/snooze`, { body: { until: "2026-03-02T09:00:00Z" } })
      assert.deepStrictEqual(
        refusal(early, 422).errors?.map(({ path }) => path),
        ["/until"]
      )
    })
  )

  it.effect("pause and resume are idempotent and bear their reason", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask()
      const to = (action: string, body?: object) =>
        Effect.map(request("POST", `/tasks/${id}/${action}`, { body }), (answer) => answered(answer, 200, Task.json))
      assert.include(yield* to("pause", { reason: "holiday" }), { status: "paused", status_reason: "holiday" })
      assert.include(yield* to("pause", { reason: "another" }), { status: "paused", status_reason: "holiday" })
      refusal(yield* request("POST", `/tasks/${id}/snooze`, { body: { delay_seconds: 1 } }), 409, "nothing_to_snooze")
      yield* tickAfter(5 * minute)
      const resumed = yield* to("resume", { on_missed: "skip" })
      assert.include(resumed, { status: "active", status_reason: null })
      assert.isAbove(Date.parse(resumed.next_run_at ?? ""), start + 5 * minute)
      assert.include(yield* to("resume"), { status: "active" })
      yield* TestClock.setTime(start)
    })
  )

  it.effect("canceled is final: 204 or the task once more, and 409 for what would revive it", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask()
      const gone = yield* request("DELETE", `/tasks/${id}`)
      assert.strictEqual(gone.status, 204)
      assert.strictEqual(gone.text, "")
      assert.strictEqual((yield* request("DELETE", `/tasks/${id}`)).status, 204)
      const same = answered(yield* request("POST", `/tasks/${id}/cancel`), 200, Task.json)
      assert.include(same, { status: "canceled", next_run_at: null })
      for (const action of ["pause", "resume", "snooze", "run_now"]) {
        const body = action === "snooze" ? { delay_seconds: 60 } : {}
        refusal(yield* request("POST", `/tasks/${id}/${action}`, { body }), 409, "task_canceled")
      }
      refusal(yield* request("PATCH", `/tasks/${id}`, { body: { title: "x" } }), 409, "task_canceled")
    })
  )
})
