import { assert } from "@effect/vitest"
import { Context, DateTime, Effect, Either } from "effect"
import type { DueWork } from "../../src/domain/DueWork.ts"
import type { RunError } from "../../src/domain/Run.ts"
import type { End, NewWork, Settlement, StepRecord } from "../../src/domain/Settlement.ts"
import type { StoreUnavailable } from "../../src/domain/StoreUnavailable.ts"
import { DueTasks } from "../../src/layers/DueTasks.ts"
import type { Decide } from "../../src/layers/DueTasks.ts"
import * as Firing from "../../src/layers/Firing.ts"
import { Heartbeats } from "../../src/layers/Heartbeats.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Plans } from "../../src/layers/Plans.ts"

/** What the contract looks at and moves beside the services themselves; `at` is milliseconds after the start of the clock. */
export class Store extends Context.Tag("contract/Store")<
  Store,
  {
    /** Empties the store and sets the clock to its start. */
    readonly clear: Effect.Effect<void>
    readonly setTime: (at: number) => Effect.Effect<void>
    /** Stores an active task of the defaults, changed by `more`; answers what `NewWork` takes over from it. */
    readonly task: (
      more?: Record<string, unknown>
    ) => Effect.Effect<Omit<NewWork, "id" | "key" | "trigger" | "scheduled_for" | "due_at" | "serial">>
    readonly start: number
    /** All unfinished runs by key, in words. */
    readonly unfinished: Effect.Effect<Record<string, string>>
    /** All ended runs by key, in words. */
    readonly ended: Effect.Effect<Record<string, string>>
    /** Slots in use, by concurrency key. */
    readonly slots: Effect.Effect<Record<string, number>>
    /** The task's status, its cursor and what is next, in words. */
    readonly cursor: (taskId: string) => Effect.Effect<string>
    /** States told, in order, by key of the run. */
    readonly told: Effect.Effect<Record<string, string>>
  }
>() {}

/** What a scenario needs. */
export type Contract = Store | Lease | DueTasks | Plans | Heartbeats
/** One thing that the contract says. */
export type Scenario = Effect.Effect<void, StoreUnavailable, Contract>

/** Two workers. */
export const [one, other] = ["018f0000-0000-7000-8000-000000000001", "018f0000-0000-7000-8000-000000000002"] as const

/** Ids in order: `n` is the last of their digits. */
export const runId = (n: number) => `018f0000-0000-7000-9000-${String(n).padStart(12, "0")}`

/** Queues a run of a task, by hand and due at once unless `more` says otherwise; answers how many were queued. */
export const queue = (
  task: Effect.Effect.Success<ReturnType<typeof Store.Service.task>>,
  n: number,
  more: Partial<NewWork> = {}
) =>
  Effect.gen(function* () {
    const { start } = yield* Store
    const work: NewWork = {
      ...task,
      id: runId(n),
      key: `m:${n}`,
      trigger: "manual",
      scheduled_for: start,
      due_at: start,
      serial: false,
      ...more
    }
    const queued = yield* (yield* Lease).enqueue([work])
    return queued.length
  })

/** Leases up to so many. */
export const lease = (capacity: number, worker: string = one, suspects = false) =>
  Effect.flatMap(Lease, (store) => store.turn(worker, [], capacity, suspects)).pipe(Effect.map(({ leased }) => leased))

/** Leases one, which must be there. */
export const leaseOne = (worker: string = one) =>
  Effect.map(lease(1, worker), ([work]) => {
    if (work === undefined) throw new Error("nothing to lease")
    return work
  })

/** What became of a step. */
export const step = (id: string, more: Partial<StepRecord> = {}): StepRecord => ({
  step_id: id,
  position: 0,
  item: -1,
  uses: "mail.send",
  state: "succeeded",
  attempt: 1,
  input: {},
  output: { of: id },
  error: null,
  simulated: true,
  logs: [],
  started_at: 0,
  finished_at: 1,
  ...more
})

/** A failure that is worth another attempt. */
export const failed: RunError = { code: "tool_connection", message: "no", step_id: null, retryable: true }
/** The end of a run in which all went well. */
export const succeeded: End = { outcome: "ended", state: "succeeded", error: null }

/** The end of a lease. */
/** Ends a lease, and leases nothing. */
export const settlement = (work: DueWork, end: End, steps: ReadonlyArray<StepRecord> = []): Settlement => ({
  ...end,
  work,
  steps,
  finished_at: DateTime.toEpochMillis(work.started_at)
})

export const settle = (work: DueWork, end: End, steps: ReadonlyArray<StepRecord> = []) =>
  Effect.flatMap(Lease, (store) => store.turn(one, [settlement(work, end, steps)], 0))

/** A worker says that it lives. */
export const beat = (id: string, running = 0) =>
  Effect.flatMap(Heartbeats, (heartbeats) =>
    heartbeats.beat({ id, program: "worker", startedAt: 0, lastPassAt: null, running, concurrency: 1 })
  )

const decideAt =
  (now: number): Decide =>
  (task, unfinished) =>
    Either.mapLeft(Firing.decide(task, now, unfinished, "misfire"), ({ message }) => message)

/** Decides what is due so many milliseconds after the start. */
export const fireAt = (at: number) =>
  Effect.gen(function* () {
    const { setTime, start } = yield* Store
    yield* setTime(at)
    return yield* (yield* DueTasks).fire(start + at, 100, decideAt(start + at))
  })

/** Deep equality. */
export const equal = <A>(actual: A, expected: NoInfer<A>) => assert.deepStrictEqual(actual, expected)

/** A row in words. */
export const unfinishedInWords = (row: { state: string; lease_no: number; attempt: number; crashes: number }) =>
  `${row.state} lease ${row.lease_no} attempt ${row.attempt}${row.crashes > 0 ? ` crashes ${row.crashes}` : ""}`

/** An ended run in words; instants of the series are milliseconds after the start. */
export const endedInWords = (run: {
  readonly state: string
  readonly code: string | null
  readonly attempt: number
  readonly lease_no: number
  readonly crashes: number
  readonly attempts: number
  readonly reason: string | null
  readonly skipped: { readonly from: number; readonly count: number | null } | null
  readonly steps: ReadonlyArray<{ readonly step_id: string; readonly state: string }>
}) =>
  [
    run.state,
    ...(run.code === null ? [] : [run.code]),
    ...(run.reason === null ? [] : [run.reason]),
    ...(run.skipped === null ? [] : [`${run.skipped.count} from ${run.skipped.from}`]),
    `attempt ${run.attempt} lease ${run.lease_no} crashes ${run.crashes} attempts ${run.attempts}`,
    ...(run.steps.length === 0
      ? []
      : [
          "steps",
          run.steps
            .map((of) => `${of.step_id} ${of.state}`)
            .sort()
            .join(", ")
        ])
  ].join(" ")

/** A task's cursor in words; instants are milliseconds after the start. */
export const cursorInWords = (
  status: string,
  instants: Readonly<Record<"through" | "next" | "due" | "last", number | null>>,
  fired: number
) => {
  const of = (at: number | null) => at ?? "never"
  return `${status} through ${of(instants.through)} next ${of(instants.next)} due ${of(instants.due)} fired ${fired} last ${of(instants.last)}`
}

/** A key as the contract writes it: the instant of a schedule's key as milliseconds after the start. */
export const keyInWords = (key: string, start: number) =>
  key.startsWith("s:") && key !== "s:x" ? `s:${new Date(key.slice(2)).getTime() - start}` : key
