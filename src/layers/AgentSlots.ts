import type * as SqlClient from "@effect/sql/SqlClient"

/** The namespace of `concurrency` in which agents have their slots, under their ids; no agent can bear it. */
export const agentSlots = "@agents"

/** The statements on the slots of agents, within the transactions that make and change these. */
export const make = (sql: SqlClient.SqlClient) => ({
  /** Of a new agent. The row is there before the first run, so that every turn sees it. */
  begin: (agentId: string, limit: number | null) =>
    sql`INSERT INTO concurrency (namespace, key, "limit") VALUES (${agentSlots}, ${agentId}, ${limit})`,

  /**
   * Another limit. Runs that were leased while there was none count from now on, and then none starts before so many have ended. Those
   * that a turn leases at this very moment do not count; rows of `due_work` are locked before that of `concurrency`, as by turns.
   */
  change: (agentId: string, limit: number | null) => sql`
    WITH counted AS (
      UPDATE due_work SET agent_slot = true
      WHERE ${limit}::integer IS NOT NULL AND agent_id = ${agentId} AND state = 'leased' AND NOT agent_slot RETURNING id)
    UPDATE concurrency SET "limit" = ${limit}, in_use = in_use + (SELECT count(*) FROM counted)
    WHERE namespace = ${agentSlots} AND key = ${agentId}`
})
