import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import { Instant } from "./Instant.ts"
import { JsonValue } from "./Json.ts"
import { ToolAddress } from "./PipelineSpec.ts"
import { ErrorCode } from "./StepFailed.ts"

const strict = { parseOptions: { onExcessProperty: "error", errors: "all" } } as const
const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

const LeaseSeconds = Schema.Int.pipe(Schema.between(5, 3600))

/** Body of POST /work/lease. */
export const WorkWanted = Schema.Struct({
  /** Addresses of the tools that the worker can do; of none, all that its agent serves. */
  tools: Schema.optionalWith(Schema.Array(ToolAddress).pipe(Schema.maxItems(200)), { exact: true, default: () => [] }),
  limit: Schema.optionalWith(Schema.Int.pipe(Schema.between(1, 100)), { exact: true, default: () => 1 }),
  /** How long the answer may be waited for while there is nothing to do. */
  wait_seconds: Schema.optionalWith(Schema.JsonNumber.pipe(Schema.between(0, 30)), { exact: true, default: () => 0 }),
  /** How long the items are the worker's, unless it heartbeats. */
  lease_seconds: Schema.optionalWith(LeaseSeconds, { exact: true, default: () => 60 })
}).annotations({ identifier: "WorkWanted", ...strict })
export type WorkWanted = typeof WorkWanted.Type

/** A step that an external worker is to do. `lease` grows at every lease of the item: the fencing token. */
export const WorkItem = Schema.Struct({
  id: Schema.String,
  lease_token: Schema.String,
  tool: Schema.String,
  input: JsonValue,
  run_id: Schema.String,
  step_id: Schema.String,
  /** The element of a for_each; null outside of one. */
  index: Schema.NullOr(Schema.Int),
  idempotency_key: Schema.String,
  attempt: Schema.Int,
  lease: Schema.Int,
  lease_until: Instant
}).annotations({ identifier: "WorkItem" })
export type WorkItem = typeof WorkItem.Type

const LeaseToken = Schema.NonEmptyString.pipe(Schema.maxLength(200))

/** Body of POST /work/{id}/heartbeat. */
export const WorkHeartbeat = Schema.Struct({
  lease_token: LeaseToken,
  lease_seconds: Schema.optionalWith(LeaseSeconds, { exact: true, default: () => 60 })
}).annotations({ identifier: "WorkHeartbeat", ...strict })
export type WorkHeartbeat = typeof WorkHeartbeat.Type

/** Answer to a heartbeat: whether the run is to be canceled, and until when the item is the worker's. */
export const WorkKept = Schema.Struct({ cancel: Schema.Boolean, lease_until: Instant }).annotations({
  identifier: "WorkKept"
})
export type WorkKept = typeof WorkKept.Type

/** Body of POST /work/{id}/complete. */
export const WorkDone = Schema.Struct({ lease_token: LeaseToken, output: JsonValue }).annotations({
  identifier: "WorkDone",
  ...strict
})
export type WorkDone = typeof WorkDone.Type

/** Body of POST /work/{id}/fail. */
export const WorkFailed = Schema.Struct({
  lease_token: LeaseToken,
  message: Schema.NonEmptyString.pipe(Schema.maxLength(10_000)),
  code: Schema.optionalWith(ErrorCode, { exact: true, default: (): ErrorCode => "failed" }),
  /** Whether another call may help; by default as the code is. */
  retryable: optional(Schema.Boolean)
}).annotations({ identifier: "WorkFailed", ...strict })
export type WorkFailed = typeof WorkFailed.Type

/** The item is another worker's by now, was finished, or its run has ended. */
export class WorkLeaseLost extends Schema.TaggedError<WorkLeaseLost>()(
  "WorkLeaseLost",
  { item_id: Schema.String },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** The id has not the form of one. */
export class WorkItemNotFound extends Schema.TaggedError<WorkItemNotFound>()(
  "WorkItemNotFound",
  { item_id: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}
