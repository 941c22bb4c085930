import { Either } from "effect"
import { onCondition } from "./ConditionSpec.ts"
import type { OnCondition } from "./ConditionSpec.ts"
import { parsePattern } from "./Event.ts"
import type { TopicPattern } from "./Event.ts"
import { compileCondition } from "./Expression.ts"
import type { Condition } from "./Expression.ts"
import { bounded, compile } from "./ScheduleSpec.ts"
import type { CompiledSchedule, ScheduleKind } from "./ScheduleSpec.ts"
import { InvalidSchedule } from "./Timeline.ts"
import type { Timeline } from "./Timeline.ts"
import { find } from "./Zone.ts"

/** The fields of a task that say when it runs; instants are epoch milliseconds. */
export interface ScheduleFields {
  readonly kind: ScheduleKind
  readonly expr: string
  readonly timezone: string
  /** As it was given, local wall time; null where the start is made from `createdAt`. */
  readonly dtstart: string | null
  readonly createdAt: number
  readonly startsAt: number | null
  readonly endsAt: number | null
  readonly minIntervalSeconds?: number
  readonly countEnd?: number | null
}

/** A schedule of time, within its bounds. */
export interface Timed {
  readonly _tag: "Timed"
  readonly schedule: CompiledSchedule
  readonly timeline: Timeline
}

/** A schedule of events: a topic pattern, and a filter over `event` and `now`. */
export interface OnEvent {
  readonly _tag: "OnEvent"
  readonly pattern: TopicPattern
  readonly filter: Condition | null
}

const refuse = (message: string) => new InvalidSchedule({ code: "invalid_schedule", field: "schedule_expr", message })

const unknownZone = (name: string) =>
  new InvalidSchedule({
    code: "unknown_timezone",
    field: "timezone",
    message: `"${name}" is no IANA zone name such as Europe/Chisinau`
  })

/** Reads the schedule of an `event` task: `<topic pattern>` or `<topic pattern> if <JMESPath>`. */
export const onEvent = (expr: string): Either.Either<OnEvent, InvalidSchedule> =>
  Either.gen(function* () {
    const [, topic = "", condition] = /^\s*(\S+)(?:\s+if\s+([^]+))?\s*$/.exec(expr) ?? []
    const pattern = yield* Either.mapLeft(parsePattern(topic), refuse)
    const filter =
      condition === undefined
        ? null
        : yield* Either.mapLeft(compileCondition(condition, ""), ({ message }) => refuse(message))
    const stranger = filter?.references.find(([root]) => root !== "event" && root !== "now")
    if (stranger !== undefined)
      return yield* Either.left(refuse(`a filter reads event and now; there is no ${stranger.join(".")} here`))
    return { _tag: "OnEvent", pattern, filter }
  })

/** Reads a task's schedule; the Left names the field that is wrong. */
export const read = (fields: ScheduleFields): Either.Either<Timed | OnEvent | OnCondition, InvalidSchedule> => {
  if (fields.kind === "event" || fields.kind === "condition") {
    if (find(fields.timezone) === undefined) return Either.left(unknownZone(fields.timezone))
    return fields.kind === "event" ? onEvent(fields.expr) : onCondition(fields.expr)
  }
  return Either.map(compile({ ...fields, kind: fields.kind }), (schedule) => ({
    _tag: "Timed",
    schedule,
    timeline: bounded(schedule, fields)
  }))
}

/** What a schedule waits for, in words. */
export const describe = (plan: Timed | OnEvent | OnCondition): string => {
  if (plan._tag === "Timed") return plan.schedule.description
  if (plan._tag === "OnEvent") {
    const filter = plan.filter === null ? "" : `, if ${plan.filter.text}`
    return `at every event of ${plan.pattern.words.join(".")}${filter}`
  }
  const looks = [
    ...(plan.topics.length === 0 ? [] : [`on events of ${plan.topics.join(", ")}`]),
    ...(plan.everyMinute ? ["once a minute"] : [])
  ]
  return `when it becomes true; looked at ${looks.join(" and ")}`
}

/** The first occurrence of a schedule strictly after `after`. Fails where nothing is left to fire. */
export const firstOccurrence = (
  { schedule, timeline }: Timed,
  kind: ScheduleKind,
  after: number
): Either.Either<number, InvalidSchedule> => {
  const first = timeline.next(after)
  if (first !== null) return Either.right(first)
  const past = kind === "once" && schedule.next(-Infinity) !== null
  return Either.left(
    new InvalidSchedule({
      code: past ? "in_the_past" : "never_fires",
      field: "schedule_expr",
      message: past
        ? "the instant has passed, or lies outside starts_at and ends_at"
        : "the schedule has no occurrence after now"
    })
  )
}
