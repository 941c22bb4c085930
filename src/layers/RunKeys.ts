import { Either } from "effect"
import { isTemplate, renderKey } from "../domain/ConcurrencyKey.ts"
import type { DueWork } from "../domain/DueWork.ts"
import type { JsonValue } from "../domain/Json.ts"
import type { StepFailed } from "../domain/StepFailed.ts"
import type { Plan, RunInput } from "./Plans.ts"
import type { ScheduledTask } from "./TaskRows.ts"

/** What a run is given; null for the task's own params, and for no event. */
export interface Given {
  readonly params?: JsonValue
  readonly event?: JsonValue
}

/** The concurrency key of a run that is being decided; none where its template gives none, for which its worker fails it. */
export const keyOf = (task: ScheduledTask, { event = null, params = null }: Given) => {
  const { concurrency_key, id, labels, payload, timezone, title } = task
  if (concurrency_key === null || !isTemplate(concurrency_key)) return { concurrency_key }
  const rendered = renderKey(concurrency_key, {
    task: { id, title, labels },
    timezone,
    params: params ?? payload?.params ?? {},
    event,
    strict: payload?.strict ?? true
  })
  return Either.match(rendered, {
    onLeft: () => ({ concurrency_key: null }),
    onRight: (key) => ({
      concurrency_key: key,
      rendered_from: { template: concurrency_key, limit: task.concurrency_limit }
    })
  })
}

/** Why the concurrency key of a leased run could not be rendered; null where it has one, or needs none. */
export const unrendered = (work: DueWork, plan: Plan | undefined, input: RunInput): StepFailed | null => {
  const key = plan?.definition.concurrency_key ?? null
  if (plan === undefined || work.concurrency_key !== null || key === null || !isTemplate(key)) return null
  const { labels, timezone, title } = plan.definition
  const { params, strict } = plan.pipeline
  const rendered = renderKey(key, {
    task: { id: work.task_id, title, labels },
    timezone,
    params: input.params ?? params,
    event: input.event,
    strict
  })
  return Either.isLeft(rendered) ? rendered.left : null
}
