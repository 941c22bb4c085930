import { Effect } from "effect"
import type { JsonObject, JsonValue } from "../domain/Json.ts"
import type { StepFailed } from "../domain/StepFailed.ts"
import { defaultTimeoutSeconds } from "../domain/ToolTimeout.ts"
import type { ToolCall, ToolKind, ToolResult } from "../domain/ToolCall.ts"
import type { WaitKind } from "../domain/Wait.ts"

/** How a wait begins. `expires_at` is epoch milliseconds. */
export interface Begun {
  readonly kind: WaitKind
  /** Address of the tool, or the topic; what those who answer look for. */
  readonly tool: string | null
  readonly detail: JsonObject
  readonly expires_at: number | null
}

/** A tool as one step of a run uses it. */
export interface Tool {
  readonly kind: ToolKind
  /** Whether a call reaches something outside: what came before is stored first. */
  readonly outside: boolean
  /** Whether a call is a computation, over before anything else could happen: no timeout could end it. */
  readonly computes: boolean
  /** Whether a call is one of something real outside: counted, and bound by the budgets of the run's agent. */
  readonly metered: boolean
  /** Whether a call that is made again does no harm. */
  readonly idempotent: boolean
  /** What a call may take where the step does not say. */
  readonly timeoutSeconds: number
  /** Whether a call with this input waits for others: it is begun then, and what comes is the output. */
  readonly waits: (input: JsonValue) => boolean
  readonly begin: (call: ToolCall) => Effect.Effect<Begun, StepFailed>
  readonly call: (call: ToolCall) => Effect.Effect<ToolResult, StepFailed>
  /** Fail with `tool_input_invalid` and `tool_output_invalid`. */
  readonly checkInput: (input: JsonValue) => Effect.Effect<void, StepFailed>
  readonly checkOutput: (output: JsonValue) => Effect.Effect<void, StepFailed>
}

/** How long a step waits for others where it does not say, seconds: 7 days. */
export const defaultExpirySeconds = 7 * 86_400

const never = () => Effect.dieMessage("a tool was used as what it is not")

/** A tool that needs nothing but its input, to be changed by what it has beyond that. */
export const plainTool = (kind: ToolKind, more: Partial<Tool>): Tool => ({
  kind,
  outside: false,
  computes: false,
  metered: false,
  idempotent: true,
  timeoutSeconds: defaultTimeoutSeconds,
  waits: () => false,
  begin: never,
  call: never,
  checkInput: () => Effect.void,
  checkOutput: () => Effect.void,
  ...more
})
