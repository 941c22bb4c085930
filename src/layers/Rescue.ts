import type * as SqlClient from "@effect/sql/SqlClient"
import { Duration, Effect } from "effect"
import { agentSlots } from "./AgentSlots.ts"
import { archive } from "./Archive.ts"
import { beatEvery } from "./Heartbeats.ts"

/** A run that took its worker process down this often is ended as `poison`. */
const mostCrashes = 3

const poison = {
  code: "poison",
  message: `the worker process died ${mostCrashes} times while it ran this`,
  step_id: null,
  retryable: false
}

/**
 * One statement that ends leases which nobody renewed in time: their rows are ready again, with the attempt they had, and their
 * slots are free. It counts as a crash only where the worker process fell silent while the database answered others, which their
 * beats in the last third of the lease show; a poisoned
 * run ends as failed. Answers the rows, `poisoned` or not.
 */
export const rescueStatement = (sql: SqlClient.SqlClient, leaseFor: Duration.Duration) => {
  const archived = archive(sql)
  const slotsOfAgents = sql.literal(`'${agentSlots}'`)
  const millis = Duration.toMillis(leaseFor)
  return (now: Date) => sql<{ id: string; poisoned: boolean }>`
    WITH given AS (SELECT * FROM live_step WHERE false),
    expired AS MATERIALIZED (
      SELECT id, locked_by, locked_until, crashes FROM due_work WHERE state = 'leased' AND locked_until < ${now}
      ORDER BY locked_until LIMIT 1000 FOR UPDATE SKIP LOCKED),
    judged AS MATERIALIZED (
      SELECT e.id, e.crashes + CASE WHEN
          NOT EXISTS (SELECT FROM worker_heartbeat h WHERE h.id = e.locked_by AND h.last_seen > ${new Date(now.getTime() - (millis * 2) / 3)})
          AND EXISTS (SELECT FROM worker_heartbeat h WHERE h.id <> e.locked_by AND (
            h.last_seen BETWEEN e.locked_until - ${millis / 3} * interval '1 millisecond' AND e.locked_until
            OR h.seen_before BETWEEN e.locked_until - ${millis / 3} * interval '1 millisecond' AND e.locked_until))
        THEN 1 ELSE 0 END AS crashes
      FROM expired e),
    ended AS (
      DELETE FROM due_work d USING judged j
      WHERE d.id = ANY (ARRAY(SELECT id FROM judged)) AND d.id = j.id AND j.crashes >= ${mostCrashes}
      RETURNING d.*, 'failed'::text AS end_state, ${JSON.stringify(poison)}::jsonb AS error, ${now}::timestamptz AS finished_at,
        jsonb_build_object('attempt', d.attempt, 'worker_id', d.locked_by, 'started_at', d.attempt_started_at,
          'finished_at', ${now}::timestamptz, 'error', ${JSON.stringify(poison)}::jsonb) AS last_attempt,
        NULL::text AS skip_reason, 1 AS last_crash),
    ${archived},
    readied AS (
      UPDATE due_work d SET state = 'ready', crashes = j.crashes, locked_by = NULL, locked_until = NULL
      FROM judged j WHERE d.id = ANY (ARRAY(SELECT id FROM judged)) AND d.id = j.id AND j.crashes < ${mostCrashes}
      RETURNING d.id, d.namespace, d.concurrency_key, d.agent_id, d.agent_slot),
    freed AS (
      SELECT namespace, concurrency_key AS key, count(*) AS n
      FROM (
        SELECT namespace, concurrency_key FROM ended UNION ALL SELECT namespace, concurrency_key FROM readied
        UNION ALL SELECT ${slotsOfAgents}, agent_id::text FROM ended WHERE agent_slot
        UNION ALL SELECT ${slotsOfAgents}, agent_id::text FROM readied WHERE agent_slot) AS gone
      WHERE concurrency_key IS NOT NULL GROUP BY 1, 2),
    slots AS MATERIALIZED (
      SELECT c.id, k.n FROM (SELECT namespace, key, n FROM freed ORDER BY 1, 2) AS k
      CROSS JOIN LATERAL (SELECT id FROM concurrency WHERE namespace = k.namespace AND key = k.key FOR UPDATE) AS c),
    accounted AS (
      UPDATE concurrency c SET in_use = c.in_use - s.n FROM slots s WHERE c.id = ANY (ARRAY(SELECT id FROM slots)) AND c.id = s.id)
    SELECT id, true AS poisoned FROM ended UNION ALL SELECT id, false FROM readied`
}

/**
 * Gives a worker a place to make room for a suspect, where one waits; answers whether it has one. Of the workers that beat lately half,
 * and at least one, may make room or be alone with a suspect. A place runs out with its time, and with its worker's heartbeat.
 */
export const roomForSuspect = (sql: SqlClient.SqlClient) => {
  const waits = sql`EXISTS (SELECT FROM due_work WHERE state = 'ready' AND crashes >= 2)`
  return (worker: string, patience: Duration.Duration) => (now: Date) =>
    Effect.gen(function* () {
      // A statement of its own, for what it waits for is not in its snapshot. While there is no suspect nobody waits.
      const locked = yield* sql`SELECT pg_advisory_xact_lock(hashtextextended('ordinaut.room', 0)) WHERE ${waits}`
      if (locked.length === 0) return false
      const given = yield* sql`
        WITH fleet AS MATERIALIZED (
          SELECT id, making_room_until > ${now} OR id IN (SELECT locked_by FROM due_work WHERE state = 'leased' AND crashes >= 2) AS taken
          FROM worker_heartbeat
          WHERE program = 'worker' AND last_seen > ${new Date(now.getTime() - 2 * Duration.toMillis(beatEvery))})
        UPDATE worker_heartbeat SET making_room_until = ${new Date(now.getTime() + Duration.toMillis(patience))}
        WHERE id = ${worker} AND id IN (SELECT id FROM fleet) AND ${waits}
          AND (SELECT count(*) FROM fleet WHERE taken AND id <> ${worker}) < greatest(1, (SELECT count(*) FROM fleet) / 2)
        RETURNING id`
      return given.length > 0
    }).pipe(sql.withTransaction)
}
