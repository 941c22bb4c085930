import { atLeast, completed, DAY, dayMatches, HOUR, MINUTE, periodOf, periodStart, SECOND } from "./RuleModel.ts"
import type { Frequency, RuleModel } from "./RuleModel.ts"
import { resolve } from "./ZoneModel.ts"
import type { ZoneModel } from "./ZoneModel.ts"

/** A recurrence set as it stands written. Date-times are fake-UTC milliseconds, instants when they bear a Z. */
export interface SetModel {
  readonly rule: RuleModel
  readonly zone: ZoneModel
  /** Local start; null: local midnight of the day of creation, and nothing before the creation. */
  readonly dtstart: number | null
  readonly createdAt: number
  readonly rdates: ReadonlyArray<DateTime>
  readonly exdates: ReadonlyArray<DateTime>
}

/** A date-time as written: fake-UTC milliseconds of a local reading, or an instant when it bears a Z (`utc`). */
export interface DateTime {
  readonly at: number
  readonly utc: boolean
}

/** How much may still be looked at: `left` falls with each period unit that is looked at. */
export interface Work {
  left: number
}

/** "Local midnight of the day of creation" unless a start is given. */
export const startOf = (set: SetModel): number =>
  set.dtstart ?? Math.floor((set.createdAt + set.zone.offsetAt(set.createdAt)) / DAY) * DAY

const includes = (part: ReadonlyArray<number> | null, value: number): boolean => part === null || part.includes(value)

/** "Periods […] are numbered from DTSTART's; every INTERVAL-th counts." */
const counted = (rule: RuleModel, start: number, local: number): boolean =>
  (periodOf(rule, local) - periodOf(rule, start)) % rule.interval === 0

/** The readings of whole periods, `from` <= reading < `to`, that satisfy every part but BYSETPOS: each second is tried. */
const matching = function* (rule: RuleModel, start: number, from: number, to: number, work: Work): Generator<number> {
  for (let day = Math.floor(from / DAY); day * DAY < to; day += 1) {
    work.left -= 1
    if (atLeast(rule.freq, "DAILY") && !counted(rule, start, day * DAY)) continue
    if (!dayMatches(rule, day)) continue
    for (let hour = Math.max(day * DAY, floor(from, HOUR)); hour < Math.min((day + 1) * DAY, to); hour += HOUR) {
      work.left -= 1
      if (rule.freq === "HOURLY" && !counted(rule, start, hour)) continue
      if (!includes(rule.byhour, placeIn(hour, DAY, HOUR))) continue
      for (let minute = Math.max(hour, floor(from, MINUTE)); minute < Math.min(hour + HOUR, to); minute += MINUTE) {
        work.left -= 1
        if (rule.freq === "MINUTELY" && !counted(rule, start, minute)) continue
        if (!includes(rule.byminute, placeIn(minute, HOUR, MINUTE))) continue
        for (let at = Math.max(minute, floor(from, SECOND)); at < Math.min(minute + MINUTE, to); at += SECOND) {
          work.left -= 1
          if (at < from) continue
          if (rule.freq === "SECONDLY" && !counted(rule, start, at)) continue
          if (includes(rule.bysecond, placeIn(at, MINUTE, SECOND))) yield at
        }
      }
    }
  }
}

/** Which hour of its day, minute of its hour, second of its minute. */
const placeIn = (local: number, whole: number, unit: number): number => (local - floor(local, whole)) / unit

const floor = (value: number, unit: number): number => Math.floor(value / unit) * unit

/**
 * "BYSETPOS picks from the sorted floating set of one whole period (also in DTSTART's own, even if earlier members
 * precede DTSTART)."
 */
const picked = (rule: RuleModel, members: Iterable<number>): ReadonlyArray<number> => {
  const { bysetpos } = rule
  if (bysetpos === null) return [...members]
  const sets = new Map<number, Array<number>>()
  for (const member of members) {
    const period = periodOf(rule, member)
    sets.set(period, [...(sets.get(period) ?? []), member])
  }
  return [...sets.values()].flatMap((set) =>
    set.filter((_, index) => bysetpos.includes(index + 1) || bysetpos.includes(index - set.length))
  )
}

/** The members of the floating set, `from` <= member < `to`; "only members >= DTSTART count". */
export const floating = (
  rule: RuleModel,
  start: number,
  from: number,
  to: number,
  work: Work
): ReadonlyArray<number> => {
  const whole = completed(rule, start)
  const first =
    rule.bysetpos === null ? Math.max(from, start) : periodStart(rule, periodOf(rule, Math.max(from, start)))
  const last = rule.bysetpos === null ? to : periodStart(rule, periodOf(rule, to) + 1)
  const members = picked(whole, matching(whole, start, first, last, work))
  return members.filter((member) => member >= Math.max(from, start) && member < to)
}

/** A reading lies within 14 hours of its instant, and a gap moves it by 24 hours at most. */
const NEAR = 2 * DAY

const distinct = (instants: ReadonlyArray<number>): ReadonlyArray<number> =>
  [...new Set(instants)].sort((a, b) => a - b)

/** "FREQ DAILY, WEEKLY, MONTHLY, YEARLY: each floating member L fires at resolve(zone, L)." */
const daily = (set: SetModel, start: number, from: number, to: number, work: Work): ReadonlyArray<number> =>
  floating(set.rule, start, from - NEAR, to + NEAR, work).map((member) => resolve(set.zone, member))

/** "HOURLY, MINUTELY, SECONDLY: an instant fires if and only if its own local reading is in the floating set." */
const subDaily = (set: SetModel, start: number, from: number, to: number, work: Work): ReadonlyArray<number> => {
  const edges = [from, ...set.zone.changes(from, to - 1).map(({ at }) => at), to]
  return edges.slice(1).flatMap((edge, index) => {
    const begin = edges[index] ?? from
    const offset = set.zone.offsetAt(begin)
    return floating(set.rule, start, begin + offset, edge + offset, work).map((member) => member - offset)
  })
}

/** Without a start of its own "occurrences before the creation do not exist: they neither fire nor count". */
const existsFrom = (set: SetModel): number => (set.dtstart === null ? set.createdAt : -Infinity)

/** What the rule alone fires, `from` <= instant < `to`: UNTIL and the creation apply, COUNT does not. */
const ruleFirings = (set: SetModel, from: number, to: number, work: Work): ReadonlyArray<number> => {
  const { until } = set.rule
  const last = until === null ? Infinity : instantOf(set.zone, until)
  const fire = atLeast(set.rule.freq, "DAILY") ? daily : subDaily
  const all = fire(set, startOf(set), from, to, work)
  return distinct(all.filter((at) => at >= from && at < to && at <= last && at >= existsFrom(set)))
}

/** "UNTIL is inclusive, compared as an instant: with Z as UTC, without Z as local time through resolve." */
const instantOf = (zone: ZoneModel, { at, utc }: DateTime): number => (utc ? at : resolve(zone, at))

/** Lengths of the first and of the longest window: little is looked at in vain, be the rule dense or sparse. */
const lengths: Readonly<Record<Frequency, readonly [number, number]>> = {
  SECONDLY: [HOUR / 2, 6 * HOUR],
  MINUTELY: [6 * HOUR, 2 * DAY],
  HOURLY: [2 * DAY, 30 * DAY],
  DAILY: [10 * DAY, 100 * DAY],
  WEEKLY: [30 * DAY, 400 * DAY],
  MONTHLY: [200 * DAY, 2000 * DAY],
  YEARLY: [800 * DAY, 9000 * DAY]
}

/** Windows that follow each other from `from` to `to`, each twice as long as the one before. */
const windows = function* (rule: RuleModel, from: number, to: number): Generator<readonly [number, number]> {
  let [length, longest] = lengths[rule.freq]
  for (let begin = from; begin < to;) {
    const end = Math.min(begin + length, to)
    yield [begin, end]
    begin = end
    length = Math.min(length * 2, longest)
  }
}

/** What was found, and the instant before which nothing is missing. */
export interface Found {
  readonly instants: ReadonlyArray<number>
  readonly knownBefore: number
}

/** The rule's own firings from its start: the first `count` of them, fewer when the work or the time is spent. */
export const firstFirings = (set: SetModel, count: number, until: number, work: Work): Found => {
  const from = floor(startOf(set), SECOND) - NEAR
  return search(set, from, count, until, work)
}

const search = (set: SetModel, from: number, count: number, until: number, work: Work): Found => {
  const instants: Array<number> = []
  const last = set.rule.until === null ? Infinity : instantOf(set.zone, set.rule.until)
  const to = Math.min(until, last + 1)
  let known = Math.min(from, to)
  for (const [begin, end] of windows(set.rule, from, to)) {
    if (instants.length >= count || work.left <= 0) break
    for (const at of ruleFirings(set, begin, end, work)) instants.push(at)
    known = end
  }
  return { instants, knownBefore: from >= to || known === to ? until : known }
}

/**
 * The first `count` occurrences strictly later than `after` (an integer or -Infinity), before `until`. "COUNT = number of
 * distinct firings, in order from DTSTART, before EXDATE." "RDATE adds resolve(zone, x), EXDATE removes that instant;
 * neither changes COUNT."
 */
export const occurrences = (set: SetModel, after: number, count: number, until: number, work: Work): Found => {
  const earliest = startOf(set) - NEAR
  const from = Math.max(after + 1, earliest)
  const extra = count + set.exdates.length
  const limit = set.rule.count
  const found = limit === null ? search(set, from, extra, until, work) : firstFirings(set, limit, until, work)
  const byCount = limit === null ? found.instants : found.instants.slice(0, limit)
  const ended = limit !== null && byCount.length === limit
  const knownBefore = ended ? until : found.knownBefore
  const removed = new Set(set.exdates.map((date) => instantOf(set.zone, date)))
  const added = set.rdates.map((date) => instantOf(set.zone, date)).filter((at) => at >= existsFrom(set))
  const all = distinct([...byCount, ...added]).filter((at) => at > after && at < knownBefore && !removed.has(at))
  return { instants: all.slice(0, count), knownBefore }
}
