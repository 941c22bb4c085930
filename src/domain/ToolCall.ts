import type { LogLine } from "./CoreTools.ts"
import type { DueWork } from "./DueWork.ts"
import type { Bindings } from "./Expression.ts"
import type { JsonValue } from "./Json.ts"
import type { CheckedPipeline, CheckedStep } from "./CheckedPipeline.ts"

/** One call of a tool. */
export interface ToolCall {
  readonly pipeline: CheckedPipeline
  readonly step: CheckedStep
  /** The run, as this lease of it; `lease_no` is the fencing token that tools receive. */
  readonly work: DueWork
  /** The element of a for_each, from 0; -1 outside of one. */
  readonly item: number
  /** Rendered; references to secrets stand as they are written, `secret://name`. */
  readonly input: JsonValue
  readonly bindings: Bindings
  /** The same over all attempts of the step. */
  readonly idempotencyKey: string
}

/** What a tool gave. */
export interface ToolResult {
  readonly output: JsonValue
  readonly simulated: boolean
  readonly log: LogLine | undefined
}

/** What brings a tool, as the metrics tell it. */
export type ToolKind = "core" | "http" | "worker" | "mcp" | "simulated"
