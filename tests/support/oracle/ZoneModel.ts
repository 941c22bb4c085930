import packed from "moment-timezone/data/packed/latest.json" with { type: "json" }

/** A change of the offset: `at` is an instant, `before` and `after` are milliseconds east of UTC. */
export interface Change {
  readonly at: number
  readonly before: number
  readonly after: number
}

/** What a clock on the wall of a zone shows. Readings are fake-UTC milliseconds. */
export interface ZoneModel {
  readonly name: string
  /** Milliseconds east of UTC at an instant. */
  readonly offsetAt: (instant: number) => number
  /** The changes with `from` < `at` <= `to`, in order. */
  readonly changes: (from: number, to: number) => ReadonlyArray<Change>
}

const MINUTE = 60_000
const DAY = 86_400_000

/**
 * From these instants on Node's own data (ICU, tzdb 2025c) is older than the packed table (2026f): Moldova changes with
 * the European Union (2026a), Morocco and Western Sahara end their yearly changes. From there offsets come from the table.
 */
export const nodeIsOlderSince: Readonly<Record<string, number>> = {
  "Europe/Chisinau": Date.UTC(2022, 0, 1),
  "Africa/Casablanca": Date.UTC(2026, 7, 1),
  "Africa/El_Aaiun": Date.UTC(2026, 7, 1)
}

const memo = <A>(make: (key: string) => A): ((key: string) => A) => {
  const known = new Map<string, A>()
  return (key) => {
    if (!known.has(key)) known.set(key, make(key))
    // Set on the line before.
    return known.get(key) as A
  }
}

const formatter = memo(
  (timeZone) =>
    new Intl.DateTimeFormat("en-US", {
      timeZone,
      calendar: "gregory",
      numberingSystem: "latn",
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric"
    })
)

/** The offset as Node's `Intl` shows it, for whole seconds since 1970. */
export const offsetByIntl = (name: string, instant: number): number => {
  const parts = formatter(name).formatToParts(instant)
  const part = (type: string) => Number(parts.find((item) => item.type === type)?.value)
  const shown = Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second"))
  return shown - Math.floor(instant / 1000) * 1000
}

const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX"

/** A number in base 60, with sign and fraction, as moment-timezone packs minutes. */
const base60 = (text: string): number => {
  const sign = text.startsWith("-") ? -1 : 1
  const [whole = "", fraction = ""] = text.replace("-", "").split(".")
  const digits = [...(whole + fraction)]
  return (sign * digits.reduce((sum, digit) => sum * 60 + DIGITS.indexOf(digit), 0)) / 60 ** fraction.length
}

/** Packed: name|abbreviations|offsets, minutes west of UTC|which offset in each stretch|minutes to each change. */
const table = memo((name) => {
  const link = packed.links.find((pair) => pair.split("|")[1] === name)
  const target = link === undefined ? name : link.split("|")[0]
  const zone = packed.zones.find((text) => text.split("|")[0] === target)
  if (zone === undefined) throw new Error(`no zone ${name}`)
  const [, , offsets = "", indices = "", deltas = ""] = zone.split("|")
  const known = offsets.split(" ").map((text) => -base60(text) * MINUTE)
  let at = 0
  const ends = deltas.split(" ").flatMap((text) => (text === "" ? [] : [(at += base60(text) * MINUTE)]))
  return { offsets: [...indices].map((digit) => known[DIGITS.indexOf(digit)] ?? Number.NaN), ends }
})

/** The offset as the raw packed table says it, found by walking its stretches. */
export const offsetByTable = (name: string, instant: number): number => {
  const { offsets, ends } = table(name)
  const index = offsets.findIndex((_, i) => i >= ends.length || instant < Math.round(ends[i] ?? Infinity))
  return offsets[index] ?? Number.NaN
}

const read = (name: string, instant: number): number =>
  instant >= (nodeIsOlderSince[name] ?? Infinity) ? offsetByTable(name, instant) : offsetByIntl(name, instant)

/** The change in a UTC day, if its ends differ (no zone here changes twice in a day), found by halving to the second. */
const changeWithin = (name: string, start: number): Change | null => {
  const before = read(name, start)
  const after = read(name, start + DAY)
  if (before === after) return null
  let low = start
  let high = start + DAY
  while (high - low > 1000) {
    const middle = Math.floor((low + high) / 2000) * 1000
    if (read(name, middle) === before) low = middle
    else high = middle
  }
  return { at: high, before, after }
}

/** The model of a zone, from `Intl` where Node's data is not older than the table, else from the table. Since 1970. */
export const zoneModel = memo((name): ZoneModel => {
  const days = new Map<number, { readonly offset: number; readonly change: Change | null }>()
  const day = (number: number) => {
    const known = days.get(number)
    if (known !== undefined) return known
    const made = { offset: read(name, number * DAY), change: changeWithin(name, number * DAY) }
    days.set(number, made)
    return made
  }
  const offsetAt = (instant: number) => {
    const { offset, change } = day(Math.floor(instant / DAY))
    return change === null || instant < change.at ? offset : change.after
  }
  const changes = (from: number, to: number) => {
    const found: Array<Change> = []
    for (let number = Math.floor(from / DAY) - 1; number * DAY <= to; number += 1) {
      const { change } = day(number)
      if (change !== null && change.at > from && change.at <= to) found.push(change)
    }
    return found
  }
  return { name, offsetAt, changes }
})

/** Offsets lie between -12 h and +14 h, so that whoever shows a reading is within a day and a half of it. */
const NEAR = 36 * 60 * MINUTE

/** "A local wall time has 1 instant normally, 2 in an overlap, 0 in a gap." In order. */
export const instantsOf = (zone: ZoneModel, local: number): ReadonlyArray<number> => {
  const offsets = [zone.offsetAt(local - NEAR), ...zone.changes(local - NEAR, local + NEAR).map(({ after }) => after)]
  const shown = offsets.map((offset) => local - offset).filter((instant) => instant + zone.offsetAt(instant) === local)
  return [...new Set(shown)].sort((a, b) => a - b)
}

/** "1 -> it; 2 -> the earlier; 0 -> local minus the offset in force before the gap." */
export const resolve = (zone: ZoneModel, local: number): number => {
  const [earliest] = instantsOf(zone, local)
  if (earliest !== undefined) return earliest
  const gap = zone
    .changes(local - NEAR, local + NEAR)
    .find(({ at, before, after }) => at + before <= local && local < at + after)
  if (gap === undefined) throw new Error(`neither shown nor skipped: ${local} in ${zone.name}`)
  return local - gap.before
}
