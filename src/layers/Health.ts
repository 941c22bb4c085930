import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, DateTime, Duration, Effect, Layer, Option } from "effect"
import type { Link } from "../domain/AuditEntry.ts"
import { offsetAt, find, tzdataVersion } from "../domain/Zone.ts"
import { AuditKeeper } from "./AuditKeeper.ts"
import { accuracy } from "./Clock.ts"
import type { Accuracy } from "./Clock.ts"
import { Draining } from "./Draining.ts"
import { Heartbeats } from "./Heartbeats.ts"
import type { Heartbeat } from "./Heartbeats.ts"
import * as Migrations from "./Migrations.ts"
import { Pulse } from "./Pulse.ts"
import type { Loop } from "./Pulse.ts"
import { Redis } from "./Redis.ts"

export type HealthState = "healthy" | "degraded" | "unhealthy"

/** One part of the system; `latency_ms` of looking at it. */
export interface Part {
  readonly state: HealthState
  readonly latency_ms: number
  readonly detail: string
}

/** A loop whose last pass is older than this is taken for stuck, milliseconds. */
const stale = 15_000
/** A clock is sampled every ten seconds; one that was not for so long drifts, milliseconds. */
const unsampled = 60_000
/** Decisions may be off by the error bound of the clock: past this, in milliseconds, that is noticed. */
const errorNoticed = 250

/** What works and what does not. */
export class Health extends Context.Tag("ordinaut/Health")<
  Health,
  {
    /** Every part of the system, seen from this process. */
    readonly parts: Effect.Effect<Readonly<Record<string, Part>>>
    /**
     * Whether this process can serve: the database answers, is migrated, the process is not about to stop, and its loops come
     * through.
     */
    readonly ready: Effect.Effect<Part>
  }
>() {
  /** Of a process with these loops. The trail is checked by the processes that serve the API. */
  static readonly layerOf = (...loops: ReadonlyArray<Loop>) =>
    Layer.effect(this, make(loops, Effect.succeed(healthy("is checked by the programs that serve the API"))))

  /** Of a process that serves the API, and has these loops. */
  static readonly layerOfApi = (...loops: ReadonlyArray<Loop>) =>
    Layer.effect(
      this,
      Effect.flatMap(AuditKeeper, ({ found }) => make(loops, Effect.map(found, auditHealth)))
    )
}

const make = (loops: ReadonlyArray<Loop>, audit: Effect.Effect<Omit<Part, "latency_ms">>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const redis = yield* Redis
    const heartbeats = yield* Heartbeats
    const draining = yield* Draining
    const pulse = yield* Pulse

    const database = look(Effect.as(sql`SELECT 1`, healthy("answers")))
    const migrations = look(
      Effect.map(Effect.provideService(Migrations.pending, SqlClient.SqlClient, sql), (lacking) =>
        lacking === 0 ? healthy("up to date") : unhealthy(`${lacking} migrations are not applied; run npm run migrate`)
      )
    )
    const stream = Option.match(redis, {
      onNone: () => look(Effect.succeed(healthy("embedded in the database"))),
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
    const ofProgram = (program: Heartbeat["program"], word: string, lacking: string) =>
      look(
        Effect.gen(function* () {
          const live = (yield* heartbeats.live).filter((beat) => beat.program === program)
          const now = DateTime.toEpochMillis(yield* DateTime.now)
          const ages = live.flatMap(({ last_pass_at }) =>
            last_pass_at === null ? [] : [now - DateTime.toEpochMillis(last_pass_at)]
          )
          const youngest = Math.min(...ages)
          return youngest <= stale
            ? healthy(`${live.length} alive, the last ${word} ${seconds(youngest)} ago`)
            : degraded(lacking)
        })
      )
    const passing = (loop: Loop) =>
      Effect.gen(function* () {
        const lastAt = yield* pulse.lastAt(loop)
        if (lastAt === null) return unhealthy(`the ${loop} has not come through yet`)
        const age = (yield* Clock.currentTimeMillis) - lastAt
        return age <= stale
          ? healthy("can serve")
          : unhealthy(`the ${loop} is stuck: its last pass was ${seconds(age)} ago`)
      })

    return Health.of({
      parts: Effect.all(
        {
          database,
          migrations,
          redis: stream,
          scheduler: ofProgram("scheduler", "tick", "none has ticked lately: schedules do not fire"),
          workers: ofProgram("worker", "turn", "none has taken a turn lately: runs wait"),
          clock: look(Effect.map(accuracy, clockHealth)),
          tzdata: look(Effect.sync(tzdataHealth)),
          audit: look(audit)
        },
        // One connection for each part that asks the database.
        { concurrency: 4 }
      ),
      ready: Effect.gen(function* () {
        if (yield* draining.isDraining) return { ...unhealthy("is about to stop"), latency_ms: 0 }
        const parts = [database, migrations, ...loops.map((loop) => look(passing(loop)))]
        let last: Part = { ...healthy("can serve"), latency_ms: 0 }
        for (const part of parts) {
          last = yield* part
          if (last.state !== "healthy") return last
        }
        return last
      })
    })
  })

const seconds = (millis: number) => `${(Math.max(0, millis) / 1000).toFixed(1)} s`

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

const clockHealth = (found: Accuracy | undefined) => {
  if (found === undefined) return healthy("is this process's own")
  const { age, error } = found
  if (error === Infinity) return degraded("shows the time of this host: the database was not reached yet")
  const bound = `within ${error.toFixed(1)} ms of the database's`
  if (age > unsampled) return degraded(`was ${bound} ${seconds(age)} ago, and was not compared since`)
  return error > errorNoticed ? degraded(`${bound}, which is far: the way to the database is slow`) : healthy(bound)
}

const auditHealth = ({ broken, checked }: { readonly checked: boolean; readonly broken: Link | null }) => {
  if (broken !== null) return unhealthy(`is broken at entry ${broken.seq} of the chain ${broken.chain}`)
  return healthy(checked ? "holds as far as it was verified" : "was not verified yet")
}
