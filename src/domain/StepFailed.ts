import { Schema } from "effect"
import { explain, type ExpressionError } from "./ExpressionError.ts"
import { type JsonObject, storableText } from "./Json.ts"
import type { RunError } from "./Run.ts"

/** Why a step or a run failed: the closed list of the API. */
export const ErrorCode = Schema.Literal(
  "template_missing",
  "template_error",
  "condition_error",
  "tool_unavailable",
  "tool_input_invalid",
  "tool_output_invalid",
  "tool_http_4xx",
  "tool_http_5xx",
  "tool_connection",
  "tool_response_too_large",
  "target_forbidden",
  "forbidden",
  "timeout",
  "deadline",
  "budget_exceeded",
  "output_too_large",
  "canceled",
  "expired",
  "rejected",
  "poison",
  "loop_detected",
  "too_many_runs",
  "failed",
  "internal"
).annotations({ identifier: "ErrorCode" })

/** See the schema of the same name. */
export type ErrorCode = typeof ErrorCode.Type

const retryable: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "tool_http_5xx",
  "tool_connection",
  "timeout",
  "tool_output_invalid",
  "internal"
])

/**
 * Whether a failure with this code is worth another attempt, unless the failure itself knows better: HTTP 408, 425 and
 * 429 are `tool_http_4xx` and retryable all the same, and `core.fail` may ask for it.
 */
export const isRetryable = (code: ErrorCode): boolean => retryable.has(code)

/** UTF-16 units of a message at most. */
const longestMessage = 4000

/** A step ended in failure. `retryable` says whether another attempt may end otherwise. */
export class StepFailed extends Schema.TaggedError<StepFailed>()("StepFailed", {
  code: ErrorCode,
  message: Schema.String,
  retryable: Schema.Boolean,
  /** The tool asked not to be called again before so many seconds (HTTP `Retry-After`). */
  retry_after_seconds: Schema.optionalWith(Schema.Number, { exact: true })
}) {
  /** A failure that is as retryable as its code is. */
  static readonly of = (code: ErrorCode, message: string): StepFailed =>
    new StepFailed({ code, message, retryable: isRetryable(code) })

  /** The failure of a step whose template or condition cannot be evaluated; the message names the expression. */
  static readonly ofExpression = (error: ExpressionError): StepFailed => StepFailed.of(error.code, explain(error))

  /** As runs and steps tell it. A message may quote what a tool answered, which nobody has checked. */
  toldOf(stepId: string | null): RunError & JsonObject {
    return {
      code: this.code,
      message: storableText(this.message, longestMessage),
      step_id: stepId,
      retryable: this.retryable
    }
  }
}
