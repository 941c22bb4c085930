import { Effect } from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import { noRights, standingProblem } from "../domain/Rights.ts"
import type { StepFailed } from "../domain/StepFailed.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import type { Pipeline } from "./Pipeline.ts"
import { noInput } from "./Plans.ts"
import type { Plan, Plans, RunInput } from "./Plans.ts"
import * as RunKeys from "./RunKeys.ts"
import type { RunRights } from "./RunRights.ts"
import type { Tool } from "./Tool.ts"

/** A leased run with all that it starts from. */
export interface Prepared {
  readonly work: DueWork
  /** Undefined where its revision cannot be run any more. */
  readonly plan: Plan | undefined
  readonly input: RunInput
  /** Why it may not start. */
  readonly problem: StepFailed | null
  /** Set where the run only computes, see `Tools.computing`. */
  readonly tools: ReadonlyArray<Tool> | null
}

/** Reads what leased runs start from, of all of them at once. */
export const preparing =
  (pipeline: typeof Pipeline.Service, plans: typeof Plans.Service, rights: typeof RunRights.Service) =>
  (leased: ReadonlyArray<DueWork>): Effect.Effect<ReadonlyArray<Prepared>, StoreUnavailable> =>
    Effect.gen(function* () {
      const [ready, inputs, owners] = yield* Effect.all([
        plans.load(leased),
        plans.inputs(leased),
        rights.of(leased.map(({ agent_id }) => agent_id))
      ])
      const toolsOf = new Map<Plan, ReadonlyArray<Tool> | null>()
      for (const { id, namespace } of leased) {
        const plan = ready.get(id)
        if (plan !== undefined && !toolsOf.has(plan)) toolsOf.set(plan, yield* pipeline.computing(plan, namespace))
      }
      return leased.map((work) => {
        const plan = ready.get(work.id)
        const input = inputs.get(work.id) ?? noInput
        return {
          work,
          plan,
          input,
          problem: standingProblem(owners.get(work.agent_id) ?? noRights) ?? RunKeys.unrendered(work, plan, input),
          tools: plan === undefined ? null : (toolsOf.get(plan) ?? null)
        }
      })
    })
