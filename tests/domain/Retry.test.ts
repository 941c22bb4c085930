import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { BackoffStrategy, defaultBackoff, delay } from "../../src/domain/Retry.ts"

const policy = (backoff_strategy: BackoffStrategy, backoff_seconds: number, backoff_max_seconds = 3600) => ({
  backoff_strategy,
  backoff_seconds,
  backoff_max_seconds
})

const first = (strategy: BackoffStrategy, unit: number) =>
  [1, 2, 3, 4].map((n) => delay(policy(strategy, 1.5), n, unit))

describe("Retry.delay", () => {
  it("grows as each strategy says", () => {
    assert.deepStrictEqual(first("fixed", 0.7), [1500, 1500, 1500, 1500])
    assert.deepStrictEqual(first("linear", 0.7), [1500, 3000, 4500, 6000])
    assert.deepStrictEqual(first("exponential", 0.7), [1500, 3000, 6000, 12_000])
    assert.deepStrictEqual(first("exponential_jitter", 0), [750, 1500, 3000, 6000])
    assert.deepStrictEqual(first("exponential_jitter", 0.5), [1125, 2250, 4500, 9000])
  })

  it("never passes the maximum, and stays spread at it", () => {
    for (const strategy of BackoffStrategy.literals) assert.isAtMost(delay(policy(strategy, 10, 5), 9, 0.999), 5000)
    assert.strictEqual(delay(policy("exponential_jitter", 10, 5), 9, 0), 2500)
    assert.strictEqual(delay(policy("exponential", 10, 5), 9, 0), 5000)
  })

  it("is nothing for ever where it begins with nothing", () => {
    for (const strategy of BackoffStrategy.literals) assert.strictEqual(delay(policy(strategy, 0), 2000, 0.5), 0)
  })

  it("is a whole, finite number of milliseconds for every attempt", () => {
    const seconds = fc.double({ min: 0, max: 366 * 86_400, noNaN: true })
    const unit = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
    fc.assert(
      fc.property(
        fc.constantFrom(...BackoffStrategy.literals),
        seconds,
        seconds,
        fc.integer({ min: 1, max: 5000 }),
        unit,
        (strategy, base, max, n, u) => {
          const millis = delay(policy(strategy, base, max), n, u)
          assert.isTrue(Number.isSafeInteger(millis) && millis >= 0 && millis <= Math.round(max * 1000))
        }
      )
    )
  })

  it("jitters between half and all of the exponential delay", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 30 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (n, u) => {
          const all = delay({ ...defaultBackoff, backoff_strategy: "exponential" }, n, u)
          const jittered = delay(defaultBackoff, n, u)
          assert.isTrue(jittered >= all / 2 && jittered <= all)
        }
      )
    )
  })
})
