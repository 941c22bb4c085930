import { mostAgents } from "../../src/domain/Line.ts"
import type { Line, Place, Waiting } from "../../src/domain/Line.ts"
import { rowsWhere } from "./TwinTables.ts"
import type { DueRow, Tables } from "./TwinTables.ts"

const placeOf = ({ due_at, id, rank }: DueRow): Place => ({ rank, due_at, id })

/** Whether a row stands at a place or behind it. */
const notBefore = (row: DueRow, place: Place) =>
  row.rank !== place.rank
    ? row.rank > place.rank
    : row.due_at !== place.due_at
      ? row.due_at > place.due_at
      : row.id >= place.id

/** Who waits to be leased, as `Lease.line` tells. */
export const look = (tables: Tables, after: string | null): Line => {
  const ready = rowsWhere(tables, ({ crashes, state }) => state === "ready" && crashes < 2)
  const firsts = new Map<string, Waiting>()
  for (const row of ready) {
    if (!firsts.has(row.agent_id)) firsts.set(row.agent_id, { agent_id: row.agent_id, first: placeOf(row) })
  }
  const all = [...firsts.values()].sort((a, b) => (a.agent_id < b.agent_id ? -1 : 1))
  const ahead = all.findIndex(({ agent_id }) => after === null || agent_id > after)
  const agents = ahead < 0 ? all : [...all.slice(ahead), ...all.slice(0, ahead)]
  const [head] = ready
  return {
    agents: agents.slice(0, mostAgents),
    from: head === undefined || !tables.cluttered() ? null : placeOf(head),
    after: agents.length < mostAgents ? null : (agents[mostAgents - 1]?.agent_id ?? null)
  }
}

/** The rows that a turn looks at: by rank and age, and in turns within the rank that the last place falls to. */
export const candidates = (tables: Tables, capacity: number, suspects: boolean, line: Line): ReadonlyArray<DueRow> => {
  const { agents, from } = suspects ? { agents: [], from: null } : line
  const ready = rowsWhere(tables, ({ crashes, state }) => state === "ready" && (suspects ? crashes >= 2 : crashes < 2))
  const seen = from === null ? ready : ready.filter((row) => notBefore(row, from))
  const contested = seen[capacity - 1]?.rank
  if (agents.length < 2 || contested === undefined) return seen.slice(0, capacity)
  const better = seen.filter(({ rank }) => rank < contested)
  const most = Math.min(capacity, 4 * Math.ceil(capacity / agents.length))
  const own = agents.map(({ agent_id, first }) =>
    ready
      .filter((row) => row.agent_id === agent_id && row.rank === contested)
      .filter((row) => from === null || first.rank !== contested || notBefore(row, first))
      .slice(0, most)
  )
  const dealt: Array<DueRow> = []
  for (let round = 0; round < most; round++) for (const rows of own) dealt.push(...rows.slice(round, round + 1))
  const taken = new Set([...better, ...dealt.slice(0, capacity - better.length)])
  const others = seen.filter((row) => !taken.has(row))
  return [...taken, ...others].slice(0, capacity)
}
