import { Either, Schema } from "effect"
import { DAY, mod, weekdayOf } from "./Calendar.ts"
import { isReserved, Topic } from "./Event.ts"
import { compileCondition } from "./Expression.ts"
import type { Condition, Path } from "./Expression.ts"
import type { ExpressionError } from "./ExpressionError.ts"
import { truth } from "./JmesPath.ts"
import type { JsonObject } from "./Json.ts"
import { InvalidSchedule } from "./Timeline.ts"
import { formatLocal, offsetAt, toLocal } from "./Zone.ts"
import type { Zone } from "./Zone.ts"

const minute = 60_000

/** A schedule of a condition: it fires when its value becomes true. */
export interface OnCondition {
  readonly _tag: "OnCondition"
  /** An event of one of them makes it be looked at. */
  readonly topics: ReadonlyArray<string>
  /** It names `now`, and is looked at once a minute. */
  readonly everyMinute: boolean
  readonly condition: Condition
}

const refuse = (message: string) =>
  Either.left(new InvalidSchedule({ code: "invalid_schedule", field: "schedule_expr", message }))

const known: ReadonlyMap<string, ReadonlyArray<string>> = new Map([
  ["now", ["iso", "epoch", "hour", "minute", "weekday"]],
  ["task", ["id", "title", "labels"]]
])

const isTopic = Schema.is(Topic)

/** Why a path can say nothing; undefined for one that may. */
const problemOf = ([root, second]: Path): string | undefined => {
  if (root === "events") {
    if (typeof second !== "string")
      return 'a topic is named in quotes, such as events."orders.created".total: it must be known which events a condition waits for'
    if (!isTopic(second)) return `${JSON.stringify(second)} is no topic`
    return isReserved(second)
      ? `a condition hears no topics below ordinaut; use an event task with the pattern ${second}`
      : undefined
  }
  const fields = root === undefined ? undefined : known.get(String(root))
  if (fields === undefined)
    return `a condition reads events, now and task${root === undefined ? " by their names" : `; there is no ${root}`}`
  return second === undefined || fields.includes(String(second))
    ? undefined
    : `${root} has ${fields.join(", ")}; there is no ${second}`
}

/** Reads the schedule of a `condition` task: JMESPath over `events`, `now` and `task`, whose topics are known without data. */
export const onCondition = (expr: string): Either.Either<OnCondition, InvalidSchedule> =>
  Either.gen(function* () {
    const condition = yield* Either.orElse(compileCondition(expr, ""), ({ message }) => refuse(message))
    for (const path of condition.references) {
      const problem = problemOf(path)
      if (problem !== undefined) return yield* refuse(problem)
    }
    const topics = [
      ...new Set(condition.references.flatMap(([root, topic]) => (root === "events" ? [String(topic)] : [])))
    ]
    const everyMinute = condition.references.some(([root]) => root === "now")
    if (topics.length === 0 && !everyMinute)
      return yield* refuse('it names no topic (events."orders.created") and no now: nothing could ever change it')
    return { _tag: "OnCondition", topics, everyMinute, condition }
  })

/** The minute that an instant lies in, and the one after it, as instants. */
export const minuteOf = (at: number): number => Math.floor(at / minute) * minute
export const nextMinute = (at: number): number => minuteOf(at) + minute

const pad = (value: number) => String(value).padStart(2, "0")

/** What `now` is in a condition: the wall clock of the zone; `epoch` in seconds, `weekday` 1 (Monday) to 7 (ISO 8601). */
export const nowIn = (zone: Zone, at: number): JsonObject => {
  const local = toLocal(zone, at)
  const east = Math.round(offsetAt(zone, at) / minute)
  const offset = `${east < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(east) / 60))}:${pad(Math.abs(east) % 60)}`
  return {
    iso: `${formatLocal(local)}${offset}`,
    epoch: Math.floor(at / 1000),
    hour: Math.floor(mod(local, DAY) / 3_600_000),
    minute: Math.floor(mod(local, 3_600_000) / minute),
    weekday: weekdayOf(Math.floor(local / DAY)) + 1
  }
}

/** What a condition is evaluated over: the last payload of each topic, an instant in the task's zone, and the task. */
export interface Circumstances {
  readonly events: JsonObject
  readonly at: number
  readonly zone: Zone
  readonly task: JsonObject
}

/** The value of a condition by JMESPath's rule of truth; a topic that nothing was said on is null. */
export const evaluate = (
  { condition }: OnCondition,
  { at, events, task, zone }: Circumstances
): Either.Either<boolean, ExpressionError> => truth(condition.query, { events, now: nowIn(zone, at), task })
