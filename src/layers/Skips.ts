import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"
import { mostHops } from "../domain/Event.ts"
import type { Decided, Origin } from "./Decided.ts"
import * as Ids from "./Ids.ts"
import { tellRuns } from "./Outbox.ts"
import type { ScheduledTask } from "./TaskRows.ts"

const columns = `id uuid, task_id uuid, key text, trigger text, event_id uuid, hops smallint, agent_id uuid, namespace text,
  task_version integer, scheduled_for timestamptz(3), due_at timestamptz(3), priority smallint, skip_reason text, skipped_count integer,
  skipped_from timestamptz(3), skipped_to timestamptz(3), input jsonb, traceparent text`

/** What is refused because the chain of runs and events that led to it is too long. */
export interface Refused {
  readonly task: ScheduledTask
  readonly origin: Origin
  readonly scheduledFor: number
  readonly dueAt: number
}

const loopDetected = (hops: number) => ({
  code: "loop_detected",
  message: `${hops} runs and events led to this one, each by the one before it: they go round in a circle`,
  step_id: null,
  retryable: false
})

/** What a recorded run takes over from its task and its origin. */
const rowOf = (id: string, task: ScheduledTask, origin: Origin, scheduledFor: number) => ({
  id,
  task_id: task.id,
  key: origin.key(scheduledFor),
  trigger: origin.trigger,
  event_id: origin.event_id ?? null,
  hops: origin.hops ?? 0,
  agent_id: task.created_by,
  namespace: task.namespace,
  task_version: task.version,
  scheduled_for: new Date(scheduledFor),
  priority: task.priority,
  input: origin.input ?? null,
  traceparent: origin.traceparent ?? null
})

/** The statements that record occurrences which never become due work, as runs that are over; within the caller's transaction. */
export const make = (sql: SqlClient.SqlClient) => ({
  /** One run in state `skipped` for each series of skipped occurrences. */
  skipped: Effect.fnUntraced(function* (decided: ReadonlyArray<Decided>, now: Date, origin: Origin) {
    const rows = yield* Effect.forEach(
      decided.flatMap((one) => one.decision.skips.map((skip) => ({ ...one, skip }))),
      ({ skip, task, ...one }) =>
        Effect.map(Ids.next, (id) => ({
          ...rowOf(id, task, one.origin ?? origin, skip.to),
          // What a full task says of itself starts nothing: two that hear each other would fill the history instead.
          ...(skip.reason === "quota" ? { hops: mostHops + 1 } : {}),
          skip_reason: skip.reason,
          skipped_count: skip.count,
          skipped_from: new Date(skip.from),
          skipped_to: new Date(skip.to)
        }))
    )
    if (rows.length === 0) return
    yield* sql`
      WITH skipped AS (SELECT * FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS s (${sql.literal(columns)})),
      told AS (${tellRuns(sql, { of: sql.literal("skipped"), state: sql.literal("'skipped'"), at: sql`${now}::timestamptz` })}),
      -- What the run stands for is kept where the runs that are queued keep it.
      given AS (
        INSERT INTO occurrence (task_id, key, run_id, input, created_at)
        SELECT task_id, key, id, input, ${now} FROM skipped WHERE input IS NOT NULL ON CONFLICT (task_id, key) DO NOTHING)
      INSERT INTO task_run (id, task_id, key, agent_id, namespace, task_version, trigger, state, scheduled_for, due_at, priority,
        attempt, attempts, lease_no, crashes, finished_at, simulated, event_id, skip_reason, skipped_count, skipped_from, skipped_to,
        trace_id, created_at)
      SELECT id, task_id, key, agent_id, namespace, task_version, trigger, 'skipped', scheduled_for, scheduled_for, priority,
        1, '[]', 0, 0, ${now}, false, event_id, skip_reason, skipped_count, skipped_from, skipped_to,
        split_part(traceparent, '-', 2), ${now}
      FROM skipped`
  }),

  /** One run in state `failed` for each refused occurrence, with `loop_detected`; one that is recorded already is left alone. */
  refused: Effect.fnUntraced(function* (refused: ReadonlyArray<Refused>, now: Date) {
    if (refused.length === 0) return
    const rows = yield* Effect.forEach(refused, ({ dueAt, origin, scheduledFor, task }) =>
      Effect.map(Ids.next, (id) => ({
        ...rowOf(id, task, origin, scheduledFor),
        due_at: new Date(dueAt),
        error: loopDetected(origin.hops ?? 0)
      }))
    )
    yield* sql`
      WITH given AS (
        SELECT * FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS g (${sql.literal(columns)}, error jsonb)),
      guarded AS (
        INSERT INTO occurrence (task_id, key, run_id, input, created_at) SELECT task_id, key, id, input, ${now} FROM given
        ON CONFLICT (task_id, key) DO NOTHING RETURNING run_id),
      refused AS MATERIALIZED (SELECT g.* FROM given g JOIN guarded ON guarded.run_id = g.id),
      told AS (${tellRuns(sql, {
        of: sql.literal("refused"),
        state: sql.literal("'failed'"),
        at: sql`${now}::timestamptz`,
        error: sql.literal("r.error")
      })})
      INSERT INTO task_run (id, task_id, key, agent_id, namespace, task_version, trigger, state, scheduled_for, due_at, priority,
        attempt, attempts, lease_no, crashes, finished_at, error, simulated, event_id, trace_id, created_at)
      SELECT id, task_id, key, agent_id, namespace, task_version, trigger, 'failed', scheduled_for, due_at, priority,
        1, '[]', 0, 0, ${now}, error, false, event_id, split_part(traceparent, '-', 2), ${now}
      FROM refused`
  })
})
