import { Schema } from "effect"
import type { Budget } from "./Agent.ts"
import { sizeOf } from "./Json.ts"
import type { JsonValue } from "./Json.ts"

/** What was used of a tool: calls, seconds that they took, bytes of their inputs and outputs as JSON. */
export interface Used {
  /** The tool's address. */
  readonly tool: string
  readonly calls: number
  readonly seconds: number
  readonly bytes: number
}

/** What was used on a day (UTC), to be counted. */
export interface NewUsage extends Used {
  readonly agent_id: string
  /** Such as `2026-03-02`. */
  readonly day: string
}

/** A day's use of a tool, as the API shows it. */
export const UsageOfDay = Schema.Struct({
  day: Schema.String.annotations({ description: "UTC, such as 2026-03-02" }),
  tool: Schema.String,
  calls: Schema.Number,
  seconds: Schema.Number,
  bytes: Schema.Number
}).annotations({ identifier: "UsageOfDay" })
export type UsageOfDay = typeof UsageOfDay.Type

/** The UTC day of an instant, epoch milliseconds. */
export const dayOf = (at: number): string => new Date(at).toISOString().slice(0, 10)

/** Whether a text is a day from 1970 on that the calendar has, such as `2026-03-02`. */
export const isDay = (text: string): boolean => {
  const at = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : NaN
  return at >= 0 && dayOf(at) === text
}

/** More than any input or output has. */
const mostBytes = 32 * 1_048_576

/** Bytes that a value counts as. */
export const bytesOf = (value: JsonValue): number => sizeOf(value, mostBytes) ?? mostBytes

/** Whether the address of a tool matches the pattern of a budget, in which `*` stands for any characters, or none. */
export const matchesTool = (pattern: string, tool: string): boolean => {
  const [first = "", ...rest] = pattern.split("*")
  const last = rest.pop()
  if (last === undefined) return pattern === tool
  if (!tool.startsWith(first)) return false
  let at = first.length
  for (const part of rest) {
    const found = tool.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return tool.length - at >= last.length && tool.endsWith(last)
}

/** What of a budget is used up. */
export interface Exhausted {
  readonly budget: Budget
  readonly limit: "calls" | "seconds" | "bytes"
}

/** The first budget that does not allow another call of a tool with an input of so many bytes, by what the day has used so far. */
export const exhausted = (
  budgets: ReadonlyArray<Budget>,
  used: Iterable<Used>,
  tool: string,
  bytes: number
): Exhausted | undefined => {
  for (const budget of budgets) {
    if (!matchesTool(budget.tool, tool)) continue
    const sum = { calls: 0, seconds: 0, bytes: 0 }
    for (const one of used) {
      if (!matchesTool(budget.tool, one.tool)) continue
      sum.calls += one.calls
      sum.seconds += one.seconds
      sum.bytes += one.bytes
    }
    if (sum.calls + 1 > (budget.calls_per_day ?? Infinity)) return { budget, limit: "calls" }
    if (sum.seconds >= (budget.seconds_per_day ?? Infinity)) return { budget, limit: "seconds" }
    if (sum.bytes + bytes > (budget.bytes_per_day ?? Infinity)) return { budget, limit: "bytes" }
  }
  return undefined
}

/** One entry for each agent, day and tool. */
export const summed = (all: ReadonlyArray<NewUsage>): ReadonlyArray<NewUsage> => {
  const sums = new Map<string, NewUsage>()
  for (const one of all) {
    const key = `${one.agent_id} ${one.day} ${one.tool}`
    const before = sums.get(key)
    sums.set(
      key,
      before === undefined
        ? one
        : {
            ...one,
            calls: before.calls + one.calls,
            seconds: before.seconds + one.seconds,
            bytes: before.bytes + one.bytes
          }
    )
  }
  return [...sums.values()]
}
