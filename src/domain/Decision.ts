import * as Misfire from "./Misfire.ts"
import type { SkipReason } from "./Run.ts"
import type { Task } from "./Task.ts"

/** What bounds the runs of a task, beside its schedule. */
export interface Rules {
  readonly overlapPolicy: Task["overlap_policy"]
  /** Whether a run of the task, backfills aside, is unfinished. */
  readonly unfinished: boolean
  readonly dedupeWindowSeconds: number
  /** `scheduled_for` of the last occurrence that fired, epoch milliseconds. */
  readonly lastFiredFor: number | null
  /** How many more occurrences `max_runs` lets fire; null for any number. */
  readonly runsLeft: number | null
}

/** An occurrence that fires; a serial one waits for the task's unfinished runs. */
export interface DecidedFire extends Misfire.Fire {
  readonly serial: boolean
}

/** Occurrences that do not fire, and why. */
export interface Skip extends Misfire.Series {
  readonly reason: SkipReason
}

/** What becomes of everything that is due, and the first occurrence after it; `next` is null when none is left. */
export interface Decision {
  readonly fires: ReadonlyArray<DecidedFire>
  readonly skips: ReadonlyArray<Skip>
  /** Whether the unfinished runs of before are to be canceled. */
  readonly cancelUnfinished: boolean
  readonly next: number | null
  readonly nextDueAt: number | null
}

/** Decides all that is due, by the misfire policy first, then by the rules. `cause` is why late ones are late. */
export const decide = (owed: Misfire.Owed, rules: Rules, cause: "misfire" | "paused" | "edited"): Decision => {
  const { fires, next, nextDueAt, skipped } = Misfire.decide(owed)
  const kept: Array<DecidedFire> = []
  const skips: Array<Skip> = skipped === null ? [] : [{ ...skipped, reason: cause }]
  let { lastFiredFor, runsLeft, unfinished } = rules
  for (const fire of fires) {
    if (runsLeft === 0) break
    const reason = refusal(fire, rules, lastFiredFor, unfinished)
    if (reason !== null) {
      append(skips, fire.scheduledFor, reason)
      continue
    }
    if (rules.overlapPolicy === "cancel_running")
      for (const replaced of kept.splice(0)) append(skips, replaced.scheduledFor, "overlap")
    kept.push({ ...fire, serial: unfinished && rules.overlapPolicy !== "allow" })
    unfinished = true
    lastFiredFor = fire.scheduledFor
    if (runsLeft !== null) runsLeft--
  }
  const exhausted = runsLeft === 0
  return {
    fires: kept,
    skips,
    cancelUnfinished: rules.overlapPolicy === "cancel_running" && rules.unfinished && kept.length > 0,
    next: exhausted ? null : next,
    nextDueAt: exhausted ? null : nextDueAt
  }
}

const refusal = (
  fire: Misfire.Fire,
  rules: Rules,
  lastFiredFor: number | null,
  unfinished: boolean
): SkipReason | null => {
  const windowEnd = lastFiredFor === null ? -Infinity : lastFiredFor + rules.dedupeWindowSeconds * 1000
  if (rules.dedupeWindowSeconds > 0 && fire.scheduledFor < windowEnd) return "dedupe"
  return rules.overlapPolicy === "skip" && unfinished ? "overlap" : null
}

/** One entry holds a whole series of the same reason. */
const append = (skips: Array<Skip>, at: number, reason: SkipReason) => {
  const last = skips.at(-1)
  if (last?.reason !== reason || last.count === null) skips.push({ reason, from: at, to: at, count: 1 })
  else skips[skips.length - 1] = { ...last, to: at, count: last.count + 1 }
}
