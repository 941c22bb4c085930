import { Either } from "effect"

/** One of the fields of a cron expression: its name, its numbers, and the names that stand for numbers. */
export interface CronField {
  readonly name: string
  readonly low: number
  readonly high: number
  readonly names: ReadonlyArray<string>
  /** The RRULE part that names the same thing, for hints. */
  readonly part: string
}

/** The fields in their order, seconds first. Day of week is 0..7, where 7 is Sunday again. */
export const cronFields = {
  second: { name: "second", low: 0, high: 59, names: [], part: "BYSECOND" },
  minute: { name: "minute", low: 0, high: 59, names: [], part: "BYMINUTE" },
  hour: { name: "hour", low: 0, high: 23, names: [], part: "BYHOUR" },
  day: { name: "day of month", low: 1, high: 31, names: [], part: "BYMONTHDAY" },
  month: {
    name: "month",
    low: 1,
    high: 12,
    names: ["", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    part: "BYMONTH"
  },
  weekday: {
    name: "day of week",
    low: 0,
    high: 7,
    names: ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    part: "BYDAY"
  }
} as const satisfies Record<string, CronField>

/** What a field allows: its numbers, ascending, and whether it begins with `*`, which changes what days it combines to. */
export interface FieldValues {
  readonly values: ReadonlyArray<number>
  readonly star: boolean
}

const refuse = (message: string): Either.Either<never, string> => Either.left(message)

/** The value of RRULE's BYDAY, BYMONTH, ... that lists the same numbers. */
const listed = (field: CronField, values: ReadonlyArray<number>): string =>
  `${field.part}=${values.map((value) => (field.part === "BYDAY" ? ["SU", "MO", "TU", "WE", "TH", "FR", "SA"][value % 7] : value)).join(",")}`

/** What Quartz and others add to cron, by the sign it is known by, and the RRULE that says it. */
const foreign = (field: CronField, item: string): string | undefined => {
  const at = `${field.name}: "${item}"`
  if (item.includes("?")) return `${at}: write * for ?, or as an RRULE leave ${field.part} out`
  if (item.includes("#")) return `${at}: # is not cron; as an RRULE: FREQ=MONTHLY;BYDAY=2MO (the second Monday)`
  if (/^\d*L$|^L-\d+$|^[A-Z]{3}L$/.test(item)) {
    return `${at}: L is not cron; as an RRULE: FREQ=MONTHLY;BYMONTHDAY=-1 (the last day), BYDAY=-1FR (the last Friday)`
  }
  if (/^(\d+|L)W$/.test(item)) {
    return `${at}: W is not cron; as an RRULE: FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1 (the last working day)`
  }
  return undefined
}

const numbers = (low: number, high: number, step: number): ReadonlyArray<number> =>
  Array.from({ length: Math.max(0, Math.floor((high - low) / step) + 1) }, (_, index) => low + index * step)

const one = (field: CronField, text: string): number | undefined => {
  const named = text === "" ? -1 : field.names.indexOf(text)
  const value = named >= 0 ? named : /^\d{1,2}$/.test(text) ? Number(text) : -1
  return value >= field.low && value <= field.high ? value : undefined
}

const parseItem = (field: CronField, item: string): Either.Either<ReadonlyArray<number>, string> => {
  if (item === "") return refuse(`${field.name}: an item is empty`)
  const hint = foreign(field, item)
  if (hint !== undefined) return refuse(hint)
  const [range = "", stepText, ...rest] = item.split("/")
  const step = stepText === undefined ? 1 : /^\d{1,4}$/.test(stepText) ? Number(stepText) : 0
  if (rest.length > 0 || step < 1) return refuse(`${field.name}: "${item}": the step after / must be 1 or more`)
  if (range === "*") return Either.right(numbers(field.low, field.high, step))
  const [fromText = "", toText, ...more] = range.split("-")
  const from = one(field, fromText)
  const to = toText === undefined ? from : one(field, toText)
  if (from === undefined || to === undefined || more.length > 0) {
    return refuse(
      `${field.name}: "${item}" is not within ${field.low}-${field.high}${field.names.length > 0 ? ` or ${field.names.filter((n) => n !== "").join(" ")}` : ""}`
    )
  }
  if (from > to) {
    const wrapped = [...numbers(from, field.part === "BYDAY" ? 6 : field.high, step), ...numbers(field.low, to, step)]
    return refuse(
      `${field.name}: the range "${item}" runs backwards; list its halves, or as an RRULE: ${listed(field, wrapped)}`
    )
  }
  if (stepText !== undefined && toText === undefined) {
    const list = listed(field, numbers(from, field.part === "BYDAY" ? 6 : field.high, step))
    return refuse(`${field.name}: "${item}": a step needs * or a range before it; as an RRULE: ${list}`)
  }
  return Either.right(numbers(from, to, step))
}

/** Reads one field; fails with a sentence that names it and, where there is one, the RRULE that says the same. */
export const parseField = (field: CronField, text: string): Either.Either<FieldValues, string> =>
  Either.gen(function* () {
    const found = new Set<number>()
    for (const item of text.toUpperCase().split(",")) {
      for (const value of yield* parseItem(field, item)) found.add(field.part === "BYDAY" ? value % 7 : value)
    }
    return { values: [...found].sort((a, b) => a - b), star: text.startsWith("*") }
  })
