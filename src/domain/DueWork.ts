import * as Model from "@effect/sql/Model"
import { Schema } from "effect"
import { AgentId } from "./Agent.ts"
import { RunId, Trigger } from "./Run.ts"
import { TaskId } from "./Task.ts"

/** The key of an occurrence: what can be decided only once for a task. */
export const occurrenceKey = {
  schedule: (scheduledFor: number) => `s:${new Date(scheduledFor).toISOString()}`,
  event: (eventId: string) => `e:${eventId}`,
  condition: (minute: number) => `c:${new Date(minute).toISOString()}`,
  backfill: (backfillId: string, scheduledFor: number) => `b:${backfillId}:${new Date(scheduledFor).toISOString()}`,
  manual: (id: string) => `m:${id}`,
  retry: (runId: string, n: number) => `r:${runId}:${n}`
}

/** Row of table `due_work` as a lease hands it to a worker. `lease_no` is the fencing token. */
export class DueWork extends Schema.Class<DueWork>("DueWork")({
  id: RunId,
  task_id: TaskId,
  task_version: Schema.Int,
  agent_id: AgentId,
  namespace: Schema.String,
  trigger: Trigger,
  key: Schema.String,
  scheduled_for: Model.DateTimeFromDate,
  due_at: Model.DateTimeFromDate,
  priority: Schema.Int,
  /** Rendered, where the task's is a template; null also where that gave none. */
  concurrency_key: Schema.optionalWith(Schema.NullOr(Schema.String), { default: () => null }),
  lease_no: Schema.Int,
  attempt: Schema.Int,
  signals: Schema.Int,
  crashes: Schema.Int,
  cancel_requested_at: Schema.NullOr(Model.DateTimeFromDate),
  started_at: Model.DateTimeFromDate,
  attempt_started_at: Model.DateTimeFromDate,
  /** What the attempt used of its timeout under earlier leases, milliseconds. */
  spent_ms: Schema.Int,
  deadline_at: Schema.NullOr(Model.DateTimeFromDate),
  start_by: Schema.NullOr(Model.DateTimeFromDate),
  event_id: Schema.NullOr(Schema.String),
  parent_run_id: Schema.NullOr(Schema.String),
  hops: Schema.Int,
  traceparent: Schema.NullOr(Schema.String),
  created_at: Model.DateTimeFromDate
}) {}
