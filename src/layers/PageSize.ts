import type { SqlError } from "@effect/sql/SqlError"
import { Effect } from "effect"
import { fittingPage } from "../domain/Page.ts"

/** Bytes of an item that a list would show. */
export interface Sized {
  readonly size: number
}

/**
 * How many items a page may hold whose bytes a query tells in the order of the list, as many as were asked for: hundreds of large
 * ones at once would take the memory of the process, and of the event loop seconds.
 */
export const fitting = <E extends SqlError, R>(sizes: Effect.Effect<ReadonlyArray<Sized>, E, R>) =>
  Effect.map(sizes, (rows) => fittingPage(rows.map(({ size }) => size)))
