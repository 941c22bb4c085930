/** The frequencies, finest first. */
export const frequencies = ["SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"] as const

/** A value of FREQ. */
export type Frequency = (typeof frequencies)[number]

/** The weekdays as `Date.getUTCDay` numbers them. */
export const weekdays = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"] as const

/** An item of BYDAY: `ordinal` null for a plain weekday; `weekday` 0 is Sunday. */
export interface WeekdayNumber {
  readonly ordinal: number | null
  readonly weekday: number
}

/** A rule as it stands written, absent parts null. UNTIL is fake-UTC milliseconds, an instant when it bears a Z. */
export interface RuleModel {
  readonly freq: Frequency
  readonly interval: number
  readonly count: number | null
  readonly until: { readonly at: number; readonly utc: boolean } | null
  readonly wkst: number | null
  readonly bymonth: ReadonlyArray<number> | null
  readonly byweekno: ReadonlyArray<number> | null
  readonly byyearday: ReadonlyArray<number> | null
  readonly bymonthday: ReadonlyArray<number> | null
  readonly byday: ReadonlyArray<WeekdayNumber> | null
  readonly byhour: ReadonlyArray<number> | null
  readonly byminute: ReadonlyArray<number> | null
  readonly bysecond: ReadonlyArray<number> | null
  readonly bysetpos: ReadonlyArray<number> | null
}

/** Milliseconds. */
export const DAY = 86_400_000
export const HOUR = 3_600_000
export const MINUTE = 60_000
export const SECOND = 1000

/** Whether `unit` is at least as coarse as `than`. */
export const atLeast = (unit: Frequency, than: Frequency): boolean =>
  frequencies.indexOf(unit) >= frequencies.indexOf(than)

const yearOf = (day: number): number => new Date(day * DAY).getUTCFullYear()
const monthOf = (day: number): number => new Date(day * DAY).getUTCMonth() + 1
const dayOfMonth = (day: number): number => new Date(day * DAY).getUTCDate()
const weekdayOf = (day: number): number => new Date(day * DAY).getUTCDay()
const dayNumber = (year: number, month: number, date: number): number => Date.UTC(year, month - 1, date) / DAY
const dayOfYear = (day: number): number => day - dayNumber(yearOf(day), 1, 1) + 1
const monthLength = (day: number): number =>
  dayNumber(yearOf(day), monthOf(day) + 1, 1) - dayNumber(yearOf(day), monthOf(day), 1)
const yearLength = (day: number): number => dayNumber(yearOf(day) + 1, 1, 1) - dayNumber(yearOf(day), 1, 1)

const firstOfWeek = (day: number, wkst: number): number => day - ((weekdayOf(day) - wkst + 7) % 7)

/** "-10 represents the tenth to the last day of the month": counted from either end of `length` places. */
const counts = (item: number, place: number, length: number): boolean => item === place || item === place - length - 1

/** "Week number one of the calendar year is the first week that contains at least four (4) days in that calendar year." */
const firstWeek = (year: number, wkst: number): number => {
  const week = firstOfWeek(dayNumber(year, 1, 1), wkst)
  const daysInYear = week + 7 - dayNumber(year, 1, 1)
  return daysInYear >= 4 ? week : week + 7
}

/** "The BYWEEKNO rule part specifies […] weeks of the year", 1 to 53 or -53 to -1; the week that holds the day. */
const weekMatches = (items: ReadonlyArray<number>, day: number, wkst: number): boolean => {
  const week = firstOfWeek(day, wkst)
  const year = [yearOf(day) + 1, yearOf(day), yearOf(day) - 1].find((at) => firstWeek(at, wkst) <= week) ?? 0
  const number = (week - firstWeek(year, wkst)) / 7 + 1
  const weeks = (firstWeek(year + 1, wkst) - firstWeek(year, wkst)) / 7
  return items.some((item) => counts(item, number, weeks))
}

/** "+1MO represents the first Monday within the month, whereas -1MO represents the last Monday of the month." */
const nth = (ordinal: number, place: number, length: number): boolean =>
  ordinal > 0 ? ordinal === Math.ceil(place / 7) : -ordinal === Math.ceil((length - place + 1) / 7)

/** "Ordinals count in the month for MONTHLY and for YEARLY with BYMONTH, else in the calendar year." */
const weekdayMatches = (rule: RuleModel, items: ReadonlyArray<WeekdayNumber>, day: number): boolean => {
  const inMonth = rule.freq === "MONTHLY" || rule.bymonth !== null
  const place = inMonth ? dayOfMonth(day) : dayOfYear(day)
  const length = inMonth ? monthLength(day) : yearLength(day)
  return items.some(
    ({ ordinal, weekday }) => weekday === weekdayOf(day) && (ordinal === null || nth(ordinal, place, length))
  )
}

/**
 * "Missing parts come from DTSTART: BYSECOND/BYMINUTE/BYHOUR for coarser FREQ; weekday for WEEKLY; day for MONTHLY and
 * YEARLY, month for YEARLY without BYMONTH, if none of BYWEEKNO, BYYEARDAY, BYMONTHDAY, BYDAY is given."
 */
export const completed = (rule: RuleModel, dtstart: number): RuleModel => {
  const start = new Date(dtstart)
  const noDay = [rule.byweekno, rule.byyearday, rule.bymonthday, rule.byday].every((part) => part === null)
  const { freq } = rule
  const dated = freq === "MONTHLY" || freq === "YEARLY"
  return {
    ...rule,
    bysecond: rule.bysecond ?? (atLeast(freq, "MINUTELY") ? [start.getUTCSeconds()] : null),
    byminute: rule.byminute ?? (atLeast(freq, "HOURLY") ? [start.getUTCMinutes()] : null),
    byhour: rule.byhour ?? (atLeast(freq, "DAILY") ? [start.getUTCHours()] : null),
    byday: noDay && freq === "WEEKLY" ? [{ ordinal: null, weekday: start.getUTCDay() }] : rule.byday,
    bymonthday: noDay && dated ? [start.getUTCDate()] : rule.bymonthday,
    bymonth: noDay && freq === "YEARLY" ? (rule.bymonth ?? [start.getUTCMonth() + 1]) : rule.bymonth
  }
}

/** Whether a day number satisfies every day part of a completed rule: parts intersect, items of one part unite. */
export const dayMatches = (rule: RuleModel, day: number): boolean =>
  (rule.bymonth === null || rule.bymonth.includes(monthOf(day))) &&
  (rule.byweekno === null || weekMatches(rule.byweekno, day, rule.wkst ?? 1)) &&
  (rule.byyearday === null || rule.byyearday.some((item) => counts(item, dayOfYear(day), yearLength(day)))) &&
  (rule.bymonthday === null || rule.bymonthday.some((item) => counts(item, dayOfMonth(day), monthLength(day)))) &&
  (rule.byday === null || weekdayMatches(rule, rule.byday, day))

/** The number of the period that holds a reading: years, months, weeks from WKST, days, hours, minutes or seconds. */
export const periodOf = (rule: RuleModel, local: number): number => {
  const day = Math.floor(local / DAY)
  if (rule.freq === "YEARLY") return yearOf(day)
  if (rule.freq === "MONTHLY") return yearOf(day) * 12 + monthOf(day) - 1
  if (rule.freq === "WEEKLY") return Math.floor((day - firstOfWeek(0, rule.wkst ?? 1)) / 7)
  if (rule.freq === "DAILY") return day
  return Math.floor(local / { HOURLY: HOUR, MINUTELY: MINUTE, SECONDLY: SECOND }[rule.freq])
}

/** The first reading of the period of a number. */
export const periodStart = (rule: RuleModel, period: number): number => {
  if (rule.freq === "YEARLY") return Date.UTC(period, 0, 1)
  if (rule.freq === "MONTHLY") return Date.UTC(Math.floor(period / 12), period % 12, 1)
  if (rule.freq === "WEEKLY") return (firstOfWeek(0, rule.wkst ?? 1) + period * 7) * DAY
  if (rule.freq === "DAILY") return period * DAY
  return period * { HOURLY: HOUR, MINUTELY: MINUTE, SECONDLY: SECOND }[rule.freq]
}
