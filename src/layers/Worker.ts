import {
  Clock,
  Context,
  DateTime,
  Deferred,
  Duration,
  Effect,
  Fiber,
  FiberSet,
  Layer,
  Queue,
  Random,
  Schedule
} from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import * as Line from "../domain/Line.ts"
import { fitting } from "../domain/Settlement.ts"
import type { Settlement, StepRecord } from "../domain/Settlement.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { Draining } from "./Draining.ts"
import { endOf, execute, withoutStart } from "./Execution.ts"
import type { Interruption } from "./Execution.ts"
import { beatEvery, Heartbeats } from "./Heartbeats.ts"
import * as Ids from "./Ids.ts"
import { makeIsolation } from "./Isolation.ts"
import { Lease } from "./Lease.ts"
import * as Metrics from "./Metrics.ts"
import { Pipeline } from "./Pipeline.ts"
import { Plans } from "./Plans.ts"
import type { Plan, RunInput } from "./Plans.ts"
import * as Retries from "./Retries.ts"
import * as Settings from "./Settings.ts"
import { Wakeups } from "./Wakeups.ts"

/** Most rows that one turn settles. */
const mostSettled = 500
/** Without a wake-up a worker looks for work this often; jittered, so that several do not look at once. */
const pollEvery = Duration.millis(500)
/**
 * A lease counts as over this long before it is: a frozen worker that wakes up writes nothing. Of a short lease it takes no larger
 * part than of the usual one, 4 of 15 s, so that the renewal at a third comes before.
 */
const fenceMargin = (leaseFor: Duration.Duration) => Duration.min(Duration.seconds(4), Duration.times(leaseFor, 4 / 15))

const noInput: RunInput = { params: null, event: null, finished: [] }

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
    /** Takes back leases that nobody renewed, looks who waits, and makes room for a suspect. */
    readonly rescue: Effect.Effect<void, StoreUnavailable>
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
      const isolation = makeIsolation()
      let line = Line.plain

      const heldFor = Duration.toMillis(leaseFor) - Duration.toMillis(fenceMargin(leaseFor))
      const heldUntil = () => performance.now() + heldFor

      const interrupt = (run: Running, reason: Interruption) =>
        Effect.suspend(() => {
          run.interruption ??= reason
          return Fiber.interruptFork(run.fiber)
        })

      const handBack = (work: DueWork, finished_at: number) =>
        settlements.offer({ work, steps: [], finished_at, outcome: "released" })

      const start = (work: DueWork, plan: Plan | undefined, input: RunInput, until: number) =>
        Effect.gen(function* () {
          const steps: Array<StepRecord> = []
          let self: Running | undefined
          const go = yield* Deferred.make<void>()
          const execution = Deferred.await(go).pipe(
            Effect.zipRight(execute(pipeline, work, plan, input, (step) => Effect.sync(() => void steps.push(step)))),
            Effect.onExit((exit) =>
              Effect.gen(function* () {
                const reason = self?.interruption ?? "shutdown"
                if (running.get(work.id) === self) running.delete(work.id)
                const finished_at = yield* Clock.currentTimeMillis
                const end = yield* endOf(exit, work, plan, reason, finished_at)
                if (end === null) return
                yield* settlements.offer({ work, steps, finished_at, ...end })
                yield* wakeups.signalHere("work")
              })
            ),
            Effect.exit,
            Effect.asVoid,
            // It is forked where a turn must not be interrupted.
            Effect.interruptible
          )
          const fiber = yield* FiberSet.run(fibers, execution)
          // A process that was frozen may lease again what it has not yet noticed to have lost.
          const before = running.get(work.id)
          if (before !== undefined) yield* interrupt(before, "lost")
          self = { work, fiber, heldUntil: until, interruption: null }
          running.set(work.id, self)
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
        const alone = isolation.begins(running.size, performance.now())
        const capacity = draining ? 0 : alone ? 1 : isolation.isOpen() ? Math.max(0, concurrency - running.size) : 0
        if (unsettled.length === 0 && capacity === 0) return 0
        const settled = fitting(unsettled)
        const until = heldUntil()
        const { blocked, leased, lost } = yield* lease.turn(id, settled, capacity, alone, line)
        line = Line.served(line, leased)
        if (alone) isolation.began(leased.length > 0, performance.now())
        unsettled = unsettled.slice(settled.length)
        const turnedAt = yield* Clock.currentTimeMillis
        lastTurnAt = turnedAt
        if (lost.length > 0) {
          yield* Effect.logWarning("Runs were settled by another worker meanwhile.").pipe(
            Effect.annotateLogs({ run_ids: lost })
          )
        }
        if (leased.length > 0) {
          const [ready, inputs] = yield* Effect.all([plans.load(leased), plans.inputs(leased)]).pipe(
            Effect.tapError(() => Effect.forEach(leased, (work) => handBack(work, turnedAt), { discard: true }))
          )
          for (const work of leased) {
            const end = withoutStart(work, turnedAt)
            if (end !== null) yield* settlements.offer({ work, steps: [], finished_at: turnedAt, ...end })
            // The answers took so long that another may have the run by now.
            else if (until < performance.now()) yield* handBack(work, turnedAt)
            else yield* start(work, ready.get(work.id), inputs.get(work.id) ?? noInput, until)
          }
        }
        if (settled.length > 0) yield* wakeups.signal("outbox")
        // The scheduler may have to wake up earlier than it meant to.
        if (
          settled.some(
            ({ outcome, work }) => outcome === "retried" || outcome === "parked" || work.trigger === "backfill"
          )
        )
          yield* wakeups.signal("schedule")
        return settled.length + leased.length + blocked
        // Interrupted in between, it would hold leases that nobody runs, renews or hands back.
      }).pipe(Effect.uninterruptible)

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
        // A scope closes without being interrupted: only what is interruptible again ends with its time.
        yield* turn.pipe(
          Effect.ignore,
          Effect.zipRight(Effect.sleep("50 millis")),
          Effect.repeat({ while: () => left }),
          Effect.interruptible,
          Effect.timeoutOption(grace)
        )
        yield* Effect.forEach([...running.values()], (run) => interrupt(run, "shutdown"), { discard: true })
        yield* FiberSet.awaitEmpty(fibers).pipe(Effect.interruptible, Effect.timeoutOption("1 second"))
        yield* turn.pipe(
          Effect.repeat({ while: (moved) => moved > 0 }),
          Effect.retry(Retries.contention),
          Effect.ignore
        )
      })

      return Worker.of({
        id,
        turn,
        renew,
        drain,
        rescue: Effect.gen(function* () {
          if ((yield* lease.rescue) > 0) yield* wakeups.signal("work")
          line = Line.seen(line, yield* lease.line(line.after))
          const now = performance.now()
          if (isolation.asks(now) && (yield* lease.suspects)) {
            isolation.close(now)
            yield* wakeups.signalHere("work")
          }
        }),
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
      const wakeups = yield* Wakeups
      const heartbeats = yield* Heartbeats
      const draining = yield* Draining
      const leaseFor = yield* Settings.leaseFor
      const concurrency = yield* Settings.workerConcurrency
      const startedAt = yield* Clock.currentTimeMillis
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
      // What stands first ends last: leases are renewed and fenced until the drain is over.
      yield* Effect.addFinalizer(() => Effect.ignore(heartbeats.leave(worker.id)))
      // A lease that ends is a crash if there was no beat for two thirds of it: a short lease needs quicker beats.
      yield* every(beat, Duration.min(beatEvery, Duration.times(leaseFor, 1 / 3)))
      // At a third of the lease, and at once when something is to be canceled: that is read where leases are renewed.
      const renewals = Effect.zipRight(wakeups.wait("cancel", Duration.times(leaseFor, 1 / 3)), worker.renew)
      yield* draining.supervised(renewals.pipe(Effect.forever, Effect.retry(Retries.loop)))
      yield* every(worker.fence, "500 millis")
      yield* Effect.addFinalizer(() => worker.drain)
      yield* every(worker.rescue, "1 second")
      yield* draining.supervised(turns.pipe(Effect.retry(Retries.loop)))
    })
  )
}
