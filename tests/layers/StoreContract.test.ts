import * as SqlClient from "@effect/sql/SqlClient"
import { layer } from "@effect/vitest"
import { Effect, Layer, TestClock } from "effect"
import { Tasks } from "../../src/layers/Tasks.ts"
import { cursorInWords, endedInWords, keyInWords, Store, unfinishedInWords } from "../simulation/contract.ts"
import { contract } from "../simulation/store.contract.ts"
import { admin, task } from "../support/fixtures.ts"
import { invariantsHold } from "../support/invariants.ts"
import { fromStart } from "../support/schedules.ts"
import { services, start } from "../support/Services.ts"

const after = (at: Date | null) => (at === null ? null : at.getTime() - start)

/** What the contract asks of PostgreSQL. */
const store = Layer.effect(
  Store,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const tasks = yield* Tasks
    const context = yield* Effect.context<Effect.Effect.Context<typeof fromStart | typeof admin>>()
    const { actor } = yield* admin
    const byKey = <Row extends { readonly key: string }>(rows: ReadonlyArray<Row>, words: (row: Row) => string) =>
      Object.fromEntries(rows.map((row) => [keyInWords(row.key, start), words(row)]))
    return Store.of({
      start,
      clear: Effect.zipRight(fromStart, sql`TRUNCATE worker_heartbeat`).pipe(Effect.provide(context), Effect.orDie),
      setTime: (at) => TestClock.setTime(start + at),
      task: (more = {}) =>
        Effect.map(tasks.create(actor, task(more)), (made) => ({
          task_id: made.id,
          task_version: 1,
          agent_id: actor.id,
          namespace: actor.namespace,
          priority: made.priority,
          concurrency_key: made.concurrency_key,
          deadline_seconds: made.deadline_seconds,
          start_within_seconds: made.start_within_seconds
        })).pipe(Effect.orDie),
      unfinished: sql<{ key: string; state: string; lease_no: number; attempt: number; crashes: number }>`
        SELECT key, state, lease_no, attempt, crashes FROM due_work`.pipe(
        Effect.map((rows) => byKey(rows, unfinishedInWords)),
        Effect.orDie
      ),
      ended: sql<{
        key: string
        state: string
        code: string | null
        attempt: number
        lease_no: number
        crashes: number
        attempts: number
        reason: string | null
        skipped_from: Date | null
        count: number | null
        steps: ReadonlyArray<{ step_id: string; state: string }>
      }>`
        SELECT key, state, error ->> 'code' AS code, attempt, lease_no, crashes, jsonb_array_length(attempts) AS attempts,
          skip_reason AS reason, skipped_from, skipped_count AS count, (
            SELECT coalesce(jsonb_agg(jsonb_build_object('step_id', s.step_id, 'state', s.state)), '[]')
            FROM run_step s WHERE s.run_id = r.id) AS steps
        FROM task_run r`.pipe(
        Effect.map((rows) =>
          byKey(rows, ({ count, skipped_from, ...row }) =>
            endedInWords({
              ...row,
              skipped: skipped_from === null ? null : { from: skipped_from.getTime() - start, count }
            })
          )
        ),
        Effect.orDie
      ),
      slots: sql<{ key: string; in_use: number }>`SELECT key, in_use FROM concurrency`.pipe(
        Effect.map((rows) => Object.fromEntries(rows.map(({ in_use, key }) => [key, in_use]))),
        Effect.orDie
      ),
      cursor: (taskId) =>
        sql<{ status: string; fired: number; through: Date; next: Date | null; due: Date | null; last: Date | null }>`
          SELECT status, fired_count AS fired, decided_through AS through, next_run_at AS next, next_due_at AS due,
            last_fired_for AS last FROM task WHERE id = ${taskId}`.pipe(
          Effect.map(([row]) =>
            row === undefined
              ? "gone"
              : cursorInWords(
                  row.status,
                  { through: after(row.through), next: after(row.next), due: after(row.due), last: after(row.last) },
                  row.fired
                )
          ),
          Effect.orDie
        ),
      told: sql<{ key: string; states: string }>`
        SELECT r.key, string_agg(e.value -> 'payload' ->> 'state', ' ' ORDER BY o.id) AS states
        FROM outbox o CROSS JOIN jsonb_array_elements(o.entries) AS e
          JOIN (SELECT id, key FROM due_work UNION ALL SELECT id, key FROM task_run) AS r
            ON r.id::text = e.value -> 'payload' ->> 'run_id'
        GROUP BY r.key`.pipe(
        Effect.map((rows) => byKey(rows, ({ states }) => states)),
        Effect.orDie
      )
    })
  })
).pipe(Layer.orDie)

layer(Layer.provideMerge(store, services()))("PostgreSQL", (it) => {
  for (const [name, scenario] of Object.entries(contract)) {
    it.effect(name, () =>
      Effect.flatMap(Store, ({ clear }) => clear).pipe(Effect.zipRight(scenario), Effect.zipRight(invariantsHold))
    )
  }
})
