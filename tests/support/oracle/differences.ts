import { Either } from "effect"
import * as Cron from "../../../src/domain/Cron.ts"
import * as Recurrence from "../../../src/domain/Recurrence.ts"
import type { Timeline } from "../../../src/domain/Timeline.ts"
import * as Zone from "../../../src/domain/Zone.ts"
import type { CronCase } from "./CronArbitrary.ts"
import * as CronOracle from "./CronOracle.ts"
import type { RecurrenceCase } from "./RecurrenceArbitrary.ts"
import { firstFirings, occurrences, startOf } from "./RecurrenceOracle.ts"
import type { Found, SetModel } from "./RecurrenceOracle.ts"
import { DAY } from "./RuleModel.ts"
import { zoneModel } from "./ZoneModel.ts"

/** What became of one comparison. `problem` is null when both agree. */
export interface Outcome {
  readonly kind: "same" | "never_fires" | "count_too_large" | "different"
  readonly problem: string | null
  /** How many occurrences were compared. */
  readonly compared: number
}

const show = (at: number | null | undefined): string =>
  at === null || at === undefined ? "none" : Number.isFinite(at) ? new Date(at).toISOString() : String(at)

/** The zone as the product knows it. */
export const zoneNamed = (name: string): Zone.Zone => {
  const zone = Zone.find(name)
  if (zone === undefined) throw new Error(`unknown zone ${name}`)
  return zone
}

/** Asks a timeline for what the oracle found, each also from the millisecond before it. */
export const compare = (timeline: Timeline, after: number, found: Found, count: number): string | null => {
  let at = after
  for (const expected of [...found.instants, null]) {
    const next = timeline.next(at)
    if (expected === null) {
      const early = found.instants.length < count && next !== null && next < found.knownBefore
      return early ? `after ${show(at)}: expected none before ${show(found.knownBefore)}, got ${show(next)}` : null
    }
    if (next !== expected) return `after ${show(at)}: expected ${show(expected)}, got ${show(next)}`
    const again = timeline.next(expected - 1)
    if (again !== expected) return `just before ${show(expected)}: got ${show(again)}`
    at = next
  }
  return null
}

const COUNT = 12

/** Where comparisons end: far enough for sparse rules, before the years that no table knows. */
const LAST = Date.UTC(2098, 0, 1)

/** "The instant of the COUNT-th firing is computed once, at creation." */
const countDifference = (countEnd: number | null, set: SetModel, until: number, work: number): string | null => {
  const { count } = set.rule
  if (count === null) return countEnd === null ? null : `an end by COUNT without COUNT: ${show(countEnd)}`
  const last = firstFirings(set, count, until, { left: work }).instants[count - 1]
  return last === undefined || last === countEnd ? null : `COUNT ends at ${show(last)}, got ${show(countEnd)}`
}

/** Compares the product with the oracle on one recurrence expression. */
export const recurrenceDifference = ({ text, field, set, after }: RecurrenceCase, work = 60_000): Outcome => {
  const options = { zone: zoneNamed(set.zone.name), dtstart: field, createdAt: set.createdAt }
  const parsed = Recurrence.parse(text, options)
  const until = Math.min(LAST, Math.max(after, startOf(set)) + 90 * 365 * DAY)
  if (Either.isLeft(parsed)) {
    const { code, message } = parsed.left
    if (code === "count_too_large") return { kind: code, problem: null, compared: 0 }
    const found = code === "never_fires" ? occurrences(set, -Infinity, 1, until, { left: work * 5 }).instants[0] : after
    return found === undefined
      ? { kind: "never_fires", problem: null, compared: 0 }
      : { kind: "different", problem: `refused (${code}: ${message}), expected ${show(found)}`, compared: 0 }
  }
  const found = occurrences(set, after, COUNT, until, { left: work })
  const { countEnd } = parsed.right
  const again = countEnd === null ? parsed : Recurrence.parse(text, { ...options, countEnd })
  const problem =
    compare(parsed.right, after, found, COUNT) ??
    countDifference(countEnd, set, until, work) ??
    (Either.isLeft(again) ? "refused with its own end by COUNT" : compare(again.right, after, found, COUNT))
  return { kind: problem === null ? "same" : "different", problem, compared: found.instants.length }
}

/** A case in words. */
export const describeCase = ({ text, field, set, after }: RecurrenceCase): string =>
  [
    text,
    `zone ${set.zone.name}, field dtstart ${show(field)}, created ${show(set.createdAt)}, after ${show(after)}`
  ].join("\n")

/** Compares the product with the oracle on one cron expression. */
export const cronDifference = ({ text, cron, zoneName, after }: CronCase): Outcome => {
  const zone = zoneModel(zoneName)
  const until = after + (cron.second === null ? 6 * 365 : 400) * DAY
  const parsed = Cron.parse(text, zoneNamed(zoneName))
  if (Either.isLeft(parsed)) {
    const { code, message } = parsed.left
    const found = code === "never_fires" ? CronOracle.occurrences(cron, zone, after, 1, until).instants[0] : after
    return found === undefined
      ? { kind: "never_fires", problem: null, compared: 0 }
      : { kind: "different", problem: `refused (${code}: ${message}), expected ${show(found)}`, compared: 0 }
  }
  const found = CronOracle.occurrences(cron, zone, after, COUNT, until)
  const problem = compare(parsed.right, after, found, COUNT)
  return { kind: problem === null ? "same" : "different", problem, compared: found.instants.length }
}

/** A cron case in words. */
export const describeCron = ({ text, zoneName, after }: CronCase): string =>
  `${text}\nzone ${zoneName}, after ${show(after)}`

/** Whether a rule alone is refused as invalid. */
export const ruleRefused = (text: string): boolean => {
  const parsed = Recurrence.parse(text, { zone: zoneNamed("UTC"), dtstart: null, createdAt: Date.UTC(2024, 0, 1) })
  return Either.isLeft(parsed) && parsed.left.code === "invalid_schedule"
}

/** Whether a cron expression is refused as invalid. */
export const cronRefused = (text: string): boolean => {
  const parsed = Cron.parse(text, zoneNamed("UTC"))
  return Either.isLeft(parsed) && parsed.left.code === "invalid_schedule"
}
