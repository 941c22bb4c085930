import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import * as Cursor from "../../src/domain/Cursor.ts"
import type { ScheduleFields } from "../../src/domain/TaskSchedule.ts"
import { dueAt } from "../../src/domain/ScheduleSpec.ts"
import { tzdataVersion } from "../../src/domain/Zone.ts"

const minute = 60_000
const now = Date.UTC(2026, 2, 2, 9)

const cron = (more: Partial<ScheduleFields> = {}): ScheduleFields => ({
  kind: "cron",
  expr: "0 9 * * *",
  timezone: "UTC",
  dtstart: null,
  createdAt: now,
  startsAt: null,
  endsAt: null,
  ...more
})

const start = (fields: ScheduleFields, more: Partial<Cursor.Rules> = {}) =>
  Cursor.start("a task", fields, { now, graceSeconds: 60, jitterSeconds: 0, ...more })

const at = (text: string) => Date.parse(text)
const next = (fields: ScheduleFields, more: Partial<Cursor.Rules> = {}) =>
  Either.getOrThrow(Either.map(start(fields, more), (cursor) => cursor.next))
const code = (fields: ScheduleFields, more: Partial<Cursor.Rules> = {}) =>
  Either.match(start(fields, more), { onLeft: (error) => error.code, onRight: () => "accepted" })

describe("Cursor.start", () => {
  it("begins with the first occurrence after now", () => {
    assert.deepStrictEqual(Either.getOrThrow(start(cron())), {
      decidedThrough: now,
      next: at("2026-03-03T09:00:00Z"),
      nextDueAt: at("2026-03-03T09:00:00Z"),
      dtstart: null,
      countEnd: null,
      tzdataVersion
    })
    assert.strictEqual(next(cron(), { now: now - 1 }), now)
  })

  it("stays within starts_at and ends_at, both included", () => {
    assert.strictEqual(next(cron({ startsAt: at("2026-03-05T09:00:00Z") })), at("2026-03-05T09:00:00Z"))
    assert.strictEqual(next(cron({ startsAt: at("2026-03-05T09:00:01Z") })), at("2026-03-06T09:00:00Z"))
    assert.strictEqual(next(cron({ endsAt: at("2026-03-03T09:00:00Z") })), at("2026-03-03T09:00:00Z"))
    assert.strictEqual(code(cron({ endsAt: at("2026-03-03T08:59:59Z") })), "never_fires")
  })

  it("reads the wall clock of the zone", () => {
    assert.strictEqual(next(cron({ timezone: "Europe/Chisinau" })), at("2026-03-03T07:00:00Z"))
    assert.strictEqual(code(cron({ timezone: "Europe/Nowhere" })), "unknown_timezone")
  })

  it("due lies where the jitter of this occurrence puts it", () => {
    const { next: first, nextDueAt } = Either.getOrThrow(start(cron(), { jitterSeconds: 3600 }))
    assert.strictEqual(nextDueAt, dueAt("a task", first ?? 0, (first ?? 0) + 1440 * minute, 3600))
    assert.notStrictEqual(nextDueAt, first)
  })

  it("an rrule without a start begins at local midnight of its creation, and keeps that start", () => {
    const rule = cron({ kind: "rrule", expr: "FREQ=DAILY;BYHOUR=9,18;COUNT=3", timezone: "Europe/Chisinau" })
    const cursor = Either.getOrThrow(start(rule))
    assert.strictEqual(cursor.dtstart, "2026-03-02T00:00:00")
    assert.strictEqual(cursor.next, at("2026-03-02T16:00:00Z"))
    assert.strictEqual(cursor.countEnd, at("2026-03-03T16:00:00Z"))
    const later = Either.getOrThrow(start(rule, { now: at("2026-03-03T12:00:00Z") }))
    assert.deepStrictEqual([later.dtstart, later.next], ["2026-03-02T00:00:00", at("2026-03-03T16:00:00Z")])
  })

  it("a new once may have passed within the grace; the cursor stands before it", () => {
    const once = cron({ kind: "once", expr: "2026-03-02T08:59:00Z" })
    const cursor = Either.getOrThrow(start(once))
    assert.deepStrictEqual([cursor.next, cursor.decidedThrough], [now - minute, now - minute - 1])
    assert.strictEqual(code(once, { graceSeconds: 59 }), "in_the_past")
    assert.strictEqual(code(cron({ kind: "once", expr: "2026-03-02T09:00:00Z" }), { graceSeconds: 0 }), "accepted")
  })

  it("a changed schedule never goes back behind what is decided", () => {
    const tomorrow = at("2026-03-03T09:00:00Z")
    const cursor = Either.getOrThrow(start(cron(), { decidedThrough: tomorrow }))
    assert.deepStrictEqual([cursor.next, cursor.decidedThrough], [tomorrow + 1440 * minute, tomorrow])
    const past = Either.getOrThrow(start(cron(), { decidedThrough: now - 1440 * minute }))
    assert.deepStrictEqual([past.next, past.decidedThrough], [tomorrow, now])
    const fired = cron({ kind: "once", expr: "2026-03-02T08:59:30Z" })
    assert.strictEqual(code(fired), "accepted")
    assert.strictEqual(code(fired, { decidedThrough: now - 30_000 }), "in_the_past")
  })

  it("an event schedule waits for no instant", () => {
    const cursor = Either.getOrThrow(start(cron({ kind: "event", expr: "orders.*" })))
    assert.deepStrictEqual([cursor.next, cursor.nextDueAt, cursor.decidedThrough], [null, null, now])
  })
})
