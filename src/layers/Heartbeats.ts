import { hostname } from "node:os"
import * as Model from "@effect/sql/Model"
import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Duration, Effect, Layer, Schema } from "effect"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { storeErrors } from "./Db.ts"
import * as Metrics from "./Metrics.ts"
import { version } from "./Version.ts"

/** A heartbeat is fresh for that long; programs beat every third of it. */
export const freshFor = Duration.seconds(15)
/** How often a program beats. */
export const beatEvery = Duration.seconds(5)

/** A worker or scheduler that lives, or lived until lately. */
export const Heartbeat = Schema.Struct({
  id: Schema.String,
  program: Schema.Literal("worker", "scheduler"),
  host: Schema.String,
  pid: Schema.Int,
  version: Schema.String,
  started_at: Model.DateTimeFromDate,
  last_seen: Model.DateTimeFromDate,
  last_pass_at: Schema.NullOr(Model.DateTimeFromDate),
  running: Schema.Int,
  concurrency: Schema.Int
})
export type Heartbeat = typeof Heartbeat.Type

/** What a program says of itself. `lastPassAt`: epoch milliseconds of its last tick or turn that came through. */
export interface Beat {
  readonly id: string
  readonly program: Heartbeat["program"]
  readonly startedAt: number
  readonly lastPassAt: number | null
  readonly running: number
  readonly concurrency: number
}

/** Who is alive. Owns `worker_heartbeat`, but for `making_room_until`, which a beat leaves as it is. */
export class Heartbeats extends Context.Tag("ordinaut/Heartbeats")<
  Heartbeats,
  {
    readonly beat: (beat: Beat) => Effect.Effect<void, StoreUnavailable>
    /** Says good-bye, so that nobody waits for the heartbeat to grow old. */
    readonly leave: (id: string) => Effect.Effect<void, StoreUnavailable>
    /** Those with a fresh heartbeat; keeps their gauges. */
    readonly live: Effect.Effect<ReadonlyArray<Heartbeat>, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      return Heartbeats.of({
        beat: Effect.fn("Heartbeats.beat")(function* ({ concurrency, id, lastPassAt, program, running, startedAt }) {
          const now = DateTime.toDateUtc(yield* DateTime.now)
          yield* sql`
            INSERT INTO worker_heartbeat ${sql.insert({
              id,
              program,
              host: hostname(),
              pid: process.pid,
              version,
              started_at: new Date(startedAt),
              last_seen: now,
              last_pass_at: lastPassAt === null ? null : new Date(lastPassAt),
              running,
              concurrency
            })}
            ON CONFLICT (id) DO UPDATE SET seen_before = worker_heartbeat.last_seen, last_seen = excluded.last_seen, last_pass_at = excluded.last_pass_at,
              running = excluded.running, concurrency = excluded.concurrency`
          yield* sql`DELETE FROM worker_heartbeat WHERE last_seen < ${new Date(now.getTime() - Duration.toMillis(Duration.days(1)))}`
        }, storeErrors),

        leave: Effect.fn("Heartbeats.leave")(function* (id) {
          yield* sql`DELETE FROM worker_heartbeat WHERE id = ${id}`
        }, storeErrors),

        live: Effect.gen(function* () {
          const now = DateTime.toEpochMillis(yield* DateTime.now)
          const live = yield* sql`
            SELECT * FROM worker_heartbeat WHERE last_seen > ${new Date(now - Duration.toMillis(freshFor))}
            ORDER BY program, started_at`.pipe(Effect.flatMap(Schema.decodeUnknown(Schema.Array(Heartbeat))))
          Metrics.workers.add(live.filter(({ program }) => program === "worker").length, {})
          Metrics.schedulers.add(live.filter(({ program }) => program === "scheduler").length, {})
          return live
        }).pipe(Effect.withSpan("Heartbeats.live"), storeErrors)
      })
    })
  )
}
