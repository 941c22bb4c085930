import { allows } from "./Agent.ts"
import type { Budget, Permission } from "./Agent.ts"
import { StepFailed } from "./StepFailed.ts"

/** What the owner of a task may do at present: its runs have no other rights. */
export interface Rights {
  readonly standing: "active" | "disabled" | "removed"
  readonly scopes: ReadonlyArray<string>
  readonly budgets: ReadonlyArray<Budget>
}

/** Of an agent that is not there. */
export const noRights: Rights = { standing: "removed", scopes: [], budgets: [] }

/** Why nothing of an agent runs; null where it may. */
export const standingProblem = ({ standing }: Rights): StepFailed | null =>
  standing === "active" ? null : StepFailed.of("forbidden", `the owner of the task is ${standing}`)

/** Why a step that asks for a permission may not run; null where it may. */
export const permissionProblem = (rights: Rights, permission: Permission): StepFailed | null =>
  standingProblem(rights) ??
  (allows(rights.scopes, permission)
    ? null
    : StepFailed.of("forbidden", `the owner of the task lacks the scope ${permission}`))
