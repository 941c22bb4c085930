import { Clock, Context, DateTime, Deferred, Duration, Effect, Fiber, FiberSet, Layer, Queue, Random } from "effect"
import type { Exit } from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import * as Line from "../domain/Line.ts"
import { fitting } from "../domain/Settlement.ts"
import type { Settlement } from "../domain/Settlement.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import * as Breath from "./Breath.ts"
import { ChildRuns } from "./ChildRuns.ts"
import { endOf, execute, withoutStart } from "./Execution.ts"
import type { AttemptFailed, Interruption, Parked } from "./Execution.ts"
import * as Ids from "./Ids.ts"
import { makeIsolation } from "./Isolation.ts"
import { Lease } from "./Lease.ts"
import * as Metrics from "./Metrics.ts"
import { Pipeline } from "./Pipeline.ts"
import { Plans } from "./Plans.ts"
import type { Plan } from "./Plans.ts"
import { preparing } from "./Prepared.ts"
import type { Prepared } from "./Prepared.ts"
import { makeRecorder } from "./Recorder.ts"
import * as Retries from "./Retries.ts"
import { leaseIo, noSignals } from "./RunIo.ts"
import type { LeaseIo } from "./RunIo.ts"
import { RunRights } from "./RunRights.ts"
import * as Settings from "./Settings.ts"
import { turnOf } from "./Settling.ts"
import type { Tool } from "./Tool.ts"
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

interface Running {
  readonly work: DueWork
  readonly fiber: Fiber.RuntimeFiber<void>
  readonly io: LeaseIo
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
    /**
     * Takes back leases that nobody renewed, looks who waits, makes room for a suspect, and tells runs of those they started that
     * have ended.
     */
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
      const prepare = preparing(pipeline, plans, yield* RunRights)
      const children = yield* ChildRuns
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
      const isolation = makeIsolation(performance.now())
      const save = yield* makeRecorder(lease)
      let line = Line.plain

      const heldFor = Duration.toMillis(leaseFor) - Duration.toMillis(fenceMargin(leaseFor))
      const heldUntil = () => performance.now() + heldFor

      const interrupt = (run: Running, reason: Interruption) =>
        Effect.suspend(() => {
          // It may take its time, while what it stores is on its way.
          if (run.interruption !== null) return Effect.void
          run.interruption = reason
          return Fiber.interruptFork(run.fiber)
        })

      /** Tells how a lease has ended. */
      const close = Effect.fnUntraced(function* (
        exit: Exit.Exit<Parked | null, AttemptFailed>,
        work: DueWork,
        plan: Plan | undefined,
        io: LeaseIo,
        reason: Interruption
      ) {
        const finished_at = yield* Clock.currentTimeMillis
        const end = yield* endOf(exit, work, plan, reason, finished_at, io.seen())
        if (end === null) return false
        return yield* settlements.offer({ work, steps: io.unsaved(), usage: io.uncounted(), finished_at, ...end })
      })

      const handBack = (work: DueWork, finished_at: number) =>
        settlements.offer({ work, steps: [], finished_at, outcome: "released" })

      /** Runs what only computes here and now: a fiber, and all that may cut it off, would cost more than the run. */
      const compute = ({ input, plan, work }: Prepared, tools: ReadonlyArray<Tool>) =>
        Effect.suspend(() => {
          const io = leaseIo(work, plans, save, Effect.void, noSignals)
          return execute(pipeline, work, plan, input, io, tools).pipe(
            Effect.exit,
            Effect.flatMap((exit) => close(exit, work, plan, io, "shutdown"))
          )
        })

      const start = ({ input, plan, work }: Prepared, until: number) =>
        Effect.gen(function* () {
          let self: Running | undefined
          const io = leaseIo(
            work,
            plans,
            save,
            Effect.suspend(() => (self === undefined ? Effect.void : interrupt(self, "lost"))),
            yield* Queue.sliding<void>(1)
          )
          const go = yield* Deferred.make<void>()
          const execution = Deferred.await(go).pipe(
            Effect.zipRight(execute(pipeline, work, plan, input, io)),
            Effect.onExit((exit) =>
              Effect.gen(function* () {
                if (running.get(work.id) === self) running.delete(work.id)
                if (yield* close(exit, work, plan, io, self?.interruption ?? "shutdown"))
                  yield* wakeups.signalHere("work")
              })
            ),
            Effect.exit,
            Effect.asVoid,
            // It is forked where a turn must not be interrupted.
            Effect.interruptible
          )
          const fiber = yield* FiberSet.run(fibers, execution)
          self = { work, fiber, io, heldUntil: until, interruption: null }
          running.set(work.id, self)
          yield* Deferred.succeed(go, undefined)
        })

      /** Starts a run that was leased at `leasedAt`, or ends its lease at once. */
      const launch = (prepared: Prepared, until: number, leasedAt: number): Effect.Effect<unknown> =>
        Effect.gen(function* () {
          const { problem, tools, work } = prepared
          // A process that was frozen may lease again what it has not yet noticed to have lost.
          const before = running.get(work.id)
          if (before !== undefined) yield* interrupt(before, "lost")
          const end = withoutStart(work, problem, leasedAt)
          if (end !== null) return yield* settlements.offer({ work, steps: [], finished_at: leasedAt, ...end })
          // The answers took so long that another may have the run by now.
          if (until < performance.now()) return yield* handBack(work, leasedAt)
          if (work.lease_no === 1) {
            const waited = DateTime.toEpochMillis(work.started_at) - DateTime.toEpochMillis(work.due_at)
            Metrics.queueWait.add(Math.max(0, waited) / 1000, { trigger: work.trigger })
          }
          return yield* tools === null ? start(prepared, until) : compute(prepared, tools)
        })

      const turn = Effect.gen(function* () {
        // What a failed turn could not settle goes first into the next one.
        const more = yield* settlements.takeUpTo(mostSettled - unsettled.length)
        unsettled = [...unsettled, ...more]
        const alone = isolation.begins(running.size, performance.now())
        const capacity = draining ? 0 : alone ? 1 : isolation.isOpen() ? Math.max(0, concurrency - running.size) : 0
        if (unsettled.length === 0 && capacity === 0) return 0
        const settled = fitting(unsettled, ({ steps }) => steps)
        const until = heldUntil()
        const { blocked, leased, lost } = yield* turnOf(lease, id, settled, capacity, alone, line)
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
          const prepared = yield* prepare(leased).pipe(
            Effect.tapError(() => Effect.forEach(leased, (work) => handBack(work, turnedAt), { discard: true }))
          )
          yield* Breath.forEach(prepared, (one) => launch(one, until, turnedAt))
        }
        if (settled.length > 0) yield* wakeups.signal("outbox")
        if (settled.some(({ outcome, work }) => outcome === "ended" && work.parent_run_id !== null)) {
          // What fails here is found by the next look for such runs.
          yield* Effect.ignore(children.finish)
        }
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
          yield* run.io.heard(found.signals)
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
          yield* children.finish
          // Before the rescue: what is taken back together with a suspect is leased before a worker closes for that.
          const now = performance.now()
          if (isolation.asks(now) && (yield* lease.makeRoom(id, isolation.patience()))) {
            isolation.close(now)
            yield* wakeups.signalHere("work")
          }
          if ((yield* lease.rescue) > 0) yield* wakeups.signal("work")
          line = Line.seen(line, yield* lease.line(line.after))
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
}
