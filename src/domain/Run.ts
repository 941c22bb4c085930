import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import { Instant } from "./Instant.ts"
import { JsonValue, MadeJson, MadeObject } from "./Json.ts"

export const RunId = Schema.UUID.pipe(Schema.brand("RunId"))
export type RunId = typeof RunId.Type

/** `queued`, `running` and `waiting` are under way; the other four are final. */
export const RunState = Schema.Literal("queued", "running", "waiting", "succeeded", "failed", "canceled", "skipped")
export type RunState = typeof RunState.Type

/** What caused a run. */
export const Trigger = Schema.Literal("schedule", "manual", "event", "condition", "backfill", "retry")
export type Trigger = typeof Trigger.Type

/** Why an occurrence was decided without a run. */
export const SkipReason = Schema.Literal(
  "misfire",
  "overlap",
  "dedupe",
  "paused",
  "edited",
  "expired",
  "canceled",
  "quarantined",
  "quota"
)
export type SkipReason = typeof SkipReason.Type

/** How a run or a step failed: a stable code, a sentence, and whether another attempt may help. */
export const RunError = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  step_id: Schema.NullOr(Schema.String),
  retryable: Schema.Boolean
}).annotations({ identifier: "RunError" })
export type RunError = typeof RunError.Type

/** One try of a run; after a rescue the worker is that of the last lease. */
export const Attempt = Schema.Struct({
  attempt: Schema.Int,
  worker_id: Schema.NullOr(Schema.String),
  started_at: Schema.NullOr(Instant),
  finished_at: Schema.NullOr(Instant),
  error: Schema.NullOr(RunError)
}).annotations({ identifier: "Attempt" })
export type Attempt = typeof Attempt.Type

export const StepState = Schema.Literal("pending", "running", "waiting", "succeeded", "failed", "skipped", "canceled")
export type StepState = typeof StepState.Type

/** A line that `core.log` left. */
export const LogLine = Schema.Struct({ at: Instant, level: Schema.String, message: Schema.String, data: JsonValue })
export type LogLine = typeof LogLine.Type

/**
 * How much of its inputs and outputs a run shows: all of them, none, or, where that is not said, all in `output` and in `steps` only
 * what is small where the whole is large.
 */
export const ShownValues = Schema.Literal("all", "none")
export type ShownValues = typeof ShownValues.Type

/** What became of one step; `input` is as it was rendered. */
export const RunStep = Schema.Struct({
  id: Schema.String,
  uses: Schema.String,
  state: StepState,
  attempt: Schema.NullOr(Schema.Int),
  input: MadeJson,
  output: MadeJson,
  error: Schema.NullOr(RunError),
  logs: Schema.Array(LogLine),
  started_at: Schema.NullOr(Instant),
  finished_at: Schema.NullOr(Instant),
  simulated: Schema.Boolean,
  omitted: Schema.Array(Schema.Literal("input", "output")).annotations({
    description:
      "what is null here because it is large, and not because there is none: outputs are in the run's `output`, and `?values=all` shows all"
  }),
  /** Null but for a step that runs over an array. */
  items: Schema.NullOr(Schema.Struct({ total: Schema.Int, succeeded: Schema.Int, failed: Schema.Int })).annotations({
    description: "of a for_each: how many elements have begun, and how they ended"
  })
}).annotations({ identifier: "RunStep" })
export type RunStep = typeof RunStep.Type

/** What became of one element of a step that runs over an array. */
export const RunItem = Schema.Struct({
  index: Schema.Int,
  state: StepState,
  attempt: Schema.Int,
  input: MadeJson,
  output: MadeJson,
  error: Schema.NullOr(RunError),
  logs: Schema.Array(LogLine),
  started_at: Schema.NullOr(Instant),
  finished_at: Schema.NullOr(Instant),
  simulated: Schema.Boolean
}).annotations({ identifier: "RunItem" })
export type RunItem = typeof RunItem.Type

const summary = {
  id: RunId,
  task_id: Schema.String,
  trigger: Trigger,
  scheduled_for: Instant,
  due_at: Instant,
  task_version: Schema.Int,
  priority: Schema.Int,
  labels: Schema.Record({ key: Schema.String, value: Schema.String }),
  simulated: Schema.Boolean,
  parent_run_id: Schema.NullOr(Schema.String),
  retry_of: Schema.NullOr(Schema.String),
  event_id: Schema.NullOr(Schema.String),
  skip_reason: Schema.NullOr(SkipReason),
  skipped_count: Schema.NullOr(Schema.Int),
  skipped_from: Schema.NullOr(Instant),
  skipped_to: Schema.NullOr(Instant),
  state: RunState,
  attempt: Schema.Int,
  started_at: Schema.NullOr(Instant),
  finished_at: Schema.NullOr(Instant),
  lag_ms: Schema.NullOr(Schema.Int),
  error: Schema.NullOr(RunError),
  trace_id: Schema.NullOr(Schema.String),
  created_at: Instant
}

/** A run as the list shows it. */
export const RunSummary = Schema.Struct(summary).annotations({ identifier: "RunSummary" })
export type RunSummary = typeof RunSummary.Type

/** A run as GET /runs/{id} shows it. */
export const Run = Schema.Struct({
  ...summary,
  /** All events that the run stands for, oldest first; `event_id` is the last. */
  event_ids: Schema.Array(Schema.String),
  attempts: Schema.Array(Attempt),
  output: Schema.NullOr(Schema.Struct({ steps: MadeObject })),
  steps: Schema.Array(RunStep)
}).annotations({ identifier: "Run" })
export type Run = typeof Run.Type

/** No such run, or not visible to this agent. */
export class RunNotFound extends Schema.TaggedError<RunNotFound>()(
  "RunNotFound",
  { run_id: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

/** The run has ended; an end is final. */
export class RunFinished extends Schema.TaggedError<RunFinished>()(
  "RunFinished",
  { run_id: Schema.String, state: RunState },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** The run has no such step. */
export class StepNotFound extends Schema.TaggedError<StepNotFound>()(
  "StepNotFound",
  { run_id: Schema.String, step_id: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}
