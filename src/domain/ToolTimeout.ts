import type { ToolSpec } from "./Extension.ts"
import type { CheckedStep } from "./CheckedPipeline.ts"

/** What a call may take where neither its step nor its tool says so. */
export const defaultTimeoutSeconds = 30

/** Seconds that one call of a step may take. */
export const timeoutSecondsOf = (step: CheckedStep, tool?: ToolSpec): number =>
  step.timeoutSeconds ?? tool?.timeout_seconds ?? defaultTimeoutSeconds

/**
 * Milliseconds after which a call gives up by itself: a moment before whoever started it does, so that what was called
 * is known to have been too slow, and not only to be unwanted.
 */
export const callMillis = (step: CheckedStep, tool?: ToolSpec): number => timeoutSecondsOf(step, tool) * 1000 - 50
