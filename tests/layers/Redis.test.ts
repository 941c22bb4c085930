import { assert, it } from "@effect/vitest"
import { ConfigProvider, Effect, Either, Layer, Option } from "effect"
import { inject } from "vitest"
import { Redis } from "../../src/layers/Redis.ts"
import { proxyTo } from "../support/proxy.ts"

it.scopedLive(
  "the connection to Redis heals when it has gone silent, and when it was cut",
  () =>
    Effect.gen(function* () {
      const url = new URL(inject("redisUrl"))
      const proxy = yield* proxyTo(url.hostname, Number(url.port))
      url.port = String(proxy.port)
      const settings = Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["REDIS_URL", url.href]])))
      const context = yield* Layer.build(Redis.layer.pipe(Layer.provide(settings)))
      const { use } = Option.getOrThrow(yield* Effect.provide(Redis, context))
      const ping = Effect.either(use((client) => client.ping()))
      /** Pings until one is answered, at most for twenty seconds. */
      const answered = ping.pipe(
        Effect.tap(() => Effect.sleep("100 millis")),
        Effect.repeat({ until: Either.isRight }),
        Effect.timeout("20 seconds")
      )
      yield* answered
      proxy.freeze()
      const silent = yield* ping
      assert.strictEqual(Either.isLeft(silent) ? silent.left._tag : "answered", "RedisUnavailable")
      yield* answered
      proxy.cut()
      yield* answered
    }),
  60_000
)
