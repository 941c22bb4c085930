import type { DueWork } from "./DueWork.ts"
import { maxDepth, sizeOf } from "./Json.ts"
import type { JsonValue } from "./Json.ts"
import type { RunError, SkipReason, StepState, Trigger } from "./Run.ts"
import type { NewUsage } from "./Usage.ts"
import type { NewWait } from "./Wait.ts"

/** A run to be queued. `id` becomes the run's id; instants are epoch milliseconds. */
export interface NewWork {
  readonly id: string
  readonly task_id: string
  readonly task_version: number
  readonly agent_id: string
  readonly namespace: string
  readonly key: string
  readonly trigger: Trigger
  readonly scheduled_for: number
  readonly due_at: number
  readonly priority: number
  readonly concurrency_key: string | null
  /** Set where the key was rendered: the template, and the limit of the task, which hold for it where no task bears it as it is. */
  readonly rendered_from?: { readonly template: string; readonly limit: number }
  readonly deadline_seconds: number | null
  readonly start_within_seconds: number | null
  /** Whether it waits for the unfinished runs of its task. */
  readonly serial: boolean
  readonly event_id?: string
  readonly backfill_id?: string
  readonly parent_run_id?: string
  readonly retry_of?: string
  readonly hops?: number
  readonly traceparent?: string
  /** What a run was given by hand, such as `params`; kept with the occurrence. */
  readonly input?: JsonValue
}

/** What became of a step, to be stored. Instants are epoch milliseconds; `item` is -1 outside of a for_each. */
export interface StepRecord {
  readonly step_id: string
  readonly position: number
  readonly item: number
  readonly uses: string
  readonly state: StepState
  readonly attempt: number
  readonly input: JsonValue
  readonly output: JsonValue
  readonly error: RunError | null
  readonly simulated: boolean
  readonly logs: ReadonlyArray<JsonValue>
  readonly started_at: number
  readonly finished_at: number
}

/** What a lease has come to so far: stored before the next call that leaves, so that no later lease makes one of these again. */
export interface Progress {
  readonly work: DueWork
  readonly steps: ReadonlyArray<StepRecord>
  readonly waits: ReadonlyArray<NewWait>
  /** Set once the run has failed for good, and only its `on_failure` goes on. */
  readonly failed: RunError | null
  /** What its calls used; counted whether or not the lease still holds, for they were made. */
  readonly usage?: ReadonlyArray<NewUsage>
}

/** How a lease ends. */
export type End =
  | {
      readonly outcome: "ended"
      readonly state: "succeeded" | "failed" | "canceled" | "skipped"
      readonly error: RunError | null
      readonly skip_reason?: SkipReason
    }
  | { readonly outcome: "retried"; readonly error: RunError; readonly run_at: number }
  | { readonly outcome: "released" }
  /** Waits for a signal or `expires_at`. `signals` is what its holder has seen: one more by now, and the run is ready at once. */
  | { readonly outcome: "parked"; readonly signals: number; readonly expires_at: number | null }

/** A lease that ended, with the steps that finished during it and are not stored yet. */
export type Settlement = End & {
  readonly work: DueWork
  readonly steps: ReadonlyArray<StepRecord>
  readonly finished_at: number
  /** As in `Progress`. */
  readonly usage?: ReadonlyArray<NewUsage>
}

/** What a turn did. */
export interface TurnResult {
  readonly leased: ReadonlyArray<DueWork>
  /** Ids whose lease was somebody else's by then: nothing of them was written. */
  readonly lost: ReadonlyArray<string>
  /** How many runs it looked at that found no slot of their key free; others may be ready behind them. */
  readonly blocked: number
}

/** A lease as its holder names it. */
export interface Held {
  readonly id: string
  readonly lease_no: number
}

/** What a renewal says of a lease that still holds. */
export interface Renewed extends Held {
  readonly cancel_requested: boolean
  /** More than the holder has seen: something that the run may wait for has come. */
  readonly signals: number
}

/** What the steps in one statement may weigh together, bytes; jsonb ends at 256 MiB. */
const mostBytes = 32 * 1_048_576

/** As many as one statement may carry, by the weight of their steps, but at least the first. */
export const fitting = <Of>(
  waiting: ReadonlyArray<Of>,
  stepsOf: (one: Of) => ReadonlyArray<StepRecord>
): ReadonlyArray<Of> => {
  let bytes = 0
  const over = waiting.findIndex((one, index) => {
    for (const { input, output } of stepsOf(one)) bytes += weight(input) + weight(output)
    return index > 0 && bytes > mostBytes
  })
  return over < 0 ? waiting : waiting.slice(0, over)
}

const weight = (value: JsonValue): number => sizeOf(value, mostBytes, maxDepth + 2) ?? mostBytes
