import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import { JsonObject, JsonValue } from "./Json.ts"
import { BackoffSeconds, BackoffStrategy } from "./Retry.ts"
import { ErrorCode } from "./StepFailed.ts"
import { TriggerSpec } from "./TriggerSpec.ts"

/** Name of a step, and of an output under `steps`. One with `-` is quoted in expressions: `steps."get-user".id`. */
export const StepId = Schema.String.pipe(
  Schema.pattern(/^[A-Za-z_][A-Za-z0-9_-]{0,63}$/, {
    message: () =>
      "a name starts with a letter or _, goes on with letters, digits, _ and -, and has at most 64 characters"
  })
)

/** Address of a tool, `namespace.tool`. The namespace is `core` or that of an extension; the tool's name may have dots. */
export const ToolAddress = Schema.String.pipe(
  Schema.pattern(/^[A-Za-z][A-Za-z0-9_-]{0,63}\.[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/, {
    message: () => "a tool is namespace.tool, for example mail.send"
  })
)

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

/** Retries of one step, within one attempt of the run; what is left out is as in `defaultBackoff`. */
export const StepRetry = Schema.Struct({
  /** Calls in total, the first one counted. */
  max_attempts: Schema.Int.pipe(Schema.between(1, 100)),
  backoff_strategy: optional(BackoffStrategy),
  backoff_seconds: optional(BackoffSeconds),
  backoff_max_seconds: optional(BackoffSeconds),
  /** Only failures with these codes are retried; by default, the retryable ones. */
  on: optional(Schema.Array(ErrorCode).pipe(Schema.maxItems(30)))
})

/** What follows when a step has failed for good: the run fails, goes on with null as output, or jumps to a later step. */
export const OnError = Schema.Union(Schema.Literal("fail", "continue"), Schema.Struct({ goto: StepId }))

/** What follows when an element of a `for_each` has failed: no further one starts, or it counts as null. */
export const OnItemError = Schema.Literal("fail", "continue")

/** Seconds of 366 days: nothing waits longer. */
export const longestWaitSeconds = 366 * 86_400

/** One step of a pipeline, as it is written. */
export const Step = Schema.Struct({
  /** Made from the position, `step_1`, when left out. */
  id: optional(StepId),
  uses: ToolAddress,
  /** The tool's input, a template; `{}` when left out. */
  with: optional(JsonValue),
  /** A second name of the output under `steps`. */
  save_as: optional(StepId),
  /** A condition; where it does not hold, the step is skipped. */
  if: optional(Schema.String),
  timeout_seconds: optional(Schema.Int.pipe(Schema.between(1, 86_400))),
  /** How long a step waits for others: a decision, an event, a child run, an external worker. 7 days when left out. */
  expires_seconds: optional(
    Schema.JsonNumber.pipe(Schema.greaterThan(0), Schema.lessThanOrEqualTo(longestWaitSeconds))
  ),
  /** Ids of the steps that must have ended; if any step states its needs, every step does. */
  needs: optional(Schema.Array(StepId).pipe(Schema.maxItems(200))),
  /** A template that gives an array: the step runs once for each element. */
  for_each: optional(Schema.String),
  /** Elements at a time; 10 when left out. */
  max_parallel: optional(Schema.Int.pipe(Schema.between(1, 100))),
  on_item_error: optional(OnItemError),
  /** JSON Schema 2020-12 of the rendered input and of the output, besides those of the tool. */
  input_schema: optional(JsonObject),
  output_schema: optional(JsonObject),
  retry: optional(StepRetry),
  on_error: optional(OnError),
  /** A template; `<run id>:<step id>`, with `:<index>` for an element, when left out. */
  idempotency_key: optional(Schema.String.pipe(Schema.minLength(1)))
})

/** See the schema of the same name. */
export type Step = typeof Step.Type

/** The payload of a task. Decode with `onExcessProperty: "error"`, then `check` it. */
export const PipelineSpec = Schema.Struct({
  /** What `params` is in the templates, unless a run brings its own. */
  params: optional(JsonObject),
  pipeline: Schema.Array(Step).pipe(Schema.minItems(1), Schema.maxItems(200)),
  /** Steps that run once after the final failure of a run. */
  on_failure: optional(Schema.Array(Step).pipe(Schema.minItems(1), Schema.maxItems(200))),
  /** Whether a plain path that names nothing is an error (the default) or null. */
  strict: optional(Schema.Boolean),
  /** How an event task collects events into one run; none: each event is a run. */
  trigger: optional(TriggerSpec)
})

/** See the schema of the same name. */
export type PipelineSpec = typeof PipelineSpec.Type

/** A pipeline that can be read but not be run: each problem with the JSON Pointer of its place. */
export class InvalidPipeline extends Schema.TaggedError<InvalidPipeline>()(
  "InvalidPipeline",
  { errors: Schema.Array(Schema.Struct({ path: Schema.String, message: Schema.String })) },
  HttpApiSchema.annotations({ status: 422 })
) {}
