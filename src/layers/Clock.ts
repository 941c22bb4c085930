import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Duration, Effect, Layer, Schedule } from "effect"
import type { SqlError } from "@effect/sql/SqlError"
import * as Metrics from "./Metrics.ts"

const sampleEvery = Duration.seconds(10)
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

/** The truth is somewhere within the error of a sample: an offset inside stays, one outside moves to the nearer edge. */
const corrected = (offset: number, by: Sample): Sample => ({
  offset: Math.min(Math.max(offset, by.offset - by.error), by.offset + by.error),
  error: by.error
})

/**
 * Effect's clock on the database's time, so that every host decides by the same clock and no host's own clock matters.
 * Between samples it runs with the process's monotonic clock; it never steps back.
 */
const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const host = yield* Effect.clock
  const first = yield* Effect.all(Array.from({ length: firstSamples }, () => sample(sql)))
  let current = first.reduce((best, taken) => (taken.error < best.error ? taken : best))
  let last = 0
  const now = () => {
    last = Math.max(last, monotonic() + current.offset)
    return last
  }
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => Math.floor(now()),
    unsafeCurrentTimeNanos: () => BigInt(Math.floor(now() * 1_000_000)),
    currentTimeMillis: Effect.sync(() => Math.floor(now())),
    currentTimeNanos: Effect.sync(() => BigInt(Math.floor(now() * 1_000_000))),
    sleep: (duration) => host.sleep(duration)
  }
  const refresh = sample(sql).pipe(
    Effect.tap((taken) => {
      current = corrected(current.offset, taken)
      Metrics.clockError.add(taken.error / 1000, {})
    })
  )
  Metrics.clockError.add(current.error / 1000, {})
  // A sample that fails leaves the last one in force; the next may succeed.
  yield* refresh.pipe(
    Effect.ignore,
    Effect.repeat(Schedule.spaced(sampleEvery)),
    Effect.delay(sampleEvery),
    Effect.forkScoped
  )
  return clock
})

/** Sets the clock of everything that is built on top of it. */
export const layer: Layer.Layer<never, SqlError, SqlClient.SqlClient> = Layer.unwrapScoped(
  Effect.map(make, (clock) => Layer.setClock(clock))
)
