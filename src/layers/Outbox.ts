import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"

/** A state change as SQL: `of` is what the rows are read from, as `r`; the others are expressions over `r`. */
interface Change {
  readonly of: Statement.Fragment
  readonly state: Statement.Fragment
  readonly at: Statement.Fragment
  readonly error?: Statement.Fragment
}

/**
 * Appends one batch of state changes of runs to the outbox, topics `ordinaut.run.<state>`; nothing for no rows. A statement, or a
 * CTE of one. The rows have the columns `id`, `task_id`, `agent_id`, `namespace`, `hops` and `traceparent` of
 * `due_work`.
 */
export const tellRuns = (
  sql: SqlClient.SqlClient,
  { at, error = sql.literal("NULL::jsonb"), of, state }: Change
) => sql`
  INSERT INTO outbox (size, entries, at)
  SELECT count(*), jsonb_agg(jsonb_build_object('id', gen_random_uuid(), 'topic', 'ordinaut.run.' || ${state}, 'namespace', r.namespace,
    'agent_id', r.agent_id, 'at', ${at}, 'hops', r.hops, 'traceparent', r.traceparent,
    'payload', jsonb_build_object('run_id', r.id, 'task_id', r.task_id, 'state', ${state}, 'error', ${error}))), max(${at})
  FROM ${of} AS r HAVING count(*) > 0`

/** What can be told of a task. */
export type TaskChange = "created" | "changed" | "paused" | "resumed" | "completed" | "canceled" | "quarantined"

/**
 * As `tellRuns`, for tasks: topics `ordinaut.task.<change>`; `state` is the task's status. The rows have the columns `id`,
 * `created_by`, `namespace` and `status` of `task`.
 */
export const tellTasks = (
  sql: SqlClient.SqlClient,
  change: TaskChange,
  {
    at,
    error = sql.literal("NULL::jsonb"),
    of,
    state = sql.literal("r.status")
  }: Omit<Change, "state"> & Partial<Change>
) => sql`
  INSERT INTO outbox (size, entries, at)
  SELECT count(*), jsonb_agg(jsonb_build_object('id', gen_random_uuid(), 'topic', ${`ordinaut.task.${change}`}::text,
    'namespace', r.namespace, 'agent_id', r.created_by, 'at', ${at}, 'hops', 0,
    'payload', jsonb_build_object('run_id', NULL, 'task_id', r.id, 'state', ${state}, 'error', ${error}))), max(${at})
  FROM ${of} AS r HAVING count(*) > 0`

/** `tellTasks` of one task as its row is by now, within the caller's transaction. */
export const tellTask = (sql: SqlClient.SqlClient, change: TaskChange, id: string, now: Date) =>
  tellTasks(sql, change, { of: sql`(SELECT * FROM task WHERE id = ${id})`, at: sql`${now}::timestamptz` })
