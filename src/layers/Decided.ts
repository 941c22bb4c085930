import type { Decision } from "../domain/Decision.ts"
import type { JsonValue } from "../domain/Json.ts"
import type { Trigger } from "../domain/Run.ts"
import type { MisfirePolicy } from "../domain/Task.ts"
import type { ScheduledTask } from "./TaskRows.ts"

/** What caused the occurrences that are decided. */
export interface Origin {
  readonly trigger: Trigger
  readonly key: (scheduledFor: number) => string
  readonly event_id?: string
  readonly hops?: number
  readonly traceparent?: string
  /** The event that causes the runs, as they see it. */
  readonly seen?: JsonValue
  /** What the runs are given beside the event of that id. */
  readonly input?: JsonValue
}

/** A task with what becomes of its due occurrences. */
export interface Decided {
  readonly task: ScheduledTask
  readonly decision: Decision
  /** The task's own schedule when absent. */
  readonly origin?: Origin
  /** What the late ones were decided by. */
  readonly policy?: MisfirePolicy
}
