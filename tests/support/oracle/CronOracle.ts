import { DAY, HOUR, MINUTE, SECOND } from "./RuleModel.ts"
import { instantsOf } from "./ZoneModel.ts"
import type { Change, ZoneModel } from "./ZoneModel.ts"

/** One item of a field: the values `from` to `to` by `step`; `star` when it is written `*`. */
export interface ItemModel {
  readonly star: boolean
  readonly from: number
  readonly to: number
  readonly step: number
}

/** A field: its items in order, which unite. */
export type FieldModel = ReadonlyArray<ItemModel>

/** A cron expression; `second` is null in one of five fields. Weekdays 0 to 7, 0 and 7 both Sunday. */
export interface CronModel {
  readonly second: FieldModel | null
  readonly minute: FieldModel
  readonly hour: FieldModel
  readonly dayOfMonth: FieldModel
  readonly month: FieldModel
  readonly dayOfWeek: FieldModel
}

/** "Step values: 0-23/2 in the hours field", `*` being first-last. */
const has = (field: FieldModel, value: number): boolean =>
  field.some(({ from, to, step }) => from <= value && value <= to && (value - from) % step === 0)

const beginsWithStar = (field: FieldModel): boolean => field[0]?.star === true

/**
 * "If the day-of-month or the day-of-week field begins with `*` (`*\/2` too) both must match, otherwise either."
 * "7 = 0".
 */
const dayMatches = (cron: CronModel, day: number): boolean => {
  const date = new Date(day * DAY)
  const weekday = date.getUTCDay()
  const ofMonth = has(cron.dayOfMonth, date.getUTCDate())
  const ofWeek = has(cron.dayOfWeek, weekday) || (weekday === 0 && has(cron.dayOfWeek, 7))
  const both = beginsWithStar(cron.dayOfMonth) || beginsWithStar(cron.dayOfWeek)
  return has(cron.month, date.getUTCMonth() + 1) && (both ? ofMonth && ofWeek : ofMonth || ofWeek)
}

/** The readings `from` <= reading < `to` that match: every minute, or every second where there is a seconds field. */
const readings = (cron: CronModel, from: number, to: number): ReadonlyArray<number> => {
  const found: Array<number> = []
  const step = cron.second === null ? MINUTE : SECOND
  for (let at = Math.ceil(from / step) * step; at < to; at += step) {
    const day = Math.floor(at / DAY)
    if (!dayMatches(cron, day)) at = (day + 1) * DAY - step
    else if (!has(cron.hour, Math.floor((at % DAY) / HOUR))) at = Math.floor(at / HOUR) * HOUR + HOUR - step
    else if (!has(cron.minute, Math.floor((at % HOUR) / MINUTE))) at = Math.floor(at / MINUTE) * MINUTE + MINUTE - step
    else if (cron.second === null || has(cron.second, (at % MINUTE) / SECOND)) found.push(at)
  }
  return found
}

/** "Changes of three hours or more: missing readings are lost, repeated ones repeat." */
const isCareful = ({ before, after }: Change): boolean => Math.abs(after - before) < 3 * HOUR

/** "Every real minute whose local reading matches", `from` <= instant < `to`. */
const real = (cron: CronModel, zone: ZoneModel, from: number, to: number): ReadonlyArray<number> => {
  const edges = [from, ...zone.changes(from, to - 1).map(({ at }) => at), to]
  return edges.slice(1).flatMap((edge, index) => {
    const begin = edges[index] ?? from
    const offset = zone.offsetAt(begin)
    return readings(cron, begin + offset, edge + offset).map((reading) => reading - offset)
  })
}

/** "A repeated reading fires at its first instant only." */
const isFirst = (zone: ZoneModel, at: number): boolean => {
  const [first = at] = instantsOf(zone, at + zone.offsetAt(at))
  return first === at || zone.changes(first, at).some((change) => !isCareful(change))
}

/** "All matching readings inside one gap fire once, at the instant of the change." */
const gaps = (cron: CronModel, zone: ZoneModel, from: number, to: number): ReadonlyArray<number> =>
  zone
    .changes(from - 1, to - 1)
    .filter(
      (change) => isCareful(change) && readings(cron, change.at + change.before, change.at + change.after).length > 0
    )
    .map(({ at }) => at)

/** "Wildcard job: minute or hour field begins with `*`. Fixed-time job: any other." */
const firings = (cron: CronModel, zone: ZoneModel, from: number, to: number): ReadonlyArray<number> => {
  const matching = real(cron, zone, from, to)
  if (beginsWithStar(cron.minute) || beginsWithStar(cron.hour)) return matching
  const once = matching.filter((at) => isFirst(zone, at))
  return [...new Set([...once, ...gaps(cron, zone, from, to)])].sort((a, b) => a - b)
}

/** The first `count` occurrences strictly later than `after` and before `until`. */
export const occurrences = (cron: CronModel, zone: ZoneModel, after: number, count: number, until: number) => {
  const instants: Array<number> = []
  let knownBefore = after + 1
  for (let days = 1; instants.length < count && knownBefore < until; days = Math.min(days * 2, 64)) {
    const end = Math.min(until, knownBefore + (cron.second === null ? days * DAY : days * HOUR))
    for (const at of firings(cron, zone, knownBefore, end)) instants.push(at)
    knownBefore = end
  }
  return { instants: instants.slice(0, count), knownBefore }
}
