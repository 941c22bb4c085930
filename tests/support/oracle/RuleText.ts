import type { DateTime, SetModel } from "./RecurrenceOracle.ts"
import { weekdays } from "./RuleModel.ts"
import type { RuleModel } from "./RuleModel.ts"

const two = (value: number): string => String(value).padStart(2, "0")

/** `YYYYMMDDTHHMMSS` of fake-UTC milliseconds, with a Z for an instant. */
export const dateTimeText = ({ at, utc }: DateTime): string => {
  const date = new Date(at)
  const day = `${date.getUTCFullYear()}${two(date.getUTCMonth() + 1)}${two(date.getUTCDate())}`
  return `${day}T${two(date.getUTCHours())}${two(date.getUTCMinutes())}${two(date.getUTCSeconds())}${utc ? "Z" : ""}`
}

/** The rule as RFC 5545 writes it. */
export const ruleText = (rule: RuleModel): string => {
  const days = rule.byday?.map(({ ordinal, weekday }) => `${ordinal ?? ""}${weekdays[weekday]}`) ?? null
  const parts: ReadonlyArray<readonly [string, unknown]> = [
    ["FREQ", rule.freq],
    ["INTERVAL", rule.interval === 1 ? null : rule.interval],
    ["COUNT", rule.count],
    ["UNTIL", rule.until === null ? null : dateTimeText(rule.until)],
    ["WKST", rule.wkst === null ? null : weekdays[rule.wkst]],
    ["BYMONTH", rule.bymonth],
    ["BYWEEKNO", rule.byweekno],
    ["BYYEARDAY", rule.byyearday],
    ["BYMONTHDAY", rule.bymonthday],
    ["BYDAY", days],
    ["BYHOUR", rule.byhour],
    ["BYMINUTE", rule.byminute],
    ["BYSECOND", rule.bysecond],
    ["BYSETPOS", rule.bysetpos]
  ]
  return parts.flatMap(([name, value]) => (value === null ? [] : [`${name}=${String(value)}`])).join(";")
}

/** The lines of a set beside its rule: a start as given, dates added, dates removed. */
export const lineTexts = (set: SetModel, start: DateTime | null, withZone: boolean): ReadonlyArray<string> => {
  const zoned = `;TZID=${set.zone.name}`
  const dates = (name: string, items: ReadonlyArray<DateTime>) => {
    const local = items.filter(({ utc }) => !utc).map((item) => dateTimeText(item))
    const utc = items.filter((item) => item.utc).map((item) => `${name}:${dateTimeText(item)}`)
    return local.length === 0 ? utc : [...utc, `${name}${zoned}:${local.join(",")}`]
  }
  const first = start === null ? [] : [`DTSTART${withZone ? zoned : ""}:${dateTimeText(start)}`]
  return [...first, ...dates("RDATE", set.rdates), ...dates("EXDATE", set.exdates)]
}
