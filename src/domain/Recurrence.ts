import { Either } from "effect"
import { DAY } from "./Calendar.ts"
import type { Budget, FloatingSet } from "./FloatingSet.ts"
import { parseBlock } from "./RecurrenceBlock.ts"
import type { DateTimeValue, Rule } from "./RecurrenceRule.ts"
import { floatingSet } from "./RecurrenceSet.ts"
import { describe } from "./RecurrenceText.ts"
import { COUNT_STEPS, InvalidSchedule, SEARCH_STEPS, horizonOf } from "./Timeline.ts"
import type { Timeline } from "./Timeline.ts"
import { firstInstant } from "./WallClock.ts"
import type { Manner } from "./WallClock.ts"
import { resolve, toLocal } from "./Zone.ts"
import type { Zone } from "./Zone.ts"

/** A recurrence set of RFC 5545 §3.8.5: one rule, dates added, dates removed, in one zone. */
export interface Recurrence extends Timeline {
  /** The start that holds, local wall clock as fake-UTC milliseconds. */
  readonly dtstart: number
  /** The last instant at which the rule may fire (UNTIL, or the COUNT-th firing); null when it has no end. */
  readonly end: number | null
  /** The instant of the COUNT-th firing, worth storing with the schedule; null for a rule without COUNT. */
  readonly countEnd: number | null
  /** A sentence in words. */
  readonly description: string
  /** Whether the rule or an added date names this wall-clock reading (fake-UTC milliseconds). */
  readonly asksFor: (local: number) => boolean
}

/** What a recurrence expression is read with. */
export interface RecurrenceOptions {
  readonly zone: Zone
  /** Start (fake-UTC milliseconds) unless the expression has its own; null: local midnight of the day of creation. */
  readonly dtstart: number | null
  /** Instant of creation. Without a start of its own the schedule has no occurrence before it. */
  readonly createdAt: number
  /** The instant of the COUNT-th firing as computed before with the same zone data; it is taken as given. */
  readonly countEnd?: number | null
}

const refuse = (code: InvalidSchedule["code"], message: string): Either.Either<never, InvalidSchedule> =>
  Either.left(new InvalidSchedule({ code, field: "schedule_expr", message }))

const instantOf = (zone: Zone, value: DateTimeValue): number => (value.utc ? value.local : resolve(zone, value.local))

const readingOf = (zone: Zone, value: DateTimeValue): number => (value.utc ? toLocal(zone, value.local) : value.local)

/** The firings of the rule alone: `from` <= instant, up to the horizon, before COUNT, UNTIL, RDATE and EXDATE. */
type Firings = (from: number, last: number | null, budget: Budget) => number | null

const firingsOf = (rule: Rule, zone: Zone, set: FloatingSet, dtstart: number, notBefore: number): Firings => {
  const finer = rule.freq === "HOURLY" || rule.freq === "MINUTELY" || rule.freq === "SECONDLY"
  const manner: Manner = finer ? "real" : "shifted"
  // No zone is a day away from UTC, so that nothing of the set lies before this.
  const earliest = Math.max(dtstart - DAY, notBefore)
  return (from, last, budget) => {
    const horizon = horizonOf(Math.max(dtstart, from))
    const before = last === null ? horizon : Math.min(horizon, last + 1)
    return firstInstant(zone, set, manner, Math.max(from, earliest), before, budget)
  }
}

/** The instant of the `count`-th firing; null when the budget, or the horizon, ends before it. */
const countedEnd = (firings: Firings, count: number): number | null => {
  const budget: Budget = { steps: COUNT_STEPS }
  let at = -Infinity
  for (let n = 0; n < count; n++) {
    const next = firings(at + 1, null, budget)
    if (next === null) return null
    at = next
  }
  return at
}

/**
 * Reads a recurrence expression (one RRULE, or the lines DTSTART, RRULE, RDATE, EXDATE) and evaluates it in a zone.
 * FREQ=DAILY and coarser fire each reading once; HOURLY and finer follow the real clock. Fails with `invalid_schedule`,
 * `never_fires`, or `count_too_large` when the COUNT-th firing lies beyond what may be searched.
 */
export const parse = (expr: string, options: RecurrenceOptions): Either.Either<Recurrence, InvalidSchedule> => {
  const { zone, createdAt } = options
  const block = parseBlock(expr, zone.name)
  if (Either.isLeft(block)) return refuse("invalid_schedule", block.left)
  const { rule } = block.right
  const named = block.right.dtstart === null ? options.dtstart : readingOf(zone, block.right.dtstart)
  const dtstart = named ?? Math.floor(toLocal(zone, createdAt) / DAY) * DAY
  const notBefore = named === null ? createdAt : -Infinity

  const set = floatingSet(rule, dtstart)
  const firings = firingsOf(rule, zone, set, dtstart, notBefore)
  const until = rule.until === null ? null : instantOf(zone, rule.until)
  const added = block.right.rdates.map((value) => instantOf(zone, value)).filter((at) => at >= notBefore)
  const rdates = [...new Set(added)].sort((a, b) => a - b)
  const exdates = new Set(block.right.exdates.map((value) => instantOf(zone, value)))
  const readings = new Set(block.right.rdates.map((value) => readingOf(zone, value)))

  const starts = firings(-Infinity, until, { steps: SEARCH_STEPS }) !== null
  if (!starts && rdates.length === 0) {
    const over = until !== null && until < Math.max(resolve(zone, dtstart), notBefore)
    return refuse("never_fires", over ? "UNTIL lies before the start of the rule" : "no date and time matches the rule")
  }
  const countEnd = rule.count === null || !starts ? null : (options.countEnd ?? countedEnd(firings, rule.count))
  if (rule.count !== null && starts && countEnd === null) {
    return refuse("count_too_large", `COUNT=${rule.count} is not reached within the limits of the search`)
  }
  const end = until ?? countEnd

  const next = (after: number): number | null => {
    const budget: Budget = { steps: SEARCH_STEPS }
    let from = Math.floor(after) + 1
    while (budget.steps > 0) {
      const fired = firings(from, end, budget)
      const extra = rdates.find((at) => at >= from) ?? null
      const at = fired === null || (extra !== null && extra < fired) ? extra : fired
      if (at === null || !exdates.has(at)) return at
      from = at + 1
    }
    return null
  }
  if (next(-Infinity) === null) return refuse("never_fires", "EXDATE removes every occurrence of the rule")

  const asksFor = (local: number): boolean =>
    readings.has(local) || set.first(local, local + 1, { steps: SEARCH_STEPS }) !== null
  return Either.right({
    dtstart,
    end,
    countEnd,
    // Words cost as much as all the rest, and only people ask for them.
    get description() {
      return describe(rule, dtstart)
    },
    next,
    asksFor
  })
}
