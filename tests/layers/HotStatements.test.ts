import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, Tracer } from "effect"
import { Backfills } from "../../src/layers/Backfills.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { admin, task } from "../support/fixtures.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
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

const hot = new Set(["due_work", "live_step", "task", "outbox", "occurrence", "concurrency"])

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

/** Tables as they are under load: 4,000 schedules, 20,000 unfinished runs in every state, 10,000 concurrency keys. */
const load = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const { actor } = yield* admin
  const { id } = yield* (yield* Tasks).create(actor, task())
  const at = new Date(start)
  yield* sql`
    INSERT INTO task SELECT (jsonb_populate_record(t, jsonb_build_object('id', gen_random_uuid(),
      'next_due_at', ${at}::timestamptz + n * interval '1 second', 'dedupe_key', NULL))).*
    FROM task t, generate_series(1, 4000) n WHERE t.id = ${id}`
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
  yield* sql`ANALYZE`
})

layer(services())("under a generic plan and on large tables", (it) => {
  it.effect("no hot statement scans a table or sorts the queue", () =>
    Effect.gen(function* () {
      yield* load
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      const texts = new Set<string>()
      const worker = "018f0000-0000-7000-8000-000000000001"
      yield* Effect.gen(function* () {
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
        yield* lease.suspects(worker)
        yield* (yield* Backfills).advance
        yield* (yield* EventStream).number
        yield* (yield* EventStream).after(19_990, 5)
      }).pipe(Effect.withTracer(recorder(texts)), Effect.withTracerEnabled(true))
      const statements = [...texts].filter((text) => /\b(SELECT|INSERT|UPDATE|DELETE)\b/.test(text))
      assert.isAbove(statements.length, 8)
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
  )
})
