import { Context, DateTime, Effect, Layer } from "effect"
import { runCore } from "../domain/CoreTools.ts"
import type { CheckedStep } from "../domain/CheckedPipeline.ts"
import { simulate } from "../domain/Simulation.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { ToolCall, ToolKind, ToolResult } from "../domain/ToolCall.ts"
import * as Settings from "./Settings.ts"

/** Calls what a step uses. */
export class Tools extends Context.Tag("ordinaut/Tools")<
  Tools,
  {
    readonly kindOf: (step: CheckedStep) => ToolKind
    readonly call: (call: ToolCall) => Effect.Effect<ToolResult, StepFailed>
  }
>() {
  /** The built-in tools; all others are simulated, or fail where `ORDINAUT_UNKNOWN_TOOLS` says so. */
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const unknownTools = yield* Settings.unknownTools
      const kindOf = ({ namespace }: CheckedStep): ToolKind => (namespace === "core" ? "core" : "simulated")
      return Tools.of({
        kindOf,
        call: Effect.fn("Tools.call")(function* ({ bindings, input, pipeline, step }) {
          if (kindOf(step) === "core") {
            const { log, output } = yield* runCore(step.tool, input, bindings)
            return { output, log, simulated: false }
          }
          if (unknownTools === "fail")
            return yield* StepFailed.of("tool_unavailable", `no extension brings ${step.uses}`)
          const at = DateTime.formatIso(yield* DateTime.now)
          return { output: simulate(pipeline, step.index, input, at), log: undefined, simulated: true }
        })
      })
    })
  )
}
