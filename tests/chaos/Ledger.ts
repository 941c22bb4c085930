/** What the API has acknowledged, and so must be there at the end. */
export interface Ledger {
  /** Created tasks by id, with their titles. */
  readonly created: Map<string, string>
  /** Tasks that are canceled for good. */
  readonly canceled: Set<string>
  /** Versions that changes made: `<task id> <version>`, with what was changed. */
  readonly patched: Map<string, Readonly<Record<string, unknown>>>
  /** Runs that were asked for by hand. */
  readonly asked: Set<string>
  /** Events by id. */
  readonly events: Map<string, { readonly topic: string; readonly n: number }>
  /** The ids that answers told for one `dedupe_key`: of events, and of tasks. */
  readonly eventsByKey: Map<string, Set<string>>
  readonly tasksByKey: Map<string, Set<string>>
  /** What was decided, by `<run id>:<step id>`. */
  readonly decided: Map<string, string>
}

export const makeLedger = (): Ledger => ({
  created: new Map(),
  canceled: new Set(),
  patched: new Map(),
  asked: new Set(),
  events: new Map(),
  eventsByKey: new Map(),
  tasksByKey: new Map(),
  decided: new Map()
})

/** Adds to a set of a map. */
export const addTo = (sets: Map<string, Set<string>>, key: string, value: string): void => {
  sets.set(key, (sets.get(key) ?? new Set()).add(value))
}
