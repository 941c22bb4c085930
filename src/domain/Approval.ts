import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import { Instant } from "./Instant.ts"
import { JsonValue } from "./Json.ts"

/** A decision that a run waits for. */
export const Approval = Schema.Struct({
  id: Schema.String,
  run_id: Schema.String,
  task_id: Schema.String,
  step_id: Schema.String,
  /** The element of a for_each; null outside of one. */
  index: Schema.NullOr(Schema.Int),
  message: JsonValue,
  data: JsonValue,
  /** Names of the agents that may decide; of none, the run's owner and the admins of its namespace. */
  approvers: Schema.Array(Schema.String),
  expires_at: Schema.NullOr(Instant),
  created_at: Instant
}).annotations({ identifier: "Approval" })
export type Approval = typeof Approval.Type

/** Body of POST /runs/{id}/steps/{step_id}/decide. */
export const Decision = Schema.Struct({
  decision: Schema.Literal("approved", "rejected"),
  data: Schema.optionalWith(JsonValue, { exact: true }),
  comment: Schema.optionalWith(Schema.String.pipe(Schema.maxLength(2000)), { exact: true }),
  /** Which element, where the step runs over an array. */
  index: Schema.optionalWith(Schema.Int.pipe(Schema.between(0, 9999)), { exact: true })
}).annotations({ identifier: "Decision", parseOptions: { onExcessProperty: "error", errors: "all" } })
export type Decision = typeof Decision.Type

/** What the step's output is then. */
export const Decided = Schema.Struct({
  status: Schema.Literal("approved", "rejected"),
  data: JsonValue,
  comment: Schema.NullOr(Schema.String),
  /** Id of the agent. */
  decided_by: Schema.String,
  decided_at: Instant
}).annotations({ identifier: "Decided" })
export type Decided = typeof Decided.Type

/** Nothing of this run waits for a decision of this agent there. */
export class ApprovalNotFound extends Schema.TaggedError<ApprovalNotFound>()(
  "ApprovalNotFound",
  { run_id: Schema.String, step_id: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

/** The decision was made before, or its time is over: the first end holds. */
export class AlreadyDecided extends Schema.TaggedError<AlreadyDecided>()(
  "AlreadyDecided",
  { run_id: Schema.String, step_id: Schema.String, reason: Schema.Literal("decided", "expired") },
  HttpApiSchema.annotations({ status: 409 })
) {}
