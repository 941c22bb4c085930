import { Either } from "effect"
import { nextMinute } from "./ConditionSpec.ts"
import { dueAt } from "./ScheduleSpec.ts"
import type { ScheduleFields } from "./TaskSchedule.ts"
import * as TaskSchedule from "./TaskSchedule.ts"
import type { InvalidSchedule } from "./Timeline.ts"
import { tzdataVersion } from "./Zone.ts"

/** Where a task stands on its schedule; instants are epoch milliseconds. All through `decidedThrough` is decided. */
export interface Cursor {
  readonly decidedThrough: number
  readonly next: number | null
  readonly nextDueAt: number | null
  /** The start that holds, local wall time. */
  readonly dtstart: string | null
  readonly countEnd: number | null
  readonly tzdataVersion: string
}

/** When a schedule is read and what it begins with. */
export interface Rules {
  readonly now: number
  readonly graceSeconds: number
  readonly jitterSeconds: number
  /** Of a changed schedule: what the one before it decided, which may reach past now. */
  readonly decidedThrough?: number
}

/**
 * The cursor of a new or changed schedule: its first occurrence after now, or after what is decided already; a new `once` whose
 * instant passed within the grace still counts. An event schedule has none, and a
 * condition that names `now` is only looked at again, at the next minute.
 */
export const start = (
  taskId: string,
  fields: ScheduleFields,
  { decidedThrough = -Infinity, graceSeconds, jitterSeconds, now }: Rules
): Either.Either<Cursor, InvalidSchedule> =>
  Either.gen(function* () {
    const plan = yield* TaskSchedule.read(fields)
    const decided = Math.max(now, decidedThrough)
    const none = {
      decidedThrough: decided,
      next: null,
      nextDueAt: null,
      dtstart: fields.dtstart,
      countEnd: null,
      tzdataVersion
    }
    if (plan._tag === "OnEvent") return none
    if (plan._tag === "OnCondition") return { ...none, nextDueAt: plan.everyMinute ? nextMinute(decided) : null }
    const renewed = decidedThrough > -Infinity
    const after = fields.kind === "once" && !renewed ? now - graceSeconds * 1000 - 1 : decided
    const first = yield* TaskSchedule.firstOccurrence(plan, fields.kind, after)
    return {
      ...none,
      decidedThrough: Math.min(decided, first - 1),
      next: first,
      nextDueAt: dueAt(taskId, first, plan.timeline.next(first), jitterSeconds),
      dtstart: plan.schedule.dtstart,
      countEnd: plan.schedule.countEnd
    }
  })
