import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Either } from "effect"
import { check } from "../domain/PipelineChecks.ts"
import { InvalidPipeline } from "../domain/PipelineSpec.ts"
import type { PipelineSpec } from "../domain/PipelineSpec.ts"
import type { ScheduleKind } from "../domain/ScheduleSpec.ts"
import * as TriggerSpec from "../domain/TriggerSpec.ts"
import type { Extension } from "../domain/Extension.ts"
import type { ToolBinding } from "./ToolBinding.ts"

const place = "/payload/trigger"

/** How an event task collects events is judged by its kind, too. */
export const checkTrigger = ({ trigger }: PipelineSpec, kind: ScheduleKind): Either.Either<void, InvalidPipeline> => {
  const errors = TriggerSpec.problemsOf(trigger, kind, place)
  return errors.length === 0 ? Either.right(undefined) : Either.left(new InvalidPipeline({ errors }))
}

/** What is asked of a payload before it is stored, and what a revision is bound to. */
export const make = (sql: SqlClient.SqlClient, bind: (typeof ToolBinding.Service)["bind"]) => {
  /** Checks the whole payload of a task of a kind; `known` as for `ToolBinding.bind`. */
  const checkPayload = Effect.fnUntraced(function* (
    namespace: string,
    payload: PipelineSpec,
    kind: ScheduleKind,
    known?: ReadonlyMap<string, Extension>
  ) {
    const pipeline = yield* Either.mapLeft(
      check(payload, "/payload"),
      ({ errors }) =>
        new InvalidPipeline({ errors: [...errors, ...TriggerSpec.problemsOf(payload.trigger, kind, place)] })
    )
    yield* checkTrigger(payload, kind)
    return { bound: yield* bind(namespace, pipeline, "/payload", known), pipeline }
  })

  return {
    checkPayload,

    /**
     * What the next revision is bound to; `checked` is undefined where the pipeline stays. What the last one was bound to
     * stays as far as it is used: that an extension is gone for a while must not turn its steps into simulated ones.
     */
    rebound: Effect.fnUntraced(function* (
      id: string,
      version: number,
      checked: Effect.Effect.Success<ReturnType<typeof checkPayload>> | undefined
    ) {
      const [last] = yield* sql<{ bound_extensions: ReadonlyArray<string> }>`
        SELECT bound_extensions FROM task_revision WHERE task_id = ${id} AND version = ${version}`
      const before = last?.bound_extensions ?? []
      if (checked === undefined) return before
      const used = new Set(checked.pipeline.steps.map(({ namespace }) => namespace))
      return [...new Set([...checked.bound, ...before.filter((name) => used.has(name))])].sort()
    })
  }
}
