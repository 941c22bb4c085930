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
export const decide = (
  owed: Misfire.Owed,
  rules: Rules,
  cause: "misfire" | "paused" | "edited" | "canceled"
): Decision => {
  const { fires, next, nextDueAt, skipped } = Misfire.decide(owed)
  const verdicts: Array<Verdict> = []
  let standing: Verdict | null = null
  let { lastFiredFor, runsLeft, unfinished } = rules
  for (const fire of fires) {
    if (runsLeft === 0) break
    const verdict: Verdict = {
      fire: { ...fire, serial: unfinished && rules.overlapPolicy !== "allow" },
      reason: refusal(fire, rules, lastFiredFor, unfinished)
    }
    verdicts.push(verdict)
    if (verdict.reason !== null) continue
    if (rules.overlapPolicy === "cancel_running" && standing !== null) standing.reason = "overlap"
    else if (runsLeft !== null) runsLeft--
    standing = verdict
    unfinished = true
    lastFiredFor = fire.scheduledFor
  }
  const kept = verdicts.flatMap(({ fire, reason }) => (reason === null ? [fire] : []))
  const missed = skipped === null || rules.runsLeft === 0 ? [] : [{ ...skipped, reason: cause }]
  const exhausted = runsLeft === 0
  return {
    fires: kept,
    skips: [...missed, ...series(verdicts)],
    cancelUnfinished: rules.overlapPolicy === "cancel_running" && rules.unfinished && kept.length > 0,
    next: exhausted ? null : next,
    nextDueAt: exhausted ? null : nextDueAt
  }
}

/** An occurrence and why it does not fire; null when it does. A later one may still replace it. */
interface Verdict {
  readonly fire: DecidedFire
  reason: SkipReason | null
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

/** One entry holds a whole series of neighbours with the same reason. */
const series = (verdicts: ReadonlyArray<Verdict>): ReadonlyArray<Skip> => {
  const found: Array<Skip> = []
  let previous: SkipReason | null = null
  for (const { fire, reason } of verdicts) {
    const last = found.at(-1)
    const at = fire.scheduledFor
    if (reason !== null && reason === previous && last !== undefined)
      found[found.length - 1] = { ...last, to: at, count: (last.count ?? 0) + 1 }
    else if (reason !== null) found.push({ reason, from: at, to: at, count: 1 })
    previous = reason
  }
  return found
}
