import { assert, layer } from "@effect/vitest"
import { Effect, Layer, TestServices } from "effect"
import { Redis as Client } from "ioredis"
import { inject } from "vitest"
import { Events } from "../../src/layers/Events.ts"
import { loop } from "../../src/layers/Ingress.ts"
import { deadKey, ingressKey } from "../../src/layers/IngressStream.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { admin, task } from "../support/fixtures.ts"
import { services } from "../support/Services.ts"

const page = { limit: 200, before: null }
const url = `${inject("redisUrl").replace(/\/+$/, "")}/7`

/** A client of a Redis database that is the test's own, emptied. */
const redis = Effect.acquireRelease(
  Effect.promise(async () => {
    const client = new Client(url, { lazyConnect: true })
    await client.connect()
    await client.flushdb()
    return client
  }),
  (client) => Effect.sync(() => client.disconnect())
)

/** Looks, in real time, until what is found is what is wanted. */
const eventually = <A, E, R>(look: Effect.Effect<A, E, R>, wanted: (found: A) => boolean) =>
  look.pipe(
    Effect.tap(() => TestServices.provideLive(Effect.sleep("50 millis"))),
    Effect.repeat({ until: wanted, times: 300 })
  )

const topics = Effect.gen(function* () {
  const { actor } = yield* admin
  const { items } = yield* (yield* Events).list(actor, null, page)
  return items.map(({ topic }) => topic).sort()
})

layer(services([["REDIS_URL", url]]))("the ingress stream", (it) => {
  it.scoped("is accepted once, whatever is delivered again, also what a dead consumer left", () =>
    Effect.gen(function* () {
      const client = yield* redis
      const { actor } = yield* admin
      const { id } = yield* (yield* Tasks).create(actor, task({ schedule_kind: "event", schedule_expr: "orders.*" }))
      const add = (...fields: ReadonlyArray<string>) => Effect.promise(() => client.xadd(ingressKey, "*", ...fields))
      const left = yield* add("topic", "orders.created", "payload", '{"n":1}')
      yield* add("topic", "orders.paid", "payload", "1", "dedupe_key", "p1")
      yield* add("topic", "orders.paid", "payload", "1", "dedupe_key", "p1")
      yield* Effect.promise(() => client.xgroup("CREATE", ingressKey, "ordinaut", "0"))
      yield* Effect.promise(() =>
        client.xreadgroup("GROUP", "ordinaut", "dead", "COUNT", 1, "STREAMS", ingressKey, ">")
      )
      yield* Effect.promise(() => client.xclaim(ingressKey, "ordinaut", "dead", 0, left ?? "", "IDLE", 60_000))
      yield* TestServices.provideLive(Layer.build(loop))
      const quiet = Effect.promise(() => client.xpending(ingressKey, "ordinaut")).pipe(
        Effect.map(([pending]) => pending)
      )
      yield* eventually(Effect.zip(topics, quiet), ([found, pending]) => found.length === 2 && pending === 0)
      assert.deepStrictEqual(yield* topics, ["orders.created", "orders.paid"])
      const { items } = yield* (yield* Runs).list(actor, { task_id: id, trigger: "event" }, page)
      assert.lengthOf(items, 2)
    })
  )

  it.scoped("sends what cannot be accepted to the dead letters, with the reason", () =>
    Effect.gen(function* () {
      const client = yield* redis
      yield* TestServices.provideLive(Layer.build(loop))
      const bad = [
        ["topic", "no topic!", "payload", "1"],
        ["topic", "a.b", "payload", "{"],
        ["topic", "a.b", "payload", '"\\u0000"'],
        ["topic", "ordinaut.run.failed", "payload", "1"],
        ["payload", "1"]
      ]
      for (const fields of bad) yield* Effect.promise(() => client.xadd(ingressKey, "*", ...fields))
      const dead = yield* eventually(
        Effect.promise(() => client.xrange(deadKey, "-", "+")),
        (found) => found.length === bad.length
      )
      assert.lengthOf(dead, bad.length)
      for (const [, fields] of dead) assert.match(fields.at(-1) ?? "", /topic|JSON|payload/)
      assert.strictEqual((yield* Effect.promise(() => client.xpending(ingressKey, "ordinaut")))[0], 0)
    })
  )

  it.scoped("goes on when its group, or all of Redis, is gone", () =>
    Effect.gen(function* () {
      const client = yield* redis
      const before = yield* topics
      yield* TestServices.provideLive(Layer.build(loop))
      const arrives = (topic: string) =>
        Effect.gen(function* () {
          yield* Effect.promise(() => client.xadd(ingressKey, "*", "topic", topic, "payload", "1"))
          yield* eventually(topics, (found) => found.includes(topic))
        })
      yield* arrives("lost.first")
      yield* Effect.promise(() => client.flushdb())
      yield* arrives("lost.second")
      assert.lengthOf(yield* topics, before.length + 2)
    })
  )
})
