import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import type { Scope } from "effect"
import { Redis as Client } from "ioredis"
import * as Metrics from "./Metrics.ts"
import * as Settings from "./Settings.ts"

/** Redis did not do what was asked: it is away, full, or refused. */
export class RedisUnavailable extends Schema.TaggedError<RedisUnavailable>()("RedisUnavailable", {
  reason: Schema.String
}) {}

/** The connection to `REDIS_URL`; none where it is not set. A command fails at once while Redis is away. */
export class Redis extends Context.Tag("ordinaut/Redis")<
  Redis,
  Option.Option<{
    readonly use: <A>(command: (client: Client) => Promise<A>) => Effect.Effect<A, RedisUnavailable>
    /** A connection of its own, for a reader that blocks: its commands wait for nobody and nobody waits for them. */
    readonly dedicated: Effect.Effect<Client, never, Scope.Scope>
  }>
>() {
  static readonly layer = Layer.scoped(
    this,
    Effect.gen(function* () {
      const url = yield* Settings.redisUrl
      if (Option.isNone(url)) return Option.none()
      const acquire = (commandTimeout: number) =>
        Effect.acquireRelease(
          Effect.sync(() => connect(Redacted.value(url.value), commandTimeout)),
          (made) => Effect.sync(() => made.disconnect())
        )
      const client = yield* acquire(5000)
      return Option.some({
        dedicated: acquire(15_000),
        use: <A>(command: (client: Client) => Promise<A>) =>
          Effect.tryPromise({
            try: () => command(client),
            catch: (cause) => new RedisUnavailable({ reason: String(cause) })
          })
      })
    })
  )
}

const connect = (url: string, commandTimeout: number) => {
  const client = new Client(url, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    commandTimeout,
    connectTimeout: 5000,
    // A socket that answers nothing is given up: such a connection went half-open.
    socketTimeout: commandTimeout + 1000,
    keepAlive: 10_000,
    retryStrategy: (attempt) => Math.min(attempt * 200, 5000)
  })
  client.on("ready", () => Metrics.redisUp.add(1, {}))
  client.on("close", () => Metrics.redisUp.add(0, {}))
  // Each command reports its own failure; without a listener the event would end the process.
  client.on("error", () => undefined)
  return client
}
