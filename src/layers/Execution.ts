import { Cause, Clock, DateTime, Duration, Effect, Exit, Option, Random } from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import { delay } from "../domain/Retry.ts"
import type { RunError } from "../domain/Run.ts"
import type { End, StepRecord } from "../domain/Settlement.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import { Pipeline, runError } from "./Pipeline.ts"
import type { Plan, RunInput } from "./Plans.ts"

/** Why a run's work is interrupted. */
export type Interruption = "canceled" | "lost" | "shutdown"

/** The work of one lease: the pipeline, within the attempt's timeout and the run's deadline. Fails with what ends the attempt. */
export const execute = (
  pipeline: typeof Pipeline.Service,
  work: DueWork,
  plan: Plan | undefined,
  input: RunInput,
  record: (step: StepRecord) => Effect.Effect<void>
): Effect.Effect<void, RunError> =>
  Effect.gen(function* () {
    if (plan === undefined) return yield* Effect.fail(unreadable)
    const { timeout_seconds } = plan.definition
    const now = yield* Clock.currentTimeMillis
    const attemptLeft = timeout_seconds * 1000 - work.spent_ms
    const runLeft = work.deadline_at === null ? Infinity : DateTime.toEpochMillis(work.deadline_at) - now
    let cut: string | null = null
    const ended = yield* pipeline
      .run(plan, work, input, (step) => {
        if (step.state === "canceled") cut = step.step_id
        return record(step)
      })
      .pipe(Effect.timeoutOption(Duration.millis(Math.max(0, Math.min(attemptLeft, runLeft)))))
    if (Option.isNone(ended)) {
      const error =
        runLeft <= attemptLeft
          ? StepFailed.of("deadline", "the run's deadline has passed")
          : StepFailed.of("timeout", `the attempt took longer than ${timeout_seconds} s`)
      return yield* Effect.fail({ ...runError(null, error), step_id: cut })
    }
    const failed = ended.value
    if (failed !== null) return yield* Effect.fail(runError(failed.step, failed.error))
  })

const unreadable = runError(null, StepFailed.of("internal", "the task's revision cannot be run by this version"))

const canceled: End = {
  outcome: "ended",
  state: "canceled",
  error: runError(null, StepFailed.of("canceled", "the run was canceled"))
}

/** The end of a run that is over before it starts: canceled meanwhile, or too late by `start_within_seconds`. */
export const withoutStart = (work: DueWork, now: number): End | null => {
  if (work.cancel_requested_at !== null) return canceled
  return work.lease_no === 1 && work.start_by !== null && now > DateTime.toEpochMillis(work.start_by)
    ? { outcome: "ended", state: "skipped", error: null, skip_reason: "expired" }
    : null
}

/** How a lease ends, by how its work ended at `now`; null where the lease is somebody else's by then. */
export const endOf = (
  exit: Exit.Exit<void, RunError>,
  work: DueWork,
  plan: Plan | undefined,
  reason: Interruption,
  now: number
): Effect.Effect<End | null> =>
  Effect.gen(function* () {
    if (Exit.isSuccess(exit)) return { outcome: "ended", state: "succeeded", error: null }
    if (Cause.isInterruptedOnly(exit.cause)) {
      if (reason === "lost") return null
      return reason === "canceled" ? canceled : { outcome: "released" }
    }
    const error = yield* Effect.catchAll(Cause.failureOption(exit.cause), () => unexpected(exit.cause, work))
    if (!error.retryable || plan === undefined || work.attempt > plan.definition.max_retries) {
      return { outcome: "ended", state: "failed", error }
    }
    const unit = yield* Random.next
    return { outcome: "retried", error, run_at: now + delay(plan.definition, work.attempt, unit) }
  })

const unexpected = (cause: Cause.Cause<RunError>, work: DueWork) =>
  Effect.logError("A run ended unexpectedly.", cause).pipe(
    Effect.annotateLogs({ run_id: work.id, task_id: work.task_id }),
    Effect.as(runError(null, StepFailed.of("internal", "the run ended unexpectedly; the log has the details")))
  )
