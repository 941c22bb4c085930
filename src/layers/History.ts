import type { SqlError } from "@effect/sql/SqlError"
import { Context, DateTime, Duration, Effect, Layer, Schedule } from "effect"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { Maintenance, storeErrors } from "./Db.ts"
import { Draining } from "./Draining.ts"
import * as Retries from "./Retries.ts"
import * as Settings from "./Settings.ts"

/** Partitions are made this many days ahead, so that a scheduler may be away for as long. */
const daysAhead = 8

/** Arbitrary, but ours. */
const retentionLock = 7_239_104_552

/** Rows that one statement deletes, so that none runs into its time limit. */
const atOnce = 10_000

/** An answer to a repeated request is given again for this time. */
const answersFor = Duration.hours(24)

const isoDay = (millis: number) => new Date(millis).toISOString().slice(0, 10)

/** The daily partitions of the history, and what outlived its retention. */
export class History extends Context.Tag("ordinaut/History")<
  History,
  {
    /** Makes the partitions of the days from today on. */
    readonly prepare: Effect.Effect<void, StoreUnavailable>
    /** `prepare`, and removes what is past its retention: whole partitions, and rows of the tables that have none. */
    readonly keep: Effect.Effect<void, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* Maintenance
      const runDays = yield* Settings.runRetentionDays
      const eventDays = yield* Settings.eventRetentionDays
      const usageDays = yield* Settings.auditRetentionDays
      const before = (now: number, days: number) => new Date(now - Duration.toMillis(Duration.days(days)))
      const now = Effect.map(DateTime.now, DateTime.toEpochMillis)

      const prepare = Effect.gen(function* () {
        yield* sql`SELECT ensure_history(${isoDay(yield* now)}::date, ${daysAhead})`
      }).pipe(storeErrors)

      /** Detached without blocking readers and writers, then dropped; what a crash left in between is finished first. */
      const dropOld = Effect.gen(function* () {
        const oldest = isoDay(before(yield* now, runDays).getTime()).replaceAll("-", "")
        const old = yield* sql<{ name: string; parent: string; attached: boolean; pending: boolean }>`
          SELECT c.relname AS name, left(c.relname, -9) AS parent, c.relispartition AS attached, coalesce(i.inhdetachpending, false) AS pending
          FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
          WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
            AND c.relname ~ '^(task_run|run_step)_[0-9]{8}$' AND right(c.relname, 8) < ${oldest}`
        for (const { attached, name, parent, pending } of old) {
          if (attached)
            yield* sql.unsafe(`ALTER TABLE ${parent} DETACH PARTITION ${name} ${pending ? "FINALIZE" : "CONCURRENTLY"}`)
          yield* sql.unsafe(`DROP TABLE ${name}`)
        }
      })

      /** Only one scheduler at a time; another leaves it to that one. */
      const alone = (work: Effect.Effect<void, SqlError>) =>
        Effect.gen(function* () {
          const session = yield* sql.reserve
          const [lock] = yield* session.execute(`SELECT pg_try_advisory_lock(${retentionLock}) AS taken`, [], undefined)
          if (lock?.taken !== true) return
          yield* Effect.ensuring(
            work,
            Effect.ignore(session.execute(`SELECT pg_advisory_unlock(${retentionLock})`, [], undefined))
          )
        })

      const inBatches = (statement: Effect.Effect<ReadonlyArray<unknown>, SqlError>) =>
        Effect.repeat(statement, { while: (gone) => gone.length === atOnce })

      return History.of({
        prepare,
        keep: Effect.gen(function* () {
          yield* prepare
          yield* Effect.scoped(alone(dropOld))
          const at = yield* now
          const longest = before(at, Math.max(runDays, eventDays))
          yield* inBatches(sql`
            DELETE FROM event WHERE id = ANY (ARRAY(SELECT id FROM event e WHERE NOT EXISTS (SELECT FROM due_work d WHERE d.event_id = e.id) AND at < ${before(at, eventDays)} LIMIT ${atOnce})) RETURNING id`)
          yield* inBatches(sql`
            DELETE FROM outbox WHERE id = ANY (ARRAY(
              SELECT id FROM outbox WHERE at < ${before(at, eventDays)} AND first_number IS NOT NULL ORDER BY id LIMIT ${atOnce}))
            RETURNING id`)
          // What a group never acknowledged goes with the entry.
          yield* inBatches(sql`
            DELETE FROM stream_pending WHERE ctid = ANY (ARRAY(
              SELECT ctid FROM stream_pending WHERE number < (SELECT min(first_number) FROM outbox) LIMIT ${atOnce}))
            RETURNING number`)
          yield* inBatches(sql`
            DELETE FROM ingress_dead WHERE id = ANY (ARRAY(
              SELECT id FROM ingress_dead WHERE buried_at < ${before(at, eventDays)} LIMIT ${atOnce}))
            RETURNING id`)
          yield* inBatches(sql`
            DELETE FROM occurrence WHERE ctid = ANY (ARRAY(SELECT ctid FROM occurrence o WHERE NOT EXISTS (SELECT FROM due_work d WHERE d.id = o.run_id) AND created_at < ${longest} LIMIT ${atOnce}))
            RETURNING key`)
          yield* inBatches(sql`
            DELETE FROM idempotency_key WHERE (agent_id, key) IN (
              SELECT agent_id, key FROM idempotency_key WHERE created_at < ${new Date(at - Duration.toMillis(answersFor))} LIMIT ${atOnce})
            RETURNING key`)
          // Locked by the decisions that use them, so that what is looked at again is what holds.
          const unused = isoDay(before(at, 1).getTime())
          yield* inBatches(sql`
            DELETE FROM concurrency WHERE used_on < ${unused}::date AND in_use = 0 AND id = ANY (ARRAY(
              SELECT id FROM concurrency c WHERE c.used_on < ${unused}::date AND c.in_use = 0
                AND NOT EXISTS (SELECT FROM due_work d WHERE d.namespace = c.namespace AND d.concurrency_key = c.key)
                AND NOT EXISTS (SELECT FROM task t WHERE t.namespace = c.namespace AND t.concurrency_key = c.key AND t.status <> 'canceled')
              LIMIT ${atOnce})) RETURNING id`)
          yield* inBatches(sql`
            DELETE FROM usage_day WHERE ctid = ANY (ARRAY(
              SELECT ctid FROM usage_day WHERE day < ${isoDay(before(at, usageDays).getTime())}::date LIMIT ${atOnce}))
            RETURNING tool`)
          yield* sql`DELETE FROM revoked_token WHERE expires_at < ${new Date(at)}`
          yield* sql`DELETE FROM signing_key WHERE retired_at < ${before(at, 1)}`
        }).pipe(storeErrors)
      })
    })
  )

  /** `prepare` every hour: in every program that writes history, so that none depends on another being alive. */
  static readonly loop = Layer.scopedDiscard(
    Effect.gen(function* () {
      const history = yield* History
      const draining = yield* Draining
      yield* draining.supervised(
        history.prepare.pipe(Effect.repeat(Schedule.spaced("1 hour")), Effect.retry(Retries.loop))
      )
    })
  )

  /** `prepare`, before anything that is built on top. */
  static readonly layerPrepared = Layer.effectDiscard(Effect.flatMap(this, (history) => history.prepare)).pipe(
    Layer.provide(this.layer)
  )
}
