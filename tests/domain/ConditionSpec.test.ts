import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import { evaluate, nowIn, onCondition } from "../../src/domain/ConditionSpec.ts"
import type { JsonObject } from "../../src/domain/Json.ts"
import { zone } from "./bindings.ts"

const plan = (expr: string) => Either.getOrThrow(onCondition(expr))
const refusal = (expr: string) =>
  Either.match(onCondition(expr), { onLeft: ({ message }) => message, onRight: () => "accepted" })

describe("ConditionSpec", () => {
  it("finds the topics and the minute that a condition depends on", () => {
    const table: ReadonlyArray<readonly [string, ReadonlyArray<string>, boolean]> = [
      ['events."orders.created".total > `10`', ["orders.created"], false],
      ["events.door == 'open' && events.\"alarm.set\"", ["door", "alarm.set"], false],
      ["${events.door.open}", ["door"], false],
      ["now.hour >= `9` && now.weekday < `6`", [], true],
      ["events.t.v > `1` && now.minute == `0` && task.labels.on", ["t"], true],
      ["events.a || events.a.b", ["a"], false],
      ['[events][0]."a.b"', ["a.b"], false],
      ["{e: events}.e.a", ["a"], false],
      ["not_null(events.a.x, events.b.x)", ["a", "b"], false],
      ["events.list[?v > `3`] | length(@) > `0`", ["list"], false],
      ["events.__proto__.x", ["__proto__"], false]
    ]
    for (const [expr, topics, everyMinute] of table) {
      const found = plan(expr)
      assert.deepStrictEqual([found.topics, found.everyMinute], [topics, everyMinute], expr)
    }
  })

  it("refuses a topic that is known only at run time, with a hint", () => {
    for (const expr of [
      "events",
      "events.*",
      "events.*.total",
      "values(events)",
      "keys(events)",
      "length(events) > `1`",
      "events[0]",
      "events[]",
      "events == events.a",
      "events.a && events",
      "{e: events}",
      "map(&total, values(events))",
      "to_array(events)[0].a",
      "merge(events, events.a).b"
    ])
      assert.include(refusal(expr), "named in quotes", expr)
    for (const expr of ["@", "*", "keys(@)", "values(@)[0]", "*.a"])
      assert.include(refusal(expr), "by their names", expr)
  })

  it("refuses what can never be, or never change", () => {
    assert.include(refusal("true"), "there is no true")
    assert.include(refusal("`true`"), "nothing could ever change it")
    assert.include(refusal("task.title == 'a'"), "nothing could ever change it")
    assert.include(refusal("event.payload.a"), "there is no event")
    assert.include(refusal("now.hours > `1`"), "now has iso, epoch, hour, minute, weekday")
    assert.include(refusal("events.a && task.name"), "task has")
    assert.include(refusal('events."a b"'), "is no topic")
    assert.include(refusal('events."ordinaut.run.failed"'), "event task")
    for (const expr of ["", "events.a >", "events.a > 3", "nope(events.a)"])
      assert.notStrictEqual(refusal(expr), "accepted", expr)
  })

  it("evaluates over the last payloads, the clock of the zone and the task", () => {
    const at = Date.UTC(2026, 2, 29, 1, 30)
    const value = (expr: string, events: JsonObject = {}) =>
      Either.match(
        evaluate(plan(expr), {
          events,
          at,
          zone: zone("Europe/Chisinau"),
          task: { id: "t", title: "T", labels: { a: "b" } }
        }),
        { onLeft: () => "error", onRight: String }
      )
    assert.strictEqual(value("events.t.v > `10`", { t: { v: 11 } }), "true")
    assert.strictEqual(value("events.t.v > `10`"), "false")
    assert.strictEqual(value("events.t", { t: {} }), "false")
    assert.strictEqual(value("events.t", { t: "x" }), "true")
    assert.strictEqual(value("length(events.t) > `1`", { t: 4 }), "error")
    assert.strictEqual(value("events.t && task.labels.a == 'b' && task.title == 'T'", { t: 1 }), "true")
    assert.strictEqual(value("now.hour == `4` && now.minute == `30` && now.weekday == `7`"), "true")
  })

  it("says the wall clock of the zone with its offset", () => {
    const at = Date.UTC(2026, 2, 29, 1, 30, 7)
    assert.deepStrictEqual(nowIn(zone("Europe/Chisinau"), at), {
      iso: "2026-03-29T04:30:07+03:00",
      epoch: at / 1000,
      hour: 4,
      minute: 30,
      weekday: 7
    })
    assert.include(nowIn(zone("America/St_Johns"), at), { iso: "2026-03-28T23:00:07-02:30", weekday: 6, hour: 23 })
  })
})
