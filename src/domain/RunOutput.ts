import { Schema } from "effect"
import type { JsonObject } from "./Json.ts"
import { MadeJson } from "./Json.ts"

/** What of the steps of a stored pipeline names their outputs. */
export const StepNames = Schema.Array(
  Schema.Struct({ id: Schema.optional(Schema.String), uses: Schema.String, save_as: Schema.optional(Schema.String) })
)
export type StepNames = typeof StepNames.Type

/** An output by the id of its step. */
export const RecordedOutput = Schema.Struct({ step_id: Schema.String, output: MadeJson })
export type RecordedOutput = typeof RecordedOutput.Type

/** The steps with their ids, made ones included, and the name of their output; `first` is the position of the first of them. */
export const namesOf = (steps: StepNames, first: number = 0) =>
  steps.map(({ id, save_as, uses }, index) => {
    const made = id ?? `step_${first + index + 1}`
    return { id: made, uses, name: save_as ?? made }
  })

/** The outputs of the steps that have one, by name. */
export const outputOf = (steps: StepNames, recorded: ReadonlyArray<RecordedOutput>): { readonly steps: JsonObject } => {
  const outputs = new Map(recorded.map(({ output, step_id }) => [step_id, output]))
  return {
    steps: Object.fromEntries(
      namesOf(steps).flatMap(({ id, name }) => (outputs.has(id) ? [[name, outputs.get(id) ?? null]] : []))
    )
  }
}
