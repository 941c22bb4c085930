import type * as SqlClient from "@effect/sql/SqlClient"
import type { Line, Place } from "../domain/Line.ts"

interface Look {
  readonly capacity: number
  /** Whether to look for runs that a crash makes suspects, or for the others. */
  readonly suspects: boolean
  readonly line: Line
}

/** An agent takes at most this many times its even share of what others leave; what is over goes by age. */
const mostShares = 4

/**
 * The CTE `candidates` of a turn, with the CTEs that it needs: up to `capacity` ready rows, locked, without those that another
 * worker has locked. With one agent they go by rank and age. With more, agents take turns within the rank that the last place falls
 * to, which alone is not leased whole: they are dealt one run each, round by round, in the order of the line.
 */
export const candidatesOf = (sql: SqlClient.SqlClient) => {
  const columns = sql.literal("d.id, d.namespace, d.concurrency_key AS key, d.agent_id, d.rank, d.due_at")
  const order = sql.literal("d.rank, d.due_at, d.id")
  const ready = (suspects: boolean, from: Place | null) =>
    from === null
      ? sql`d.state = 'ready' AND ${sql.literal(suspects ? "d.crashes >= 2" : "d.crashes < 2")}`
      : sql`d.state = 'ready' AND d.crashes < 2
          AND (d.rank, d.due_at, d.id) >= (${from.rank}::smallint, ${new Date(from.due_at)}::timestamptz, ${from.id}::uuid)`
  // Those of one agent, within one rank and from its place in the line on.
  const ownOf = (row: string) =>
    sql.literal(
      `d.state = 'ready' AND d.crashes < 2 AND d.agent_id = ${row}.agent_id AND d.rank = ${row}.rank
        AND (d.due_at, d.id) >= (${row}.due_at, ${row}.id)`
    )

  const byAge = ({ capacity, line, suspects }: Look) => sql`
      candidates AS MATERIALIZED (
        SELECT ${columns} FROM due_work d WHERE ${ready(suspects, suspects ? null : line.from)}
        ORDER BY ${order} LIMIT ${capacity} FOR UPDATE SKIP LOCKED)`

  const inTurns = ({ capacity, line: { agents, from } }: Look) => {
    const firsts = agents.map(({ first }) => (from === null ? beginning : first))
    const most = Math.min(capacity, mostShares * Math.ceil(capacity / agents.length))
    return sql`
      contested AS MATERIALIZED (
        SELECT d.rank FROM due_work d WHERE ${ready(false, from)} ORDER BY ${order} OFFSET ${capacity - 1} LIMIT 1),
      better AS MATERIALIZED (
        SELECT ${columns} FROM due_work d WHERE ${ready(false, from)} AND d.rank < (SELECT rank FROM contested)
        ORDER BY ${order} LIMIT ${capacity} FOR UPDATE SKIP LOCKED),
      line AS MATERIALIZED (
        SELECT l.agent_id, l.place, c.rank, CASE WHEN l.rank = c.rank THEN l.due_at ELSE '-infinity' END AS due_at,
          CASE WHEN l.rank = c.rank THEN l.id ELSE ${beginning.id}::uuid END AS id
        FROM contested c CROSS JOIN unnest(${agents.map(({ agent_id }) => agent_id)}::uuid[], ${firsts.map(({ rank }) => rank)}::smallint[],
          ${firsts.map(({ due_at }) => new Date(due_at).toISOString())}::timestamptz[], ${firsts.map(({ id }) => id)}::uuid[])
          WITH ORDINALITY AS l (agent_id, rank, due_at, id, place)),
      shares AS MATERIALIZED (
        SELECT agent_id, rank, due_at, id, count(*) AS n FROM (
          SELECT l.* FROM line l CROSS JOIN LATERAL (
            SELECT row_number() OVER (ORDER BY first.due_at, first.id) AS round FROM (
              SELECT d.due_at, d.id FROM due_work d WHERE ${ownOf("l")} ORDER BY d.due_at, d.id LIMIT ${most}) AS first) AS own
          ORDER BY own.round, l.place LIMIT ${capacity} - (SELECT count(*) FROM better)) AS dealt
        GROUP BY agent_id, rank, due_at, id),
      shared AS MATERIALIZED (
        SELECT own.* FROM shares s CROSS JOIN LATERAL (
          SELECT ${columns} FROM due_work d WHERE ${ownOf("s")} ORDER BY d.due_at, d.id LIMIT s.n FOR UPDATE SKIP LOCKED) AS own),
      -- Of agents that are not in the line, and of those whose share another worker took from.
      others AS MATERIALIZED (
        SELECT ${columns} FROM due_work d
        WHERE ${ready(false, from)} AND d.id NOT IN (SELECT id FROM better UNION ALL SELECT id FROM shared)
        ORDER BY ${order} LIMIT ${capacity} - (SELECT count(*) FROM better) - (SELECT count(*) FROM shared) FOR UPDATE SKIP LOCKED),
      candidates AS MATERIALIZED (SELECT * FROM better UNION ALL SELECT * FROM shared UNION ALL SELECT * FROM others)`
  }

  return (look: Look) =>
    look.suspects || look.capacity === 0 || look.line.agents.length < 2 ? byAge(look) : inTurns(look)
}

/** A place before all others. */
const beginning: Place = { rank: 0, due_at: 0, id: "00000000-0000-0000-0000-000000000000" }
