/** Milliseconds of a civil day. */
export const DAY = 86_400_000

/** 400 years of the Gregorian calendar, after which dates and weekdays repeat exactly. Milliseconds. */
export const GREGORIAN_CYCLE = 146_097 * DAY

/** The remainder that is never negative. */
export const mod = (value: number, by: number): number => value - Math.floor(value / by) * by

/** A date of the proleptic Gregorian calendar: `month` 1..12, `day` 1..31. */
export interface CivilDate {
  readonly year: number
  readonly month: number
  readonly day: number
}

/**
 * Days since 1970-01-01 of a date. Own arithmetic, because `Date.UTC` reads the years 0..99 as 1900..1999.
 * Source: H. Hinnant, "chrono-compatible low-level date algorithms", days_from_civil.
 */
export const dayOf = (year: number, month: number, day: number): number => {
  const y = month <= 2 ? year - 1 : year
  const era = Math.floor(y / 400)
  const yearOfEra = y - era * 400
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  return era * 146_097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear - 719_468
}

/** The date of a day number; the inverse of `dayOf` (civil_from_days). */
export const dateOf = (dayNumber: number): CivilDate => {
  const z = dayNumber + 719_468
  const era = Math.floor(z / 146_097)
  const dayOfEra = z - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const shifted = Math.floor((5 * dayOfYear + 2) / 153)
  const month = shifted < 10 ? shifted + 3 : shifted - 9
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * shifted + 2) / 5) + 1
  }
}

/** Day of the week of a day number, 0 = Monday .. 6 = Sunday. */
export const weekdayOf = (dayNumber: number): number => mod(dayNumber + 3, 7)

/** 365 or 366. */
export const daysInYear = (year: number): number => dayOf(year + 1, 1, 1) - dayOf(year, 1, 1)

/** 28..31; `month` 1..12. */
export const daysInMonth = (year: number, month: number): number =>
  dayOf(month === 12 ? year + 1 : year, month === 12 ? 1 : month + 1, 1) - dayOf(year, month, 1)

/**
 * A wall-clock reading as milliseconds since 1970-01-01T00:00:00 on that clock ("fake UTC").
 * Undefined when there is no such date or time of day (30 February, 24:00, a leap second) or the year is not 1..9999.
 */
export const wallClock = (
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  second: number
): number | undefined =>
  year < 1 ||
  year > 9999 ||
  month < 1 ||
  month > 12 ||
  day < 1 ||
  day > daysInMonth(year, month) ||
  hour > 23 ||
  minute > 59 ||
  second > 59
    ? undefined
    : dayOf(year, month, day) * DAY + ((hour * 60 + minute) * 60 + second) * 1000
