import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { DateTime, Schema } from "effect"
import { Instant, parseInstant } from "../../src/domain/Instant.ts"

describe("Instant", () => {
  it("reads RFC 3339 with any offset and fraction", () => {
    const at = Date.UTC(2026, 2, 29, 8, 30)
    for (const text of [
      "2026-03-29T08:30:00Z",
      "2026-03-29T11:30:00+03:00",
      "2026-03-28T23:30:00-09:00",
      "2026-03-29T14:00:00+05:30",
      "2026-03-29T08:30:00.000000000Z"
    ]) {
      assert.strictEqual(parseInstant(text), at, text)
    }
    assert.strictEqual(parseInstant("2026-03-29T08:30:00.5Z"), at + 500)
    assert.strictEqual(parseInstant("2026-03-29T08:30:00.123456789Z"), at + 123)
    assert.strictEqual(parseInstant("2024-02-29T00:00:00Z"), Date.UTC(2024, 1, 29))
  })

  it("refuses what is no instant", () => {
    for (const text of [
      "",
      "2026-03-29",
      "2026-03-29T08:30Z",
      "2026-03-29T08:30:00",
      "2026-03-29 08:30:00Z",
      "2026-03-29T08:30:00+0300",
      "2026-03-29T08:30:00+03",
      "2026-02-29T08:30:00Z",
      "2026-02-30T08:30:00+02:00",
      "2026-13-01T00:00:00Z",
      "2026-00-01T00:00:00Z",
      "2026-01-00T00:00:00Z",
      "2026-01-01T24:00:00Z",
      "2026-01-01T23:60:00Z",
      "2026-06-30T23:59:60Z",
      "2026-01-01T00:00:00+24:00",
      "2026-01-01T00:00:00+00:60",
      "2026-01-01T00:00:00.Z",
      "2026-01-01T00:00:00.1234567890Z",
      "+002026-01-01T00:00:00Z",
      " 2026-01-01T00:00:00Z",
      "2026-01-01T00:00:00Z\n"
    ]) {
      assert.strictEqual(parseInstant(text), undefined, JSON.stringify(text))
    }
  })

  it("answers in UTC with milliseconds, and reads its own answer", () => {
    const encode = Schema.encodeSync(Instant)
    const decode = Schema.decodeUnknownSync(Instant)
    assert.strictEqual(encode(decode("2026-03-29T11:30:00+03:00")), "2026-03-29T08:30:00.000Z")
    fc.assert(
      fc.property(fc.integer({ min: Date.UTC(100, 0, 1), max: Date.UTC(9999, 11, 31) }), (millis) => {
        assert.strictEqual(DateTime.toEpochMillis(decode(encode(DateTime.unsafeMake(millis)))), millis)
      })
    )
  })
})
