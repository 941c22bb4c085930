import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { History } from "../../src/layers/History.ts"
import { services } from "../support/Services.ts"

const partitions = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ name: string }>`
    SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'task_run'::regclass ORDER BY 1`
  return rows.map(({ name }) => name.slice(-8))
})

layer(services([["RUN_RETENTION_DAYS", "3"]]))("the history", (it) => {
  it.effect("has partitions ahead, drops those past the retention, and finishes what a crash left half done", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const history = yield* History
      assert.deepStrictEqual((yield* partitions).slice(0, 2), ["20260302", "20260303"])
      assert.lengthOf(yield* partitions, 8)
      yield* sql`ALTER TABLE task_run DETACH PARTITION task_run_20260303`
      yield* TestClock.adjust("5 days")
      yield* history.keep
      const left = yield* partitions
      assert.deepStrictEqual([left[0], left.at(-1)], ["20260304", "20260314"])
      const [orphan] = yield* sql`SELECT to_regclass('task_run_20260303') IS NOT NULL AS there`
      assert.deepStrictEqual(orphan, { there: false })
      yield* history.keep
      assert.deepStrictEqual(yield* partitions, left)
    })
  )

  it.effect("loses events and the guards of occurrences when they are old enough", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const age = (days: number) => new Date(Date.UTC(2026, 2, 7) - days * 86_400_000)
      for (const days of [1, 29, 31, 400]) {
        yield* sql`INSERT INTO event ${sql.insert({ id: crypto.randomUUID(), namespace: "main", topic: `t${days}`, payload: "1", at: age(days) })}`
        yield* sql`INSERT INTO occurrence ${sql.insert({ task_id: crypto.randomUUID(), key: `m:${days}`, run_id: crypto.randomUUID(), created_at: age(days) })}`
      }
      yield* (yield* History).keep
      const events = yield* sql<{ topic: string }>`SELECT topic FROM event ORDER BY topic`
      const guards = yield* sql<{ key: string }>`SELECT key FROM occurrence ORDER BY key`
      assert.deepStrictEqual(
        events.map(({ topic }) => topic),
        ["t1", "t29"]
      )
      assert.deepStrictEqual(
        guards.map(({ key }) => key),
        ["m:1", "m:29"]
      )
    })
  )
})
