import type { Condition, Path } from "./Expression.ts"
import type { JsonObject } from "./Json.ts"
import type { RetryPolicy } from "./Retry.ts"
import type { ErrorCode } from "./StepFailed.ts"
import type { Template } from "./Template.ts"

/** A step that can be run: its names resolved, its templates and its condition compiled. */
export interface CheckedStep {
  /** The position, from 0; the steps of `on_failure` are counted on behind those of the pipeline. */
  readonly index: number
  readonly id: string
  readonly saveAs: string | undefined
  /** The tool's address as written, and its two parts. */
  readonly uses: string
  readonly namespace: string
  readonly tool: string
  readonly input: Template
  readonly condition: Condition | undefined
  /** Undefined for the default, `<run id>:<step id>`. */
  readonly idempotencyKey: Template | undefined
  /** Undefined for the tool's own. */
  readonly timeoutSeconds: number | undefined
  /** How long it waits for others; undefined for the default, 7 days. */
  readonly expiresSeconds: number | undefined
  /** Set where the step runs once for each element of an array. */
  readonly forEach: ForEach | undefined
  /** JSON Schemas of its own, besides those of the tool. */
  readonly inputSchema: JsonObject | undefined
  readonly outputSchema: JsonObject | undefined
  /** Undefined for one call an attempt of the run; `on` undefined for all retryable failures. */
  readonly retry: { readonly policy: RetryPolicy; readonly on: ReadonlySet<ErrorCode> | undefined } | undefined
  /** What follows a failure; `goto` is the place of a later step in its part. */
  readonly onError: "fail" | "continue" | { readonly goto: number }
  /** The paths of the context that the step reads, in its input, its condition and its key. */
  readonly references: ReadonlyArray<Path>
}

/** How a step runs over the elements of an array. */
export interface ForEach {
  readonly items: Template
  readonly maxParallel: number
  readonly onItemError: "fail" | "continue"
}

/** Steps and the order in which they run. */
export interface Part {
  readonly steps: ReadonlyArray<CheckedStep>
  /** By place in `steps`, the places of those that must have ended before; null where they run one after the other. */
  readonly needs: ReadonlyArray<ReadonlyArray<number>> | null
}

/** A pipeline that can be run. */
export interface CheckedPipeline {
  readonly params: JsonObject
  readonly strict: boolean
  readonly main: Part
  /** What runs once after the final failure; without steps where nothing does. */
  readonly failure: Part
  /** The steps of both. */
  readonly steps: ReadonlyArray<CheckedStep>
}
