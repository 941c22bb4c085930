import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import { DAY } from "./Calendar.ts"

/**
 * The occurrences of a compiled schedule. All instants are epoch milliseconds, UTC.
 * Pure: the answer depends on the schedule and the zone data alone, never on the host's clock, zone or locale.
 */
export interface Timeline {
  /** The first occurrence strictly later than `after`; null when none is left within the horizon (100 years). */
  readonly next: (after: number) => number | null
}

/** Why a schedule is refused. `field` names the part of the request, e.g. `schedule_expr`, `timezone`, `dtstart`. */
export class InvalidSchedule extends Schema.TaggedError<InvalidSchedule>()(
  "InvalidSchedule",
  {
    code: Schema.Literal(
      "invalid_schedule",
      "never_fires",
      "count_too_large",
      "in_the_past",
      "unknown_timezone",
      "too_frequent"
    ),
    field: Schema.String,
    message: Schema.String
  },
  HttpApiSchema.annotations({ status: 422 })
) {}

/** The first `count` occurrences strictly later than `after`, in order; fewer when the schedule ends before. */
export const occurrences = (timeline: Timeline, after: number, count: number): ReadonlyArray<number> => {
  const found: Array<number> = []
  let at: number | null = after
  while (found.length < count) {
    at = timeline.next(at)
    if (at === null) break
    found.push(at)
  }
  return found
}

/**
 * What one search for an occurrence may cost, in the steps of `Budget`. Every ordinary rule, and every rule without a
 * match, is decided over 100 years with less than half of it.
 */
export const SEARCH_STEPS = 400_000

/** What counting the firings of a rule with COUNT may cost in all: roughly ten thousand firings. */
export const COUNT_STEPS = 250_000

const CENTURY = 36_525 * DAY
const END_OF_TIME = Date.UTC(9999, 11, 31)

/** Where a search from an instant or reading ends: 100 years on, and with the year 9999. */
export const horizonOf = (from: number): number => Math.min(from + CENTURY, END_OF_TIME)
