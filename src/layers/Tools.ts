import { Context, DateTime, Effect, Layer } from "effect"
import { runCore } from "../domain/CoreTools.ts"
import type { LogLine } from "../domain/CoreTools.ts"
import type { Bindings } from "../domain/Expression.ts"
import type { JsonValue } from "../domain/Json.ts"
import type { CheckedPipeline, CheckedStep } from "../domain/PipelineChecks.ts"
import { simulate } from "../domain/Simulation.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import * as Settings from "./Settings.ts"

/** One call of a tool. */
export interface ToolCall {
  readonly pipeline: CheckedPipeline
  readonly step: CheckedStep
  /** Rendered. */
  readonly input: JsonValue
  readonly bindings: Bindings
  /** The same over all attempts of the step. */
  readonly idempotencyKey: string
  /** The lease number under which it is made: the fencing token. */
  readonly lease: number
}

/** What a tool gave. */
export interface ToolResult {
  readonly output: JsonValue
  readonly simulated: boolean
  readonly log: LogLine | undefined
}

/** What brings a tool, as the metrics tell it. */
export type ToolKind = "core" | "simulated"

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
