import { DAY, dateOf, dayOf, daysInMonth, daysInYear, mod, weekdayOf } from "./Calendar.ts"
import { calendarSet, dayFilter, days, months, weeks, years } from "./FloatingSet.ts"
import type { Budget, DayFilter, FloatingSet, Periods, TimesOfDay } from "./FloatingSet.ts"
import type { Rule, WeekdayItem } from "./RecurrenceRule.ts"

const range = (size: number): ReadonlyArray<number> => Array.from({ length: size }, (_, index) => index)

/** The rule's day parts, those it leaves out taken from the start as RFC 5545 §3.3.10 has it. */
interface DayParts {
  readonly byMonth: ReadonlySet<number> | null
  readonly byMonthDay: ReadonlySet<number> | null
  readonly byYearDay: ReadonlySet<number> | null
  readonly byWeekNo: ReadonlySet<number> | null
  readonly byDay: ReadonlyArray<WeekdayItem> | null
}

const set = (list: ReadonlyArray<number> | null): ReadonlySet<number> | null => (list === null ? null : new Set(list))

const dayParts = (rule: Rule, start: number): DayParts => {
  const { month, day } = dateOf(start)
  const { freq, byMonth, byMonthDay, byYearDay, byWeekNo, byDay } = rule
  const open = byWeekNo === null && byYearDay === null && byMonthDay === null && byDay === null
  const monthly = freq === "MONTHLY" || freq === "YEARLY"
  return {
    byMonth: set(open && freq === "YEARLY" && byMonth === null ? [month] : byMonth),
    byMonthDay: set(open && monthly ? [day] : byMonthDay),
    byYearDay: set(byYearDay),
    byWeekNo: set(byWeekNo),
    byDay: open && freq === "WEEKLY" ? [{ weekday: weekdayOf(start), ordinal: 0 }] : byDay
  }
}

/** First day of week 1 of a year: the first week with at least four days in it. */
const firstWeek = (year: number, weekStart: number): number => {
  const january4 = dayOf(year, 1, 4)
  return january4 - mod(weekdayOf(january4) - weekStart, 7)
}

/** Whether the position of an item among `size` items, `index` from 0, is one of `wanted` (1.. or -1.. from the end). */
const placed = (wanted: ReadonlySet<number>, index: number, size: number): boolean =>
  wanted.has(index + 1) || wanted.has(index - size)

/** Which days a rule's day parts allow; null when they allow all. */
const filterOf = (rule: Rule, start: number): DayFilter | null => {
  const { byMonth, byMonthDay, byYearDay, byWeekNo, byDay } = dayParts(rule, start)
  if (byMonth === null && byMonthDay === null && byYearDay === null && byWeekNo === null && byDay === null) return null
  const plain = new Set(byDay?.filter(({ ordinal }) => ordinal === 0).map(({ weekday }) => weekday))
  const ordinals = range(7).map(
    (weekday) => new Set(byDay?.filter((item) => item.weekday === weekday && item.ordinal !== 0).map((i) => i.ordinal))
  )
  const inMonth = rule.freq === "MONTHLY" || rule.byMonth !== null

  const inWeek = (weekNo: ReadonlySet<number>, day: number, year: number): boolean => {
    const owner = [year + 1, year].find((candidate) => day >= firstWeek(candidate, rule.weekStart)) ?? year - 1
    const first = firstWeek(owner, rule.weekStart)
    return placed(weekNo, Math.floor((day - first) / 7), (firstWeek(owner + 1, rule.weekStart) - first) / 7)
  }

  return dayFilter((year) => {
    const first = dayOf(year, 1, 1)
    const length = daysInYear(year)
    const marks = new Uint8Array(length)
    for (let month = 1; month <= 12; month++) {
      if (byMonth !== null && !byMonth.has(month)) continue
      const monthLength = daysInMonth(year, month)
      const before = dayOf(year, month, 1) - first
      for (let i = 0; i < monthLength; i++) {
        const index = before + i
        const day = first + index
        if (byMonthDay !== null && !placed(byMonthDay, i, monthLength)) continue
        if (byYearDay !== null && !placed(byYearDay, index, length)) continue
        if (byWeekNo !== null && !inWeek(byWeekNo, day, year)) continue
        if (byDay !== null && !plain.has(weekdayOf(day))) {
          const wanted = ordinals[weekdayOf(day)]
          const [at, size] = inMonth ? [i, monthLength] : [index, length]
          const nth = Math.floor(at / 7)
          if (wanted === undefined || !placed(wanted, nth, nth + 1 + Math.floor((size - 1 - at) / 7))) continue
        }
        marks[index] = 1
      }
    }
    return marks
  })
}

/** Which of `size` items BYSETPOS picks, ascending; all of them without it. */
const picks = (positions: ReadonlyArray<number> | null, size: number): ReadonlyArray<number> => {
  if (positions === null) return range(size)
  const wanted = new Set(positions)
  return range(size).filter((index) => placed(wanted, index, size))
}

/** Lists of a finer rule: BYHOUR, BYMINUTE and BYSECOND only limit, unless they are finer than the frequency. */
interface ClockParts {
  /** Seconds in a period. */
  readonly unit: number
  readonly hours: ReadonlySet<number> | null
  readonly minutes: ReadonlySet<number> | null
  readonly seconds: ReadonlySet<number> | null
  /** Members of every period, seconds from its start, ascending. */
  readonly offsets: ReadonlyArray<number>
}

const clockParts = (rule: Rule, startSecond: number): ClockParts => {
  const seconds = rule.bySecond ?? [startSecond % 60]
  const minutes = rule.byMinute ?? [Math.floor(startSecond / 60) % 60]
  const pick = (offsets: ReadonlyArray<number>): ReadonlyArray<number> =>
    picks(rule.bySetPos, offsets.length).map((index) => offsets[index] ?? 0)
  const hours = set(rule.byHour)
  if (rule.freq === "SECONDLY") {
    return { unit: 1, hours, minutes: set(rule.byMinute), seconds: set(rule.bySecond), offsets: pick([0]) }
  }
  if (rule.freq === "MINUTELY") {
    return { unit: 60, hours, minutes: set(rule.byMinute), seconds: null, offsets: pick(seconds) }
  }
  const offsets = minutes.flatMap((minute) => seconds.map((second) => minute * 60 + second))
  return { unit: 3600, hours, minutes: null, seconds: null, offsets: pick(offsets) }
}

/** The floating set of a rule whose periods are hours, minutes or seconds. */
const clockSet = (rule: Rule, start: number): FloatingSet => {
  const startSecond = start / 1000
  const { unit, hours, minutes, seconds, offsets } = clockParts(rule, startSecond)
  const filter = filterOf(rule, Math.floor(start / DAY))
  const perDay = 86_400 / unit
  const base = Math.floor(startSecond / unit)
  const lastOffset = offsets.at(-1) ?? -1
  // By the interval, a day's periods depend only on where its first one falls; a day found empty tells of all like it.
  const empty = new Set<number>()

  /** The first period of a day that the lists and the interval allow, from `from` (0..perDay) on; perDay for none. */
  const periodIn = (first: number, from: number, budget: Budget): number => {
    const aligned = (at: number): number => at + mod(first - at, rule.interval)
    let period = aligned(from)
    while (period < perDay && budget.steps > 0) {
      budget.steps--
      const second = period * unit
      if (hours !== null && !hours.has(Math.floor(second / 3600))) {
        period = aligned((Math.floor(second / 3600) + 1) * (3600 / unit))
      } else if (minutes !== null && !minutes.has(Math.floor(second / 60) % 60)) {
        period = aligned((Math.floor(second / 60) + 1) * (60 / unit))
      } else if (seconds !== null && !seconds.has(second % 60)) {
        period = aligned(period + 1)
      } else {
        return period
      }
    }
    return perDay
  }

  const inDay = (day: number, second: number, budget: Budget): number | null => {
    const first = mod(base - day * perDay, rule.interval)
    if (first >= perDay || empty.has(first)) return null
    const wanted = second - day * 86_400
    // A period that began before `wanted` still counts when one of its members lies at or after it.
    const from = wanted <= 0 ? 0 : Math.max(0, Math.ceil((wanted - lastOffset) / unit))
    const period = periodIn(first, from, budget)
    if (period < perDay) {
      const at = period * unit
      const offset = offsets.find((candidate) => at + candidate >= wanted) ?? 0
      return day * 86_400 + at + offset
    }
    if (wanted <= 0 && budget.steps > 0) empty.add(first)
    return null
  }

  return {
    first: (from, before, budget) => {
      if (offsets.length === 0) return null
      const second = Math.ceil(Math.max(from, start) / 1000)
      for (let day = Math.floor(second / 86_400); day * DAY < before && budget.steps > 0; day++) {
        budget.steps--
        if (filter !== null && !filter(day, budget)) continue
        const at = inDay(day, second, budget)
        if (at !== null) return at * 1000 < before ? at * 1000 : null
      }
      return null
    }
  }
}

const everyDay: DayFilter = () => true

/** The wall-clock readings of a rule from its start on (fake-UTC milliseconds), by RFC 5545 §3.3.10, without zone or end. */
export const floatingSet = (rule: Rule, start: number): FloatingSet => {
  if (rule.freq === "SECONDLY" || rule.freq === "MINUTELY" || rule.freq === "HOURLY") return clockSet(rule, start)
  const periods: Periods = { DAILY: days, WEEKLY: weeks(rule.weekStart), MONTHLY: months, YEARLY: years }[rule.freq]
  const second = mod(start, DAY) / 1000
  const times: TimesOfDay = {
    hours: rule.byHour ?? [Math.floor(second / 3600)],
    minutes: rule.byMinute ?? [Math.floor(second / 60) % 60],
    seconds: rule.bySecond ?? [second % 60]
  }
  return calendarSet({
    filter: filterOf(rule, Math.floor(start / DAY)) ?? everyDay,
    times,
    periods,
    interval: rule.interval,
    start,
    positions: rule.bySetPos ?? []
  })
}
