import { DateTime, Effect } from "effect"
import type { ToolSpec } from "../domain/Extension.ts"
import { simulate } from "../domain/Simulation.ts"
import type { ToolCall, ToolResult } from "../domain/ToolCall.ts"

/** A call that reaches nobody; its output follows the step's output schema, else that of the tool. */
export const simulation =
  (spec: ToolSpec | undefined) =>
  ({ input, pipeline, step }: ToolCall): Effect.Effect<ToolResult> =>
    Effect.map(DateTime.now, (now) => ({
      output: simulate(pipeline, step.index, input, DateTime.formatIso(now), step.outputSchema ?? spec?.output_schema),
      simulated: true,
      log: undefined
    }))
