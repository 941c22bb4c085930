import { Context, DateTime, Effect, Layer } from "effect"
import type { CheckedStep } from "../domain/CheckedPipeline.ts"
import type { DueWork } from "../domain/DueWork.ts"
import { simulate } from "../domain/Simulation.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { NewWait } from "../domain/Wait.ts"
import { CoreToolset } from "./CoreToolset.ts"
import type { Plan } from "./Plans.ts"
import * as Settings from "./Settings.ts"
import { plainTool } from "./Tool.ts"
import type { Tool } from "./Tool.ts"

/** Finds what a step uses. */
export class Tools extends Context.Tag("ordinaut/Tools")<
  Tools,
  {
    /** Fails with `tool_unavailable` where nothing brings the tool. */
    readonly find: (plan: Plan, work: DueWork, step: CheckedStep) => Effect.Effect<Tool, StepFailed>
    /** To be told of every wait once it is stored: what it waits for may have come before. */
    readonly begun: (work: DueWork, wait: NewWait) => Effect.Effect<void>
  }
>() {
  /** The built-in tools; all others are simulated, or fail where `ORDINAUT_UNKNOWN_TOOLS` says so. */
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const unknownTools = yield* Settings.unknownTools
      const core = yield* CoreToolset
      return Tools.of({
        begun: () => Effect.void,
        find: Effect.fn("Tools.find")(function* (_plan, _work, step) {
          if (step.namespace === "core") return yield* core.find(step)
          return unknownTools === "fail"
            ? yield* StepFailed.of("tool_unavailable", `no extension brings ${step.uses}`)
            : simulated
        })
      })
    })
  )
}

const simulated = plainTool("simulated", {
  call: ({ input, pipeline, step }) =>
    Effect.map(DateTime.now, (now) => ({
      output: simulate(pipeline, step.index, input, DateTime.formatIso(now)),
      simulated: true,
      log: undefined
    }))
})
