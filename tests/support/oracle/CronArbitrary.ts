import * as FastCheck from "fast-check"
import { changesOf, zoneNames } from "./anchors.ts"
import type { CronModel, FieldModel, ItemModel } from "./CronOracle.ts"
import { DAY, MINUTE } from "./RuleModel.ts"

/** A cron expression as text and as model, in a zone, with an instant to ask from. */
export interface CronCase {
  readonly text: string
  readonly cron: CronModel
  readonly zoneName: string
  readonly after: number
}

interface Written<A> {
  readonly text: string
  readonly model: A
}

/** What a field may hold, which values are likelier, and its names in order of its values. */
interface Field {
  readonly min: number
  readonly max: number
  readonly likely: ReadonlyArray<number>
  readonly names: ReadonlyArray<string>
}

const months = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
const weekdays = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]

const fields = {
  second: { min: 0, max: 59, likely: [0, 30], names: [] },
  minute: { min: 0, max: 59, likely: [0, 15, 30, 45, 59], names: [] },
  hour: { min: 0, max: 23, likely: [0, 1, 2, 3, 23], names: [] },
  dayOfMonth: { min: 1, max: 31, likely: [1, 28, 31], names: [] },
  month: { min: 1, max: 12, likely: [3, 10, 11], names: months },
  dayOfWeek: { min: 0, max: 7, likely: [0, 6, 7], names: weekdays }
} satisfies Record<string, Field>

/** A value as a number, or as its name in one of three spellings. */
const spell = (field: Field, value: number, spelling: number): string => {
  const name = field.names[value - field.min]
  if (name === undefined || spelling > 2) return String(value)
  return [name, name.toLowerCase(), `${name.charAt(0)}${name.slice(1).toLowerCase()}`][spelling] ?? name
}

const spelling = FastCheck.nat(6)

const value = (field: Field): FastCheck.Arbitrary<number> =>
  FastCheck.oneof(FastCheck.constantFrom(...field.likely), FastCheck.integer({ min: field.min, max: field.max }))

const stepOf = (field: Field): FastCheck.Arbitrary<number | null> =>
  FastCheck.oneof(
    FastCheck.constant(null),
    FastCheck.constantFrom(2, 3, 5, 15),
    FastCheck.integer({ min: 1, max: field.max })
  )

const written = (item: ItemModel, text: string, step: number | null): Written<ItemModel> => ({
  text: step === null ? text : `${text}/${step}`,
  model: { ...item, step: step ?? 1 }
})

const star = (field: Field): FastCheck.Arbitrary<Written<ItemModel>> =>
  stepOf(field).map((step) => written({ star: true, from: field.min, to: field.max, step: 1 }, "*", step))

const range = (field: Field): FastCheck.Arbitrary<Written<ItemModel>> =>
  FastCheck.tuple(value(field), value(field), stepOf(field), spelling).map(([a, b, step, style]) => {
    const [from, to] = [Math.min(a, b), Math.max(a, b)]
    return written({ star: false, from, to, step: 1 }, `${spell(field, from, style)}-${spell(field, to, style)}`, step)
  })

const single = (field: Field): FastCheck.Arbitrary<Written<ItemModel>> =>
  FastCheck.tuple(value(field), spelling).map(([at, style]) =>
    written({ star: false, from: at, to: at, step: 1 }, spell(field, at, style), null)
  )

const joined = (items: ReadonlyArray<Written<ItemModel>>): Written<FieldModel> => ({
  text: items.map(({ text }) => text).join(","),
  model: items.map(({ model }) => model)
})

/** A field: any value in `wild` of 10, else a list. */
const field = (kind: Field, wild: number): FastCheck.Arbitrary<Written<FieldModel>> =>
  FastCheck.oneof(
    { arbitrary: star(kind).map((item) => joined([item])), weight: wild },
    {
      arbitrary: FastCheck.oneof(
        { arbitrary: FastCheck.array(single(kind), { minLength: 1, maxLength: 3 }), weight: 4 },
        {
          arbitrary: FastCheck.array(FastCheck.oneof(single(kind), range(kind), star(kind)), {
            minLength: 1,
            maxLength: 4
          }),
          weight: 2
        }
      ).map((items) => joined(items)),
      weight: 10 - wild
    }
  )

const always: Written<FieldModel> = { text: "*", model: [{ star: true, from: 0, to: 59, step: 1 }] }

const days = (kind: Field): FastCheck.Arbitrary<Written<FieldModel>> =>
  FastCheck.oneof({ arbitrary: FastCheck.constant(always), weight: 2 }, { arbitrary: field(kind, 3), weight: 1 })

/** The nicknames, and what they stand for. */
const nicknames = [
  ["@yearly", [0], [0], [1], [1], null],
  ["@annually", [0], [0], [1], [1], null],
  ["@monthly", [0], [0], [1], null, null],
  ["@weekly", [0], [0], null, null, [0]],
  ["@daily", [0], [0], null, null, null],
  ["@midnight", [0], [0], null, null, null],
  ["@hourly", [0], null, null, null, null]
] as const

const nicknamed: FastCheck.Arbitrary<Pick<CronCase, "text" | "cron">> = FastCheck.constantFrom(...nicknames).map(
  ([text, minute, hour, dayOfMonth, month, dayOfWeek]) => {
    const model = (part: readonly [number] | null): FieldModel =>
      part === null ? always.model : [{ star: false, from: part[0], to: part[0], step: 1 }]
    return {
      text,
      cron: {
        second: null,
        minute: model(minute),
        hour: model(hour),
        dayOfMonth: model(dayOfMonth),
        month: model(month),
        dayOfWeek: model(dayOfWeek)
      }
    }
  }
)

/** Expressions of five or six fields. */
export const spelled: FastCheck.Arbitrary<Pick<CronCase, "text" | "cron">> = FastCheck.record({
  second: FastCheck.oneof(
    { arbitrary: FastCheck.constant(null), weight: 4 },
    { arbitrary: field(fields.second, 3), weight: 1 }
  ),
  minute: field(fields.minute, 3),
  hour: field(fields.hour, 3),
  dayOfMonth: days(fields.dayOfMonth),
  month: days(fields.month),
  dayOfWeek: days(fields.dayOfWeek)
}).map(({ second, minute, hour, dayOfMonth, month, dayOfWeek }) => ({
  text: [second, minute, hour, dayOfMonth, month, dayOfWeek]
    .flatMap((item) => (item === null ? [] : [item.text]))
    .join(" "),
  cron: {
    second: second?.model ?? null,
    minute: minute.model,
    hour: hour.model,
    dayOfMonth: dayOfMonth.model,
    month: month.model,
    dayOfWeek: dayOfWeek.model
  }
}))

/** Cron expressions of fields, in lists, ranges and steps, and nicknames. */
const cronExpressions = FastCheck.oneof({ arbitrary: spelled, weight: 30 }, { arbitrary: nicknamed, weight: 1 })

/** Cron expressions around the clock changes of many zones. */
export const cronCases: FastCheck.Arbitrary<CronCase> = FastCheck.record({
  expression: cronExpressions,
  zoneName: FastCheck.constantFrom(...zoneNames),
  change: FastCheck.nat(1000),
  before: FastCheck.oneof(FastCheck.constant(0), FastCheck.constant(1), FastCheck.integer({ min: -3, max: 40 })),
  quarters: FastCheck.integer({ min: -12, max: 12 })
}).map(({ expression, zoneName, change, before, quarters }) => ({
  ...expression,
  zoneName,
  after: changesOf(zoneName, change).at - before * DAY + quarters * 15 * MINUTE
}))
