import type * as SqlClient from "@effect/sql/SqlClient"
import { tellRuns } from "./Outbox.ts"

/**
 * The columns that an end adds to the deleted row, as the CTE `ended` of a statement returns them. Here for ends that no
 * worker decides; a turn takes them from its input.
 */
export const endedRow = (
  sql: SqlClient.SqlClient,
  end: { readonly state: string; readonly at: Date; readonly reason?: string }
) => sql`
  ${end.state}::text AS end_state, NULL::jsonb AS error, ${end.at}::timestamptz AS finished_at, NULL::jsonb AS last_attempt,
  ${end.reason ?? null}::text AS skip_reason, 0 AS last_crash`

/**
 * The CTEs that write ended runs to history: what they wait for goes, a step under way is canceled, their live steps, attempts and those of `given` move to `run_step`, the run to
 * `task_run`, and one batch of state changes to the outbox. They follow the CTEs `given` (steps not stored yet, with the
 * columns of `live_step` but `kind` and `worker_id`) and `ended` (deleted rows of `due_work` with the columns of `endedRow`).
 */
export const archive = (sql: SqlClient.SqlClient) => sql`
  unwaited AS (DELETE FROM pending_item WHERE run_id = ANY (ARRAY(SELECT id FROM ended))),
  moved AS (DELETE FROM live_step WHERE run_id = ANY (ARRAY(SELECT id FROM ended)) RETURNING *),
  told_steps AS (
    SELECT DISTINCT ON (run_id, step_id, item) * FROM (
      SELECT 0 AS stored, g.run_id, g.step_id, g.item, g.position, g.uses, g.state, g.attempt, g.input, g.output, g.error, g.simulated,
        g.logs, g.started_at, g.finished_at FROM given g
      UNION ALL
      SELECT 1, m.run_id, m.step_id, m.item, m.position, m.uses,
        CASE WHEN m.state IN ('running', 'waiting') THEN 'canceled' ELSE m.state END, m.attempt, m.input, m.output, m.error, m.simulated,
        m.logs, m.started_at, m.finished_at FROM moved m WHERE m.kind = 'step') AS known
    ORDER BY run_id, step_id, item, stored),
  past_attempts AS (
    SELECT run_id, jsonb_agg(jsonb_build_object('attempt', item, 'worker_id', worker_id, 'started_at', started_at,
      'finished_at', finished_at, 'error', error) ORDER BY item) AS attempts
    FROM moved WHERE kind = 'attempt' GROUP BY run_id),
  simulated AS (SELECT DISTINCT run_id FROM told_steps WHERE simulated),
  past_steps AS (
    INSERT INTO run_step (run_id, step_id, item, position, uses, state, attempt, input, output, error, simulated, logs, started_at,
      finished_at, run_finished_at)
    SELECT s.run_id, s.step_id, s.item, s.position, s.uses, s.state, s.attempt, s.input, s.output, s.error, s.simulated, s.logs,
      s.started_at, s.finished_at, e.finished_at
    FROM told_steps s JOIN ended e ON e.id = s.run_id),
  past_runs AS (
    INSERT INTO task_run (id, task_id, key, agent_id, namespace, task_version, trigger, state, scheduled_for, due_at, priority,
      attempt, attempts, lease_no, crashes, started_at, finished_at, error, simulated, parent_run_id, retry_of, event_id,
      backfill_id, skip_reason, trace_id, created_at)
    SELECT e.id, e.task_id, e.key, e.agent_id, e.namespace, e.task_version, e.trigger, e.end_state, e.scheduled_for, e.due_at,
      e.priority, e.attempt,
      coalesce(a.attempts, '[]') || CASE WHEN e.last_attempt IS NULL THEN '[]' ELSE jsonb_build_array(e.last_attempt) END,
      e.lease_no, e.crashes + e.last_crash, e.started_at, e.finished_at, e.error,
      s.run_id IS NOT NULL, e.parent_run_id, e.retry_of, e.event_id,
      e.backfill_id, e.skip_reason, split_part(e.traceparent, '-', 2), e.created_at
    FROM ended e LEFT JOIN past_attempts a ON a.run_id = e.id LEFT JOIN simulated s ON s.run_id = e.id),
  told_ends AS (${tellRuns(sql, {
    of: sql.literal("ended"),
    state: sql.literal("r.end_state"),
    at: sql.literal("r.finished_at"),
    error: sql.literal("r.error")
  })})`
