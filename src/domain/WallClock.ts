import type { Budget, FloatingSet } from "./FloatingSet.ts"
import { stretchAt } from "./Zone.ts"
import type { Stretch, Zone } from "./Zone.ts"

/**
 * How wall-clock readings become instants where the clock changes:
 * - `real`: an instant counts if and only if the clock shows a member then. Missing readings are lost, repeated ones repeat.
 * - `shifted`: every reading counts once. A missing one moves forward by the size of the gap, a repeated one counts at
 *   its first instant.
 * - `collapsed`: as `shifted`, but all readings missing in one gap count together, at the instant of the change. Changes
 *   of three hours or more are no summer time but a zone's move: there it is `real`.
 */
export type Manner = "real" | "shifted" | "collapsed"

const CARE_BELOW = 3 * 3_600_000
const STRETCH_STEPS = 20

const earlier = (a: number | null, b: number | null): number | null =>
  a === null ? b : b === null ? a : Math.min(a, b)

/** The first instant within one stretch, `from` <= instant < `before`, both within the stretch. */
const within = (
  stretch: Stretch,
  set: FloatingSet,
  manner: Manner,
  from: number,
  before: number,
  budget: Budget
): number | null => {
  const { start, offset, offsetBefore } = stretch
  const change = offset - offsetBefore
  const real = manner === "real" || (manner === "collapsed" && Math.abs(change) >= CARE_BELOW)
  const unseen = real ? -Infinity : start + Math.max(offset, offsetBefore)
  const shown = set.first(Math.max(from + offset, unseen), before + offset, budget)
  const natural = shown === null ? null : shown - offset
  if (real || change <= 0) return natural
  if (manner === "collapsed") {
    return from <= start && set.first(start + offsetBefore, start + offset, budget) !== null ? start : natural
  }
  if (from >= start + change) return natural
  const missing = set.first(from + offsetBefore, Math.min(start + change, before) + offsetBefore, budget)
  return earlier(natural, missing === null ? null : missing - offsetBefore)
}

/**
 * The first instant `from` <= instant < `before` at which a floating set counts in a zone; null when there is none or
 * the budget is spent. Relies on every stretch of the zone data being longer than the gap before it.
 */
export const firstInstant = (
  zone: Zone,
  set: FloatingSet,
  manner: Manner,
  from: number,
  before: number,
  budget: Budget
): number | null => {
  let at = from
  while (at < before && budget.steps > 0) {
    budget.steps -= STRETCH_STEPS
    const stretch = stretchAt(zone, at)
    const found = within(stretch, set, manner, at, Math.min(stretch.end, before), budget)
    if (found !== null) return found
    at = stretch.end
  }
  return null
}
