import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, TestClock } from "effect"
import type { ErrorCode } from "../../src/domain/StepFailed.ts"
import { StepFailed } from "../../src/domain/StepFailed.ts"
import { makeBreakers } from "../../src/layers/Breakers.ts"

/** Breakers with a count of the calls that came through. */
const counting = () => {
  const breakers = makeBreakers()
  let calls = 0
  const through = <A>(call: Effect.Effect<A, StepFailed>, key = "k") =>
    breakers.guard(
      key,
      Effect.suspend(() => {
        calls++
        return call
      })
    )
  const failing = (code: ErrorCode, key?: string) => Effect.flip(through(StepFailed.of(code, code), key))
  return { through, failing, calls: () => calls }
}

const opened = Effect.gen(function* () {
  const breaker = counting()
  for (const code of ["tool_connection", "timeout", "tool_http_5xx", "timeout", "tool_connection"] as const)
    assert.strictEqual((yield* breaker.failing(code)).code, code)
  return breaker
})

const heldBack = (breaker: ReturnType<typeof counting>) =>
  Effect.gen(function* () {
    const before = breaker.calls()
    const error = yield* Effect.flip(breaker.through(Effect.void))
    assert.deepInclude(error, { code: "tool_connection", retryable: true })
    assert.strictEqual(breaker.calls(), before)
    return error.retry_after_seconds
  })

describe("a circuit breaker", () => {
  it.effect("opens after five failures in a row, and closes when a probe succeeds", () =>
    Effect.gen(function* () {
      const breaker = yield* opened
      assert.strictEqual(yield* heldBack(breaker), 30)
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual(yield* heldBack(breaker), 1)
      // Nobody else is held back.
      yield* breaker.through(Effect.void, "other")
      yield* TestClock.adjust("1 seconds")
      yield* breaker.through(Effect.void)
      for (let i = 0; i < 4; i++) yield* breaker.failing("timeout")
      yield* breaker.through(Effect.void)
    })
  )

  it.effect("opens again when the probe fails", () =>
    Effect.gen(function* () {
      const breaker = yield* opened
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* breaker.failing("tool_http_5xx")).code, "tool_http_5xx")
      assert.strictEqual(yield* heldBack(breaker), 30)
    })
  )

  it.effect("lets one probe through at a time, and another one after a probe that was given up or threw", () =>
    Effect.gen(function* () {
      const breaker = yield* opened
      yield* TestClock.adjust("30 seconds")
      const started = yield* Deferred.make<void>()
      const hanging = Deferred.succeed(started, undefined).pipe(Effect.zipRight(Effect.never))
      const probe = yield* Effect.fork(breaker.through(hanging))
      yield* Deferred.await(started)
      yield* heldBack(breaker)
      yield* Fiber.interrupt(probe)
      yield* Effect.exit(breaker.through(Effect.die("a bug")))
      yield* breaker.through(Effect.void)
      yield* breaker.through(Effect.void)
    })
  )

  it.effect("counts an answer of any other kind as a sign of life", () =>
    Effect.gen(function* () {
      for (const code of ["tool_http_4xx", "tool_output_invalid", "tool_response_too_large"] as const) {
        const breaker = counting()
        for (let i = 0; i < 4; i++) yield* breaker.failing("timeout")
        yield* breaker.failing(code)
        for (let i = 0; i < 4; i++) yield* breaker.failing("timeout")
        yield* breaker.through(Effect.void)
      }
    })
  )

  it.effect("a failure that began before the breaker opened ends no probe", () =>
    Effect.gen(function* () {
      const breaker = counting()
      const end = yield* Deferred.make<void>()
      const late = yield* Effect.fork(
        breaker.through(Deferred.await(end).pipe(Effect.zipRight(StepFailed.of("timeout", "late"))))
      )
      yield* Effect.yieldNow()
      for (let i = 0; i < 5; i++) yield* breaker.failing("timeout")
      yield* TestClock.adjust("30 seconds")
      const started = yield* Deferred.make<void>()
      const probe = yield* Effect.fork(
        breaker.through(Deferred.succeed(started, undefined).pipe(Effect.zipRight(Effect.never)))
      )
      yield* Deferred.await(started)
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.await(late)
      yield* TestClock.adjust("60 seconds")
      yield* heldBack(breaker)
      yield* Fiber.interrupt(probe)
    })
  )
})
