import { Schema } from "effect"
import { Instant } from "./Instant.ts"
import { SkipReason } from "./Run.ts"
import { DstMark } from "./ScheduleSpec.ts"

/** A fire time of a task: when it is scheduled, when it is due with its jitter, and its wall time in the task's zone. */
export const Occurrence = Schema.Struct({
  at: Instant,
  due_at: Instant,
  local: Schema.String,
  dst: DstMark,
  note: Schema.NullOr(Schema.Literal("snoozed", "paused", "beyond ends_at"))
}).annotations({ identifier: "Occurrence" })
export type Occurrence = typeof Occurrence.Type

/** A fire time with the task that it belongs to. */
export const Upcoming = Schema.Struct({
  task_id: Schema.String,
  title: Schema.String,
  at: Instant,
  due_at: Instant,
  local: Schema.String
}).annotations({ identifier: "Upcoming" })
export type Upcoming = typeof Upcoming.Type

/** One of the things that must hold for a task to run next. */
export const Check = Schema.Struct({ name: Schema.String, holds: Schema.Boolean, sentence: Schema.String })

/** What the scheduler decided about an occurrence. */
export const Decided = Schema.Struct({
  scheduled_for: Instant,
  decision: Schema.Literal("fired", "skipped"),
  reason: Schema.NullOr(SkipReason),
  run_id: Schema.String,
  decided_at: Instant
})

/** Why a task will or will not run next, or what became of one instant. `reason` is a stable code. */
export const Explanation = Schema.Struct({
  next: Schema.NullOr(Occurrence),
  reason: Schema.String,
  sentence: Schema.String,
  checks: Schema.Array(Check),
  recent: Schema.Array(Decided)
}).annotations({ identifier: "Explanation" })
export type Explanation = typeof Explanation.Type
