import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Duration, Effect, Layer } from "effect"
import type { SqlError } from "@effect/sql/SqlError"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { reachable, storeErrors } from "./Db.ts"
import * as Metrics from "./Metrics.ts"
import * as Retries from "./Retries.ts"

const sampleEvery = Duration.seconds(10)
/** Until the first sample. */
const tryEvery = Duration.seconds(1)

/** Samples at start, of which the tightest counts: a busy process sees some answers late. */
const firstSamples = 5

/** The database's time as one sample saw it: `offset` is to be added to the monotonic clock; milliseconds. */
interface Sample {
  readonly offset: number
  readonly error: number
}

const monotonic = () => performance.now()

const sample = (sql: SqlClient.SqlClient): Effect.Effect<Sample, SqlError> =>
  Effect.gen(function* () {
    const before = monotonic()
    const [row] = yield* sql<{ millis: number }>`
      SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS millis`
    const after = monotonic()
    return { offset: (row?.millis ?? 0) - (before + after) / 2, error: (after - before) / 2 }
  })

const tightest = <E>(taking: Effect.Effect<Sample, E>) =>
  Effect.map(Effect.all(Array.from({ length: firstSamples }, () => taking)), (taken) =>
    taken.reduce((best, each) => (each.error < best.error ? each : best), { offset: 0, error: Infinity })
  )

/** The truth is somewhere within the error of a sample: an offset inside stays, one outside moves to the nearer edge. */
const corrected = (offset: number, by: Sample): Sample => ({
  offset: Math.min(Math.max(offset, by.offset - by.error), by.offset + by.error),
  error: by.error
})

/** How well a clock knows the database's time, in milliseconds: its error bound, and the age of its last sample. */
export interface Accuracy {
  readonly error: number
  readonly age: number
}

const accuracies = new WeakMap<Clock.Clock, () => Accuracy>()

/** Of the clock that is in force; undefined for one that does not follow the database, such as a test's. */
export const accuracy: Effect.Effect<Accuracy | undefined> = Effect.map(Effect.clock, (clock) =>
  accuracies.get(clock)?.()
)

/** The clocks that still show their host's time, and what sets them. */
const unset = new WeakMap<Clock.Clock, Effect.Effect<void, SqlError>>()

/**
 * Effect's clock on the database's time, so that every host decides by the same clock and no host's own clock matters.
 * Between samples it runs with the process's monotonic clock; from the first sample on it never steps back.
 */
const make = (start: (set: Effect.Effect<void, SqlError>) => Effect.Effect<void>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const host = yield* Effect.clock
    let current: Sample = { offset: host.unsafeCurrentTimeMillis() - monotonic(), error: Infinity }
    let last = 0
    let sampledAt = monotonic()
    const now = () => {
      last = Math.max(last, monotonic() + current.offset)
      return last
    }
    const refresh = Effect.suspend(() => (current.error === Infinity ? tightest(sample(sql)) : sample(sql))).pipe(
      Effect.tap((taken) => {
        if (current.error === Infinity) last = 0
        current = current.error === Infinity ? taken : corrected(current.offset, taken)
        sampledAt = monotonic()
        unset.delete(clock)
        Metrics.clockError.add(taken.error / 1000, {})
      })
    )
    // A sample that fails leaves the last one in force; the next may succeed.
    const again = Effect.suspend(() => Effect.sleep(current.error === Infinity ? tryEvery : sampleEvery))
    const clock: Clock.Clock = {
      [Clock.ClockTypeId]: Clock.ClockTypeId,
      unsafeCurrentTimeMillis: () => Math.floor(now()),
      unsafeCurrentTimeNanos: () => BigInt(Math.floor(now() * 1_000_000)),
      currentTimeMillis: Effect.sync(() => Math.floor(now())),
      currentTimeNanos: Effect.sync(() => BigInt(Math.floor(now() * 1_000_000))),
      sleep: (duration) => host.sleep(duration)
    }
    unset.set(clock, Effect.asVoid(refresh))
    accuracies.set(clock, () => ({ error: current.error, age: monotonic() - sampledAt }))
    yield* start(Effect.asVoid(refresh))
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(again, Effect.ignore(refresh))))
    return clock
  })

/**
 * Sets a clock that still shows its host's time: what is stored must not be decided by that. Fails while the database does not
 * answer; does nothing for a clock that is set, and for a test's.
 */
export const synchronized: Effect.Effect<void, StoreUnavailable> = Effect.flatMap(Effect.clock, (clock) =>
  storeErrors(unset.get(clock) ?? Effect.void)
)

/**
 * Sets the clock of everything that is built on top of it; until the database answers for the first time it is the host's, and
 * whoever decides by it asks for `synchronized` first.
 */
export const layer = Layer.unwrapScoped(Effect.map(make(Effect.ignore), (clock) => Layer.setClock(clock)))

/** As `layer`, but waits for the database: for whatever decides by the clock. */
export const layerSynchronized = Layer.unwrapScoped(
  Effect.zipRight(
    reachable,
    Effect.map(
      make((set) => Effect.orDie(Effect.retry(set, Retries.boot))),
      (clock) => Layer.setClock(clock)
    )
  )
)
