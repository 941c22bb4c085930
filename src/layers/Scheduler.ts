import { Clock, Context, Duration, Effect, Either, Layer, Schedule } from "effect"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { tzdataVersion } from "../domain/Zone.ts"
import { Backfills } from "./Backfills.ts"
import { Draining } from "./Draining.ts"
import { DueTasks } from "./DueTasks.ts"
import type { Decide } from "./DueTasks.ts"
import * as Firing from "./Firing.ts"
import { beatEvery, Heartbeats } from "./Heartbeats.ts"
import { History } from "./History.ts"
import * as Ids from "./Ids.ts"
import { Lease } from "./Lease.ts"
import * as Metrics from "./Metrics.ts"
import { Pulse } from "./Pulse.ts"
import * as Retries from "./Retries.ts"
import { Wakeups } from "./Wakeups.ts"

/** Tasks that one pass takes under lock. */
const batch = 1000
/** Without a due instant or a wake-up before, the next tick comes after this. */
const longestSleep = Duration.seconds(1)

/** What a tick did, and when the next thing is due (epoch milliseconds; null when nothing is foreseen). */
export interface Tick {
  readonly fired: number
  readonly nextAt: number | null
}

/** Fires what is due. Any number of schedulers may tick at once: the row locks of the tasks part the work, no leader does. */
export class Scheduler extends Context.Tag("ordinaut/Scheduler")<
  Scheduler,
  {
    /** Decides everything that is due now, in batches, ends windows of events, and readies what waited for its time. */
    readonly tick: Effect.Effect<Tick, StoreUnavailable>
    /** Computes anew the next occurrence of tasks that were last looked at with other zone data. Answers how many moved. */
    readonly adoptZoneData: Effect.Effect<number, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const tasks = yield* DueTasks
      const lease = yield* Lease
      const wakeups = yield* Wakeups

      const pass = Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const started = performance.now()
        const { fired, taken } = yield* tasks.fire(now, batch, decideAt(now))
        if (taken > 0) {
          Metrics.tickDuration.add((performance.now() - started) / 1000, {})
          Metrics.tickOccurrences.add(fired, {})
        }
        if (fired > 0) yield* wakeups.signal("work")
        return { taken, fired }
      })

      return Scheduler.of({
        tick: Effect.gen(function* () {
          let fired = 0
          for (let taken = batch; taken === batch;) {
            const done = yield* pass
            taken = done.taken
            fired += done.fired
          }
          for (let ended = 1; ended > 0;) {
            const closed = yield* tasks.closeWindows(yield* Clock.currentTimeMillis)
            ended = closed.ended
            fired += closed.fired
            if (closed.fired > 0) yield* wakeups.signal("work")
          }
          if ((yield* lease.promote) > 0) yield* wakeups.signal("work")
          if (fired > 0) yield* wakeups.signal("outbox")
          return { fired, nextAt: yield* tasks.nextAt }
        }).pipe(Effect.withSpan("Scheduler.tick")),

        adoptZoneData: Effect.gen(function* () {
          let moved = 0
          for (let looked = batch; looked === batch;) {
            const done = yield* tasks.adoptZoneData(batch)
            looked = done.looked
            moved += done.moved
          }
          if (moved > 0) {
            Metrics.rescheduled.add(moved, {})
            yield* Effect.logWarning("New zone data moved the next occurrence of tasks.").pipe(
              Effect.annotateLogs({ tasks: moved, tzdata: tzdataVersion })
            )
          }
          return moved
        }).pipe(Effect.withSpan("Scheduler.adoptZoneData"))
      })
    })
  )

  /** Ticks until the scope closes, sleeping until the earliest due instant or a wake-up; beats; keeps the history in order. */
  static readonly loop = Layer.scopedDiscard(
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const wakeups = yield* Wakeups
      const backfills = yield* Backfills
      const heartbeats = yield* Heartbeats
      const history = yield* History
      const lease = yield* Lease
      const draining = yield* Draining
      const id = yield* Ids.next
      const startedAt = yield* Clock.currentTimeMillis
      const pulse = yield* Pulse
      yield* Effect.addFinalizer(() => Effect.ignore(heartbeats.leave(id)))
      yield* draining.supervised(
        scheduler.adoptZoneData.pipe(Effect.repeat(Schedule.spaced("1 hour")), Effect.retry(Retries.loop))
      )
      const ticks = Effect.gen(function* () {
        const { nextAt } = yield* scheduler.tick
        if ((yield* backfills.advance) > 0) yield* wakeups.signal("work")
        yield* pulse.passed("scheduler")
        const now = yield* Clock.currentTimeMillis
        const until = nextAt === null ? Infinity : Math.max(0, nextAt - now)
        yield* wakeups.wait("schedule", Duration.min(longestSleep, Duration.millis(until)))
      })
      yield* draining.supervised(ticks.pipe(Effect.forever, Effect.retry(Retries.loop)))
      const beat = Effect.flatMap(pulse.lastAt("scheduler"), (lastPassAt) =>
        heartbeats.beat({ id, program: "scheduler", startedAt, lastPassAt, running: 0, concurrency: 1 })
      )
      yield* draining.supervised(beat.pipe(Effect.repeat(Schedule.spaced(beatEvery)), Effect.retry(Retries.loop)))
      const upkeep = Effect.all([lease.rescue, lease.age], { discard: true })
      yield* draining.supervised(upkeep.pipe(Effect.repeat(Schedule.spaced("5 seconds")), Effect.retry(Retries.loop)))
      yield* draining.supervised(
        history.keep.pipe(Effect.repeat(Schedule.spaced("1 hour")), Effect.retry(Retries.loop))
      )
    })
  )
}

/** One bad task must not stop the others: whatever its schedule does, a decision or a reason comes out. */
const decideAt =
  (now: number): Decide =>
  (task, unfinished) =>
    Either.try(() => Firing.decide(task, now, unfinished, "misfire")).pipe(
      Either.mapLeft((thrown) => String(thrown)),
      Either.flatMap(Either.mapLeft(({ message }) => message))
    )
