import { DAY, dateOf, dayOf, mod, daysInYear } from "./Calendar.ts"

/**
 * What a search may still cost, in steps of roughly ten nanoseconds. Counted, not timed, so that the verdict about an
 * expression is the same on every host. A search that finds it spent ends with nothing found.
 */
export interface Budget {
  steps: number
}

/** A set of wall-clock readings (fake-UTC milliseconds, whole seconds) that knows nothing of zones. */
export interface FloatingSet {
  /** The smallest member in `from` <= member < `before`; null when there is none, or when the budget is spent. */
  readonly first: (from: number, before: number, budget: Budget) => number | null
}

/** Whether a day (number since 1970-01-01) is of the set. */
export type DayFilter = (day: number, budget: Budget) => boolean

const MASK_STEPS = 400

/** A year's marks and its day numbers, `start` <= day < `end`. */
interface MarkedYear {
  readonly start: number
  readonly end: number
  readonly marks: Uint8Array
}

/**
 * A day filter from a function that marks the days of one year (index 0 = 1 January, 1 = of the set). The marks of the
 * last two years asked for are kept, so that weeks across New Year do not compute them over and over.
 */
export const dayFilter = (marksOf: (year: number) => Uint8Array): DayFilter => {
  let even: MarkedYear = { start: 0, end: 0, marks: new Uint8Array() }
  let odd = even
  return (day, budget) => {
    if (day >= even.start && day < even.end) return even.marks[day - even.start] === 1
    if (day >= odd.start && day < odd.end) return odd.marks[day - odd.start] === 1
    budget.steps -= MASK_STEPS
    const { year } = dateOf(day)
    const start = dayOf(year, 1, 1)
    const marked = { start, end: start + daysInYear(year), marks: marksOf(year) }
    if (year % 2 === 0) even = marked
    else odd = marked
    return marked.marks[day - start] === 1
  }
}

/** Times of day: every hour with every minute with every second. Lists are sorted, without duplicates, not empty. */
export interface TimesOfDay {
  readonly hours: ReadonlyArray<number>
  readonly minutes: ReadonlyArray<number>
  readonly seconds: ReadonlyArray<number>
}

const lowerBound = (sorted: ReadonlyArray<number>, value: number): number => {
  let index = 0
  while (index < sorted.length && (sorted[index] ?? 0) < value) index++
  return index
}

/** Position of the first time of day not before `second` (0..86399); the number of times when there is none. */
const indexFrom = (times: TimesOfDay, second: number): number => {
  const { hours, minutes, seconds } = times
  const hour = Math.floor(second / 3600)
  const minute = Math.floor(second / 60) % 60
  const h = lowerBound(hours, hour)
  const perHour = minutes.length * seconds.length
  if (hours[h] !== hour) return h * perHour
  const m = lowerBound(minutes, minute)
  if (minutes[m] !== minute) return h * perHour + m * seconds.length
  return h * perHour + m * seconds.length + lowerBound(seconds, second % 60)
}

/** The second of the day at a position. */
const secondAt = (times: TimesOfDay, index: number): number => {
  const { hours, minutes, seconds } = times
  const s = index % seconds.length
  const m = Math.floor(index / seconds.length) % minutes.length
  const h = Math.floor(index / (seconds.length * minutes.length))
  return (hours[h] ?? 0) * 3600 + (minutes[m] ?? 0) * 60 + (seconds[s] ?? 0)
}

/** Numbered stretches of whole days: `of` gives the number of a day's period, `start` the first day of a period. */
export interface Periods {
  readonly of: (day: number) => number
  readonly start: (period: number) => number
}

/** Every day a period of its own. */
export const days: Periods = { of: (day) => day, start: (period) => period }

/** Weeks that start on `weekStart`, 0 = Monday. */
export const weeks = (weekStart: number): Periods => ({
  of: (day) => Math.floor((day + 3 - weekStart) / 7),
  start: (period) => period * 7 - 3 + weekStart
})

/** Calendar months. */
export const months: Periods = {
  of: (day) => {
    const { year, month } = dateOf(day)
    return year * 12 + month - 1
  },
  start: (period) => dayOf(Math.floor(period / 12), mod(period, 12) + 1, 1)
}

/** Calendar years. */
export const years: Periods = { of: (day) => dateOf(day).year, start: (period) => dayOf(period, 1, 1) }

/** A set of whole days with times of day, taken from every `interval`-th period. */
export interface CalendarSetOptions {
  readonly filter: DayFilter
  readonly times: TimesOfDay
  readonly periods: Periods
  readonly interval: number
  /** Nothing before it is a member; its period counts as the first. */
  readonly start: number
  /** Which members of a period, from 1, or from -1 backwards; empty for all of them (RFC 5545 BYSETPOS). */
  readonly positions: ReadonlyArray<number>
}

/** The floating set of a rule whose periods are days or longer, and of a cron expression. */
export const calendarSet = (options: CalendarSetOptions): FloatingSet => {
  const { filter, times, periods, interval, positions } = options
  const perDay = times.hours.length * times.minutes.length * times.seconds.length
  const base = Number.isFinite(options.start) ? periods.of(Math.floor(options.start / DAY)) : 0

  /** The first member of the days `first` <= day < `end` not before `second` (seconds since 1970). */
  const earliest = (first: number, end: number, second: number, budget: Budget): number | null => {
    const today = Math.floor(second / 86_400)
    for (let day = Math.max(first, today); day < end && budget.steps > 0; day++) {
      budget.steps--
      if (!filter(day, budget)) continue
      const index = day > today ? 0 : indexFrom(times, second - today * 86_400)
      if (index < perDay) return day * 86_400 + secondAt(times, index)
    }
    return null
  }

  const picked = (first: number, end: number, second: number, budget: Budget): number | null => {
    const members: Array<number> = []
    for (let day = first; day < end; day++) if (filter(day, budget)) members.push(day)
    budget.steps -= end - first
    if (members.length === 0) return null
    budget.steps -= positions.length
    const size = members.length * perDay
    let best: number | null = null
    for (const position of positions) {
      const index = position > 0 ? position - 1 : size + position
      const day = index < 0 ? undefined : members[Math.floor(index / perDay)]
      if (day === undefined) continue
      const at = day * 86_400 + secondAt(times, index % perDay)
      if (at >= second && (best === null || at < best)) best = at
    }
    return best
  }

  const inPeriod = positions.length === 0 ? earliest : picked
  return {
    first: (from, before, budget) => {
      const second = Math.ceil(Math.max(from, options.start) / 1000)
      const period = periods.of(Math.floor(second / 86_400))
      let number = period + mod(base - period, interval)
      while (budget.steps > 0) {
        const start = periods.start(number)
        if (start * DAY >= before) return null
        const at = inPeriod(start, periods.start(number + 1), second, budget)
        if (at !== null) return at * 1000 < before ? at * 1000 : null
        budget.steps--
        number += interval
      }
      return null
    }
  }
}
