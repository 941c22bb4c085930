import { Effect } from "effect"
import type { CheckedPipeline, Part } from "./CheckedPipeline.ts"
import {
  type DryRunInput,
  type DryRunStep,
  type DryState,
  notStarted,
  remember,
  startOf,
  stepOf
} from "./DryRunStep.ts"
import { written } from "./Simulation.ts"

interface PartEnd {
  readonly failed: boolean
  /** By place; those that were not reached are not among them. */
  readonly ended: ReadonlyMap<number, DryRunStep>
}

const inOrder = (state: DryState, { steps }: Part): Effect.Effect<PartEnd> =>
  Effect.gen(function* () {
    const ended = new Map<number, DryRunStep>()
    for (let place = 0; place < steps.length;) {
      const step = steps[place]
      if (step === undefined) break
      const end = yield* stepOf(state, step)
      remember(state, step, end.step.output, end.errors)
      ended.set(place, end.step)
      place++
      if (end.step.error === null || step.onError === "continue") continue
      if (step.onError === "fail") return { failed: true, ended }
      for (const jumped of steps.slice(place, step.onError.goto)) remember(state, jumped, null, undefined)
      place = step.onError.goto
    }
    return { failed: false, ended }
  })

/** As if all steps took equally long: those whose needs are met start together, and see nothing of one another. */
const byNeeds = (state: DryState, { steps }: Part, needs: NonNullable<Part["needs"]>): Effect.Effect<PartEnd> =>
  Effect.gen(function* () {
    const ended = new Map<number, DryRunStep>()
    for (;;) {
      const ready = steps.filter(
        (_, place) => !ended.has(place) && (needs[place] ?? []).every((need) => ended.has(need))
      )
      if (ready.length === 0) return { failed: false, ended }
      const ends = yield* Effect.forEach(ready, (step) => Effect.map(stepOf(state, step), (end) => ({ step, end })))
      for (const { end, step } of ends) {
        remember(state, step, end.step.output, end.errors)
        ended.set(steps.indexOf(step), end.step)
      }
      if (ends.some(({ end, step }) => end.step.error !== null && step.onError === "fail"))
        return { failed: true, ended }
    }
  })

const partOf = (state: DryState, part: Part) =>
  Effect.map(
    part.needs === null ? inOrder(state, part) : byNeeds(state, part, part.needs),
    ({ ended, failed: over }) => ({
      failed: over,
      steps: part.steps.map((step, place) => ended.get(place) ?? notStarted(step, null))
    })
  )

/** As if the steps whose errors the steps of `on_failure` read had failed: what they would get shows only so. */
const assumeErrors = ({ errors, pipeline, placeholders }: DryState): void => {
  for (const [root, name] of pipeline.failure.steps.flatMap(({ references }) => references)) {
    if (root !== "errors" || !pipeline.main.steps.some(({ id }) => id === name)) continue
    const id = String(name)
    const message = `<simulated ${written(["errors", id, "message"])}>`
    if (errors[id] === undefined) placeholders.errors.add(id)
    errors[id] ??= { code: "failed", message, step_id: id, retryable: false }
  }
}

/**
 * What a run of the pipeline would do in one attempt, step by step, in the order of the definition: nothing is called and nothing
 * stored. Outputs are given, computed or simulated; a failure is final. The steps of `on_failure` are shown as they would be after a
 * failure, and would run only if there is one.
 */
export const dryRun = (pipeline: CheckedPipeline, from: DryRunInput): Effect.Effect<ReadonlyArray<DryRunStep>> =>
  Effect.gen(function* () {
    const state = startOf(pipeline, from)
    const main = yield* partOf(state, pipeline.main)
    if (!main.failed) assumeErrors(state)
    const after = yield* partOf(state, pipeline.failure)
    return [...main.steps, ...after.steps.map((step) => ({ ...step, would_run: step.would_run && main.failed }))]
  })
