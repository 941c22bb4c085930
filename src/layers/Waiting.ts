import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"
import { mostAgents } from "../domain/Line.ts"
import type { Line, Place } from "../domain/Line.ts"

/**
 * Finding the first ready row takes longer than this, milliseconds in the server, only where rows lie before it that are gone and
 * that an open snapshot keeps: then turns begin where the line does. A turn from there sees late what comes to stand before.
 */
const longWay = 5

const lowest = "00000000-0000-0000-0000-000000000000"
const highest = "ffffffff-ffff-ffff-ffff-ffffffffffff"

interface Row {
  readonly agent_id: string
  readonly rank: number
  readonly due_at: Date
  readonly id: string
}

/**
 * Who waits to be leased: the agents with ready rows, each with its first row, from the one after `after` on and round again, and
 * the way to the first row of all. It leaps from agent to agent by the index, however many rows each has.
 */
export const lineStatements = (sql: SqlClient.SqlClient) => {
  const ready = sql.literal("d.state = 'ready' AND d.crashes < 2")
  const columns = sql.literal("d.agent_id, d.rank, d.due_at, d.id")
  const order = sql.literal("d.agent_id, d.rank, d.due_at, d.id")

  // How long it took, not what time it is: the one place where the server's own clock is read.
  const first = sql<Row & { readonly took: number }>`
    WITH began AS MATERIALIZED (SELECT clock_timestamp() AS at)
    SELECT f.*, extract(epoch FROM clock_timestamp() - b.at)::float8 * 1000 AS took FROM began b CROSS JOIN LATERAL (
      SELECT ${columns} FROM due_work d WHERE ${ready} AND b.at IS NOT NULL ORDER BY d.rank, d.due_at, d.id LIMIT 1) AS f`

  const agents = (after: string, last: string, limit: number) => sql<Row>`
    WITH RECURSIVE waiting AS (
      (SELECT 1 AS n, ${columns} FROM due_work d WHERE ${ready} AND d.agent_id > ${after} AND d.agent_id <= ${last} ORDER BY ${order} LIMIT 1)
      UNION ALL
      SELECT w.n + 1, f.* FROM waiting w CROSS JOIN LATERAL (
        SELECT ${columns} FROM due_work d WHERE ${ready} AND d.agent_id > w.agent_id AND d.agent_id <= ${last} ORDER BY ${order} LIMIT 1) AS f
      WHERE w.n < ${limit})
    SELECT agent_id, rank, due_at, id FROM waiting ORDER BY n`

  return Effect.fnUntraced(function* (after: string | null) {
    const [found] = yield* first
    const long = found !== undefined && found.took > longWay
    // The first look clears away what no snapshot keeps.
    const [head] = long ? yield* first : [found]
    const from = long && head !== undefined && head.took > longWay ? placeOf(head) : null
    const ahead = head === undefined ? [] : yield* agents(after ?? lowest, highest, mostAgents)
    const round =
      after === null || ahead.length === mostAgents ? [] : yield* agents(lowest, after, mostAgents - ahead.length)
    const all = [...ahead, ...round]
    const line: Line = {
      agents: all.map((row) => ({ agent_id: row.agent_id, first: placeOf(row) })),
      from,
      after: all.length < mostAgents ? null : (all.at(-1)?.agent_id ?? null)
    }
    return line
  })
}

const placeOf = ({ due_at, id, rank }: Row): Place => ({ rank, due_at: due_at.getTime(), id })
