import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, Either, Exit, TestClock } from "effect"
import type { Agents } from "../../src/layers/Agents.ts"
import { DueTasks } from "../../src/layers/DueTasks.ts"
import { Events } from "../../src/layers/Events.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import * as Firing from "../../src/layers/Firing.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { one, settlement, step, succeeded } from "../simulation/contract.ts"
import { admin, task } from "../support/fixtures.ts"
import { fromStart } from "../support/schedules.ts"
import { services, start } from "../support/Services.ts"

const yearly = { schedule_expr: "0 0 1 1 *" }
const minute = 60_000

const tables = [
  ...[
    "task",
    "task_revision",
    "occurrence",
    "due_work",
    "live_step",
    "pending_item",
    "concurrency",
    "task_run",
    "run_step"
  ],
  ...[
    "event",
    "topic_last",
    "trigger_window",
    "trigger_event",
    "outbox",
    "stream_head",
    "usage_day",
    "audit_log",
    "audit_head"
  ]
]

/** All rows of all tables. */
const everything = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* Effect.forEach(tables, (name) =>
    Effect.map(sql`SELECT coalesce(jsonb_agg(t ORDER BY t::text), '[]') AS rows FROM ${sql(name)} t`, ([row]) => row)
  )
  return Object.fromEntries(tables.map((name, n) => [name, rows[n]]))
})

const create = (more: Record<string, unknown>) =>
  Effect.flatMap(admin, ({ actor }) => Effect.flatMap(Tasks, (tasks) => tasks.create(actor, task(more))))

const runNow = (id: string) =>
  Effect.flatMap(admin, ({ actor }) => Effect.flatMap(TaskStates, (states) => states.runNow(actor, id, null, null)))

type Needs = Agents | DueTasks | Events | EventStream | Lease | Tasks | TaskStates

/** What is done in one step, each after what it needs, with the tables in which it changes rows. */
const steps: Record<
  string,
  {
    readonly writes: ReadonlyArray<string>
    readonly prepare: Effect.Effect<Effect.Effect<unknown, unknown, Needs>, unknown, Needs>
  }
> = {
  "a decision of the schedule": {
    writes: ["task", "due_work", "task_run", "outbox", "concurrency", "audit_log", "audit_head"],
    prepare: Effect.gen(function* () {
      yield* create({ concurrency_key: "k", max_runs: 1, misfire_grace_seconds: 30 })
      yield* create({ concurrency_key: "k", concurrency_limit: 5 })
      const due = yield* DueTasks
      const now = start + 10 * minute
      yield* TestClock.setTime(now)
      return due.fire(now, 10, (one_, unfinished) =>
        Either.mapLeft(Firing.decide(one_, now, unfinished, "misfire"), ({ message }) => message)
      )
    })
  },
  "the end of a run": {
    writes: ["due_work", "live_step", "task_run", "run_step", "outbox", "concurrency", "usage_day"],
    prepare: Effect.gen(function* () {
      const lease = yield* Lease
      const { id } = yield* create({ ...yearly, concurrency_key: "k", concurrency_limit: 1 })
      yield* runNow(id)
      const [work] = (yield* lease.turn(one, [], 1)).leased
      if (work === undefined) return yield* Effect.dieMessage("nothing to lease")
      yield* lease.record([{ work, steps: [step("a")], waits: [], failed: null }])
      const used = { agent_id: work.agent_id, day: "2026-03-02", tool: "a.b", calls: 1, seconds: 1, bytes: 1 }
      return lease.turn(one, [{ ...settlement(work, succeeded, [step("b")]), usage: [used] }], 0)
    })
  },
  "a lease": {
    writes: ["due_work", "outbox", "concurrency"],
    prepare: Effect.gen(function* () {
      yield* runNow((yield* create({ ...yearly, concurrency_key: "k" })).id)
      const lease = yield* Lease
      return lease.turn(one, [], 1)
    })
  },
  "an event and what it starts": {
    writes: [
      "event",
      "topic_last",
      "task",
      "occurrence",
      "due_work",
      "outbox",
      "trigger_window",
      "trigger_event",
      "audit_log",
      "audit_head"
    ],
    prepare: Effect.gen(function* () {
      const { actor } = yield* admin
      yield* create({ schedule_kind: "event", schedule_expr: "a.b" })
      yield* create({
        schedule_kind: "event",
        schedule_expr: "a.b",
        payload: { pipeline: [{ uses: "core.log", with: { message: "a" } }], trigger: { debounce_seconds: 60 } }
      })
      const events = yield* Events
      return events.publish(actor, { topic: "a.b", payload: 1 }, null)
    })
  },
  "the numbers of the log and what hears it": {
    writes: ["outbox", "stream_head", "task", "occurrence", "due_work"],
    prepare: Effect.gen(function* () {
      yield* create({ schedule_kind: "event", schedule_expr: "ordinaut.run.queued" })
      yield* runNow((yield* create(yearly)).id)
      return (yield* EventStream).number
    })
  },
  "a run by hand": {
    writes: ["task", "occurrence", "due_work", "outbox", "audit_log", "audit_head"],
    prepare: Effect.map(create(yearly), ({ id }) => runNow(id))
  }
}

layer(services())("what belongs together", (it) => {
  for (const [name, { prepare, writes }] of Object.entries(steps))
    it.effect(`${name}: is written whole or not at all`, () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql.unsafe(`
          CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN RAISE EXCEPTION '% is refused', TG_TABLE_NAME USING ERRCODE = 'cannot_connect_now'; END $$`)
        const refusing: Array<string> = []
        for (const table of tables) {
          yield* fromStart
          const take = yield* prepare
          const before = yield* everything
          yield* sql`CREATE TRIGGER refusing BEFORE INSERT OR UPDATE OR DELETE ON ${sql(table)} FOR EACH ROW EXECUTE FUNCTION refuse()`
          const exit = yield* Effect.exit(take)
          yield* sql`DROP TRIGGER refusing ON ${sql(table)}`
          if (Exit.isSuccess(exit)) continue
          refusing.push(table)
          assert.deepStrictEqual(yield* everything, before, table)
          yield* take
          assert.notDeepEqual((yield* everything)[table], before[table], table)
        }
        assert.sameMembers(refusing, [...writes])
      })
    )
})
