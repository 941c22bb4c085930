import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, Effect, Layer, Option, Schedule, Schema } from "effect"
import { isExceeded, windowSeconds } from "../domain/RateLimit.ts"
import type { RateScope, Standing } from "../domain/RateLimit.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { storeErrors } from "./Db.ts"
import { Draining } from "./Draining.ts"
import * as Metrics from "./Metrics.ts"
import * as RateWindow from "./RateWindow.ts"
import { Redis, RedisUnavailable } from "./Redis.ts"
import * as Retries from "./Retries.ts"

/** One more to count, against a limit. */
export interface Charge {
  readonly scope: RateScope
  /** Whose counter: an agent id, an address, a key id. */
  readonly id: string
  readonly limit: number
}

/** A request waits for Redis no longer than this. */
const redisWithin = "250 millis"
/** After a failure Redis is left alone for this long, milliseconds. */
const redisRests = 1000

/**
 * Counts one for each key in its present window, and answers the milliseconds until the next window and the counts. The window is
 * that of the server's clock, and each counter ends with it (TIME, INCR, PEXPIREAT).
 */
const script = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local length = tonumber(ARGV[1]) * 1000
local ends = (math.floor(now / length) + 1) * length
local answer = { ends - now }
for i, key in ipairs(KEYS) do
  answer[i + 1] = redis.call('INCR', key)
  if redis.call('PTTL', key) < 0 then redis.call('PEXPIREAT', key, ends) end
end
return answer`

/**
 * How often who may ask, in fixed windows of a minute. With Redis every count is one in all processes. Without it each process
 * counts by itself and adds its counts to table `rate_window`, which it owns, once a second: a limit may be passed by what the
 * processes let in within about that second. While neither answers, the limits hold for each process alone.
 */
export class RateLimits extends Context.Tag("ordinaut/RateLimits")<
  RateLimits,
  {
    /** Counts one more for each charge, and answers how each counter stands. An outage is no reason to refuse, nor to wait. */
    readonly charge: (charges: ReadonlyArray<Charge>) => Effect.Effect<ReadonlyArray<Standing>>
    /** How a counter stands that is known here to be over its limit, without counting; none for any other. */
    readonly exhausted: (charge: Charge) => Effect.Effect<Option.Option<Standing>>
    /** Tells the database what was counted here, and learns what others counted. Does nothing where Redis counts. */
    readonly share: Effect.Effect<void, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const redis = yield* Redis
      const here = RateWindow.make()
      let redisRestsUntil = 0

      const standing = ({ limit, scope }: Charge, count: number, millis: number): Standing => ({
        scope,
        limit,
        count,
        resets_in: Math.max(1, Math.ceil(millis / 1000))
      })

      const counted = (charges: ReadonlyArray<Charge>, now: number) =>
        charges.map((charge) => standing(charge, here.add(keyOf(charge), now), RateWindow.untilNext(now)))

      const inRedis = (use: Option.Option.Value<typeof redis>["use"], charges: ReadonlyArray<Charge>, now: number) =>
        Effect.gen(function* () {
          const keys = charges.map((charge) => `ordinaut:rate:${keyOf(charge)}`)
          const answer = yield* use((client) => client.eval(script, keys.length, ...keys, windowSeconds)).pipe(
            Effect.flatMap(decodeCounts),
            Effect.timeoutFail({
              duration: redisWithin,
              onTimeout: () => new RedisUnavailable({ reason: "no answer" })
            })
          )
          const [millis = 0, ...counts] = answer
          return charges.map((charge, i) => {
            const count = counts[i] ?? 0
            // For the time when Redis is away.
            here.learn(keyOf(charge), now, count)
            return standing(charge, count, millis)
          })
        })

      const taken = Effect.fnUntraced(function* (charges: ReadonlyArray<Charge>) {
        const now = yield* Clock.currentTimeMillis
        if (Option.isNone(redis) || now < redisRestsUntil) return counted(charges, now)
        return yield* Effect.catchAll(inRedis(redis.value.use, charges, now), (error) =>
          Effect.suspend(() => {
            redisRestsUntil = now + redisRests
            return Effect.as(
              Effect.annotateLogs(Effect.logDebug("Redis does not count requests; each process does."), {
                reason: String(error)
              }),
              counted(charges, now)
            )
          })
        )
      })

      return RateLimits.of({
        charge: Effect.fn("RateLimits.charge")(function* (charges) {
          const standings = yield* taken(charges)
          for (const one of standings) if (isExceeded(one)) Metrics.rateLimited.add(1, { scope: one.scope })
          return standings
        }),

        exhausted: (charge) =>
          Effect.map(Clock.currentTimeMillis, (now) => {
            const found = standing(charge, here.count(keyOf(charge), now), RateWindow.untilNext(now))
            if (!isExceeded(found)) return Option.none()
            Metrics.rateLimited.add(1, { scope: found.scope })
            return Option.some(found)
          }),

        share: Effect.gen(function* () {
          if (Option.isSome(redis)) return
          const now = yield* Clock.currentTimeMillis
          const { counts, window } = here.unsent(now)
          if (counts.size === 0) return
          const at = new Date(window)
          // In order of the keys, so that two processes never wait for each other's rows.
          const keys = [...counts.keys()].sort()
          const totals = yield* sql<{ key: string; count: number }>`
            INSERT INTO rate_window (key, window_at, count)
            SELECT key, ${at}, n FROM unnest(${keys}::text[], ${keys.map((key) => counts.get(key) ?? 0)}::integer[]) AS counted (key, n)
            ON CONFLICT (key) DO UPDATE SET
              count = CASE WHEN rate_window.window_at = excluded.window_at THEN rate_window.count ELSE 0 END + excluded.count,
              window_at = excluded.window_at
            RETURNING key, count`
          here.told(window, counts, new Map(totals.map(({ count, key }) => [key, count])))
          yield* sql`
            DELETE FROM rate_window WHERE key IN (
              SELECT key FROM rate_window WHERE window_at < ${new Date(window - 60_000)} LIMIT 1000 FOR UPDATE SKIP LOCKED)`
        }).pipe(Effect.withSpan("RateLimits.share"), storeErrors)
      })
    })
  )

  /** `share` once a second. */
  static readonly loop = Layer.scopedDiscard(
    Effect.gen(function* () {
      const limits = yield* RateLimits
      const draining = yield* Draining
      yield* draining.supervised(
        limits.share.pipe(Effect.repeat(Schedule.spaced("1 second")), Effect.retry(Retries.loop))
      )
    })
  )
}

const keyOf = ({ id, scope }: Charge) => `${scope}:${id}`

const decodeCounts = Schema.decodeUnknown(Schema.Array(Schema.Int))
