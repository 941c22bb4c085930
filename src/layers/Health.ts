import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Duration, Effect, Layer, Option } from "effect"
import { offsetAt, find, tzdataVersion } from "../domain/Zone.ts"
import { Draining } from "./Draining.ts"
import { Heartbeats } from "./Heartbeats.ts"
import * as Migrations from "./Migrations.ts"
import { Redis } from "./Redis.ts"

export type HealthState = "healthy" | "degraded" | "unhealthy"

/** One part of the system; `latency_ms` of looking at it. */
export interface Part {
  readonly state: HealthState
  readonly latency_ms: number
  readonly detail: string
}

/** A scheduler whose last tick is older than this is taken for dead, milliseconds. */
const staleTick = 15_000

/** What works and what does not. */
export class Health extends Context.Tag("ordinaut/Health")<
  Health,
  {
    /** Every part of the system, seen from this process. */
    readonly parts: Effect.Effect<Readonly<Record<string, Part>>>
    /** Whether this process can serve: the database answers, is migrated, and the process is not about to stop. */
    readonly ready: Effect.Effect<Part>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const redis = yield* Redis
      const heartbeats = yield* Heartbeats
      const draining = yield* Draining

      const database = look(Effect.as(sql`SELECT 1`, healthy("answers")))
      const migrations = look(
        Effect.map(Effect.provideService(Migrations.pending, SqlClient.SqlClient, sql), (lacking) =>
          lacking === 0
            ? healthy("up to date")
            : unhealthy(`${lacking} migrations are not applied; run npm run migrate`)
        )
      )
      const stream = Option.match(redis, {
        onNone: () => Effect.succeed({ ...healthy("embedded in the database"), latency_ms: 0 }),
        onSome: ({ use }) =>
          look(
            Effect.orElseSucceed(
              Effect.as(
                use((client) => client.ping()),
                healthy("answers")
              ),
              () => degraded("does not answer; events reach the stream when it is back")
            )
          )
      })
      const programs = Effect.gen(function* () {
        const live = yield* heartbeats.live
        const now = DateTime.toEpochMillis(yield* DateTime.now)
        const workers = live.filter(({ program }) => program === "worker").length
        const schedulers = live.filter(({ program }) => program === "scheduler")
        const ages = schedulers.flatMap(({ last_pass_at }) =>
          last_pass_at === null ? [] : [now - DateTime.toEpochMillis(last_pass_at)]
        )
        const youngest = Math.min(...ages)
        return {
          scheduler:
            youngest <= staleTick
              ? healthy(`${schedulers.length} alive, the last tick ${(Math.max(0, youngest) / 1000).toFixed(1)} s ago`)
              : degraded("none has ticked lately: schedules do not fire"),
          workers: workers > 0 ? healthy(`${workers} alive`) : degraded("none is alive: runs wait")
        }
      })
      const ofProgram = (name: "scheduler" | "workers") => look(Effect.map(programs, (both) => both[name]))

      return Health.of({
        parts: Effect.all(
          {
            database,
            migrations,
            redis: stream,
            scheduler: ofProgram("scheduler"),
            workers: ofProgram("workers"),
            tzdata: look(Effect.succeed(tzdataHealth()))
          },
          // One connection for each part that asks the database.
          { concurrency: 4 }
        ),
        ready: Effect.gen(function* () {
          if (yield* draining.isDraining) return { ...unhealthy("is about to stop"), latency_ms: 0 }
          const db = yield* database
          return db.state === "healthy" ? yield* migrations : db
        })
      })
    })
  )
}

const healthy = (detail: string) => ({ state: "healthy" as const, detail })
const degraded = (detail: string) => ({ state: "degraded" as const, detail })
const unhealthy = (detail: string) => ({ state: "unhealthy" as const, detail })

const look = <E>(part: Effect.Effect<Omit<Part, "latency_ms">, E>): Effect.Effect<Part> =>
  part.pipe(
    Effect.timeoutOption("3 seconds"),
    Effect.map(Option.getOrElse(() => unhealthy("gave no answer within 3 s"))),
    Effect.catchAllCause(() => Effect.succeed(unhealthy("cannot be reached"))),
    Effect.timed,
    Effect.map(([took, seen]) => ({ ...seen, latency_ms: Math.round(Duration.toMillis(took)) }))
  )

/** Since tzdb 2026a Moldova changes at 01:00Z; older data is an hour off there. */
const tzdataHealth = () => {
  const zone = find("Europe/Chisinau")
  const right = zone !== undefined && offsetAt(zone, Date.UTC(2024, 2, 31, 0, 30)) === 7_200_000
  return right
    ? healthy(tzdataVersion)
    : degraded(`${tzdataVersion} is older than 2026a: Europe/Chisinau is an hour off on days of change`)
}
