import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"
import type { NewWork } from "../domain/Settlement.ts"
import { tellRuns } from "./Outbox.ts"

/**
 * One statement that queues runs. Keys other than the schedule's own are guarded by their `occurrence` row beyond the life of
 * the run; the schedule's own by the cursor of the task, which the caller moves in the same transaction.
 */
export const enqueueStatement = (sql: SqlClient.SqlClient) => (work: ReadonlyArray<NewWork>, now: Date) =>
  sql<{ id: string }>`
    WITH given AS MATERIALIZED (
      SELECT * FROM jsonb_to_recordset(${JSON.stringify(work.map(row))}::jsonb) AS g (id uuid, task_id uuid, task_version integer,
        agent_id uuid, namespace text, key text, trigger text, scheduled_for timestamptz(3), due_at timestamptz(3), priority smallint,
        concurrency_key text, key_template text, key_limit integer, deadline_at timestamptz(3), start_by timestamptz(3), serial boolean, event_id uuid, backfill_id uuid, parent_run_id uuid, retry_of uuid,
        hops smallint, traceparent text, input jsonb)),
    guarded AS (
      INSERT INTO occurrence (task_id, key, run_id, input, created_at)
      SELECT task_id, key, id, input, ${now} FROM given WHERE trigger <> 'schedule'
      ON CONFLICT (task_id, key) DO NOTHING RETURNING run_id),
    ${work.some(({ rendered_from }) => rendered_from !== undefined) ? limitsOf(sql, now) : sql.literal("")}
    queued AS (
      INSERT INTO due_work (id, task_id, key, agent_id, namespace, task_version, trigger, state, scheduled_for, due_at, run_at,
        priority, rank, deadline_at, start_by, concurrency_key, serial, snoozed, event_id, backfill_id, parent_run_id, retry_of,
        hops, traceparent, created_at)
      SELECT g.id, g.task_id, g.key, g.agent_id, g.namespace, g.task_version, g.trigger,
        CASE WHEN g.due_at > ${now} THEN 'later'
          WHEN g.serial AND (EXISTS (SELECT FROM due_work o WHERE o.task_id = g.task_id AND o.backfill_id IS NULL)
            OR EXISTS (SELECT FROM given p WHERE p.task_id = g.task_id AND p.id < g.id)) THEN 'blocked'
          ELSE 'ready' END,
        g.scheduled_for, g.due_at, g.due_at, g.priority, g.priority, g.deadline_at, g.start_by, g.concurrency_key, g.serial,
        g.trigger = 'schedule' AND g.due_at > ${now}, g.event_id, g.backfill_id, g.parent_run_id, g.retry_of,
        g.hops, g.traceparent, ${now}
      FROM given g
      WHERE g.trigger = 'schedule' OR g.id IN (SELECT run_id FROM guarded)
      ON CONFLICT (task_id, key) DO NOTHING
      RETURNING id, task_id, agent_id, namespace, hops, traceparent),
    told AS (${tellRuns(sql, {
      of: sql.literal("queued"),
      state: sql.literal("'queued'"),
      at: sql`${now}::timestamptz`
    })})
    SELECT id FROM queued`.pipe(Effect.map((rows) => rows.map(({ id }) => id)))

/** One statement that tells of tasks how many more runs each may have, of which at most `most` are unfinished. */
export const roomStatement = (sql: SqlClient.SqlClient, most: number) => (taskIds: ReadonlyArray<string>) =>
  sql<{ id: string; unfinished: number }>`
    SELECT t.id, (SELECT count(*) FROM (SELECT FROM due_work d WHERE d.task_id = t.id LIMIT ${most}) AS u)::integer AS unfinished
    FROM unnest(${taskIds}::uuid[]) AS t (id)`.pipe(
    Effect.map((rows) => new Map(rows.map(({ id, unfinished }) => [id, Math.max(0, most - unfinished)])))
  )

/**
 * The CTE that gives rendered keys their limits: the smallest among the active tasks with the same template, or with the key as it is;
 * where there is none, that of the task itself. A row is written when it is new, changed, or used the first time on a day, which
 * tells whether it may be forgotten: decisions shall not wait for the turns that count with it.
 */
const limitsOf = (sql: SqlClient.SqlClient, now: Date) => {
  const today = sql`(${now}::timestamptz AT TIME ZONE 'UTC')::date`
  return sql`
    limits AS (
      INSERT INTO concurrency (namespace, key, "limit", used_on)
      SELECT w.namespace, w.key, w.most, ${today} FROM (
        SELECT g.namespace, g.concurrency_key AS key, coalesce(min(t.concurrency_limit), min(g.key_limit)) AS most
        FROM given g LEFT JOIN task t ON t.namespace = g.namespace AND t.status = 'active'
          AND t.concurrency_key = ANY (ARRAY[g.key_template, g.concurrency_key])
        WHERE g.key_template IS NOT NULL GROUP BY 1, 2) AS w
      WHERE NOT EXISTS (SELECT FROM concurrency c
        WHERE c.namespace = w.namespace AND c.key = w.key AND c."limit" = w.most AND c.used_on = ${today})
      ORDER BY w.namespace, w.key
      ON CONFLICT (namespace, key) DO UPDATE SET "limit" = excluded."limit", used_on = excluded.used_on),`
}

const row = ({
  deadline_seconds,
  due_at,
  hops = 0,
  rendered_from,
  scheduled_for,
  start_within_seconds,
  ...work
}: NewWork) => ({
  ...work,
  key_template: rendered_from?.template ?? null,
  key_limit: rendered_from?.limit ?? null,
  hops,
  scheduled_for: new Date(scheduled_for),
  due_at: new Date(due_at),
  deadline_at: deadline_seconds === null ? null : new Date(due_at + deadline_seconds * 1000),
  start_by: start_within_seconds === null ? null : new Date(due_at + start_within_seconds * 1000)
})
