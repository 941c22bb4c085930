import table from "moment-timezone/data/packed/latest.json" with { type: "json" }
import { DAY, GREGORIAN_CYCLE, dateOf, mod, wallClock } from "./Calendar.ts"

/**
 * A time zone of the table. Only `name` is for others; ask the functions of this module for the rest.
 * `offsets[i]` (milliseconds east of UTC) holds from `changes[i - 1]` until before `changes[i]` (instants).
 */
export interface Zone {
  /** The IANA name it was asked for by, a link's own name included. */
  readonly name: string
  readonly changes: ReadonlyArray<number>
  readonly offsets: ReadonlyArray<number>
}

/** A change of the offset. Offsets are milliseconds east of UTC, `at` is an instant. */
export interface Transition {
  readonly at: number
  readonly offsetBefore: number
  readonly offsetAfter: number
}

/** A stretch of constant offset: the instants `start` <= t < `end`, infinite at the ends of the table. */
export interface Stretch {
  readonly start: number
  readonly end: number
  readonly offset: number
  /** The offset in force before `start`; equal to `offset` in the first stretch. */
  readonly offsetBefore: number
}

/** Version of the IANA time zone database, e.g. `2026f`. */
export const tzdataVersion: string = table.version

/**
 * Names of the table that are abbreviations or bare offsets, not places. They are refused, since `EST` or `CET` says
 * less than its user thinks (with or without summer time?). `UTC` is accepted, and so are `Etc/UTC` and `Etc/GMT+5`.
 */
const abbreviations = new Set(
  "CET CST6CDT EET EST EST5EDT GMT GMT+0 GMT-0 GMT0 HST MET MST MST7MDT PST8PDT UCT WET".split(" ")
)

const packed = new Map(table.zones.map((line): [string, string] => [line.slice(0, line.indexOf("|")), line]))
const links = new Map(
  table.links.map((line): [string, string] => {
    const [target = "", name = ""] = line.split("|")
    return [name, target]
  })
)
const unpacked = new Map<string, Zone>()

const digit = (code: number): number => (code > 96 ? code - 87 : code > 64 ? code - 29 : code - 48)

/** A number of minutes in the table's base 60, with an optional fraction after the point. */
const minutes = (text: string): number => {
  const negative = text.startsWith("-")
  const [whole = "", fraction = ""] = (negative ? text.slice(1) : text).split(".")
  let value = 0
  for (let i = 0; i < whole.length; i++) value = value * 60 + digit(whole.charCodeAt(i))
  for (let i = 0; i < fraction.length; i++) value += digit(fraction.charCodeAt(i)) / 60 ** (i + 1)
  return negative ? -value : value
}

/** Format: `name|abbreviations|offsets, minutes west|one index into them per stretch|minutes between the changes|…`. */
const unpack = (name: string, line: string): Zone => {
  const [, , packedOffsets = "", indices = "", packedChanges = ""] = line.split("|")
  const choices = packedOffsets.split(" ").map((text) => 0 - Math.round(minutes(text) * 60_000))
  const all = Array.from(indices, (index) => choices[digit(index.charCodeAt(0))] ?? 0)
  const changes: Array<number> = []
  const offsets: Array<number> = [all[0] ?? 0]
  let at = 0
  for (const [i, text] of (packedChanges === "" ? [] : packedChanges.split(" ")).entries()) {
    at = Math.round(at + minutes(text) * 60_000)
    const offset = all[i + 1]
    if (offset === undefined || offset === offsets.at(-1)) continue
    changes.push(at)
    offsets.push(offset)
  }
  return { name, changes, offsets }
}

/**
 * The zone of an IANA name, case-sensitive, links (`Europe/Kiev`) included. Undefined for unknown names, offsets and
 * abbreviations. Unpacked at its first use.
 */
export const find = (name: string): Zone | undefined => {
  const known = unpacked.get(name)
  if (known !== undefined) return known
  const line = abbreviations.has(name) ? undefined : packed.get(links.get(name) ?? name)
  if (line === undefined) return undefined
  const zone = unpack(name, line)
  unpacked.set(name, zone)
  return zone
}

/** Zones whose clock still changes in the table's last century go on for ever; the others have made their last change. */
const FOR_EVER = Date.UTC(2400, 0, 1)

/** The stretch that holds `instant`. */
export const stretchAt = (zone: Zone, instant: number): Stretch => {
  const { changes, offsets } = zone
  const last = changes.at(-1) ?? -Infinity
  // The table writes the last rules out over more than one Gregorian cycle, so that beyond its end a whole number of
  // cycles earlier has the same offsets at the same dates and weekdays.
  const cycles = last >= FOR_EVER && instant >= last ? Math.floor((instant - last) / GREGORIAN_CYCLE) + 1 : 0
  const shift = cycles * GREGORIAN_CYCLE
  let low = 0
  let high = changes.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((changes[middle] ?? Infinity) + shift <= instant) low = middle + 1
    else high = middle
  }
  const offset = offsets[low] ?? 0
  return {
    start: (changes[low - 1] ?? -Infinity) + shift,
    end: (changes[low] ?? Infinity) + shift,
    offset,
    offsetBefore: offsets[low - 1] ?? offset
  }
}

/** Milliseconds east of UTC at an instant. */
export const offsetAt = (zone: Zone, instant: number): number => stretchAt(zone, instant).offset

/** What a clock on the wall shows at an instant, as fake-UTC milliseconds. */
export const toLocal = (zone: Zone, instant: number): number => instant + offsetAt(zone, instant)

/** The first change of the offset strictly later than `after`; null when there is none. */
export const nextTransition = (zone: Zone, after: number): Transition | null => {
  const at = stretchAt(zone, after).end
  if (at === Infinity) return null
  const { offset, offsetBefore } = stretchAt(zone, at)
  return { at, offsetBefore, offsetAfter: offset }
}

/** No offset of the table is further from UTC than this (Manila and Sitka before the date line moved: 15:57). */
const FURTHEST = 16 * 3_600_000

/** The stretches in which a clock could show `local`. */
const stretchesAround = (zone: Zone, local: number): ReadonlyArray<Stretch> => {
  const found: Array<Stretch> = []
  let stretch = stretchAt(zone, local - FURTHEST)
  while (stretch.start <= local + FURTHEST) {
    found.push(stretch)
    if (stretch.end === Infinity) break
    stretch = stretchAt(zone, stretch.end)
  }
  return found
}

/** The instants at which a clock shows `local` (fake-UTC milliseconds): one, two in an overlap, none in a gap. */
export const instantsOf = (zone: Zone, local: number): ReadonlyArray<number> =>
  stretchesAround(zone, local).flatMap(({ start, end, offset }) =>
    local - offset >= start && local - offset < end ? [local - offset] : []
  )

/**
 * The instant meant by a local reading: in an overlap the earlier one; in a gap the reading is taken by the offset in
 * force before it, which moves it forward by the size of the gap (RFC 5545 §3.3.5).
 */
export const resolve = (zone: Zone, local: number): number => {
  const [first] = instantsOf(zone, local)
  if (first !== undefined) return first
  const gap = stretchesAround(zone, local).find(
    ({ start, offset, offsetBefore }) => local >= start + offsetBefore && local < start + offset
  )
  return local - (gap?.offsetBefore ?? 0)
}

const wallTime = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)$/

/** Reads `YYYY-MM-DDTHH:MM:SS` into fake-UTC milliseconds; undefined unless it is a real date and time of day. */
export const parseLocal = (text: string): number | undefined => {
  const parts = wallTime.exec(text)
  if (parts === null) return undefined
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.slice(1).map(Number)
  return wallClock(year, month, day, hour, minute, second)
}

const pad = (value: number, width = 2): string => String(value).padStart(width, "0")

/** Writes fake-UTC milliseconds as `YYYY-MM-DDTHH:MM:SS`; a fraction of a second is dropped. */
export const formatLocal = (local: number): string => {
  const { year, month, day } = dateOf(Math.floor(local / DAY))
  const second = Math.floor(mod(local, DAY) / 1000)
  const time = `${pad(Math.floor(second / 3600))}:${pad(Math.floor(second / 60) % 60)}:${pad(second % 60)}`
  return `${pad(year, 4)}-${pad(month)}-${pad(day)}T${time}`
}
