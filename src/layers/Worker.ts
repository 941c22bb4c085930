import {
  Cause,
  Clock,
  Context,
  DateTime,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  FiberSet,
  Layer,
  Queue,
  Random,
  Schedule
} from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import { delay } from "../domain/Retry.ts"
import type { SkipReason } from "../domain/Run.ts"
import type { Settlement, StepRecord } from "../domain/Settlement.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { Draining } from "./Draining.ts"
import { beatEvery, Heartbeats } from "./Heartbeats.ts"
import * as Ids from "./Ids.ts"
import { Lease } from "./Lease.ts"
import * as Metrics from "./Metrics.ts"
import { Pipeline, runError } from "./Pipeline.ts"
import { Plans } from "./Plans.ts"
import type { Plan, RunInput } from "./Plans.ts"
import * as Retries from "./Retries.ts"
import * as Settings from "./Settings.ts"
import { Wakeups } from "./Wakeups.ts"

/** Most rows that one turn settles. */
const mostSettled = 500
/** Without a wake-up a worker looks for work this often; jittered, so that several do not look at once. */
const pollEvery = Duration.millis(500)
/** A lease counts as over this long before it is: a frozen worker that wakes up writes nothing. */
const fenceMargin = Duration.seconds(4)

/** Why a run's work is interrupted. */
type Interruption = "canceled" | "lost" | "shutdown"

interface Running {
  readonly work: DueWork
  readonly fiber: Fiber.RuntimeFiber<void>
  /** On the process's monotonic clock, milliseconds. */
  heldUntil: number
  interruption: Interruption | null
}

/** Leases runs, runs them, settles them. */
export class Worker extends Context.Tag("ordinaut/Worker")<
  Worker,
  {
    readonly id: string
    /** One turn: settles what is finished and starts what it leased. Answers how many rows it moved. */
    readonly turn: Effect.Effect<number, StoreUnavailable>
    /** Renews all leases; interrupts what was lost or is to be canceled. */
    readonly renew: Effect.Effect<void, StoreUnavailable>
    /** Waits until there may be something to do. */
    readonly idle: Effect.Effect<void>
    /** Interrupts what runs no lease any more, by the monotonic clock alone. */
    readonly fence: Effect.Effect<void>
    /** Hands back all that is leased: first what has not started, what runs after the grace. */
    readonly drain: Effect.Effect<void>
    readonly running: Effect.Effect<number>
    /** Epoch milliseconds of the last turn that came through; null before the first. */
    readonly lastTurnAt: Effect.Effect<number | null>
  }
>() {
  static readonly layer = Layer.scoped(
    this,
    Effect.gen(function* () {
      const lease = yield* Lease
      const pipeline = yield* Pipeline
      const plans = yield* Plans
      const wakeups = yield* Wakeups
      const concurrency = yield* Settings.workerConcurrency
      const leaseFor = yield* Settings.leaseFor
      const grace = yield* Settings.shutdownGrace
      const id = yield* Ids.next
      const fibers = yield* FiberSet.make()
      const running = new Map<string, Running>()
      const settlements = yield* Queue.unbounded<Settlement>()
      let unsettled: ReadonlyArray<Settlement> = []
      let lastTurnAt: number | null = null
      let draining = false

      const heldUntil = () => performance.now() + Duration.toMillis(leaseFor) - Duration.toMillis(fenceMargin)

      const interrupt = (run: Running, reason: Interruption) =>
        Effect.suspend(() => {
          run.interruption ??= reason
          return Fiber.interruptFork(run.fiber)
        })

      const start = (work: DueWork, plan: Plan | undefined, input: RunInput) =>
        Effect.gen(function* () {
          const steps: Array<StepRecord> = []
          const go = yield* Deferred.make<void>()
          const execution = Deferred.await(go).pipe(
            Effect.zipRight(execute(pipeline, work, plan, input, (step) => Effect.sync(() => void steps.push(step)))),
            Effect.onExit((exit) =>
              Effect.gen(function* () {
                const reason = running.get(work.id)?.interruption ?? "shutdown"
                running.delete(work.id)
                const finished_at = yield* Clock.currentTimeMillis
                const end = yield* endOf(exit, work, plan, reason, finished_at)
                if (end === null) return
                yield* settlements.offer({ work, steps, finished_at, ...end })
                yield* wakeups.signal("work")
              })
            ),
            Effect.exit,
            Effect.asVoid
          )
          const fiber = yield* FiberSet.run(fibers, execution)
          running.set(work.id, { work, fiber, heldUntil: heldUntil(), interruption: null })
          if (work.lease_no === 1) {
            const waited = DateTime.toEpochMillis(work.started_at) - DateTime.toEpochMillis(work.due_at)
            Metrics.queueWait.add(Math.max(0, waited) / 1000, { trigger: work.trigger })
          }
          yield* Deferred.succeed(go, undefined)
        })

      const turn = Effect.gen(function* () {
        // What a failed turn could not settle goes first into the next one.
        const more = yield* settlements.takeUpTo(mostSettled - unsettled.length)
        unsettled = [...unsettled, ...more]
        const capacity = draining ? 0 : Math.max(0, concurrency - running.size)
        if (unsettled.length === 0 && capacity === 0) return 0
        const settled = unsettled
        const { leased, lost } = yield* lease.turn(id, settled, capacity)
        unsettled = []
        lastTurnAt = yield* Clock.currentTimeMillis
        if (lost.length > 0) {
          yield* Effect.logWarning("Runs were settled by another worker meanwhile.").pipe(
            Effect.annotateLogs({ run_ids: lost })
          )
        }
        if (leased.length > 0) {
          const [ready, inputs] = yield* Effect.all([plans.load(leased), plans.inputs(leased)])
          for (const work of leased) {
            const end = withoutStart(work, lastTurnAt)
            if (end === null) yield* start(work, ready.get(work.id), inputs.get(work.id) ?? noInput)
            else yield* settlements.offer({ work, steps: [], finished_at: lastTurnAt, ...end })
          }
        }
        if (settled.length > 0) yield* wakeups.signal("outbox")
        return settled.length + leased.length
      })

      const renew = Effect.gen(function* () {
        const held = [...running.values()]
        if (held.length === 0) return
        const until = heldUntil()
        const renewed = yield* lease.renew(
          id,
          held.map(({ work }) => ({ id: work.id, lease_no: work.lease_no }))
        )
        const known = new Map(renewed.map((one) => [one.id, one]))
        for (const run of held) {
          const found = known.get(run.work.id)
          if (found === undefined) {
            if (running.has(run.work.id)) yield* interrupt(run, "lost")
            continue
          }
          run.heldUntil = until
          if (found.cancel_requested) yield* interrupt(run, "canceled")
        }
      })

      const drain = Effect.gen(function* () {
        draining = true
        const left = Effect.sync(() => running.size > 0)
        yield* turn.pipe(
          Effect.ignore,
          Effect.zipRight(Effect.sleep("50 millis")),
          Effect.repeat({ while: () => left }),
          Effect.timeoutOption(grace)
        )
        yield* Effect.forEach([...running.values()], (run) => interrupt(run, "shutdown"), { discard: true })
        yield* FiberSet.awaitEmpty(fibers).pipe(Effect.timeoutOption("1 second"))
        yield* turn.pipe(Effect.retry(Retries.contention), Effect.ignore)
      })

      return Worker.of({
        id,
        turn,
        renew,
        drain,
        idle: Effect.flatMap(Random.next, (unit) => wakeups.wait("work", Duration.times(pollEvery, 0.75 + unit / 2))),
        fence: Effect.suspend(() =>
          Effect.forEach(
            [...running.values()].filter((run) => run.heldUntil < performance.now()),
            (run) => interrupt(run, "lost"),
            { discard: true }
          )
        ),
        running: Effect.sync(() => running.size),
        lastTurnAt: Effect.sync(() => lastTurnAt)
      })
    })
  )

  /** The loops of a worker: turns, renewal, fence and heartbeat, until the scope closes; then the drain. */
  static readonly loop = Layer.scopedDiscard(
    Effect.gen(function* () {
      const worker = yield* Worker
      const heartbeats = yield* Heartbeats
      const draining = yield* Draining
      const leaseFor = yield* Settings.leaseFor
      const concurrency = yield* Settings.workerConcurrency
      const startedAt = yield* Clock.currentTimeMillis
      yield* Effect.addFinalizer(() => worker.drain.pipe(Effect.zipRight(heartbeats.leave(worker.id)), Effect.ignore))
      const turns = worker.turn.pipe(
        Effect.flatMap((moved) => (moved > 0 ? Effect.yieldNow() : worker.idle)),
        Effect.forever
      )
      const beat = Effect.gen(function* () {
        yield* heartbeats.beat({
          id: worker.id,
          program: "worker",
          startedAt,
          lastPassAt: yield* worker.lastTurnAt,
          running: yield* worker.running,
          concurrency
        })
      })
      const every = (pass: Effect.Effect<void, StoreUnavailable>, pause: Duration.DurationInput) =>
        draining.supervised(pass.pipe(Effect.repeat(Schedule.spaced(pause)), Effect.retry(Retries.loop)))
      yield* draining.supervised(turns.pipe(Effect.retry(Retries.loop)))
      yield* every(worker.renew, Duration.times(leaseFor, 1 / 3))
      yield* every(worker.fence, "500 millis")
      yield* every(beat, beatEvery)
    })
  )
}

/** The work of one lease; fails with what ends the attempt. */
const execute = (
  pipeline: typeof Pipeline.Service,
  work: DueWork,
  plan: Plan | undefined,
  input: RunInput,
  record: (step: StepRecord) => Effect.Effect<void>
) =>
  Effect.gen(function* () {
    if (plan === undefined)
      return yield* failure(StepFailed.of("internal", "the task's revision cannot be run by this version"), false)
    const now = yield* Clock.currentTimeMillis
    const left = plan.definition.timeout_seconds * 1000 - (now - DateTime.toEpochMillis(work.attempt_started_at))
    const deadline = work.deadline_at === null ? Infinity : DateTime.toEpochMillis(work.deadline_at) - now
    const failed = yield* pipeline.run(plan, work, input, record).pipe(
      Effect.timeoutFail({
        duration: Duration.millis(Math.max(0, Math.min(left, deadline))),
        onTimeout: () =>
          deadline <= left
            ? { error: runError(null, StepFailed.of("deadline", "the run's deadline has passed")), retryable: false }
            : {
                error: runError(
                  null,
                  StepFailed.of("timeout", `the attempt took longer than ${plan.definition.timeout_seconds} s`)
                ),
                retryable: true
              }
      })
    )
    if (failed !== null)
      return yield* Effect.fail({ error: runError(failed.step, failed.error), retryable: failed.error.retryable })
  })

interface AttemptFailed {
  readonly error: ReturnType<typeof runError>
  readonly retryable: boolean
}

const failure = (error: StepFailed, retryable: boolean): Effect.Effect<never, AttemptFailed> =>
  Effect.fail({ error: runError(null, error), retryable })

const noInput: RunInput = { params: null, event: null, finished: [] }

/** The end of a run that is over before it starts: canceled meanwhile, or too late by `start_within_seconds`. */
const withoutStart = (work: DueWork, now: number): End | null => {
  if (work.cancel_requested_at !== null) return canceled
  return work.lease_no === 1 && work.start_by !== null && now > DateTime.toEpochMillis(work.start_by)
    ? { outcome: "ended", state: "skipped", error: null, skip_reason: "expired" }
    : null
}

type End =
  | {
      readonly outcome: "ended"
      readonly state: "succeeded" | "failed" | "canceled" | "skipped"
      readonly error: ReturnType<typeof runError> | null
      readonly skip_reason?: SkipReason
    }
  | { readonly outcome: "retried"; readonly error: ReturnType<typeof runError>; readonly run_at: number }
  | { readonly outcome: "released" }

const canceled: End = {
  outcome: "ended",
  state: "canceled",
  error: runError(null, StepFailed.of("canceled", "the run was canceled"))
}

/** How a lease ends, by how its work ended; null where the lease is somebody else's by now. */
const endOf = (
  exit: Exit.Exit<void, AttemptFailed>,
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
    const expected = Cause.failureOption(exit.cause)
    if (expected._tag === "None")
      yield* Effect.logError("A run ended unexpectedly.", exit.cause).pipe(Effect.annotateLogs({ run_id: work.id }))
    const { error, retryable } =
      expected._tag === "Some"
        ? expected.value
        : {
            error: runError(null, StepFailed.of("internal", "the run ended unexpectedly; the log has the details")),
            retryable: true
          }
    if (!retryable || plan === undefined || work.attempt > plan.definition.max_retries)
      return { outcome: "ended", state: "failed", error }
    const unit = yield* Random.next
    return { outcome: "retried", error, run_at: now + delay(plan.definition, work.attempt, unit) }
  })
