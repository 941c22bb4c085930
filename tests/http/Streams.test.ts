import { assert, layer } from "@effect/vitest"
import { SqlClient } from "@effect/sql/SqlClient"
import { Effect, Schema, TestClock } from "effect"
import { Agents } from "../../src/layers/Agents.ts"
import { AuditKeeper } from "../../src/layers/AuditKeeper.ts"
import { Draining } from "../../src/layers/Draining.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import { answered, ApiServer, apiServer, member, newTask, refusal, request } from "../support/ApiServer.ts"
import * as EventSource from "../support/eventSource.ts"
import type { Source } from "../support/eventSource.ts"
import { work } from "../support/fixtures.ts"

const Started = Schema.Struct({ run_id: Schema.String })
const Issued = Schema.Struct({ access_token: Schema.String })

const numberAll = Effect.repeat(
  Effect.flatMap(EventStream, ({ number }) => number),
  { while: (batches) => batches > 0 }
)

/** Does all that is due, and puts what became of it into the log. */
const settle = Effect.zipRight(work, numberAll)

const runNow = (task: string, key?: string) =>
  Effect.map(
    request("POST", `/tasks/${task}/run_now`, key === undefined ? {} : { key }),
    (answer) => answered(answer, 202, Started).run_id
  )

const stream = (path: string, key?: string, headers?: Readonly<Record<string, string>>) =>
  Effect.flatMap(ApiServer, ({ adminKey, origin }) => EventSource.open(`${origin}${path}`, key ?? adminKey, headers))

const topics = (source: Source, run?: string) =>
  source
    .events()
    .filter(({ data }) => run === undefined || data["run_id"] === run)
    .map(({ event }) => event)

const whole = ["ordinaut.run.queued", "ordinaut.run.running", "ordinaut.run.succeeded"]

const sawEnd = (run: string) => (source: Source) =>
  source.events().some(({ data, event }) => event === "ordinaut.run.succeeded" && data["run_id"] === run)

const end = (source: Source) => source.until("end", ({ end: how }) => how() !== undefined)

layer(apiServer())("GET /stream", (it) => {
  it.scoped("tells every change from now on, in order, with its number", () =>
    Effect.gen(function* () {
      const before = yield* newTask()
      yield* runNow(before.id)
      yield* settle
      const source = yield* stream("/stream")
      assert.strictEqual(source.status, 200)
      assert.include(source.headers, {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-accel-buffering": "no"
      })
      assert.match(source.headers["x-request-id"]?.toString() ?? "", /./)
      const task = yield* newTask()
      const run = yield* runNow(task.id)
      yield* request("POST", `/tasks/${task.id}/pause`)
      yield* request("POST", "/events", { body: { topic: "orders.created", payload: {} } })
      yield* settle
      yield* source.until("end of the run", sawEnd(run))
      assert.deepStrictEqual(topics(source), [
        "ordinaut.task.created",
        "ordinaut.run.queued",
        "ordinaut.task.paused",
        "ordinaut.run.running",
        "ordinaut.run.succeeded"
      ])
      const numbers = source.events().map(({ id }) => Number(id))
      assert.deepStrictEqual(
        numbers,
        [...new Set(numbers)].sort((a, b) => a - b)
      )
      const log = yield* Effect.flatMap(EventStream, ({ after }) => after(0, 1000))
      for (const { data, event, id } of source.events()) {
        const told = log.find(({ number }) => number === Number(id))?.entry
        assert.strictEqual(told?.topic, event)
        assert.deepStrictEqual(data, { ...Object(told?.payload), at: told?.at.toJSON() })
      }
    })
  )

  it.scoped("goes on behind the last id, and tells nothing twice or not at all", () =>
    Effect.gen(function* () {
      const task = yield* newTask()
      const first = yield* stream("/stream")
      const runs = [yield* runNow(task.id)]
      yield* settle
      yield* first.until("end of the first run", sawEnd(runs[0] ?? ""))
      const last = first.lastEventId()
      for (let i = 0; i < 3; i++) runs.push(yield* runNow(task.id))
      yield* settle
      yield* first.until("end of the runs", (source) => runs.every((run) => sawEnd(run)(source)))
      const rest = first.events().filter(({ id }) => Number(id) > Number(last))
      for (const resumed of [
        yield* stream("/stream", undefined, { "last-event-id": last }),
        yield* stream(`/stream?last_event_id=${last}`),
        yield* stream("/stream?last_event_id=1", undefined, { "last-event-id": last })
      ]) {
        yield* resumed.until("rest", ({ events }) => events().length >= rest.length)
        assert.deepStrictEqual(resumed.events(), rest)
      }
      assert.strictEqual(rest.length, 9)
    })
  )

  it.scoped("shows an agent its own runs and tasks, an admin those of the namespace, and nobody the anchors", () =>
    Effect.gen(function* () {
      const scopes = ["runs:read", "tasks:*"]
      const [one, other] = [yield* member("one", scopes), yield* member("other", scopes)]
      const { admin } = yield* ApiServer
      const agents = yield* Agents
      const far = yield* agents.create(admin, {
        name: "far",
        namespace: "elsewhere",
        scopes: ["admin"],
        disabled: false,
        max_tasks: 10,
        max_concurrent_runs: null,
        rate_per_minute: null,
        budgets: []
      })
      const { key: farKey } = yield* agents.issueKey(admin, far.id, {})
      const sources = yield* Effect.all([
        stream("/stream", one.key),
        stream("/stream", other.key),
        stream("/stream"),
        stream("/stream", farKey)
      ])
      const runs: Array<string> = []
      for (const key of [one.key, other.key, farKey]) {
        const { id } = yield* newTask({}, key)
        runs.push(yield* runNow(id, key))
      }
      yield* Effect.flatMap(AuditKeeper, ({ anchor }) => anchor)
      const { id } = yield* newTask()
      yield* settle
      yield* sources[2].until("last task", ({ events }) => events().some(({ data }) => data["task_id"] === id))
      yield* sources[3].until("run", sawEnd(runs[2] ?? ""))
      yield* sources[1].until("run", sawEnd(runs[1] ?? ""))
      yield* sources[0].until("run", sawEnd(runs[0] ?? ""))
      const seen = sources.map((source) => runs.filter((run) => topics(source, run).length > 0))
      assert.deepStrictEqual(seen, [[runs[0]], [runs[1]], [runs[0], runs[1]], [runs[2]]])
      for (const source of sources)
        assert.isTrue(topics(source).every((topic) => /^ordinaut\.(run|task)\./.test(topic)))
      const anchored = (yield* Effect.flatMap(EventStream, ({ after }) => after(0, 1000))).find(
        ({ entry }) => entry.topic === "ordinaut.audit.anchored"
      )
      assert.isDefined(anchored)
    })
  )

  it.scoped("says that it lives every 15 s, and moves the client's id past what is not its own", () =>
    Effect.gen(function* () {
      const { key } = yield* member("quiet", ["runs:read"])
      const source = yield* stream("/stream", key)
      yield* source.until("greeting", ({ comments }) => comments() === 1)
      yield* newTask()
      yield* numberAll
      const { newest } = yield* Effect.flatMap(EventStream, ({ bounds }) => bounds)
      yield* TestClock.adjust("14 seconds")
      assert.strictEqual(source.comments(), 1)
      yield* TestClock.adjust("1 second")
      yield* source.until("comment", ({ comments }) => comments() === 2)
      assert.strictEqual(source.lastEventId(), String(newest))
      assert.isEmpty(source.events())
    })
  )

  it.scoped("resets a client whose last id is older than the log, or of no log of ours", () =>
    Effect.gen(function* () {
      yield* numberAll
      const sql = yield* SqlClient
      const { newest } = yield* Effect.flatMap(EventStream, ({ bounds }) => bounds)
      yield* sql`DELETE FROM outbox WHERE first_number <= ${newest - 3}`
      const { oldest } = yield* Effect.flatMap(EventStream, ({ bounds }) => bounds)
      assert.isAbove(oldest, 1)
      const task = yield* newTask()
      yield* numberAll
      for (const lost of [0, oldest - 2, newest + 1000]) {
        const { newest: now } = yield* Effect.flatMap(EventStream, ({ bounds }) => bounds)
        const source = yield* stream(`/stream?last_event_id=${lost}`)
        const run = yield* runNow(task.id)
        yield* settle
        yield* source.until("end of the run", sawEnd(run))
        const [first, ...others] = source.events()
        assert.deepStrictEqual(first, { id: String(now), event: "reset", data: { last_event_id: now } })
        assert.deepStrictEqual(
          others.map(({ event }) => event),
          whole
        )
      }
      const whoHasAll = yield* stream(`/stream?last_event_id=${oldest - 1}`)
      yield* whoHasAll.until("some", ({ events }) => events().length > 3)
      assert.notInclude(topics(whoHasAll), "reset")
    })
  )

  it.scoped("refuses ids that are none, other parameters, and who may not read runs", () =>
    Effect.gen(function* () {
      const { key } = yield* member("no-reader", ["tasks:*"])
      for (const path of ["/stream", `/runs/${crypto.randomUUID()}/stream`]) {
        refusal(yield* request("GET", path, { key: null }), 401)
        refusal(yield* request("GET", path, { key }), 403)
        refusal(yield* request("GET", path, { headers: { "last-event-id": "x" } }), 400, "invalid_header")
        const wrong = refusal(yield* request("GET", `${path}?last_event_id=-1`), 422)
        assert.strictEqual(wrong.errors?.[0].path, "query.last_event_id")
        refusal(yield* request("GET", `${path}?topic=a`), 422)
      }
      refusal(yield* request("GET", `/runs/${crypto.randomUUID()}/stream`), 404, "run_not_found")
      assert.strictEqual((yield* request("HEAD", "/stream")).status, 200)
    })
  )
})

layer(apiServer())("GET /runs/{id}/stream", (it) => {
  it.scoped("tells of that run alone, from its present state to its end, and ends", () =>
    Effect.gen(function* () {
      const task = yield* newTask()
      const run = yield* runNow(task.id)
      yield* numberAll
      const source = yield* stream(`/runs/${run}/stream`)
      const other = yield* runNow(task.id)
      yield* settle
      yield* end(source)
      assert.strictEqual(source.end(), "ended")
      assert.deepStrictEqual(topics(source), whole)
      assert.isEmpty(topics(source, other))
      assert.strictEqual(source.events()[0]?.data["state"], "queued")
    })
  )

  it.scoped("of a run that has ended tells the end at once, and sends no client round in circles", () =>
    Effect.gen(function* () {
      const task = yield* newTask()
      const run = yield* runNow(task.id)
      yield* work
      // The end is committed, and has no number yet.
      const early = yield* stream(`/runs/${run}/stream`)
      yield* end(early)
      assert.deepStrictEqual(topics(early), ["ordinaut.run.succeeded"])
      const again = yield* stream(`/runs/${run}/stream`, undefined, { "last-event-id": early.lastEventId() })
      yield* numberAll
      yield* end(again)
      assert.strictEqual(topics(again).at(-1), "ordinaut.run.succeeded")
      const last = yield* stream(`/runs/${run}/stream`, undefined, { "last-event-id": again.lastEventId() })
      assert.strictEqual(last.status, 204)
      const late = yield* stream(`/runs/${run}/stream`)
      yield* end(late)
      assert.deepStrictEqual(topics(late), ["ordinaut.run.succeeded"])
      assert.strictEqual(
        (yield* stream(`/runs/${run}/stream`, undefined, { "last-event-id": late.lastEventId() })).status,
        204
      )
    })
  )

  it.scoped("resumed in the midst, tells the rest; reset, tells the present state anew", () =>
    Effect.gen(function* () {
      const task = yield* newTask()
      const run = yield* runNow(task.id)
      yield* numberAll
      const first = yield* stream(`/runs/${run}/stream`)
      yield* first.until("state", ({ events }) => events().length === 1)
      yield* settle
      const resumed = yield* stream(`/runs/${run}/stream`, undefined, { "last-event-id": first.events()[0]?.id ?? "" })
      yield* end(resumed)
      assert.deepStrictEqual(topics(resumed), whole.slice(1))
      const lost = yield* stream(`/runs/${run}/stream?last_event_id=99999`)
      yield* end(lost)
      assert.deepStrictEqual(topics(lost), ["reset", "ordinaut.run.succeeded"])
    })
  )

  it.scoped("is not there for another agent", () =>
    Effect.gen(function* () {
      const { key } = yield* member("stranger", ["runs:read"])
      const run = yield* runNow((yield* newTask()).id)
      refusal(yield* request("GET", `/runs/${run}/stream`, { key }), 404, "run_not_found")
    })
  )
})

layer(
  apiServer([
    ["STREAMS_AGENT", "3"],
    ["STREAMS_PROCESS", "4"]
  ])
)("open streams", (it) => {
  it.effect("are counted for each agent and for the process", () =>
    Effect.gen(function* () {
      const { key } = yield* member("many", ["runs:read"])
      yield* Effect.scoped(
        Effect.gen(function* () {
          for (let i = 0; i < 3; i++) assert.strictEqual((yield* stream("/stream")).status, 200)
          const refused = yield* request("GET", "/stream")
          const told = refusal(refused, 429, "too_many_streams")
          assert.include(told.detail, "this agent has 3")
          assert.isNotNull(refused.headers.get("retry-after"))
          assert.isNotNull(refused.headers.get("ratelimit"))
          assert.strictEqual((yield* stream("/stream", key)).status, 200)
          assert.include(refusal(yield* request("GET", "/stream", { key }), 429).detail, "this process serves 4")
        })
      )
      // A stream that is closed makes room.
      const { adminKey, origin } = yield* ApiServer
      yield* Effect.promise(async () => {
        const headers = { authorization: `Bearer ${adminKey}` }
        const look = () => fetch(`${origin}/stream`, { method: "HEAD", headers })
        for (const start = performance.now(); (await look()).status !== 200;) {
          if (performance.now() - start > 5000) throw new Error("closed streams still count")
        }
      })
    })
  )
})

layer(apiServer())("an open stream", (it) => {
  const opened = (key: string) =>
    Effect.tap(stream("/stream", key), (source) => source.until("greeting", ({ comments }) => comments() === 1))

  it.scoped("ends within 5 s of the loss of its right", () =>
    Effect.gen(function* () {
      const { admin } = yield* ApiServer
      const agents = yield* Agents
      const losses = {
        "revoked key": Effect.fnUntraced(function* (id: string, key: string) {
          yield* agents.revokeKey(admin, id, key.split("_")[1] ?? "")
        }),
        "disabled agent": Effect.fnUntraced(function* (id: string) {
          yield* agents.patch(admin, id, { disabled: true })
        }),
        "narrowed scopes": Effect.fnUntraced(function* (id: string) {
          yield* agents.patch(admin, id, { scopes: ["tasks:read"] })
        }),
        "removed agent": Effect.fnUntraced(function* (id: string) {
          yield* agents.remove(admin, id)
        })
      }
      for (const [name, lose] of Object.entries(losses)) {
        const { actor, key } = yield* member(name.replace(" ", "-"), ["runs:read", "tasks:*"])
        const bought = answered(yield* request("POST", "/auth/token", { key, body: {} }), 200, Schema.Unknown)
        const token = Schema.decodeUnknownSync(Issued)(bought).access_token
        const byKey = yield* opened(key)
        const byToken = yield* opened(token)
        yield* TestClock.adjust("6 seconds")
        assert.isUndefined(byKey.end() ?? byToken.end())
        yield* lose(actor.id, key)
        yield* TestClock.adjust("5 seconds")
        yield* end(byKey)
        assert.strictEqual(byKey.end(), "ended", name)
        yield* end(byToken)
        assert.strictEqual(byToken.end(), "ended", name)
      }
    })
  )

  it.scoped("ends with its token: revoked, or past its time", () =>
    Effect.gen(function* () {
      const { key } = yield* member("holder", ["runs:read"])
      const buy = (ttl_seconds: number) =>
        Effect.map(request("POST", "/auth/token", { key, body: { ttl_seconds } }), ({ body }) =>
          Schema.decodeUnknownSync(Issued)(body)
        )
      const [short, long] = [yield* buy(60), yield* buy(900)]
      const sources = [yield* opened(short.access_token), yield* opened(long.access_token)] as const
      yield* TestClock.adjust("100 seconds")
      yield* end(sources[0])
      assert.isUndefined(sources[1].end())
      const { jti } = JSON.parse(Buffer.from(long.access_token.split(".")[1] ?? "", "base64url").toString())
      assert.strictEqual((yield* request("POST", "/auth/revoke", { key, body: { jti } })).status, 204)
      yield* TestClock.adjust("5 seconds")
      yield* end(sources[1])
    })
  )

  it.scoped("shows no more than its agent may see by now", () =>
    Effect.gen(function* () {
      const { admin } = yield* ApiServer
      const { actor, key } = yield* member("former-admin", ["runs:read", "tasks:*"])
      yield* Effect.flatMap(Agents, (agents) => agents.patch(admin, actor.id, { scopes: ["admin"] }))
      yield* TestClock.adjust("5 seconds")
      const source = yield* opened(key)
      const before = yield* newTask()
      yield* numberAll
      yield* source.until("task", ({ events }) => events().some(({ data }) => data["task_id"] === before.id))
      yield* Effect.flatMap(Agents, (agents) => agents.patch(admin, actor.id, { scopes: ["runs:read", "tasks:*"] }))
      yield* TestClock.adjust("5 seconds")
      const hidden = yield* newTask()
      const own = yield* newTask({}, key)
      yield* numberAll
      yield* source.until("task", ({ events }) => events().some(({ data }) => data["task_id"] === own.id))
      assert.isFalse(source.events().some(({ data }) => data["task_id"] === hidden.id))
    })
  )

  it.scoped("keeps nothing for a client that takes nothing, cuts it off after 30 s, and goes on where it was", () =>
    Effect.gen(function* () {
      const { admin } = yield* ApiServer
      const sql = yield* SqlClient
      const { newest } = yield* Effect.flatMap(EventStream, ({ bounds }) => bounds)
      const source = yield* opened((yield* ApiServer).adminKey)
      const taking = yield* opened((yield* ApiServer).adminKey)
      source.pause()
      const batches = 150
      yield* sql`
        INSERT INTO outbox (size, entries, at)
        SELECT 100, (SELECT jsonb_agg(jsonb_build_object('id', gen_random_uuid(), 'topic', 'ordinaut.run.failed', 'namespace', 'main',
          'agent_id', ${admin.id}::text, 'at', '2026-03-02T09:00:00Z', 'hops', 0, 'payload', jsonb_build_object('run_id', gen_random_uuid(),
          'task_id', gen_random_uuid(), 'state', 'failed', 'error', jsonb_build_object('message', repeat('x', 1000)))))
          FROM generate_series(1, 100)), '2026-03-02T09:00:00Z' FROM generate_series(1, ${batches}::integer)`
      const total = batches * 100
      yield* numberAll
      yield* taking.until("all", ({ events }) => events().length === total, 30)
      assert.isUndefined(source.end())
      yield* TestClock.adjust("40 seconds")
      source.resume()
      yield* end(source)
      assert.strictEqual(source.end(), "cut")
      const had = source.events().length
      assert.isBelow(had, total)
      const rest = yield* stream("/stream", undefined, { "last-event-id": source.lastEventId() || String(newest) })
      yield* rest.until("rest", ({ events }) => events().length === total - had, 30)
      assert.deepStrictEqual(
        [...source.events(), ...rest.events()].map(({ id }) => Number(id)),
        Array.from({ length: total }, (_, i) => newest + 1 + i)
      )
    })
  )

  it.scoped("ends at once when the program is about to stop", () =>
    Effect.gen(function* () {
      const sources = yield* Effect.flatMap(ApiServer, ({ adminKey }) =>
        Effect.all(Array.from({ length: 5 }, () => opened(adminKey)))
      )
      yield* Effect.flatMap(Draining, ({ begin }) => begin)
      for (const source of sources) {
        yield* end(source)
        assert.strictEqual(source.end(), "ended")
      }
    })
  )
})
