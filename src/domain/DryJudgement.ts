import { Effect } from "effect"
import type { CheckedStep } from "./CheckedPipeline.ts"
import type { DryCall } from "./DryCalls.ts"
import type { JsonValue } from "./Json.ts"
import type { StepFailed } from "./StepFailed.ts"

/** What the schemas of a step and of its tool say of an input or an output; null for one that fits. */
export type Judge = (step: CheckedStep, what: "input" | "output", value: JsonValue) => Effect.Effect<StepFailed | null>

/** The names under `steps` and `errors` behind which stand placeholders, which no schema can judge. */
export interface Placeholders {
  readonly steps: Set<string>
  readonly errors: Set<string>
}

/** Whether what a step gets may hold a placeholder. */
export const readsPlaceholders = ({ references }: CheckedStep, { errors, steps }: Placeholders): boolean =>
  references.some(([root, name]) => {
    const names = root === "steps" ? steps : root === "errors" ? errors : undefined
    // A whole root has them all.
    return names !== undefined && (name === undefined ? names.size > 0 : names.has(String(name)))
  })

/** A call as it would end by the schemas: its input first, unless that is `open`; an output that is simulated stands for any. */
export const judged = (judge: Judge, step: CheckedStep, call: DryCall, open: boolean): Effect.Effect<DryCall> =>
  Effect.gen(function* () {
    const failed = (error: StepFailed): DryCall => ({ ...call, output: null, simulated: false, error, bytes: 0 })
    const refused = call.rendered && !open ? yield* judge(step, "input", call.input) : null
    if (refused !== null) return failed(refused)
    if (call.error !== null || call.simulated) return call
    const wrong = yield* judge(step, "output", call.output)
    return wrong === null ? call : failed(wrong)
  })
