import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, DateTime, Duration, Effect, Either, Layer, Schedule } from "effect"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { tzdataVersion } from "../domain/Zone.ts"
import { Backfills } from "./Backfills.ts"
import { storeErrors } from "./Db.ts"
import { Draining } from "./Draining.ts"
import * as Firing from "./Firing.ts"
import { beatEvery, Heartbeats } from "./Heartbeats.ts"
import { History } from "./History.ts"
import * as Ids from "./Ids.ts"
import { Lease } from "./Lease.ts"
import * as Metrics from "./Metrics.ts"
import * as Retries from "./Retries.ts"
import { decodeScheduled, millisOf } from "./TaskRows.ts"
import type { ScheduledTask } from "./TaskRows.ts"
import { Wakeups } from "./Wakeups.ts"

/** Tasks that one pass takes under lock. */
const batch = 1000
/** Without a due instant or a wake-up before, the next tick comes after this. */
const longestSleep = Duration.seconds(1)

/** What a pass did, and when the next thing is due (epoch milliseconds; null when nothing is foreseen). */
export interface Tick {
  readonly fired: number
  readonly nextAt: number | null
}

/** Fires what is due. Any number of schedulers may tick at once: the row locks of the tasks part the work, no leader does. */
export class Scheduler extends Context.Tag("ordinaut/Scheduler")<
  Scheduler,
  {
    /** Decides everything that is due now, in batches, and readies what waited for its time. */
    readonly tick: Effect.Effect<Tick, StoreUnavailable>
    /**
     * Computes anew the next occurrence of tasks that were last looked at with other zone data. Answers how many moved.
     */
    readonly adoptZoneData: Effect.Effect<number, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      const wakeups = yield* Wakeups
      const fire = Firing.make(sql, lease)

      /** One bad task is set aside with its reason; it never stops the others. */
      const quarantine = Effect.fnUntraced(function* (task: ScheduledTask, reason: string, now: Date) {
        yield* Effect.logError("A task's schedule cannot be evaluated; the task is set aside.").pipe(
          Effect.annotateLogs({ task_id: task.id, reason })
        )
        yield* sql`UPDATE task SET quarantined_at = ${now}, quarantine_reason = ${reason} WHERE id = ${task.id}`
      })

      const decideAll = Effect.fnUntraced(function* (tasks: ReadonlyArray<ScheduledTask>, now: Date) {
        const unfinished = yield* Firing.unfinishedRuns(
          sql,
          tasks.filter(({ overlap_policy }) => overlap_policy !== "allow")
        )
        const decided: Array<Firing.Decided> = []
        for (const task of tasks) {
          const made = Either.try(() => Firing.decide(task, now.getTime(), unfinished.has(task.id), "misfire")).pipe(
            Either.mapLeft((thrown) => String(thrown)),
            Either.flatMap(Either.mapLeft(({ message }) => message))
          )
          if (Either.isRight(made)) decided.push(made.right)
          else yield* quarantine(task, made.left, now)
        }
        return yield* fire(decided, unfinished)
      })

      const pass = Effect.gen(function* () {
        const now = DateTime.toDateUtc(yield* DateTime.now)
        const started = performance.now()
        const tasks = yield* sql`
          SELECT * FROM task WHERE status = 'active' AND quarantined_at IS NULL AND next_due_at <= ${now}
          ORDER BY next_due_at LIMIT ${batch} FOR UPDATE SKIP LOCKED`.pipe(Effect.flatMap(decodeScheduled))
        if (tasks.length === 0) return { taken: 0, fired: 0 }
        const fired = yield* decideAll(tasks, now)
        Metrics.tickDuration.add((performance.now() - started) / 1000, {})
        Metrics.tickOccurrences.add(fired.length, {})
        return { taken: tasks.length, fired: fired.length }
      }).pipe(sql.withTransaction, storeErrors)

      const nextAt = Effect.gen(function* () {
        const [row] = yield* sql<{ at: Date | null }>`
          SELECT least(
            (SELECT min(next_due_at) FROM task WHERE status = 'active' AND quarantined_at IS NULL AND next_due_at IS NOT NULL),
            (SELECT min(run_at) FROM due_work WHERE state = 'later')) AS at`
        return row?.at?.getTime() ?? null
      }).pipe(storeErrors)

      const outdated = Effect.gen(function* () {
        const tasks = yield* sql`
          SELECT * FROM task WHERE status IN ('active', 'paused') AND next_run_at IS NOT NULL AND tzdata_version <> ${tzdataVersion}
          ORDER BY id LIMIT ${batch} FOR UPDATE SKIP LOCKED`.pipe(Effect.flatMap(decodeScheduled))
        const moved = tasks.map((task) => ({ id: task.id, was: millisOf(task.next_run_at), ...Firing.foresee(task) }))
        yield* sql`
          UPDATE task t SET next_run_at = m.next_run_at, next_due_at = m.next_due_at, count_end = m.count_end, tzdata_version = ${tzdataVersion}
          FROM jsonb_to_recordset(${JSON.stringify(moved)}::jsonb) AS m (id uuid, next_run_at timestamptz(3), next_due_at timestamptz(3),
            count_end timestamptz(3)) WHERE t.id = m.id`
        return {
          looked: tasks.length,
          moved: moved.filter(({ next_run_at, was }) => next_run_at?.getTime() !== was).length
        }
      }).pipe(sql.withTransaction, storeErrors)

      return Scheduler.of({
        adoptZoneData: Effect.gen(function* () {
          let moved = 0
          for (let looked = batch; looked === batch;) {
            const done = yield* outdated
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
        }).pipe(Effect.withSpan("Scheduler.adoptZoneData")),

        tick: Effect.gen(function* () {
          let fired = 0
          for (let taken = batch; taken === batch;) {
            const done = yield* pass
            taken = done.taken
            fired += done.fired
            if (done.fired > 0) yield* wakeups.signal("work")
          }
          const readied = yield* lease.promote
          if (readied > 0) yield* wakeups.signal("work")
          if (fired > 0) yield* wakeups.signal("outbox")
          return { fired, nextAt: yield* nextAt }
        }).pipe(Effect.withSpan("Scheduler.tick"))
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
      let lastPassAt: number | null = null
      yield* Effect.addFinalizer(() => Effect.ignore(heartbeats.leave(id)))
      yield* draining.supervised(scheduler.adoptZoneData.pipe(Effect.retry(Retries.loop)))
      const ticks = Effect.gen(function* () {
        const { nextAt } = yield* scheduler.tick
        if ((yield* backfills.advance) > 0) yield* wakeups.signal("work")
        const now = yield* Clock.currentTimeMillis
        lastPassAt = now
        const until = nextAt === null ? Infinity : Math.max(0, nextAt - now)
        yield* wakeups.wait("schedule", Duration.min(longestSleep, Duration.millis(until)))
      })
      yield* draining.supervised(ticks.pipe(Effect.forever, Effect.retry(Retries.loop)))
      const beat = Effect.suspend(() =>
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
