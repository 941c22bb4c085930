import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import { makeIsolation } from "../../src/layers/Isolation.ts"

describe("isolation", () => {
  it("leaves the worker to others first, closes, waits for what runs, and takes one suspect after the other", () => {
    const isolation = makeIsolation(1000)
    assert.isFalse(isolation.asks(2999))
    assert.isTrue(isolation.asks(3000))
    isolation.close(3000)
    assert.isFalse(isolation.isOpen())
    assert.isFalse(isolation.asks(3500))
    assert.isFalse(isolation.begins(2, 3500))
    for (const now of [4000, 5000]) {
      assert.isTrue(isolation.begins(0, now))
      isolation.began(true, now)
      assert.isFalse(isolation.begins(1, now + 1))
    }
    assert.isFalse(isolation.begins(1, 60_000))
    assert.isFalse(isolation.isOpen())
    assert.isFalse(isolation.begins(0, 70_000))
    assert.isTrue(isolation.isOpen())
    assert.isFalse(isolation.asks(71_999))
    assert.isTrue(isolation.asks(72_000))
  })

  it("opens again when another took the suspect", () => {
    const isolation = makeIsolation(0)
    isolation.close(2000)
    assert.isTrue(isolation.begins(0, 2001))
    isolation.began(false, 2001)
    assert.isTrue(isolation.isOpen())
  })

  it("keeps others waiting for ten seconds at first, longer only after that was in vain, and never longer than a minute", () => {
    const isolation = makeIsolation(0)
    const inVain = (now: number, patience: number) => {
      assert.isTrue(isolation.asks(now))
      assert.strictEqual(Duration.toMillis(isolation.patience()), patience)
      isolation.close(now)
      assert.isFalse(isolation.begins(1, now + patience))
      assert.isFalse(isolation.isOpen())
      assert.isFalse(isolation.begins(1, now + patience + 1))
      assert.isTrue(isolation.isOpen())
      assert.isFalse(isolation.asks(now + patience + 10_000))
      return now + patience + 10_001
    }
    const now = [10_000, 20_000, 40_000, 60_000, 60_000].reduce(inVain, 2000)
    isolation.close(now)
    assert.isTrue(isolation.begins(0, now + 60_000))
    isolation.began(true, now + 60_000)
    assert.isFalse(isolation.begins(0, now + 61_000))
    inVain(now + 63_000, 10_000)
  })

  it("takes no suspect when the place has run out", () => {
    const isolation = makeIsolation(0)
    isolation.close(2000)
    assert.isFalse(isolation.begins(0, 12_001))
    assert.isTrue(isolation.isOpen())
  })
})
