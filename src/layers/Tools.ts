import { Context, Effect, Layer } from "effect"
import type { CheckedStep } from "../domain/CheckedPipeline.ts"
import type { DueWork } from "../domain/DueWork.ts"
import type { ToolSpec } from "../domain/Extension.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { NewWait } from "../domain/Wait.ts"
import { AwaitedEvents } from "./AwaitedEvents.ts"
import { Budgets } from "./Budgets.ts"
import { CoreToolset } from "./CoreToolset.ts"
import { ExtensionTools } from "./ExtensionTools.ts"
import { JsonSchemas } from "./JsonSchemas.ts"
import type { Plan } from "./Plans.ts"
import { fits } from "./SchemaFit.ts"
import * as Retries from "./Retries.ts"
import * as Settings from "./Settings.ts"
import { simulation } from "./SimulatedTool.ts"
import { plainTool } from "./Tool.ts"
import type { Tool } from "./Tool.ts"
import { Wakeups } from "./Wakeups.ts"

/** Finds what a step uses. */
export class Tools extends Context.Tag("ordinaut/Tools")<
  Tools,
  {
    /** Fails with `tool_unavailable` where nothing brings the tool. */
    readonly find: (plan: Plan, work: DueWork, step: CheckedStep) => Effect.Effect<Tool, StepFailed>
    /**
     * The tools of a pipeline by step index, where all that it does is to compute, in order and at once; else null. As things were at
     * most 1 s ago.
     */
    readonly computing: (plan: Plan, namespace: string) => Effect.Effect<ReadonlyArray<Tool> | null>
    /** To be asked before each call of a tool that is metered: see `Budgets`. */
    readonly admit: (typeof Budgets.Service)["admit"]
    /** To be told of every wait once it is stored: what it waits for may have come before. */
    readonly begun: (work: DueWork, wait: NewWait) => Effect.Effect<void>
  }
>() {
  /**
   * The built-in tools and those of extensions. A step that was never bound to an extension, and whose namespace none has, is
   * simulated, or fails where `ORDINAUT_UNKNOWN_TOOLS` says so.
   */
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const unknownTools = yield* Settings.unknownTools
      const core = yield* CoreToolset
      const extensions = yield* ExtensionTools
      const schemas = yield* JsonSchemas
      const wakeups = yield* Wakeups
      const awaited = yield* AwaitedEvents
      const budgets = yield* Budgets
      const unknown = plainTool("simulated", { computes: true, call: simulation(undefined) })

      /** The tool with the schemas of the step and its own; what is simulated stands for every output. */
      const checked = (tool: Tool, { inputSchema, outputSchema }: CheckedStep, spec: ToolSpec | undefined): Tool => ({
        ...tool,
        // Schemas are judged in threads of their own.
        computes:
          tool.computes &&
          [inputSchema, outputSchema, spec?.input_schema, spec?.output_schema].every((one) => one === undefined),
        checkInput: fits(schemas, "tool_input_invalid", [inputSchema, spec?.input_schema]),
        checkOutput:
          tool.kind === "simulated"
            ? tool.checkOutput
            : fits(schemas, "tool_output_invalid", [outputSchema, spec?.output_schema])
      })

      const find = Effect.fnUntraced(function* ({ bound }: Plan, namespace: string, step: CheckedStep) {
        if (step.namespace === "core") return checked(yield* core.find(step), step, undefined)
        const found = yield* extensions.find(namespace, step)
        if (found !== null) return checked(found.tool, step, found.spec)
        if (bound.has(step.namespace))
          return yield* StepFailed.of("tool_unavailable", `the extension ${step.namespace} is gone`)
        return unknownTools === "fail"
          ? yield* StepFailed.of("tool_unavailable", `no extension brings ${step.uses}`)
          : checked(unknown, step, undefined)
      })

      return Tools.of({
        admit: budgets.admit,
        begun: (work, wait) => {
          if (wait.kind === "tool") return wakeups.signal("tool")
          // An outage is waited out; the fence of the lease ends the waiting.
          return wait.kind === "event"
            ? Effect.orDie(Effect.retry(awaited.lookBack(work, wait), Retries.loop))
            : Effect.void
        },
        find: (plan, { namespace }, step) => find(plan, namespace, step),
        computing: (plan, namespace) =>
          plan.pipeline.main.needs !== null ||
          plan.pipeline.failure.steps.length > 0 ||
          plan.pipeline.steps.some(({ forEach, retry }) => forEach !== undefined || retry !== undefined)
            ? Effect.succeed(null)
            : Effect.forEach(plan.pipeline.steps, (step) => find(plan, namespace, step)).pipe(
                Effect.map((all) => (all.every(({ computes }) => computes) ? all : null)),
                Effect.orElseSucceed(() => null)
              )
      })
    })
  )
}
