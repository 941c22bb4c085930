import type { Effect } from "effect"
import type { RedisUnavailable } from "./Redis.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"

/** An event as another system put it: fields `topic`, `payload` (JSON), `namespace`, `dedupe_key`. */
export interface Entry {
  readonly id: string
  readonly fields: ReadonlyMap<string, string>
  /** How often it was delivered, this time included. */
  readonly deliveries: number
}

/** What a consumer has not finished for this long is another's to take; milliseconds. */
export const idleAfter = 30_000
/** Entries of one read. */
export const batch = 100

export type Unavailable = RedisUnavailable | StoreUnavailable

/** Where entries come from, and what becomes of them. Each is delivered until it is finished or buried. */
export interface Source {
  /** Makes what reading needs; what is there is left alone. */
  readonly open: Effect.Effect<void, Unavailable>
  /** What a dead consumer left, or what is new; waits a while where there is neither. */
  readonly read: Effect.Effect<ReadonlyArray<Entry>, Unavailable>
  /** The entry was accepted: it is gone. */
  readonly finish: (entry: Entry) => Effect.Effect<unknown, Unavailable>
  /** Moves the entry to the dead letters, with the reason. */
  readonly bury: (entry: Entry, error: string) => Effect.Effect<unknown, Unavailable>
}
