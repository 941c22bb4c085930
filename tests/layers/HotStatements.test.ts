import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Tracer } from "effect"
import { DueWork } from "../../src/domain/DueWork.ts"
import { Agents } from "../../src/layers/Agents.ts"
import { Backfills } from "../../src/layers/Backfills.ts"
import { ChildRuns } from "../../src/layers/ChildRuns.ts"
import { Events } from "../../src/layers/Events.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import { Heartbeats } from "../../src/layers/Heartbeats.ts"
import { Idempotency } from "../../src/layers/Idempotency.ts"
import * as Ids from "../../src/layers/Ids.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Plans } from "../../src/layers/Plans.ts"
import { RunRights } from "../../src/layers/RunRights.ts"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { WorkItems } from "../../src/layers/WorkItems.ts"
import { failed, settlement, step } from "../simulation/contract.ts"
import { admin, agent, task } from "../support/fixtures.ts"
import { services, start } from "../support/Services.ts"

/** A tracer that keeps the text of every statement. */
const recorder = (texts: Set<string>) =>
  Tracer.make({
    span: (name, parent, context, links, startTime, kind) => ({
      _tag: "Span",
      name,
      spanId: "0",
      traceId: "0",
      parent,
      context,
      status: { _tag: "Started", startTime },
      attributes: new Map(),
      links,
      sampled: true,
      kind,
      end: () => undefined,
      attribute: (key, value) => {
        if (key === "db.query.text" && typeof value === "string") texts.add(value)
      },
      event: () => undefined,
      addLinks: () => undefined
    }),
    context: (run) => run()
  })

const hot = new Set([
  ...["due_work", "live_step", "pending_item", "task", "task_revision", "occurrence", "concurrency"],
  ...["outbox", "event", "topic_last", "trigger_window", "trigger_event", "idempotency_key", "usage_day"]
])

interface Node {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Index Name"?: string
  readonly Plans?: ReadonlyArray<Node>
}

const ready = new Set(["due_work_ready", "due_work_turns"])

/** Whether ready rows come out of a node without a limit. */
const unlimited = (node: Node): boolean =>
  node["Node Type"] !== "Limit" &&
  (ready.has(node["Index Name"] ?? "") || (node.Plans ?? []).some((child) => unlimited(child)))

/** Sorts that take in all that is ready. */
const sorted = (node: Node): ReadonlyArray<string> => [
  ...(node["Node Type"].endsWith("Sort") && unlimited(node) ? [node["Node Type"]] : []),
  ...(node.Plans ?? []).flatMap((child) => sorted(child))
]

const indexes = (node: Node): ReadonlyArray<string> => [
  ...(node["Index Name"] === undefined ? [] : [node["Index Name"]]),
  ...(node.Plans ?? []).flatMap((child) => indexes(child))
]

const scanned = (node: Node): ReadonlyArray<string> => [
  ...(node["Node Type"] === "Seq Scan" && hot.has(node["Relation Name"] ?? "") ? [node["Relation Name"] ?? ""] : []),
  ...(node.Plans ?? []).flatMap((child) => scanned(child))
]

/** Tables as they are under load: 20,000 schedules, 20,000 unfinished runs in every state, 10,000 concurrency keys. */
const load = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const { actor } = yield* admin
  const { id } = yield* (yield* Tasks).create(actor, task())
  const at = new Date(start)
  yield* sql`
    INSERT INTO task SELECT (jsonb_populate_record(t, jsonb_build_object('id', gen_random_uuid(),
      'next_due_at', ${at}::timestamptz + n * interval '1 second', 'dedupe_key', NULL))).*
    FROM task t, generate_series(1, 20000) n WHERE t.id = ${id}`
  yield* sql`
    INSERT INTO due_work (id, task_id, key, agent_id, namespace, task_version, trigger, state, scheduled_for, due_at, run_at, priority,
      rank, locked_by, locked_until, concurrency_key, agent_slot, created_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'm:' || n, ('018f0000-0000-7000-8000-' || lpad((n % 7)::text, 12, '0'))::uuid, 'main',
      1, 'manual',
      (ARRAY['later', 'ready', 'blocked', 'leased', 'parked'])[n % 5 + 1], ${at}, ${at}, ${at}::timestamptz + interval '1 day', 5, 5,
      gen_random_uuid(), ${at}::timestamptz + interval '1 day', 'key-' || n % 10000, n % 2 = 0, ${at}
    FROM generate_series(1, 20000) n`
  yield* sql`INSERT INTO concurrency (namespace, key, "limit") SELECT 'main', 'key-' || n, 5 FROM generate_series(0, 9999) n`
  yield* sql`
    INSERT INTO concurrency (namespace, key, "limit")
    SELECT '@agents', '018f0000-0000-7000-8000-' || lpad(n::text, 12, '0'), CASE WHEN n % 2 = 0 THEN 5000 END FROM generate_series(0, 9999) n`
  yield* sql`
    INSERT INTO live_step (run_id, kind, step_id, state, attempt) SELECT gen_random_uuid(), 'step', 'a', 'succeeded', 1
    FROM generate_series(1, 20000)`
  yield* sql`
    INSERT INTO outbox (size, entries, at, first_number) SELECT 1, '[]', ${at}, n FROM generate_series(1, 20000) n`
  yield* sql`UPDATE stream_head SET number = 20000`
  yield* sql`
    INSERT INTO pending_item (id, run_id, step_id, item, kind, agent_id, namespace, tool, detail, created_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'a', -1, CASE WHEN n % 20 = 0 THEN 'child' ELSE 'approval' END,
      ${actor.id}, 'main', NULL, jsonb_build_object('run_id', gen_random_uuid()), ${at}::timestamptz + n * interval '1 second'
    FROM generate_series(1, 20000) n`
  yield* sql`
    INSERT INTO occurrence (task_id, key, run_id, created_at)
    SELECT gen_random_uuid(), 'm:' || n, gen_random_uuid(), ${at} FROM generate_series(1, 20000) n`
  yield* sql`
    INSERT INTO event (id, namespace, topic, payload, published_by, dedupe_key, at)
    SELECT gen_random_uuid(), 'main', 'a.' || n, '1', ${actor.id}, 'key-' || n, ${at} FROM generate_series(1, 20000) n`
  yield* sql`
    INSERT INTO topic_last (namespace, topic, payload, event_id, at)
    SELECT namespace, topic, payload, id, at FROM event`
  yield* sql`
    INSERT INTO trigger_window (task_id, key, first_at, last_at, close_at, size, bytes, hops, last)
    SELECT gen_random_uuid(), '', ${at}, ${at}, ${at}::timestamptz + interval '1 day', 1, 1, 0, '{}' FROM generate_series(1, 20000) n`
  yield* sql`
    INSERT INTO trigger_event (task_id, key, position, event_id) SELECT task_id, key, 0, gen_random_uuid() FROM trigger_window`
  yield* sql`
    INSERT INTO idempotency_key (agent_id, key, request, body_hash, status, headers, created_at)
    SELECT ${actor.id}, 'key-' || n, 'POST /a', '\\x00', 201, '{}', ${at} FROM generate_series(1, 20000) n`
  yield* sql`
    INSERT INTO usage_day (day, agent_id, tool) SELECT '2026-03-01', gen_random_uuid(), 'a.b' FROM generate_series(1, 20000) n`
  yield* sql`
    INSERT INTO task_revision SELECT (jsonb_populate_record(r, jsonb_build_object('version', n + 1))).*
    FROM task_revision r, generate_series(1, 20000) n WHERE r.task_id = ${id}`
  yield* sql`UPDATE agent SET max_tasks = 100000`
  yield* sql`ANALYZE`
})

/** The statements that an effect sends. */
const statementsOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const texts = new Set<string>()
    return effect.pipe(
      Effect.withTracer(recorder(texts)),
      Effect.withTracerEnabled(true),
      Effect.as(texts),
      Effect.map(() => [...texts].filter((text) => /\b(SELECT|INSERT|UPDATE|DELETE)\b/.test(text)))
    )
  })

/** Fails where a statement scans a hot table or sorts all that is ready. */
const go = (statements: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    for (const text of statements) {
      const [plan] = yield* sql.unsafe<{ readonly "QUERY PLAN": ReadonlyArray<{ readonly Plan: Node }> }>(
        `EXPLAIN (GENERIC_PLAN, FORMAT JSON) ${text}`
      )
      const plans = (plan?.["QUERY PLAN"] ?? []).map(({ Plan }) => Plan)
      // A turn finds what it settles by id, not among all that is leased.
      if (/^\s*WITH input/.test(text)) assert.notInclude(plans.flatMap(indexes), "due_work_leased", text)
      assert.deepStrictEqual([plans.flatMap(scanned), plans.flatMap(sorted)], [[], []], text)
    }
  })

const worker = "018f0000-0000-7000-8000-000000000001"
const yearly = { schedule_expr: "0 0 1 1 *" }

/** Both are hot: what is done for each run, and what is done each second. */
layer(Layer.provideMerge(Layer.effectDiscard(load), services()))("under a generic plan and on large tables", (it) => {
  it.effect("no statement of leases, of the tick and of the log scans a table or sorts the queue", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      // Only where a suspect waits a worker asks for more than that.
      yield* sql`UPDATE due_work SET crashes = 2 WHERE id = (SELECT id FROM due_work WHERE state = 'ready' LIMIT 1)`
      const statements = yield* statementsOf(
        Effect.gen(function* () {
          const { leased } = yield* lease.turn(worker, [], 20)
          yield* lease.renew(worker, leased)
          const finished_at = start
          yield* lease.turn(
            worker,
            leased.map((work) => ({ work, steps: [], finished_at, outcome: "ended", state: "succeeded", error: null })),
            1
          )
          const line = yield* lease.line(null)
          assert.lengthOf(line.agents, 7)
          yield* lease.turn(worker, [], 20, false, line)
          const from = line.agents[0]?.first ?? null
          yield* lease.turn(worker, [], 20, false, { ...line, from })
          yield* lease.turn(worker, [], 20, false, { agents: [], from, after: null })
          yield* lease.line(line.agents[3]?.agent_id ?? null)
          yield* (yield* Scheduler).tick
          yield* lease.rescue
          yield* lease.makeRoom(worker, Duration.seconds(10))
          yield* (yield* Backfills).advance
          yield* (yield* EventStream).number
          yield* (yield* EventStream).after(19_990, 5)
          yield* (yield* EventStream).bounds
        })
      )
      assert.isAbove(statements.length, 15)
      yield* go(statements)
    })
  )

  it.effect("nor any of what a run stores, waits for, is given and is asked", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const lease = yield* Lease
      const plans = yield* Plans
      const { id } = yield* (yield* Tasks).create(actor, task({ ...yearly, concurrency_key: "by ${params.a}" }))
      const wait = { step_id: "w", item: -1, tool: null, detail: {}, expires_at: null } as const
      const usage = [{ agent_id: actor.id, day: "2026-03-02", tool: "a.b", calls: 1, seconds: 1, bytes: 1 }]
      const statements = yield* statementsOf(
        Effect.gen(function* () {
          for (const a of ["1", "2"]) yield* (yield* TaskStates).runNow(actor, id, { a }, null)
          const { leased } = yield* lease.turn(worker, [], 2)
          const [work, other] = leased
          if (work === undefined || other === undefined) return yield* Effect.dieMessage("two were queued")
          yield* plans.load(leased)
          yield* plans.inputs(leased.map((one) => new DueWork({ ...one, trigger: "event", lease_no: 2 })))
          yield* plans.waits(work.id)
          yield* (yield* RunRights).of([work.agent_id])
          const begun = [
            { ...wait, id: yield* Ids.next, kind: "event" },
            { ...wait, id: yield* Ids.next, kind: "child", step_id: "c" }
          ] as const
          yield* lease.record([{ work, steps: [step("a")], waits: begun, failed: null, usage }])
          yield* lease.record([{ work, steps: [step("b")], waits: [], failed }])
          yield* lease.answer(begun.map((one) => ({ id: one.id, result: { output: 1 } })))
          yield* lease.signal([work.id])
          const parked = { outcome: "parked", signals: 0, expires_at: null } as const
          const retried = { outcome: "retried", error: failed, run_at: start } as const
          yield* lease.turn(worker, [settlement(work, parked, [step("a")]), settlement(other, retried)], 5)
          yield* lease.cancel([work.id, other.id])
          yield* lease.takeOver(other.id, work.id, ["a"])
          yield* (yield* ChildRuns).finish
          yield* (yield* WorkItems).lease(actor, { tools: [], limit: 5, lease_seconds: 30, wait_seconds: 0 })
        })
      )
      assert.isAbove(statements.length, 15)
      yield* go(statements)
    })
  )

  it.effect("nor any of an event, of a limit that changes, of a beat, and of a request that is repeated", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const agents = yield* Agents
      const tasks = yield* Tasks
      const events = yield* Events
      yield* tasks.create(actor, task({ schedule_kind: "event", schedule_expr: "a.*" }))
      const statements = yield* statementsOf(
        Effect.gen(function* () {
          const event = { topic: "a.b", payload: 1, dedupe_key: "d" }
          yield* events.publish(actor, event, null)
          yield* events.publish(actor, event, null)
          yield* (yield* EventStream).number
          const limited = yield* agent(actor, "limited", ["tasks:write"])
          for (const max_concurrent_runs of [1, 2, null])
            yield* agents.patch(actor, limited.actor.id, { max_concurrent_runs })
          const beats = yield* Heartbeats
          yield* beats.beat({
            id: worker,
            program: "worker",
            startedAt: start,
            lastPassAt: null,
            running: 0,
            concurrency: 1
          })
          const request = { agent_id: actor.id, key: "k", route: "POST /a", body: {} }
          const answer = Effect.succeed({ status: 201, headers: {}, body: "{}" })
          yield* (yield* Idempotency).once(request, answer)
          assert.isTrue((yield* (yield* Idempotency).once(request, answer)).replayed)
        })
      )
      assert.isAbove(statements.length, 15)
      yield* go(statements)
    })
  )
})
