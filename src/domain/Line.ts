/** Where a ready run stands: by rank, then by `due_at` (epoch milliseconds), then by id. */
export interface Place {
  readonly rank: number
  readonly due_at: number
  readonly id: string
}

/** An agent with ready runs, and the first of them. */
export interface Waiting {
  readonly agent_id: string
  readonly first: Place
}

/** Who waits to be leased, as a worker last saw it. */
export interface Line {
  /** Whose turn it is, first to last. */
  readonly agents: ReadonlyArray<Waiting>
  /**
   * Where a look begins: whoever stands before it is seen at the next look. Null for the very beginning, which is right wherever
   * the way from there is short.
   */
  readonly from: Place | null
  /** After which agent the next look begins, where more wait than one line has; null for all. */
  readonly after: string | null
}

/** Nobody takes turns, all is looked at. */
export const plain: Line = { agents: [], from: null, after: null }

/** Agents that one line has at most; where more wait, the next look goes on with those that this one left out. */
export const mostAgents = 100

/** After a turn: whoever got most stands last, so that what does not divide evenly goes round. */
export const served = (line: Line, leased: ReadonlyArray<{ readonly agent_id: string }>): Line => {
  if (line.agents.length < 2 || leased.length === 0) return line
  const got = new Map<string, number>()
  for (const { agent_id } of leased) got.set(agent_id, (got.get(agent_id) ?? 0) + 1)
  const of = ({ agent_id }: Waiting) => got.get(agent_id) ?? 0
  return { ...line, agents: [...line.agents].sort((a, b) => of(a) - of(b)) }
}

/** A new look: whose turn it was is kept, and newcomers stand first. */
export const seen = (before: Line, now: Line): Line => {
  const places = new Map(before.agents.map(({ agent_id }, place) => [agent_id, place]))
  const of = ({ agent_id }: Waiting) => places.get(agent_id) ?? -1
  return { ...now, agents: [...now.agents].sort((a, b) => of(a) - of(b)) }
}
