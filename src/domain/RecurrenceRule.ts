import { Either } from "effect"
import { wallClock } from "./Calendar.ts"

/** RFC 5545 §3.3.10 FREQ, from the finest to the coarsest. */
export const frequencies = ["SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"] as const
export type Frequency = (typeof frequencies)[number]

/** Weekdays of RFC 5545 by number, 0 = Monday. */
export const weekdays = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"] as const

/** One item of BYDAY: `ordinal` 0 for every such weekday, else the n-th of its month or year, negative from the end. */
export interface WeekdayItem {
  readonly weekday: number
  readonly ordinal: number
}

/** A wall-clock reading (fake-UTC milliseconds), or an instant when it was written with Z. */
export interface DateTimeValue {
  readonly local: number
  readonly utc: boolean
}

/** A valid RRULE value. Lists are sorted and without duplicates; null where the part is missing. */
export interface Rule {
  /** The value as it was read, in upper case and without `RRULE:`. */
  readonly text: string
  readonly freq: Frequency
  readonly interval: number
  readonly count: number | null
  readonly until: DateTimeValue | null
  /** 0 = Monday. */
  readonly weekStart: number
  readonly bySecond: ReadonlyArray<number> | null
  readonly byMinute: ReadonlyArray<number> | null
  readonly byHour: ReadonlyArray<number> | null
  readonly byDay: ReadonlyArray<WeekdayItem> | null
  readonly byMonthDay: ReadonlyArray<number> | null
  readonly byYearDay: ReadonlyArray<number> | null
  readonly byWeekNo: ReadonlyArray<number> | null
  readonly byMonth: ReadonlyArray<number> | null
  readonly bySetPos: ReadonlyArray<number> | null
}

/** The sentence that says what is wrong with a rule and names the part. */
export type Refusal = string

const refuse = (message: Refusal): Either.Either<never, Refusal> => Either.left(message)

const dateTime = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(Z?)$/

/** Reads a DATE-TIME of RFC 5545 §3.3.5 (`20240309T023000`, `20240309T073000Z`); undefined unless it is a real one. */
export const parseDateTime = (text: string): DateTimeValue | undefined => {
  const parts = dateTime.exec(text)
  if (parts === null) return undefined
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.slice(1, 7).map(Number)
  const local = wallClock(year, month, day, hour, minute, second)
  return local === undefined ? undefined : { local, utc: parts[7] === "Z" }
}

/** The lists of whole numbers: their range, and whether a sign is allowed (then ± the range without zero). */
const numberLists = {
  BYSECOND: { low: 0, high: 59, signed: false },
  BYMINUTE: { low: 0, high: 59, signed: false },
  BYHOUR: { low: 0, high: 23, signed: false },
  BYMONTHDAY: { low: 1, high: 31, signed: true },
  BYYEARDAY: { low: 1, high: 366, signed: true },
  BYWEEKNO: { low: 1, high: 53, signed: true },
  BYMONTH: { low: 1, high: 12, signed: false },
  BYSETPOS: { low: 1, high: 366, signed: true }
} as const

const known = new Set(["FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", ...Object.keys(numberLists)])

type Parts = ReadonlyMap<string, string>

const splitParts = (text: string): Either.Either<Parts, Refusal> => {
  const parts = new Map<string, string>()
  for (const part of text.split(";")) {
    const [name = "", value, ...rest] = part.split("=")
    if (part === "") return refuse("a part of the RRULE is empty (a superfluous semicolon?)")
    if (name === "RSCALE" || name === "SKIP") return refuse(`${name} (RFC 7529) is not supported`)
    if (!known.has(name)) return refuse(`${name} is not a part of an RRULE`)
    if (value === undefined || value === "" || rest.length > 0) return refuse(`${name} needs one value: ${name}=...`)
    if (parts.has(name)) return refuse(`${name} is given twice`)
    parts.set(name, value)
  }
  return Either.right(parts)
}

const numberList = (
  parts: Parts,
  name: keyof typeof numberLists
): Either.Either<ReadonlyArray<number> | null, Refusal> => {
  const text = parts.get(name)
  if (text === undefined) return Either.right(null)
  const { low, high, signed } = numberLists[name]
  const found = new Set<number>()
  for (const item of text.split(",")) {
    if (item === "") return refuse(`${name} has an empty item`)
    const value = (signed ? /^[+-]?\d{1,3}$/ : /^\d{1,2}$/).test(item) ? Number(item) : Number.NaN
    const size = signed ? Math.abs(value) : value
    if (!(size >= low && size <= high)) {
      return refuse(`${name}=${item} is outside ${signed ? "+-" : ""}${low}..${high}`)
    }
    found.add(value)
  }
  return Either.right([...found].sort((a, b) => a - b))
}

const positiveInteger = (parts: Parts, name: "INTERVAL" | "COUNT"): Either.Either<number | null, Refusal> => {
  const text = parts.get(name)
  if (text === undefined) return Either.right(null)
  const value = /^\d+$/.test(text) ? Number(text) : 0
  // A larger number means the same: far beyond any horizon.
  return value < 1 ? refuse(`${name} must be a positive integer`) : Either.right(Math.min(value, 1e12))
}

const weekday = (text: string): number => weekdays.findIndex((name) => name === text)

const weekdayList = (parts: Parts, freq: Frequency): Either.Either<ReadonlyArray<WeekdayItem> | null, Refusal> => {
  const text = parts.get("BYDAY")
  if (text === undefined) return Either.right(null)
  const furthest = freq === "MONTHLY" ? 5 : 53
  const found = new Map<string, WeekdayItem>()
  for (const item of text.split(",")) {
    if (item === "") return refuse("BYDAY has an empty item")
    const [, digits = "", name = ""] = /^([+-]?\d{1,2})?([A-Z]{2})$/.exec(item) ?? []
    if (weekday(name) < 0) return refuse(`BYDAY=${item} is no weekday (MO, TU, WE, TH, FR, SA, SU)`)
    const ordinal = Number(digits)
    if (digits !== "") {
      if (freq !== "MONTHLY" && freq !== "YEARLY") {
        return refuse(`BYDAY=${item}: an ordinal needs FREQ=MONTHLY or FREQ=YEARLY`)
      }
      if (parts.has("BYWEEKNO")) return refuse(`BYDAY=${item}: an ordinal cannot be used with BYWEEKNO`)
      if (ordinal === 0 || Math.abs(ordinal) > furthest) return refuse(`BYDAY=${item} is outside +-1..${furthest}`)
    }
    found.set(`${ordinal}${name}`, { weekday: weekday(name), ordinal })
  }
  return Either.right([...found.values()])
}

const untilValue = (parts: Parts): Either.Either<DateTimeValue | null, Refusal> => {
  const text = parts.get("UNTIL")
  if (text === undefined) return Either.right(null)
  if (/^\d{8}$/.test(text)) return refuse("UNTIL is a bare date; give a time of day too, e.g. UNTIL=20241231T235959Z")
  const value = parseDateTime(text)
  return value === undefined
    ? refuse(`UNTIL=${text} is no real date-time (YYYYMMDDTHHMMSS, Z for UTC)`)
    : Either.right(value)
}

/** What RFC 5545 §3.3.10 says MUST NOT be combined. */
const forbidden = (parts: Parts, freq: Frequency): Refusal | undefined => {
  if (parts.has("COUNT") && parts.has("UNTIL")) return "COUNT and UNTIL cannot be used together"
  if (parts.has("BYWEEKNO") && freq !== "YEARLY") return "BYWEEKNO needs FREQ=YEARLY"
  if (parts.has("BYYEARDAY") && (freq === "DAILY" || freq === "WEEKLY" || freq === "MONTHLY")) {
    return `BYYEARDAY cannot be used with FREQ=${freq}`
  }
  if (parts.has("BYMONTHDAY") && freq === "WEEKLY") return "BYMONTHDAY cannot be used with FREQ=WEEKLY"
  const others = [...parts.keys()].filter((name) => name.startsWith("BY") && name !== "BYSETPOS")
  return parts.has("BYSETPOS") && others.length === 0 ? "BYSETPOS needs another BY part to pick from" : undefined
}

/** Reads one RRULE value, strictly, by RFC 5545 §3.3.10. `RRULE:` in front is optional, case does not matter. */
export const parseRule = (text: string): Either.Either<Rule, Refusal> =>
  Either.gen(function* () {
    const value = text
      .trim()
      .toUpperCase()
      .replace(/^RRULE:/, "")
    if (value === "") return yield* refuse("the RRULE is empty")
    const parts = yield* splitParts(value)
    const freq = frequencies.find((name) => name === parts.get("FREQ"))
    if (freq === undefined) return yield* refuse(`FREQ must be one of ${frequencies.join(", ")}`)
    const weekStart = weekday(parts.get("WKST") ?? "MO")
    if (weekStart < 0) return yield* refuse(`WKST=${parts.get("WKST")} is no weekday (MO, TU, WE, TH, FR, SA, SU)`)
    const rule: Rule = {
      text: value,
      freq,
      interval: (yield* positiveInteger(parts, "INTERVAL")) ?? 1,
      count: yield* positiveInteger(parts, "COUNT"),
      until: yield* untilValue(parts),
      weekStart,
      bySecond: yield* numberList(parts, "BYSECOND"),
      byMinute: yield* numberList(parts, "BYMINUTE"),
      byHour: yield* numberList(parts, "BYHOUR"),
      byDay: yield* weekdayList(parts, freq),
      byMonthDay: yield* numberList(parts, "BYMONTHDAY"),
      byYearDay: yield* numberList(parts, "BYYEARDAY"),
      byWeekNo: yield* numberList(parts, "BYWEEKNO"),
      byMonth: yield* numberList(parts, "BYMONTH"),
      bySetPos: yield* numberList(parts, "BYSETPOS")
    }
    const reason = forbidden(parts, freq)
    return reason === undefined ? rule : yield* refuse(reason)
  })
