import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import * as TaskSchedule from "../../src/domain/TaskSchedule.ts"

const createdAt = Date.UTC(2026, 2, 2, 9)

const fields = (more: Partial<TaskSchedule.ScheduleFields>): TaskSchedule.ScheduleFields => ({
  kind: "cron",
  expr: "0 9 * * *",
  timezone: "UTC",
  dtstart: null,
  createdAt,
  startsAt: null,
  endsAt: null,
  ...more
})

const refusal = (more: Partial<TaskSchedule.ScheduleFields>) =>
  Either.match(TaskSchedule.read(fields(more)), {
    onLeft: ({ code, field }) => `${code} ${field}`,
    onRight: () => "accepted"
  })

describe("TaskSchedule.read", () => {
  it("names the field that is wrong", () => {
    assert.strictEqual(refusal({}), "accepted")
    assert.strictEqual(refusal({ expr: "0 9 * *" }), "invalid_schedule schedule_expr")
    assert.strictEqual(refusal({ timezone: "+02:00" }), "unknown_timezone timezone")
    assert.strictEqual(
      refusal({ kind: "rrule", expr: "FREQ=DAILY", dtstart: "2026-02-30T00:00:00" }),
      "invalid_schedule dtstart"
    )
    assert.strictEqual(refusal({ kind: "once", expr: "tomorrow" }), "invalid_schedule schedule_expr")
    assert.strictEqual(refusal({ kind: "condition", expr: "true" }), "invalid_schedule schedule_expr")
    assert.strictEqual(refusal({ kind: "event", expr: "a", timezone: "CET" }), "unknown_timezone timezone")
    assert.strictEqual(refusal({ expr: "* * * * *", minIntervalSeconds: 61 }), "too_frequent schedule_expr")
  })

  it("keeps a schedule of time within its bounds", () => {
    const plan = Either.getOrThrow(
      TaskSchedule.read(fields({ startsAt: createdAt + 1, endsAt: Date.UTC(2026, 2, 4, 9) }))
    )
    assert.ok(plan._tag === "Timed")
    const first = plan.timeline.next(0)
    assert.strictEqual(first, Date.UTC(2026, 2, 3, 9))
    assert.strictEqual(plan.timeline.next(Date.UTC(2026, 2, 3, 9)), Date.UTC(2026, 2, 4, 9))
    assert.strictEqual(plan.timeline.next(Date.UTC(2026, 2, 4, 9)), null)
  })
})

describe("TaskSchedule.onEvent", () => {
  const wrong = (expr: string) => Either.isLeft(TaskSchedule.onEvent(expr))

  it("reads a topic pattern, and a filter behind `if`", () => {
    const plain = Either.getOrThrow(TaskSchedule.onEvent(" orders.* "))
    assert.deepStrictEqual(plain, { _tag: "OnEvent", pattern: { words: ["orders", "*"] }, filter: null })
    const filtered = Either.getOrThrow(TaskSchedule.onEvent("orders.created if event.payload.total > `100`"))
    assert.deepStrictEqual(filtered.pattern.words, ["orders", "created"])
    assert.notStrictEqual(filtered.filter, null)
  })

  it("refuses what is neither", () => {
    for (const expr of [
      "",
      "orders created",
      "orders..x",
      "orders. if",
      "orders if",
      "orders if total >",
      "a.**.**",
      "ord!ers"
    ]) {
      assert.isTrue(wrong(expr), expr)
    }
    const refused = TaskSchedule.read(fields({ kind: "event", expr: "orders if (" }))
    assert.strictEqual(Either.isLeft(refused) ? refused.left.field : "", "schedule_expr")
  })
})

describe("TaskSchedule.firstOccurrence", () => {
  it("is strictly after, and tells a schedule that is over from one instant that passed", () => {
    const timed = (more: Partial<TaskSchedule.ScheduleFields>) => {
      const plan = Either.getOrThrow(TaskSchedule.read(fields(more)))
      assert.ok(plan._tag === "Timed")
      return plan
    }
    const daily = timed({ endsAt: Date.UTC(2026, 2, 3, 9) })
    const first = Either.getOrThrow(TaskSchedule.firstOccurrence(daily, "cron", createdAt))
    assert.strictEqual(first, Date.UTC(2026, 2, 3, 9))
    const code = (plan: TaskSchedule.Timed, kind: "cron" | "once", after: number) =>
      Either.match(TaskSchedule.firstOccurrence(plan, kind, after), {
        onLeft: (error) => error.code,
        onRight: () => "found"
      })
    assert.strictEqual(code(daily, "cron", first), "never_fires")
    const once = timed({ kind: "once", expr: "2026-03-02T09:00:00Z" })
    assert.strictEqual(code(once, "once", createdAt - 1), "found")
    assert.strictEqual(code(once, "once", createdAt), "in_the_past")
  })
})
