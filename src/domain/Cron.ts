import { Either } from "effect"
import { DAY, dayOf, daysInMonth, daysInYear, mod, weekdayOf } from "./Calendar.ts"
import { cronFields, parseField } from "./CronField.ts"
import type { FieldValues } from "./CronField.ts"
import { calendarSet, dayFilter, days } from "./FloatingSet.ts"
import type { DayFilter } from "./FloatingSet.ts"
import { InvalidSchedule, SEARCH_STEPS, horizonOf } from "./Timeline.ts"
import type { Timeline } from "./Timeline.ts"
import { firstInstant } from "./WallClock.ts"
import type { Zone } from "./Zone.ts"

/** A cron expression in a zone. It has neither start nor end. */
export interface Cron extends Timeline {
  /** Whether the expression names this wall-clock reading (fake-UTC milliseconds). */
  readonly asksFor: (local: number) => boolean
  /** A sentence in words. */
  readonly description: string
}

const nicknames: ReadonlyMap<string, string> = new Map([
  ["@yearly", "0 0 1 1 *"],
  ["@annually", "0 0 1 1 *"],
  ["@monthly", "0 0 1 * *"],
  ["@weekly", "0 0 * * 0"],
  ["@daily", "0 0 * * *"],
  ["@midnight", "0 0 * * *"],
  ["@hourly", "0 * * * *"]
])

interface Fields {
  readonly second: FieldValues
  readonly minute: FieldValues
  readonly hour: FieldValues
  readonly day: FieldValues
  readonly month: FieldValues
  readonly weekday: FieldValues
}

const parseFields = (expr: string): Either.Either<Fields, string> =>
  Either.gen(function* () {
    const trimmed = expr.trim()
    if (trimmed.toLowerCase() === "@reboot") {
      return yield* Either.left(
        "@reboot names no time; a task of kind once runs at one instant (as an RRULE with a start: FREQ=DAILY;COUNT=1)"
      )
    }
    const text = trimmed.startsWith("@") ? nicknames.get(trimmed.toLowerCase()) : trimmed
    if (text === undefined) {
      return yield* Either.left(`"${trimmed}" is not one of ${[...nicknames.keys()].join(" ")}`)
    }
    const fields = text.split(/\s+/)
    if (fields.length !== 5 && fields.length !== 6) {
      return yield* Either.left(`a cron expression has five fields, or six with seconds first, not ${fields.length}`)
    }
    const [second = "", minute = "", hour = "", day = "", month = "", weekday = ""] =
      fields.length === 6 ? fields : ["0", ...fields]
    return {
      second: yield* parseField(cronFields.second, second),
      minute: yield* parseField(cronFields.minute, minute),
      hour: yield* parseField(cronFields.hour, hour),
      day: yield* parseField(cronFields.day, day),
      month: yield* parseField(cronFields.month, month),
      weekday: yield* parseField(cronFields.weekday, weekday)
    }
  })

/** Days: both fields must match when one begins with `*`, else either (crontab(5), and Vixie cron for star with a step). */
const filterOf = ({ day, month, weekday }: Fields): DayFilter => {
  const both = day.star || weekday.star
  const inMonths = new Set(month.values)
  const inDays = new Set(day.values)
  const inWeekdays = new Set(weekday.values)
  return dayFilter((year) => {
    const first = dayOf(year, 1, 1)
    const marks = new Uint8Array(daysInYear(year))
    for (const wanted of inMonths) {
      const start = dayOf(year, wanted, 1)
      const length = daysInMonth(year, wanted)
      for (let i = 0; i < length; i++) {
        const onDay = inDays.has(i + 1)
        const onWeekday = inWeekdays.has(mod(weekdayOf(start + i) + 1, 7))
        if (both ? onDay && onWeekday : onDay || onWeekday) marks[start + i - first] = 1
      }
    }
    return marks
  })
}

const describe = (fields: Fields): string => {
  const { second, minute, hour, day, month, weekday } = fields
  const said = (name: string, { values }: FieldValues, every: number, names?: ReadonlyArray<string>): string =>
    values.length === every ? `every ${name}` : `${name} ${values.map((value) => names?.[value] ?? value).join(", ")}`
  const months = said("month", month, 12, cronFields.month.names)
  const monthDay = said("day", day, 31)
  const weekDay = said("weekday", weekday, 7, cronFields.weekday.names)
  const both = day.star || weekday.star ? `${monthDay}, ${weekDay}` : `${monthDay} or ${weekDay}`
  const seconds = second.values.length === 1 && second.values[0] === 0 ? "" : `${said("second", second, 60)}, `
  return `${seconds}${said("minute", minute, 60)}, ${said("hour", hour, 24)}, ${both}, ${months}`
}

/** Every pair of a date and a weekday that exists at all occurs within the horizon from here. */
const PROBE = Date.UTC(2000, 0, 1)

/** No earlier instant is searched; the zone data begin later. */
const EARLIEST = dayOf(1, 1, 1) * DAY

const refuse = (code: InvalidSchedule["code"], message: string): Either.Either<never, InvalidSchedule> =>
  Either.left(new InvalidSchedule({ code, field: "schedule_expr", message }))

/**
 * Reads a cron expression (five fields, six with seconds first, or a nickname). An expression whose minute or hour begins
 * with `*` follows the real clock; any other fires each reading once, a missing one at the instant the clock changes.
 * Fails with `invalid_schedule`, or `never_fires` for a day that no year has.
 */
export const parse = (expr: string, zone: Zone): Either.Either<Cron, InvalidSchedule> => {
  const parsed = parseFields(expr)
  if (Either.isLeft(parsed)) return refuse("invalid_schedule", parsed.left)
  const fields = parsed.right
  const manner = fields.minute.star || fields.hour.star ? "real" : "collapsed"
  const set = calendarSet({
    filter: filterOf(fields),
    times: { hours: fields.hour.values, minutes: fields.minute.values, seconds: fields.second.values },
    periods: days,
    interval: 1,
    start: -Infinity,
    positions: []
  })
  const next = (after: number): number | null => {
    const from = Math.max(Math.floor(after) + 1, EARLIEST)
    return firstInstant(zone, set, manner, from, horizonOf(from), { steps: SEARCH_STEPS })
  }
  if (next(PROBE) === null) return refuse("never_fires", "no year has such a day")
  const asksFor = (local: number): boolean => set.first(local, local + 1, { steps: SEARCH_STEPS }) !== null
  return Either.right({ next, asksFor, description: describe(fields) })
}
