import { Either } from "effect"
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

/** The cursor of a new or changed schedule: its first occurrence after now. An event schedule has none. */
export const start = (
  taskId: string,
  fields: ScheduleFields,
  rules: { readonly now: number; readonly graceSeconds: number; readonly jitterSeconds: number }
): Either.Either<Cursor, InvalidSchedule> =>
  Either.gen(function* () {
    const plan = yield* TaskSchedule.read(fields)
    const none = {
      decidedThrough: rules.now,
      next: null,
      nextDueAt: null,
      dtstart: fields.dtstart,
      countEnd: null,
      tzdataVersion
    }
    if (plan._tag === "OnEvent") return none
    const first = yield* TaskSchedule.firstOccurrence(plan, fields.kind, rules.now, rules.graceSeconds)
    return {
      ...none,
      decidedThrough: Math.min(rules.now, first - 1),
      next: first,
      nextDueAt: dueAt(taskId, first, plan.timeline.next(first), rules.jitterSeconds),
      dtstart: plan.schedule.dtstart,
      countEnd: plan.schedule.countEnd
    }
  })
