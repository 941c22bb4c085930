import { Cause, Clock, Effect, Exit, Option } from "effect"
import type { ErrorCode } from "../domain/StepFailed.ts"
import { StepFailed } from "../domain/StepFailed.ts"

/** Failures in a row that open a breaker, and how long it stays open before one call may probe. */
const threshold = 5
const openMillis = 30_000

/** Failures that say that the other side is unwell, not that the call was wrong. */
const unwell: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["tool_connection", "tool_http_5xx", "timeout"])

/** Kept states; those that failed longest ago give way. */
const maxKeys = 1000

interface State {
  readonly failures: number
  /** Epoch milliseconds. */
  readonly openUntil: number
  readonly probing: boolean
}

/** Circuit breakers of this process, one for each key. */
export interface Breakers {
  /**
   * Runs a call unless its breaker is open: then it fails at once with `tool_connection`, retryable when the breaker may
   * close. Five connection errors, 5xx answers or timeouts in a row open it for 30 s; then one call goes through, and its
   * outcome decides.
   */
  readonly guard: <A>(key: string, call: Effect.Effect<A, StepFailed>) => Effect.Effect<A, StepFailed>
}

const heldBack = (key: string, wait: number) =>
  new StepFailed({
    code: "tool_connection",
    message: `calls to ${key} are held back, because the last ${threshold} or more failed`,
    retryable: true,
    retry_after_seconds: Math.max(1, Math.ceil(wait / 1000))
  })

/** Breakers that are all closed. */
export const makeBreakers = (): Breakers => {
  const states = new Map<string, State>()
  const failed = (key: string, isProbe: boolean, now: number) => {
    const before = states.get(key)
    const failures = (before?.failures ?? 0) + 1
    const opens = failures >= threshold
    // Deleted first, so that the order of the map is that of the last failures.
    states.delete(key)
    // A call that began before the breaker opened may end while another one probes.
    const probing = !isProbe && before?.probing === true
    states.set(key, { failures, openUntil: opens ? now + openMillis : 0, probing })
    const [oldest] = states.keys()
    if (states.size > maxKeys && oldest !== undefined) states.delete(oldest)
    return failures === threshold
      ? Effect.logWarning("Calls to an extension are held back.").pipe(Effect.annotateLogs({ extension: key }))
      : Effect.void
  }
  /** Neither a call that was given up nor one that threw says anything of the other side. */
  const released = (key: string, isProbe: boolean) => {
    const state = states.get(key)
    if (isProbe && state !== undefined) states.set(key, { ...state, probing: false })
  }
  return {
    guard: (key, call) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const state = states.get(key)
          const isOpen = state !== undefined && state.failures >= threshold
          if (isOpen && (state.probing || now < state.openUntil))
            return yield* heldBack(key, state.probing ? 1000 : state.openUntil - now)
          if (isOpen) states.set(key, { ...state, probing: true })
          const exit = yield* Effect.exit(restore(call))
          if (Exit.isSuccess(exit)) states.delete(key)
          else {
            const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
            if (error === undefined) released(key, isOpen)
            else if (unwell.has(error.code)) yield* failed(key, isOpen, yield* Clock.currentTimeMillis)
            else states.delete(key)
          }
          return yield* exit
        })
      )
  }
}
