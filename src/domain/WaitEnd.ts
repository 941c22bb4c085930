import { Either } from "effect"
import { isObject, type JsonObject, type JsonValue } from "./Json.ts"
import { StepFailed } from "./StepFailed.ts"
import type { Wait } from "./Wait.ts"

const flag = (detail: JsonObject, name: string): boolean => Object.hasOwn(detail, name) && detail[name] === true

const numberOf = (detail: JsonObject, name: string): number => {
  const value = Object.hasOwn(detail, name) ? detail[name] : undefined
  return typeof value === "number" ? value : 0
}

/** Whether it is the pause before the next call of a step, and not what a step waits for. */
export const isPause = ({ detail }: Wait): boolean => flag(detail, "pause")

/** The how many-th call of its step it stands for, or follows. */
export const callOf = ({ detail }: Wait): number => numberOf(detail, "call")

/**
 * Whether an attempt of a run goes on with a wait: with one of its own, and with one of an earlier attempt that has not failed. A
 * pause belongs to the attempt that makes it.
 */
export const goesOn = (wait: Wait, attempt: number): boolean =>
  numberOf(wait.detail, "attempt") === attempt || (!isPause(wait) && (wait.result === null || "output" in wait.result))

/** How a wait came out by `now` (epoch milliseconds): its output, why it failed, or null while it goes on. */
export const endOfWait = (wait: Wait, now: number): Either.Either<JsonValue, StepFailed> | null => {
  const { detail, expires_at, kind, result } = wait
  if (result !== null) {
    if ("error" in result) return Either.left(new StepFailed(result.error))
    return kind === "approval" ? judged(detail, result.output) : Either.right(result.output)
  }
  if (expires_at === null || expires_at > now) return null
  if (kind === "wait") return Either.right({ waited_seconds: (expires_at - numberOf(detail, "began")) / 1000 })
  if (kind === "approval" && Object.hasOwn(detail, "on_expire") && detail["on_expire"] === "reject") {
    return judged(detail, {
      status: "rejected",
      data: null,
      comment: null,
      decided_by: null,
      decided_at: new Date(expires_at).toISOString()
    })
  }
  return Either.left(StepFailed.of("expired", expired[kind]))
}

const expired = {
  approval: "nobody decided in time",
  event: "no such event came in time",
  child: "the run that this one waits for did not end in time",
  tool: "no worker finished this in time",
  wait: ""
} as const

const judged = (detail: JsonObject, decision: JsonValue): Either.Either<JsonValue, StepFailed> =>
  flag(detail, "fail_on_reject") && isObject(decision) && decision["status"] === "rejected"
    ? Either.left(StepFailed.of("rejected", "the approval was rejected"))
    : Either.right(decision)
