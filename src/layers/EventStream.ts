import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, DateTime, Effect, Layer, Option, Schema } from "effect"
import { Instant } from "../domain/Instant.ts"
import { JsonValue } from "../domain/Json.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import * as Chaining from "./Chaining.ts"
import { storeErrors } from "./Db.ts"
import { Draining } from "./Draining.ts"
import { Lease } from "./Lease.ts"
import * as Metrics from "./Metrics.ts"
import { Redis } from "./Redis.ts"
import type { RedisUnavailable } from "./Redis.ts"
import * as Retries from "./Retries.ts"
import { Wakeups } from "./Wakeups.ts"

/** The stream in Redis; entry n of the log has the id `<n>-0`. */
export const streamKey = "ordinaut:events"
/** The stream keeps about this many entries; the log in PostgreSQL keeps all within the retention. */
const streamLength = 1_000_000
/** Batches that one pass numbers. */
const batch = 500
/** Batches that one pass numbers while tasks hear state changes, which are decided in the same transaction. */
const batchHeard = 20
/** Batches that one pass reads for Redis. */
const batchesRead = 50
/** Entries that one command brings to Redis, which does nothing else meanwhile. */
const mostSent = 500

/**
 * Adds entries to the stream if its last number is the one that they follow, so that neither another publisher nor a Redis
 * emptied a moment ago leaves a hole. Answers the last number before: 0 for no stream. Arguments: that number, the length to keep, the
 * entries, each of an id and five fields with their names.
 */
const follow = `
  local last = '0-0'
  if redis.call('EXISTS', KEYS[1]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then last = info[i + 1] end
    end
  end
  local number = string.match(last, '^%d+')
  if number == ARGV[1] then
    for i = 3, #ARGV, 11 do
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], unpack(ARGV, i, i + 10))
    end
  end
  return number`

/** An entry of the log: an accepted event, or a change of state. */
export const LogEntry = Schema.Struct({
  id: Schema.String,
  topic: Schema.String,
  namespace: Schema.String,
  agent_id: Schema.NullOr(Schema.String),
  at: Instant,
  /** How many runs and events led to it, each by the one before it. */
  hops: Schema.optionalWith(Schema.Int, { default: () => 0 }),
  payload: JsonValue
})
export type LogEntry = typeof LogEntry.Type

/** An entry with its number: from 1, without gaps, in the order of the commits as the publisher saw them. */
export interface Numbered {
  readonly number: number
  readonly entry: LogEntry
}

/** The numbers of the log's oldest entry and of its newest; `oldest` = `newest` + 1 where all are past their retention. */
export interface Bounds {
  readonly oldest: number
  readonly newest: number
}

/** The one publisher of the outbox, whichever process holds its row lock, and the log that it numbers. */
export class EventStream extends Context.Tag("ordinaut/EventStream")<
  EventStream,
  {
    /**
     * Numbers what is committed and not numbered yet, and in the same transaction starts the tasks that hear its state changes.
     * Answers how many batches; 0 while another process publishes.
     */
    readonly number: Effect.Effect<number, StoreUnavailable>
    /** Sends Redis what it lacks, in order; does nothing without Redis. Answers how many entries it sent. */
    readonly send: Effect.Effect<number, StoreUnavailable | RedisUnavailable>
    /** Entries after a number, in order, at most about `limit`. */
    readonly after: (number: number, limit: number) => Effect.Effect<ReadonlyArray<Numbered>, StoreUnavailable>
    readonly bounds: Effect.Effect<Bounds, StoreUnavailable>
    /** Whether a run's end (in `state`, at an instant) is told behind a number, or is yet to be told. */
    readonly tellsEnd: (
      run: { readonly id: string; readonly state: string; readonly at: Date },
      behind: number
    ) => Effect.Effect<boolean, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const redis = yield* Redis
      const wakeups = yield* Wakeups
      const { listening, tell } = Chaining.make(sql, yield* Lease)
      const after = (number: number, batches: number) =>
        sql`
          SELECT first_number::float8 AS first, entries FROM outbox
          WHERE first_number IS NOT NULL AND first_number + size > ${number + 1}
            AND first_number >= coalesce((SELECT max(first_number) FROM outbox WHERE first_number <= ${number + 1}), 0)
          ORDER BY first_number LIMIT ${batches}`.pipe(
          Effect.flatMap(decodeBatches),
          Effect.map((found) =>
            found
              .flatMap(({ entries, first }) => entries.map((entry, i) => ({ number: first + i, entry })))
              .filter((one) => one.number > number)
          )
        )

      const number = Effect.gen(function* () {
        const [head] = yield* sql<{ number: string }>`SELECT number FROM stream_head FOR UPDATE SKIP LOCKED`
        if (head === undefined) return { numbered: 0, runs: [], replaces: false }
        const listeners = yield* listening
        // A statement of its own: its snapshot is later than the lock, so that it sees what the last holder numbered.
        const numbered = yield* sql<{ id: string }>`
          WITH fresh AS (
            SELECT id, size, sum(size) OVER (ORDER BY id) - size AS before FROM (
              SELECT id, size FROM outbox WHERE first_number IS NULL ORDER BY id LIMIT ${listeners.length > 0 ? batchHeard : batch}) AS oldest),
          given AS (
            UPDATE outbox o SET first_number = ${head.number}::bigint + 1 + f.before FROM fresh f WHERE o.id = f.id RETURNING o.id),
          moved AS (UPDATE stream_head SET number = number + coalesce((SELECT sum(size) FROM fresh), 0))
          SELECT id FROM given`
        const outcome = yield* tell(
          listeners,
          numbered.map(({ id }) => id)
        )
        return { numbered: numbered.length, ...outcome }
      })

      return EventStream.of({
        number: Effect.gen(function* () {
          const { numbered, replaces, runs } = yield* number.pipe(sql.withTransaction)
          if (runs.length > 0) yield* wakeups.signal("work")
          if (replaces) yield* wakeups.signal("cancel")
          if (numbered > 0) yield* wakeups.signal("log")
          return numbered
        }).pipe(Effect.withSpan("EventStream.number"), storeErrors),

        send: Effect.gen(function* () {
          if (Option.isNone(redis)) return 0
          const { use } = redis.value
          const add = (previous: number, entries: ReadonlyArray<Numbered>) =>
            use((client) =>
              client.eval(follow, 1, streamKey, previous, streamLength, ...entries.flatMap(argumentsOf))
            ).pipe(Effect.map(Number))
          // Asked each time: Redis may have been emptied since.
          const previous = yield* add(-1, [])
          const missing = (yield* after(previous, batchesRead)).slice(0, mostSent)
          if (missing.length === 0) return 0
          return (yield* add(previous, missing)) === previous ? missing.length : 0
        }).pipe(Effect.withSpan("EventStream.send"), storeErrors),

        after: Effect.fn("EventStream.after")(after, storeErrors),

        bounds: Effect.gen(function* () {
          const [row] = yield* sql<Bounds>`
            SELECT number::float8 AS newest, coalesce((SELECT min(first_number) FROM outbox), number + 1)::float8 AS oldest
            FROM stream_head`
          return row ?? (yield* Effect.dieMessage("stream_head has no row"))
        }).pipe(Effect.withSpan("EventStream.bounds"), storeErrors),

        tellsEnd: Effect.fn("EventStream.tellsEnd")(function* ({ at, id, state }, behind) {
          const sought = { topic: `ordinaut.run.${state}`, payload: { run_id: id } }
          const found = yield* sql`
            SELECT FROM outbox o CROSS JOIN LATERAL jsonb_array_elements(o.entries) WITH ORDINALITY AS e (value, n)
            WHERE o.at >= ${at} AND o.entries @> ${JSON.stringify([sought])}::jsonb AND e.value @> ${JSON.stringify(sought)}::jsonb
              AND (o.first_number IS NULL OR o.first_number + e.n - 1 > ${behind} AND o.first_number >=
                coalesce((SELECT max(first_number) FROM outbox WHERE first_number <= ${behind + 1}), 0)) LIMIT 1`
          return found.length > 0
        }, storeErrors)
      })
    })
  )

  /** Publishes as long as the scope is open: at every wake-up, and once a second. */
  static readonly loop = Layer.scopedDiscard(
    Effect.gen(function* () {
      const stream = yield* EventStream
      const wakeups = yield* Wakeups
      const draining = yield* Draining
      const sql = yield* SqlClient.SqlClient
      let isAway = false
      const pass = Effect.gen(function* () {
        const numbered = yield* stream.number
        const sent = yield* stream.send.pipe(
          Effect.tap(() => Effect.sync(() => (isAway = false))),
          Effect.catchTag("RedisUnavailable", ({ reason }) => {
            // Once an outage: passes are as many as there are state changes.
            const told = isAway
            isAway = true
            return Effect.logWarning("Redis cannot be reached; the stream will be filled when it is back.").pipe(
              Effect.annotateLogs({ reason }),
              Effect.unless(() => told),
              Effect.as(0)
            )
          })
        )
        if (numbered + sent === 0) yield* wakeups.wait("outbox", "1 second")
      })
      const gauge = Effect.gen(function* () {
        const [row] = yield* sql<{ rows: number; oldest: Date | null }>`
          SELECT count(*)::integer AS rows, min(at) AS oldest FROM outbox WHERE first_number IS NULL`
        const now = yield* Clock.currentTimeMillis
        Metrics.outboxRows.add(row?.rows ?? 0, {})
        Metrics.outboxLag.add(row?.oldest == null ? 0 : Math.max(0, now - row.oldest.getTime()) / 1000, {})
      }).pipe(storeErrors)
      yield* draining.supervised(pass.pipe(Effect.forever, Effect.retry(Retries.loop)))
      yield* draining.supervised(gauge.pipe(Effect.delay("5 seconds"), Effect.forever, Effect.retry(Retries.loop)))
    })
  )
}

const decodeBatches = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({ first: Schema.Number, entries: Schema.Array(LogEntry) }))
)

const argumentsOf = ({ entry: { at, id, namespace, payload, topic }, number }: Numbered) => [
  `${number}-0`,
  "id",
  id,
  "namespace",
  namespace,
  "topic",
  topic,
  "payload",
  JSON.stringify(payload),
  "at",
  DateTime.formatIso(at)
]
