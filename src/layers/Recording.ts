import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { Effect } from "effect"
import type { Progress, StepRecord } from "../domain/Settlement.ts"
import type { Answer } from "../domain/Wait.ts"
import { usedCte } from "./Usages.ts"

/** A step as `givenSteps` reads it. */
export const stepRow = (runId: string, step: StepRecord) => ({
  run_id: runId,
  ...step,
  started_at: new Date(step.started_at),
  finished_at: new Date(step.finished_at)
})

/** The CTE `given`: steps with the columns of `live_step` but `kind` and `worker_id`. */
export const givenSteps = (sql: SqlClient.SqlClient, steps: ReadonlyArray<ReturnType<typeof stepRow>>) => sql`
  given AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(${JSON.stringify(steps)}::jsonb) AS s (run_id uuid, step_id text, item integer, position smallint,
      uses text, state text, attempt integer, input jsonb, output jsonb, error jsonb, simulated boolean, logs jsonb,
      started_at timestamptz(3), finished_at timestamptz(3)))`

/** The CTE `kept`: stores what is `given` of the runs whose `id` is in another CTE. */
export const keepSteps = (sql: SqlClient.SqlClient, runs: Statement.Fragment) => sql`
  kept AS (
    INSERT INTO live_step (run_id, kind, step_id, item, position, uses, state, attempt, input, output, error, simulated, logs,
      started_at, finished_at)
    SELECT g.run_id, 'step', g.step_id, g.item, g.position, g.uses, g.state, g.attempt, g.input, g.output, g.error, g.simulated,
      g.logs, g.started_at, g.finished_at
    FROM given g JOIN ${runs} r ON r.id = g.run_id
    ON CONFLICT (run_id, kind, step_id, item) DO UPDATE SET state = excluded.state, attempt = excluded.attempt,
      input = excluded.input, output = excluded.output, error = excluded.error, simulated = excluded.simulated,
      logs = excluded.logs, started_at = excluded.started_at, finished_at = excluded.finished_at)`

/**
 * One statement that stores what leases have come to, each fenced by `(id, lease_no)` under the lock of its row, so that none is
 * taken back meanwhile. A run that waits for events locks out those that are being accepted: what its own look back does not see
 * sees it. Answers the ids whose lease held.
 */
export const recordStatement = (sql: SqlClient.SqlClient) => (progress: ReadonlyArray<Progress>, now: Date) => {
  const steps = progress.flatMap((one) => one.steps.map((step) => stepRow(one.work.id, step)))
  const waits = progress.flatMap(({ waits: begun, work }) =>
    begun.map(({ expires_at, ...wait }) => ({
      run_id: work.id,
      agent_id: work.agent_id,
      namespace: work.namespace,
      ...wait,
      expires_at: expires_at === null ? null : new Date(expires_at)
    }))
  )
  const failed = progress.flatMap(({ failed: error, work }) => (error === null ? [] : [{ run_id: work.id, error }]))
  const store = sql<{ id: string }>`
    WITH leases AS MATERIALIZED (
      SELECT * FROM unnest(${progress.map(({ work }) => work.id)}::uuid[], ${progress.map(({ work }) => work.lease_no)}::integer[])
        AS l (id, lease_no)),
    held AS MATERIALIZED (
      SELECT d.id FROM due_work d JOIN leases l ON l.id = d.id
      WHERE d.id = ANY (ARRAY(SELECT id FROM leases)) AND d.lease_no = l.lease_no AND d.state = 'leased'
      ORDER BY d.id FOR NO KEY UPDATE OF d),
    ${givenSteps(sql, steps)},
    ${keepSteps(sql, sql`held`)},
    begun AS (
      INSERT INTO pending_item AS p (id, run_id, step_id, item, kind, agent_id, namespace, tool, detail, expires_at, created_at)
      SELECT w.id, w.run_id, w.step_id, w.item, w.kind, w.agent_id, w.namespace, w.tool, w.detail, w.expires_at, ${now}
      FROM jsonb_to_recordset(${JSON.stringify(waits)}::jsonb) AS w (id uuid, run_id uuid, step_id text, item integer, kind text,
        agent_id uuid, namespace text, tool text, detail jsonb, expires_at timestamptz(3))
      JOIN held h ON h.id = w.run_id
      -- The number of its leases goes on: who still works for the wait before is fenced off by it.
      ON CONFLICT (run_id, step_id, item) DO UPDATE SET id = excluded.id, kind = excluded.kind, tool = excluded.tool,
        detail = excluded.detail, expires_at = excluded.expires_at, created_at = excluded.created_at, result = NULL,
        locked_by = NULL, locked_until = NULL, sealed = NULL, data_key = NULL, key_id = NULL),
    ${usedCte(
      sql,
      progress.flatMap(({ usage = [] }) => usage)
    )}
    failing AS (
      INSERT INTO live_step (run_id, kind, step_id, state, attempt, error)
      SELECT f.run_id, 'log', '', 'failed', 0, f.error
      FROM jsonb_to_recordset(${JSON.stringify(failed)}::jsonb) AS f (run_id uuid, error jsonb) JOIN held h ON h.id = f.run_id
      ON CONFLICT (run_id, kind, step_id, item) DO NOTHING
      RETURNING run_id),
    -- Nobody is asked any more for what a run waited for that has failed; the waits of its on_failure come after this.
    unwaited AS (DELETE FROM pending_item WHERE run_id = ANY (ARRAY(SELECT run_id FROM failing)))
    SELECT id FROM held`.pipe(Effect.map((rows) => new Set(rows.map(({ id }) => id))))
  const namespaces = progress
    .filter(({ waits: begun }) => begun.some(({ kind }) => kind === "event"))
    .map(({ work }) => work.namespace)
  if (namespaces.length === 0) return store
  return Effect.forEach([...new Set(namespaces)].sort(), (namespace) => awaitEvents(sql, namespace), {
    discard: true
  }).pipe(Effect.zipRight(store), sql.withTransaction)
}

/** Lets no event of a namespace be accepted until the transaction ends. */
const awaitEvents = (sql: SqlClient.SqlClient, namespace: string) =>
  sql`SELECT pg_advisory_xact_lock(hashtextextended(${`ordinaut.waits:${namespace}`}, 0))`

/** Of a transaction that accepts an event: whoever begins to wait comes before it or after. */
export const acceptEvents = (sql: SqlClient.SqlClient, namespace: string) =>
  sql`SELECT pg_advisory_xact_lock_shared(hashtextextended(${`ordinaut.waits:${namespace}`}, 0))`

/** One statement that writes what was waited for, each the first time alone, and signals the runs. Answers the ids that it wrote. */
export const answerStatement = (sql: SqlClient.SqlClient) => (answers: ReadonlyArray<Answer>) =>
  sql<{ id: string }>`
    WITH given AS MATERIALIZED (
      SELECT * FROM jsonb_to_recordset(${JSON.stringify(answers)}::jsonb) AS g (id uuid, result jsonb)),
    answered AS (
      UPDATE pending_item p SET result = g.result, locked_until = NULL, sealed = NULL, data_key = NULL, key_id = NULL FROM given g
      WHERE p.id = g.id AND p.result IS NULL RETURNING p.id, p.run_id),
    signaled AS (
      UPDATE due_work SET signals = signals + 1, state = CASE state WHEN 'parked' THEN 'ready' ELSE state END
      WHERE id = ANY (ARRAY(SELECT run_id FROM answered)))
    SELECT id FROM answered`.pipe(Effect.map((rows) => rows.map(({ id }) => id)))

/** One statement that gives a run what another one, which is over, had finished of some steps. */
export const takeOverStatement =
  (sql: SqlClient.SqlClient) => (id: string, from: string, steps: ReadonlyArray<string>) =>
    sql`
    INSERT INTO live_step (run_id, kind, step_id, item, position, uses, state, attempt, input, output, error, simulated, logs,
      started_at, finished_at)
    SELECT ${id}, 'step', step_id, item, position, uses, state, attempt, input, output, error, simulated, logs, started_at, finished_at
    FROM run_step WHERE run_id = ${from} AND step_id = ANY (${[...steps]}::text[])`.pipe(Effect.asVoid)
