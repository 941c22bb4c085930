import { Either } from "effect"
import rrule from "rrule"
import type { Options } from "rrule"
import { DAY, dateOf, mod, weekdayOf } from "./Calendar.ts"
import { weekdays } from "./RecurrenceRule.ts"
import type { Rule } from "./RecurrenceRule.ts"

const { RRule } = rrule

/** More times of day than this are counted, not listed. */
const LISTED = 6

/**
 * Whether the library says the day parts of this rule truthfully. It leaves out positions and the limits of rules finer
 * than a day, and drops parts when ordinals meet month days or all five working days meet a month, a week or a year.
 */
const sayable = (rule: Rule): boolean => {
  const { freq, byDay, byMonth, byMonthDay, byYearDay, byWeekNo } = rule
  if (rule.bySetPos !== null || freq === "SECONDLY") return false
  if (freq === "HOURLY" || freq === "MINUTELY") {
    return [byDay, byMonth, byMonthDay, byYearDay, rule.byHour, rule.byMinute, rule.bySecond].every(
      (part) => part === null
    )
  }
  if (byDay === null) return true
  const ordinals = byDay.some(({ ordinal }) => ordinal !== 0)
  const working = [0, 1, 2, 3, 4].every((day) => byDay.some(({ weekday }) => weekday === day))
  if (ordinals && (working || byMonthDay !== null)) return false
  return (
    !working ||
    (freq === "DAILY" && byMonthDay === null) ||
    freq === "MONTHLY" ||
    (freq === "WEEKLY" && byMonth === null && byDay.length === 5 && byWeekNo === null)
  )
}

/** The day parts as the library takes them, with what the rule takes from its start. */
const dayOptions = (rule: Rule, start: number): Partial<Options> => {
  const { freq, byMonth, byMonthDay, byYearDay, byWeekNo, byDay } = rule
  const { month, day } = dateOf(start)
  const open = byWeekNo === null && byYearDay === null && byMonthDay === null && byDay === null
  const weekday = (index: number) => RRule[weekdays[index] ?? "MO"]
  const fromStart: Partial<Options> = open
    ? freq === "WEEKLY"
      ? { byweekday: [weekday(weekdayOf(start))] }
      : freq === "MONTHLY"
        ? { bymonthday: [day] }
        : freq === "YEARLY"
          ? { bymonthday: [day], bymonth: [month] }
          : {}
    : {}
  return {
    ...fromStart,
    ...(byMonth === null ? {} : { bymonth: [...byMonth] }),
    ...(byMonthDay === null ? {} : { bymonthday: [...byMonthDay] }),
    ...(byYearDay === null ? {} : { byyearday: [...byYearDay] }),
    ...(byWeekNo === null ? {} : { byweekno: [...byWeekNo] }),
    ...(byDay === null
      ? {}
      : {
          byweekday: byDay.map((item) =>
            item.ordinal === 0 ? weekday(item.weekday) : weekday(item.weekday).nth(item.ordinal)
          )
        })
  }
}

const two = (value: number): string => String(value).padStart(2, "0")

const timesOfDay = (rule: Rule, start: number): string => {
  const second = mod(start, DAY) / 1000
  const hours = rule.byHour ?? [Math.floor(second / 3600)]
  const minutes = rule.byMinute ?? [Math.floor(second / 60) % 60]
  const seconds = rule.bySecond ?? [second % 60]
  const size = hours.length * minutes.length * seconds.length
  if (size > LISTED) return ` at ${size} times a day`
  const tail = (value: number): string => (seconds.length === 1 && value === 0 ? "" : `:${two(value)}`)
  const times = hours.flatMap((h) => minutes.flatMap((m) => seconds.map((s) => `${two(h)}:${two(m)}${tail(s)}`)))
  return ` at ${times.join(", ")}`
}

const ending = (rule: Rule): string => {
  if (rule.count !== null) return rule.count === 1 ? ", once" : `, ${rule.count} times`
  if (rule.until === null) return ""
  const { year, month, day } = dateOf(Math.floor(rule.until.local / DAY))
  return `, until ${String(year).padStart(4, "0")}-${two(month)}-${two(day)}`
}

/** A sentence in words for a rule with its start (fake-UTC milliseconds); the rule itself where words would leave a part out. */
export const describe = (rule: Rule, start: number): string => {
  if (!sayable(rule)) return `by the rule ${rule.text}`
  const words = Either.try(() =>
    new RRule({
      freq: RRule[rule.freq],
      interval: rule.interval,
      ...dayOptions(rule, Math.floor(start / DAY))
    }).toText()
  )
  if (Either.isLeft(words)) return `by the rule ${rule.text}`
  const times = rule.freq === "HOURLY" || rule.freq === "MINUTELY" ? "" : timesOfDay(rule, start)
  return `${words.right}${times}${ending(rule)}`
}
