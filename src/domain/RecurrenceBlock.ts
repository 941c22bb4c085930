import { Either } from "effect"
import { parseDateTime, parseRule } from "./RecurrenceRule.ts"
import type { DateTimeValue, Refusal, Rule } from "./RecurrenceRule.ts"

/** What a recurrence expression says: its one rule, its start if it names one, added and removed date-times. */
export interface Block {
  readonly rule: Rule
  readonly dtstart: DateTimeValue | null
  readonly rdates: ReadonlyArray<DateTimeValue>
  readonly exdates: ReadonlyArray<DateTimeValue>
}

const refuse = (message: Refusal): Either.Either<never, Refusal> => Either.left(message)

/** The date-times of a DTSTART, RDATE or EXDATE line. Only TZID keeps its case. */
const dateTimes = (
  name: string,
  parameters: ReadonlyArray<string>,
  value: string,
  zoneName: string
): Either.Either<ReadonlyArray<DateTimeValue>, Refusal> => {
  let named = false
  for (const parameter of parameters) {
    const [key = "", ...rest] = parameter.split("=")
    const text = rest.join("=")
    if (key.toUpperCase() === "VALUE" && text.toUpperCase() === "DATE-TIME") continue
    if (key.toUpperCase() !== "TZID") return refuse(`${name}: ${parameter} is not supported, only date-times are`)
    if (text !== zoneName) return refuse(`${name}: TZID=${text} is not the schedule's zone ${zoneName}`)
    named = true
  }
  const found: Array<DateTimeValue> = []
  for (const item of value.toUpperCase().split(",")) {
    const at = parseDateTime(item)
    if (at === undefined) return refuse(`${name}: "${item}" is no real date-time (YYYYMMDDTHHMMSS, Z for UTC)`)
    if (at.utc && named) return refuse(`${name}: ${item} is UTC (Z) and has a TZID`)
    found.push(at)
  }
  return Either.right(found)
}

/**
 * Reads a recurrence expression: one RRULE value, or the lines DTSTART, RRULE, RDATE and EXDATE of RFC 5545 §3.8.5 in any
 * order, folded lines joined. Date-times are in the zone named `zoneName` unless they end in Z.
 */
export const parseBlock = (expr: string, zoneName: string): Either.Either<Block, Refusal> =>
  Either.gen(function* () {
    const lines = expr
      .replace(/\r?\n[ \t]/g, "")
      .split(/\r?\n/)
      .map((line) => line.trim())
      .filter((line) => line !== "")
    let rule: Rule | null = null
    let dtstart: DateTimeValue | null = null
    const rdates: Array<DateTimeValue> = []
    const exdates: Array<DateTimeValue> = []
    for (const line of lines) {
      const colon = line.indexOf(":")
      const [property = "", ...parameters] = colon < 0 ? ["RRULE"] : line.slice(0, colon).split(";")
      const name = property.toUpperCase()
      const value = line.slice(colon + 1)
      if (name === "RRULE") {
        if (rule !== null) return yield* refuse("there is more than one RRULE")
        if (parameters.length > 0) return yield* refuse("RRULE takes no parameters")
        rule = yield* parseRule(value)
      } else if (name === "DTSTART") {
        if (dtstart !== null) return yield* refuse("there is more than one DTSTART")
        const [start, second] = yield* dateTimes(name, parameters, value, zoneName)
        if (start === undefined || second !== undefined) return yield* refuse("DTSTART takes one date-time")
        dtstart = start
      } else if (name === "RDATE" || name === "EXDATE") {
        const list = name === "RDATE" ? rdates : exdates
        list.push(...(yield* dateTimes(name, parameters, value, zoneName)))
      } else if (name === "EXRULE") {
        return yield* refuse("EXRULE is not supported; name the days with EXDATE")
      } else {
        return yield* refuse(`"${property}" is not one of DTSTART, RRULE, RDATE, EXDATE`)
      }
    }
    return rule === null ? yield* refuse("there is no RRULE") : { rule, dtstart, rdates, exdates }
  })
