import { Cause, Clock, DateTime, Duration, Effect, Exit, Option, Random } from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import { delay } from "../domain/Retry.ts"
import type { RunError } from "../domain/Run.ts"
import type { End } from "../domain/Settlement.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { Pipeline, PipelineRun } from "./Pipeline.ts"
import { runError } from "./PipelineState.ts"
import type { Plan, RunInput } from "./Plans.ts"
import type { LeaseIo } from "./RunIo.ts"
import type { Tool } from "./Tool.ts"

/** Why a run's work is interrupted. */
export type Interruption = "canceled" | "lost" | "shutdown"

/** Why an attempt ended, and how long its tool asked to be left alone, milliseconds. */
export interface AttemptFailed {
  readonly error: RunError
  readonly notBefore: number
}

/** The run goes on when something has come, or at `until` (epoch milliseconds; null for never by itself). */
export interface Parked {
  readonly until: number | null
}

/**
 * The work of one lease: the pipeline, within the attempt's timeout and the run's deadline; after the final failure what the
 * pipeline says for that. Answers null when all is done, or what it waits for. Fails with what ends the attempt. With `tools` that
 * only compute, see `Tools.computing`, it is over at once: no time passes in which it could be cut off.
 */
export const execute = (
  pipeline: typeof Pipeline.Service,
  work: DueWork,
  plan: Plan | undefined,
  input: RunInput,
  io: LeaseIo,
  tools: ReadonlyArray<Tool> | null = null
): Effect.Effect<Parked | null, AttemptFailed> =>
  Effect.gen(function* () {
    if (plan === undefined) return yield* Effect.fail({ error: unreadable, notBefore: 0 })
    const run = pipeline.open(plan, work, input, io, tools)
    if (input.failed !== null) return yield* afterFailure(run, plan, { error: input.failed, notBefore: 0 })
    const ended = yield* within(run.main, plan, work, input, io, tools !== null)
    if (ended.at === "done") return null
    if (ended.at === "waiting") return { until: notPast(work, ended.until) }
    const { error, notBefore } = ended
    if (!isFinal(error, work, plan)) return yield* Effect.fail({ error, notBefore })
    if (plan.pipeline.failure.steps.length > 0) yield* Effect.zipRight(run.close, io.save([], error))
    return yield* afterFailure(run, plan, { error, notBefore })
  })

type MainEnd =
  | { readonly at: "done" }
  | { readonly at: "waiting"; readonly until: number | null }
  | (AttemptFailed & { readonly at: "failed" })

/** A part of the pipeline, cut off by what is left of the attempt's timeout or of the run's deadline. */
const within = (
  main: PipelineRun["main"],
  { definition: { timeout_seconds } }: Plan,
  work: DueWork,
  { waits }: RunInput,
  io: LeaseIo,
  atOnce: boolean
): Effect.Effect<MainEnd> =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const attemptLeft = timeout_seconds * 1000 - work.spent_ms
    const runLeft = deadlineOf(work) - now
    if (runLeft <= 0) {
      // What waits would go on waiting before a timeout of no length could end it.
      const stepId = waits.find(({ result }) => result === null)?.step_id ?? null
      return { at: "failed", error: runError(stepId, overdue), notBefore: 0 }
    }
    const left = Duration.millis(Math.max(0, Math.min(attemptLeft, runLeft)))
    const ended = yield* atOnce ? Effect.asSome(main) : Effect.timeoutOption(main, left)
    if (Option.isSome(ended)) {
      if (ended.value.at !== "failed") return ended.value
      const { error, step } = ended.value
      return { at: "failed", error: runError(step.id, error), notBefore: (error.retry_after_seconds ?? 0) * 1000 }
    }
    const error =
      runLeft <= attemptLeft ? overdue : StepFailed.of("timeout", `the attempt took longer than ${timeout_seconds} s`)
    const cut = io.unsaved().find(({ state }) => state === "canceled")
    return { at: "failed", error: runError(cut?.step_id ?? null, error), notBefore: 0 }
  })

/** No other attempt follows. */
const isFinal = (error: RunError, work: DueWork, plan: Plan): boolean =>
  !error.retryable || work.attempt > plan.definition.max_retries

/** Runs what follows the final failure, which stays the run's end whatever becomes of it. */
const afterFailure = (run: PipelineRun, plan: Plan, failed: AttemptFailed): Effect.Effect<Parked, AttemptFailed> =>
  Effect.gen(function* () {
    if (plan.pipeline.failure.steps.length === 0) return yield* Effect.fail(failed)
    const ended = yield* Effect.timeoutOption(run.failure, Duration.seconds(plan.definition.timeout_seconds))
    return Option.isSome(ended) && ended.value.at === "waiting"
      ? { until: ended.value.until }
      : yield* Effect.fail(failed)
  })

const overdue = StepFailed.of("deadline", "the run's deadline has passed")

/** In epoch milliseconds; infinite where there is none. */
const deadlineOf = ({ deadline_at }: DueWork): number =>
  deadline_at === null ? Infinity : DateTime.toEpochMillis(deadline_at)

/** The run is looked at again at its deadline, whatever it waits for. */
const notPast = (work: DueWork, until: number | null): number | null => {
  const first = Math.min(until ?? Infinity, deadlineOf(work))
  return first === Infinity ? null : first
}

const unreadable = runError(null, StepFailed.of("internal", "the task's revision cannot be run by this version"))

const canceled: End = {
  outcome: "ended",
  state: "canceled",
  error: runError(null, StepFailed.of("canceled", "the run was canceled"))
}

/**
 * The end of a run that is over before it starts, or goes on: canceled meanwhile, too late by `start_within_seconds`, or with a
 * `problem`.
 */
export const withoutStart = (work: DueWork, problem: StepFailed | null, now: number): End | null => {
  if (work.cancel_requested_at !== null) return canceled
  if (work.lease_no === 1 && work.start_by !== null && now > DateTime.toEpochMillis(work.start_by)) {
    return { outcome: "ended", state: "skipped", error: null, skip_reason: "expired" }
  }
  return problem === null ? null : { outcome: "ended", state: "failed", error: runError(null, problem) }
}

/** How a lease ends, by how its work ended at `now`; null where the lease is somebody else's by then. */
export const endOf = (
  exit: Exit.Exit<Parked | null, AttemptFailed>,
  work: DueWork,
  plan: Plan | undefined,
  reason: Interruption,
  now: number,
  signals: number
): Effect.Effect<End | null> =>
  Effect.gen(function* () {
    if (Exit.isSuccess(exit)) {
      return exit.value === null
        ? { outcome: "ended", state: "succeeded", error: null }
        : { outcome: "parked", signals, expires_at: exit.value.until }
    }
    if (Cause.isInterruptedOnly(exit.cause)) {
      if (reason === "lost") return null
      return reason === "canceled" ? canceled : { outcome: "released" }
    }
    const { error, notBefore } = yield* Effect.catchAll(Cause.failureOption(exit.cause), () =>
      unexpected(exit.cause, work)
    )
    if (plan === undefined || isFinal(error, work, plan)) return { outcome: "ended", state: "failed", error }
    const pause = Math.max(notBefore, delay(plan.definition, work.attempt, yield* Random.next))
    return { outcome: "retried", error, run_at: Math.min(now + pause, Math.max(now, deadlineOf(work))) }
  })

const unexpected = (cause: Cause.Cause<AttemptFailed>, work: DueWork) =>
  Effect.logError("A run ended unexpectedly.", cause).pipe(
    Effect.annotateLogs({ run_id: work.id, task_id: work.task_id }),
    Effect.as({
      error: runError(null, StepFailed.of("internal", "the run ended unexpectedly; the log has the details")),
      notBefore: 0
    })
  )
