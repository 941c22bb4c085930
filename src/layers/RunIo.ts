import { Effect } from "effect"
import type { Deferred, Queue } from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import type { RunError } from "../domain/Run.ts"
import type { Progress, StepRecord } from "../domain/Settlement.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { summed } from "../domain/Usage.ts"
import type { NewUsage } from "../domain/Usage.ts"
import { callKey } from "../domain/Wait.ts"
import type { NewWait, Wait } from "../domain/Wait.ts"
import type { Plans } from "./Plans.ts"
import * as Retries from "./Retries.ts"

/** What a pipeline under way tells of itself, and hears of what it waits for. */
export interface RunIo {
  /** Takes down what became of a step; stored by the next `save`, at the latest with the end of the lease. */
  readonly note: (step: StepRecord) => Effect.Effect<void>
  /** Counts what a call used, with what is stored next. */
  readonly use: (usage: NewUsage) => Effect.Effect<void>
  /** Returns once all that was noted is stored, with what the run waits for from now on. Interrupts the run if its lease is lost. */
  readonly save: (waits: ReadonlyArray<NewWait>, failed?: RunError) => Effect.Effect<void>
  /** What the run waits for, as it is now. */
  readonly waits: Effect.Effect<ReadonlyArray<Wait>>
  /** Returns when something may have come since `waits` was read, or the run was leased. */
  readonly signaled: Effect.Effect<void>
}

/** What the holder of a lease knows beside what the pipeline tells. */
export interface LeaseIo extends RunIo {
  /** What is noted and not stored. */
  readonly unsaved: () => ReadonlyArray<StepRecord>
  /** What is used and not counted. */
  readonly uncounted: () => ReadonlyArray<NewUsage>
  /** The signals that the pipeline has seen: more by now, and the run may not park. */
  readonly seen: () => number
  /** Tells of the number of signals as a renewal saw it. */
  readonly heard: (signals: number) => Effect.Effect<void>
}

/** Of a run that waits for nothing. */
export const noSignals = { take: Effect.never, offer: () => Effect.succeed(false) }

/** A request to store, and whether the lease still held. */
export interface Saving {
  readonly progress: Progress
  readonly held: Deferred.Deferred<boolean>
}

/** What one lease of a run tells and hears. `lost` is what to do where the lease was somebody else's by then. */
export const leaseIo = (
  work: DueWork,
  plans: typeof Plans.Service,
  save: (progress: Progress) => Effect.Effect<boolean>,
  lost: Effect.Effect<void>,
  signals: Pick<Queue.Queue<void>, "take" | "offer">
): LeaseIo => {
  let noted = new Map<string, StepRecord>()
  let used: ReadonlyArray<NewUsage> = []
  let heard = work.signals
  let seen = work.signals
  return {
    note: (step) => Effect.sync(() => void noted.set(callKey(step), step)),
    use: (usage) =>
      Effect.sync(() => {
        used = summed([...used, usage])
      }),
    save: (waits, failed) =>
      Effect.suspend(() => {
        const steps = [...noted.values()]
        const usage = used
        noted = new Map()
        used = []
        // What is handed over is waited for, also by a run that is interrupted: settled meanwhile, it would leave behind what the
        // statement under way stores for it.
        return Effect.uninterruptible(save({ work, steps, waits, failed: failed ?? null, usage })).pipe(
          Effect.flatMap((held) => (held ? Effect.void : Effect.zipRight(lost, Effect.never)))
        )
      }),
    waits: Effect.suspend(() => {
      seen = heard
      return untilAnswered(plans.waits(work.id))
    }),
    signaled: signals.take,
    unsaved: () => [...noted.values()],
    uncounted: () => used,
    seen: () => seen,
    heard: (count) =>
      Effect.suspend(() => {
        if (count <= heard) return Effect.void
        heard = count
        return signals.offer(undefined)
      })
  }
}

/** A database that is away ends the work by the fence of the lease, not by an error of its own. */
const untilAnswered = <A>(read: Effect.Effect<A, StoreUnavailable>): Effect.Effect<A> =>
  Effect.orDie(Effect.retry(read, Retries.loop))
