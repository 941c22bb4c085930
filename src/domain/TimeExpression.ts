import { resolve, toLocal, type Zone } from "./Zone.ts"

/** A time relative to `now`: `now`, `now+24h`, `now.start_of_week - 1d12h`. */
export interface TimeExpression {
  /** The calendar unit, in the task's zone, that is gone back to first. Weeks start on Monday (ISO 8601). */
  readonly startOf: "day" | "week" | "month" | undefined
  /** Milliseconds of elapsed time added then. */
  readonly offset: number
}

const form = /^now(?:\.start_of_(?<unit>day|week|month))?(?:\s*(?<sign>[+-])\s*(?<amounts>(?:\d+(?:ms|[smhdw]))+))?$/

const looksLikeTime = /^now\s*([+-]|\.\s*start_of)/

const unitMillis: { readonly [unit: string]: number } = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000
}

/** The whole of the years 0000 to 9999, which RFC 3339 can write. */
const earliest = -62_167_219_200_000
const latest = 253_402_300_799_999

const isUnit = (unit: string | undefined): unit is "day" | "week" | "month" =>
  unit === "day" || unit === "week" || unit === "month"

/** Reads a time expression. Undefined for what is none, a sentence for what was meant as one and is wrong. */
export const parseTime = (text: string): TimeExpression | string | undefined => {
  const groups = form.exec(text.trim())?.groups
  if (groups === undefined) {
    return looksLikeTime.test(text.trim())
      ? "a time is now, now.start_of_day, now.start_of_week or now.start_of_month, with + or - and an amount such as 1d12h (ms s m h d w) behind it"
      : undefined
  }
  const { amounts = "", sign, unit } = groups
  let offset = 0
  for (const [, count, of = ""] of amounts.matchAll(/(\d+)(ms|[smhdw])/g))
    offset += Number(count) * (unitMillis[of] ?? 0)
  if (offset > latest - earliest) return "this is more than ten thousand years off"
  return { startOf: isUnit(unit) ? unit : undefined, offset: sign === "-" ? -offset : offset }
}

const day = 86_400_000

/** The wall-clock time, as UTC milliseconds, at which the unit around `local` begins. */
const startOf = (unit: "day" | "week" | "month", local: number): number => {
  const midnight = Math.floor(local / day) * day
  const date = new Date(midnight)
  if (unit === "day") return midnight
  return unit === "week" ? midnight - ((date.getUTCDay() + 6) % 7) * day : midnight - (date.getUTCDate() - 1) * day
}

/** Epoch milliseconds as RFC 3339 in UTC, with milliseconds and `Z`; undefined outside the years 0000 to 9999. */
export const formatInstant = (instant: number): string | undefined =>
  instant >= earliest && instant <= latest ? new Date(instant).toISOString() : undefined

/** The instant that the expression means at `now` (epoch milliseconds) in `zone`, in epoch milliseconds. */
export const instantOf = (time: TimeExpression, now: number, zone: Zone): number =>
  (time.startOf === undefined ? now : resolve(zone, startOf(time.startOf, toLocal(zone, now)))) + time.offset
