import { assert, it } from "@effect/vitest"
import { DateTime, Effect, Fiber, Layer } from "effect"
import { Draining } from "../../src/layers/Draining.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import type { Numbered } from "../../src/layers/EventStream.ts"
import { LogTail } from "../../src/layers/LogTail.ts"
import { Wakeups } from "../../src/layers/Wakeups.ts"

const entry = (number: number): Numbered => ({
  number,
  entry: {
    id: String(number),
    topic: "ordinaut.run.queued",
    namespace: "main",
    agent_id: null,
    at: DateTime.unsafeMake(number),
    hops: 0,
    payload: null
  }
})

/** A log in memory that counts how often it is read. */
const makeLog = () => {
  const entries: Array<Numbered> = []
  let reads = 0
  const stream = EventStream.of({
    number: Effect.succeed(0),
    send: Effect.succeed(0),
    tellsEnd: () => Effect.succeed(false),
    bounds: Effect.sync(() => ({ oldest: 1, newest: entries.length })),
    after: (number, batches) =>
      Effect.sync(() => {
        reads++
        return entries.slice(number, number + batches * 10)
      })
  })
  const layer = LogTail.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(Layer.succeed(EventStream, stream), Wakeups.layerLocal, Draining.layer))
  )
  const add = (count: number) =>
    Effect.flatMap(Wakeups, (wakeups) => {
      for (let i = 0; i < count; i++) entries.push(entry(entries.length + 1))
      return wakeups.signal("log")
    })
  return { layer, add, reads: () => reads }
}

/** The numbers of `count` entries after a number, as a follower is given them. */
const follow = (tail: typeof LogTail.Service, after: number, count: number) =>
  Effect.gen(function* () {
    const seen: Array<number> = []
    while (seen.length < count) {
      for (const { number } of yield* tail.after(seen.at(-1) ?? after)) seen.push(number)
    }
    return seen
  })

const numbers = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)

it.scoped("a hundred followers cost no more reads of the log than one", () => {
  const { add, layer, reads } = makeLog()
  return Effect.gen(function* () {
    const tail = yield* LogTail
    yield* tail.following
    const followers = yield* Effect.forEach(numbers(0, 100), () => Effect.fork(follow(tail, 0, 200)))
    yield* Effect.repeatN(Effect.yieldNow(), 50)
    const before = reads()
    for (let i = 0; i < 20; i++) {
      yield* add(10)
      yield* Effect.repeatN(Effect.yieldNow(), 50)
    }
    for (const seen of yield* Fiber.joinAll(followers)) assert.deepStrictEqual(seen, numbers(1, 200))
    assert.isAtMost(reads() - before, 45)
  }).pipe(Effect.provide(layer))
})

it.scoped("one that fell behind what is in memory misses nothing", () => {
  const { add, layer } = makeLog()
  return Effect.gen(function* () {
    const tail = yield* LogTail
    yield* tail.following
    const quick = yield* Effect.fork(follow(tail, 0, 20_000))
    for (let i = 0; i < 40; i++) {
      yield* add(500)
      yield* Effect.repeatN(Effect.yieldNow(), 20)
    }
    yield* Fiber.join(quick)
    assert.deepStrictEqual(yield* follow(tail, 3, 19_997), numbers(4, 19_997))
  }).pipe(Effect.provide(layer))
})

it.scoped("nobody's log is not read", () => {
  const { add, layer, reads } = makeLog()
  return Effect.gen(function* () {
    const tail = yield* LogTail
    yield* Effect.scoped(
      Effect.gen(function* () {
        yield* tail.following
        const one = yield* Effect.fork(follow(tail, 0, 10))
        yield* add(10)
        yield* Fiber.join(one)
      })
    )
    yield* Effect.repeatN(Effect.yieldNow(), 50)
    const before = reads()
    for (let i = 0; i < 10; i++) {
      yield* add(10)
      yield* Effect.repeatN(Effect.yieldNow(), 20)
    }
    assert.isAtMost(reads() - before, 1)
    // Whoever comes back later is told all the same.
    yield* tail.following
    assert.deepStrictEqual(yield* follow(tail, 10, 100), numbers(11, 100))
  }).pipe(Effect.provide(layer))
})
