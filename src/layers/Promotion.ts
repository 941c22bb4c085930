import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"
import { agentSlots } from "./AgentSlots.ts"
import { archive, endedRow } from "./Archive.ts"

/**
 * Statements that end what can no longer start in time, and ready what is due from `later`, what has parked long enough, and what waits for a slot or an elder that is gone.
 * Answer how many rows.
 */
export const promoteStatements = (sql: SqlClient.SqlClient) => {
  const hasElder = (row: string) =>
    sql`EXISTS (SELECT FROM due_work o WHERE o.task_id = ${sql(`${row}.task_id`)} AND o.id < ${sql(`${row}.id`)} AND o.backfill_id IS NULL)`
  const archived = archive(sql)
  return Effect.fnUntraced(function* (at: Date) {
    const late = yield* sql`
      WITH given AS (SELECT * FROM live_step WHERE false),
      ended AS (
        DELETE FROM due_work d WHERE d.id = ANY (ARRAY(
          SELECT id FROM due_work
          WHERE lease_no = 0 AND start_by < ${at} AND state IN ('later', 'ready', 'blocked') AND NOT held
          ORDER BY start_by LIMIT 1000 FOR UPDATE SKIP LOCKED))
        RETURNING d.*, ${endedRow(sql, { state: "skipped", at, reason: "expired" })}),
      ${archived}
      SELECT id FROM ended`
    const due = yield* sql`
        UPDATE due_work d SET state = CASE WHEN d.serial AND ${hasElder("d")} THEN 'blocked' ELSE 'ready' END, agent_slot = false
        WHERE id = ANY (ARRAY(
          SELECT id FROM due_work WHERE state = 'later' AND run_at <= ${at} AND NOT held
          ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED))
        RETURNING id`
    const expired = yield* sql`
        UPDATE due_work SET state = 'ready' WHERE id = ANY (ARRAY(
          SELECT id FROM due_work WHERE state = 'parked' AND expires_at <= ${at}
          ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED))
        RETURNING id`
    // A slot freed while a row was being blocked wakes nobody; this finds such rows, as many as there are free slots.
    const unblocked = yield* sql`
        UPDATE due_work SET state = 'ready' WHERE id = ANY (ARRAY(
          SELECT w.id FROM (
            SELECT DISTINCT namespace, concurrency_key AS key FROM due_work
            WHERE state = 'blocked' AND NOT agent_slot AND concurrency_key IS NOT NULL) AS k
          CROSS JOIN LATERAL (
            SELECT "limit" - in_use AS free FROM concurrency WHERE namespace = k.namespace AND key = k.key AND in_use < "limit" LIMIT 1) AS c
          CROSS JOIN LATERAL (
            SELECT id FROM due_work b
            WHERE b.state = 'blocked' AND NOT b.agent_slot AND b.namespace = k.namespace AND b.concurrency_key = k.key AND NOT (b.serial AND ${hasElder("b")})
            ORDER BY b.rank, b.due_at, b.id LIMIT c.free FOR UPDATE SKIP LOCKED) AS w))
        RETURNING id`
    const admitted = yield* sql`
        UPDATE due_work SET state = 'ready' WHERE id = ANY (ARRAY(
          SELECT w.id FROM (SELECT DISTINCT agent_id FROM due_work WHERE state = 'blocked' AND agent_slot) AS k
          CROSS JOIN LATERAL (
            SELECT coalesce("limit" - in_use, 1000) AS free FROM concurrency
            WHERE namespace = ${agentSlots} AND key = k.agent_id::text AND ("limit" IS NULL OR in_use < "limit") LIMIT 1) AS c
          CROSS JOIN LATERAL (
            SELECT id FROM due_work b WHERE b.state = 'blocked' AND b.agent_slot AND b.agent_id = k.agent_id
            ORDER BY b.rank, b.due_at, b.id LIMIT c.free FOR UPDATE SKIP LOCKED) AS w))
        RETURNING id`
    const freed = yield* sql`
        UPDATE due_work SET state = 'ready' WHERE id = ANY (ARRAY(
          SELECT w.id FROM due_work w WHERE w.state = 'blocked' AND NOT w.agent_slot AND w.serial AND w.concurrency_key IS NULL AND NOT ${hasElder("w")}
          ORDER BY w.rank, w.due_at, w.id LIMIT 1000 FOR UPDATE SKIP LOCKED))
        RETURNING id`
    return late.length + due.length + expired.length + unblocked.length + admitted.length + freed.length
  })
}
