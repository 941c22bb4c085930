import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck } from "effect"
import * as ScheduleSpec from "../../src/domain/ScheduleSpec.ts"
import { occurrences } from "../../src/domain/Timeline.ts"

const CREATED = Date.parse("2024-01-01T00:00:00Z")

type Kind = ScheduleSpec.CompileInput["kind"]

const read = (kind: Kind, expr: string, timezone = "UTC", more: Partial<ScheduleSpec.CompileInput> = {}) =>
  ScheduleSpec.compile({ kind, expr, timezone, dtstart: null, createdAt: CREATED, ...more })

const compiled = (kind: Kind, expr: string, timezone = "UTC", more: Partial<ScheduleSpec.CompileInput> = {}) =>
  Either.getOrThrowWith(read(kind, expr, timezone, more), (error) => error)

const refusal = (kind: Kind, expr: string, timezone = "UTC", more: Partial<ScheduleSpec.CompileInput> = {}) =>
  Either.getOrThrow(Either.flip(read(kind, expr, timezone, more)))

const preview = (schedule: ScheduleSpec.CompiledSchedule, after: string, count: number) =>
  occurrences(schedule, Date.parse(after), count).map((at) => {
    const { local, dst } = ScheduleSpec.reading(schedule, at)
    return [new Date(at).toISOString().replace(":00.000Z", "Z"), local, dst]
  })

describe("once", () => {
  const instants: ReadonlyArray<readonly [string, string, string]> = [
    ["2024-03-10T07:30:00Z", "America/New_York", "2024-03-10T07:30:00.000Z"],
    ["2024-03-10T07:30Z", "America/New_York", "2024-03-10T07:30:00.000Z"],
    ["2024-03-10t09:30:15.57+02:00", "America/New_York", "2024-03-10T07:30:15.570Z"],
    ["2024-03-10T07:30:15.9999999Z", "UTC", "2024-03-10T07:30:15.999Z"],
    ["2024-03-10T02:00-05:30", "UTC", "2024-03-10T07:30:00.000Z"],
    ["2024-07-01T12:00", "America/New_York", "2024-07-01T16:00:00.000Z"],
    ["2024-07-01T12:00:01", "Europe/Chisinau", "2024-07-01T09:00:01.000Z"],
    ["2024-03-10T02:30:00", "America/New_York", "2024-03-10T07:30:00.000Z"],
    ["2024-11-03T01:30:00", "America/New_York", "2024-11-03T05:30:00.000Z"]
  ]
  for (const [expr, name, expected] of instants) {
    it(`${expr} in ${name}`, () => {
      const schedule = compiled("once", expr, name)
      const at = Date.parse(expected)
      assert.strictEqual(schedule.next(-Infinity), at)
      assert.strictEqual(schedule.next(at - 1), at)
      assert.isNull(schedule.next(at))
    })
  }

  it("refuses what is no real date and time", () => {
    for (const expr of [
      "",
      "tomorrow",
      "2024-02-30T00:00",
      "2024-02-29",
      "2024-01-01T24:00",
      "2024-01-01T00:60",
      "2024-01-01T00:00:60Z",
      "2024-01-01T00:00+24:00",
      "2024-01-01T00:00+0200",
      "2024-01-01 00:00",
      "1710055800",
      "2024-01-01T00:00:00ZZ"
    ]) {
      const error = refusal("once", expr)
      assert.deepStrictEqual([error.code, error.field], ["invalid_schedule", "schedule_expr"], expr)
    }
  })

  it("leaves the past to the caller", () => {
    assert.isTrue(Either.isRight(read("once", "1999-01-01T00:00Z")))
  })
})

describe("compile", () => {
  it("refuses zones that are none", () => {
    for (const name of ["", "+02:00", "EST", "Mars/Olympus"]) {
      const error = refusal("cron", "* * * * *", name)
      assert.deepStrictEqual([error.code, error.field], ["unknown_timezone", "timezone"])
    }
  })

  it("refuses a start that is none, and ignores it where there is no rule", () => {
    const error = refusal("rrule", "FREQ=DAILY", "UTC", { dtstart: "2024-02-30T00:00:00" })
    assert.deepStrictEqual([error.code, error.field], ["invalid_schedule", "dtstart"])
    assert.isTrue(Either.isRight(read("cron", "* * * * *", "UTC", { dtstart: "x" })))
  })

  it("refuses an expression longer than 4,096 characters", () => {
    const long = `FREQ=DAILY;BYHOUR=${"1,".repeat(2100)}1`
    assert.match(refusal("rrule", long).message, /4096/)
    assert.isTrue(Either.isRight(read("cron", `${"0,".repeat(2043)}0 * * * *`)))
  })

  it("tells the start that holds", () => {
    const late = { createdAt: Date.parse("2024-06-30T22:30:00Z") }
    assert.strictEqual(compiled("rrule", "FREQ=DAILY", "Europe/Chisinau", late).dtstart, "2024-07-01T00:00:00")
    const named = { dtstart: "2024-05-05T05:05:05" }
    assert.strictEqual(compiled("rrule", "FREQ=DAILY", "UTC", named).dtstart, "2024-05-05T05:05:05")
    assert.isNull(compiled("cron", "0 9 * * *").dtstart)
  })

  it("hands out and takes the end of a rule with COUNT", () => {
    const start = { dtstart: "2024-01-01T09:00:00" }
    const first = compiled("rrule", "FREQ=DAILY;COUNT=5", "UTC", start)
    assert.strictEqual(first.countEnd, Date.parse("2024-01-05T09:00:00Z"))
    const again = compiled("rrule", "FREQ=DAILY;COUNT=5", "UTC", {
      ...start,
      countEnd: Date.parse("2024-01-03T09:00:00Z")
    })
    assert.strictEqual(occurrences(again, -Infinity, 9).length, 3)
  })

  it("refuses what never fires, not what is over", () => {
    assert.strictEqual(refusal("cron", "0 0 30 2 *").code, "never_fires")
    assert.strictEqual(refusal("rrule", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30").code, "never_fires")
    const over = compiled("rrule", "FREQ=DAILY;COUNT=3", "UTC", { dtstart: "2001-01-01T00:00:00" })
    assert.deepStrictEqual(occurrences(over, CREATED, 3), [])
  })

  it("refuses occurrences closer than allowed", () => {
    const least = (minIntervalSeconds: number) => ({ minIntervalSeconds, dtstart: "2024-01-01T00:00:00" })
    assert.strictEqual(refusal("cron", "* * * * * *", "UTC", least(60)).code, "too_frequent")
    assert.isTrue(Either.isRight(read("cron", "* * * * *", "UTC", least(60))))
    assert.strictEqual(refusal("rrule", "FREQ=DAILY;BYHOUR=9;BYSECOND=0,30", "UTC", least(60)).code, "too_frequent")
    assert.isTrue(Either.isRight(read("rrule", "FREQ=SECONDLY", "UTC", least(1))))
    assert.isTrue(Either.isRight(read("once", "2024-01-01T00:00Z", "UTC", least(60))))
  })

  it("says in words", () => {
    assert.strictEqual(compiled("rrule", "FREQ=DAILY;BYHOUR=9").description, "every day at 09:00")
    assert.strictEqual(
      compiled("cron", "0 9 * * MON-TUE").description,
      "minute 0, hour 9, every day, weekday MON, TUE, every month"
    )
    assert.strictEqual(
      compiled("once", "2024-03-10T02:30", "America/New_York").description,
      "once, at 2024-03-10T03:30:00"
    )
  })
})

describe("the preview marks what the clock did", () => {
  const newYork = "America/New_York"

  it("a rule shifted out of a gap, and at the first of two readings", () => {
    const daily = compiled("rrule", "FREQ=DAILY", newYork, { dtstart: "2024-03-09T02:30:00" })
    assert.deepStrictEqual(preview(daily, "2024-03-09T00:00:00Z", 3), [
      ["2024-03-09T07:30Z", "2024-03-09T02:30:00", null],
      ["2024-03-10T07:30Z", "2024-03-10T03:30:00", "gap"],
      ["2024-03-11T06:30Z", "2024-03-11T02:30:00", null]
    ])
    const autumn = compiled("rrule", "FREQ=DAILY", newYork, { dtstart: "2024-11-02T01:30:00" })
    assert.deepStrictEqual(preview(autumn, "2024-11-02T12:00:00Z", 2), [
      ["2024-11-03T05:30Z", "2024-11-03T01:30:00", "overlap"],
      ["2024-11-04T06:30Z", "2024-11-04T01:30:00", null]
    ])
  })

  it("a cron job at the instant of the change, and both readings of a wildcard", () => {
    assert.deepStrictEqual(preview(compiled("cron", "30 2 * * *", newYork), "2024-03-10T00:00:00Z", 2), [
      ["2024-03-10T07:00Z", "2024-03-10T03:00:00", "gap"],
      ["2024-03-11T06:30Z", "2024-03-11T02:30:00", null]
    ])
    assert.deepStrictEqual(preview(compiled("cron", "0 * * * *", newYork), "2024-11-03T04:30:00Z", 3), [
      ["2024-11-03T05:00Z", "2024-11-03T01:00:00", "overlap"],
      ["2024-11-03T06:00Z", "2024-11-03T01:00:00", "overlap"],
      ["2024-11-03T07:00Z", "2024-11-03T02:00:00", null]
    ])
  })

  it("nothing where a shifted reading falls on one that the schedule names anyway", () => {
    const rule = compiled("rrule", "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=30", newYork, { dtstart: "2024-03-10T00:00:00" })
    assert.deepStrictEqual(preview(rule, "2024-03-10T00:00:00Z", 1), [
      ["2024-03-10T07:30Z", "2024-03-10T03:30:00", null]
    ])
  })

  it("one time", () => {
    const marks = ["2024-03-10T02:30", "2024-11-03T01:30", "2024-11-03T06:30Z", "2024-07-01T00:00"].map((expr) => {
      const schedule = compiled("once", expr, newYork)
      return schedule.dst(schedule.next(-Infinity) ?? 0)
    })
    assert.deepStrictEqual(marks, ["gap", "overlap", "overlap", null])
  })

  it("added dates", () => {
    const rule =
      "DTSTART:20240101T000000\nRRULE:FREQ=YEARLY\nRDATE:20240310T023000,20240310T043000\nRDATE:20240310T073100Z"
    assert.deepStrictEqual(preview(compiled("rrule", rule, newYork), "2024-03-01T00:00:00Z", 3), [
      ["2024-03-10T07:30Z", "2024-03-10T03:30:00", "gap"],
      ["2024-03-10T07:31Z", "2024-03-10T03:31:00", null],
      ["2024-03-10T08:30Z", "2024-03-10T04:30:00", null]
    ])
  })
})

describe("bounds", () => {
  const hourly = compiled("cron", "0 * * * *")
  const hour = (n: number) => CREATED + n * 3_600_000

  it("are inclusive on both sides", () => {
    const within = ScheduleSpec.bounded(hourly, { startsAt: hour(2), endsAt: hour(4) })
    assert.deepStrictEqual(occurrences(within, hour(0), 9), [hour(2), hour(3), hour(4)])
    assert.deepStrictEqual(occurrences(within, hour(3), 9), [hour(4)])
    assert.isNull(within.next(hour(4)))
  })

  it("leave open what is null", () => {
    const open = ScheduleSpec.bounded(hourly, { startsAt: null, endsAt: null })
    assert.deepStrictEqual(occurrences(open, hour(0), 3), [hour(1), hour(2), hour(3)])
    assert.strictEqual(ScheduleSpec.bounded(hourly, { startsAt: hour(9), endsAt: null }).next(hour(0)), hour(9))
    assert.isNull(ScheduleSpec.bounded(hourly, { startsAt: null, endsAt: hour(1) - 1 }).next(hour(0)))
  })
})

describe("jitter", () => {
  const id = "0190b5a0-0000-7000-8000-000000000001"

  it("is the documented hash", () => {
    // FNV-1a, 64 bits, of "a:0" is 0xe661e31904a09cb6, which leaves 52 when divided by 61.
    assert.strictEqual(ScheduleSpec.dueAt("a", 0, null, 60), 52_000)
    assert.strictEqual(ScheduleSpec.dueAt(id, CREATED, null, 0), CREATED)
  })

  it("spreads over whole seconds, both ends included", () => {
    const delays = new Set<number>()
    for (let i = 0; i < 2000; i++)
      delays.add(ScheduleSpec.dueAt(id, CREATED + i * 60_000, null, 9) - CREATED - i * 60_000)
    assert.deepStrictEqual(
      [...delays].sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((second) => second * 1000)
    )
  })

  it.prop(
    "stays within its limit and never passes the next occurrence",
    [
      FastCheck.uuid(),
      FastCheck.integer({ min: 0, max: 2 ** 40 }),
      FastCheck.integer({ min: 0, max: 86_400 }),
      FastCheck.integer({ min: 1, max: 10_000 })
    ],
    ([task, at, jitter, gap]) => {
      const due = ScheduleSpec.dueAt(task, at, at + gap * 1000, jitter)
      assert.isAtLeast(due, at)
      assert.isAtMost(due, at + Math.min(jitter, gap) * 1000)
      assert.strictEqual(due, ScheduleSpec.dueAt(task, at, at + gap * 1000, jitter))
    }
  )
})

const upTo = (size: number, from = 0): string => Array.from({ length: size }, (_, i) => i + from).join(",")
const allTimes = `BYHOUR=${upTo(24)};BYMINUTE=${upTo(60)};BYSECOND=${upTo(60)}`
const stamps = (count: number, step: number): string =>
  Array.from({ length: count }, (_, i) => new Date(i * step).toISOString().slice(0, 19).replace(/[-:]/g, "")).join(",")

const frequencies = ["SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]

const rules: ReadonlyArray<string> = [
  ...frequencies.flatMap((freq) => [
    `FREQ=${freq}`,
    `FREQ=${freq};INTERVAL=7919`,
    `FREQ=${freq};INTERVAL=999999999999`,
    `FREQ=${freq};COUNT=1000000000`,
    `FREQ=${freq};COUNT=9999`,
    `FREQ=${freq};BYMONTH=2;BYDAY=MO;BYHOUR=3;COUNT=5000`,
    `FREQ=${freq};${allTimes}`,
    `FREQ=${freq};${allTimes};BYSETPOS=${upTo(366, 1)}`,
    `FREQ=${freq};BYHOUR=1;BYSETPOS=${upTo(362, 5)}`,
    `FREQ=${freq};BYHOUR=23;BYMINUTE=59;BYSECOND=59;BYMONTH=12`,
    `FREQ=${freq};BYHOUR=1,2;BYSETPOS=300,301,302`,
    `FREQ=${freq};UNTIL=19600101T000000Z`
  ]),
  ...["SECONDLY", "MINUTELY", "HOURLY", "DAILY", "MONTHLY", "YEARLY"].flatMap((freq) => [
    `FREQ=${freq};BYMONTH=2;BYMONTHDAY=30`,
    `FREQ=${freq};BYMONTH=2;BYMONTHDAY=29;INTERVAL=3`
  ]),
  ...[2, 7, 59, 61, 3599, 3601, 43_200, 49_999, 86_399, 86_400, 86_401].flatMap((interval) => [
    `FREQ=SECONDLY;INTERVAL=${interval};BYSECOND=59;BYMINUTE=58;BYHOUR=23;BYMONTH=2;BYMONTHDAY=29`,
    `FREQ=SECONDLY;INTERVAL=${interval};BYSECOND=31;BYMONTH=2;BYMONTHDAY=30`
  ]),
  "FREQ=SECONDLY;INTERVAL=60;BYSECOND=30",
  "FREQ=SECONDLY;INTERVAL=86400;BYHOUR=5",
  "FREQ=MINUTELY;INTERVAL=1439;BYHOUR=5;BYMINUTE=59;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
  `FREQ=YEARLY;BYMONTH=${upTo(12, 1)};BYMONTHDAY=${upTo(31, 1)};BYYEARDAY=${upTo(366, 1)};BYWEEKNO=${upTo(53, 1)};BYDAY=MO,TU;${allTimes};BYSETPOS=${upTo(366, -366)}`,
  `FREQ=YEARLY;BYYEARDAY=${upTo(366, 1)};BYWEEKNO=53;BYMONTH=6`,
  "FREQ=YEARLY;BYDAY=53MO,53TU;BYMONTH=2",
  `FREQ=WEEKLY;BYDAY=MO,TU;BYSETPOS=${upTo(362, 5)}`,
  `FREQ=DAILY;BYHOUR=1,2;BYSETPOS=${upTo(362, 5)}`,
  `RRULE:FREQ=DAILY\nEXDATE:${stamps(230, 86_400_000)}`,
  `RRULE:FREQ=SECONDLY\nEXDATE:${stamps(230, 1000)}`,
  `FREQ=DAILY;BYHOUR=${"1,".repeat(2000)}1`,
  `FREQ=MONTHLY;BYDAY=${"1MO,".repeat(1000)}1MO`,
  ";".repeat(4096),
  ",".repeat(4096),
  "\n ".repeat(2048),
  ":".repeat(4096)
]

const crons: ReadonlyArray<string> = [
  "* * * * * *",
  "0 0 31 2 *",
  "0 0 29 2 1",
  "0 0 29 2 */7",
  "59 59 23 31 12 *",
  `${"1,".repeat(2000)}1 * * * *`,
  " ".repeat(4096),
  `${"*/".repeat(2000)} * * * *`
]

describe("bombs", () => {
  /** 50 ms on a slow core; four times that, so that a busy machine does not fail the test. */
  const LIMIT = 200

  const bombs: ReadonlyArray<readonly [Kind, string, string | null]> = [
    ...rules.flatMap((rule): ReadonlyArray<readonly [Kind, string, string | null]> => [
      ["rrule", rule, "1970-01-01T00:00:00"],
      ["rrule", rule, "9990-12-31T23:59:59"]
    ]),
    ...crons.map((expr): readonly [Kind, string, string | null] => ["cron", expr, null])
  ]

  it(`${bombs.length} expressions are each answered in time, and each next too`, () => {
    assert.isAtLeast(bombs.length, 100)
    for (const name of ["UTC", "America/New_York", "Pacific/Apia"]) {
      for (const [kind, expr, dtstart] of bombs) {
        const before = process.cpuUsage()
        const schedule = read(kind, expr, name, { dtstart, minIntervalSeconds: 1 })
        if (Either.isRight(schedule)) schedule.right.next(Date.UTC(2026, 5, 1))
        const { user, system } = process.cpuUsage(before)
        assert.isBelow((user + system) / 1000, LIMIT, `${name} ${expr.slice(0, 120)}`)
      }
    }
  })

  it("costs no more for a start long ago", () => {
    const cost = (dtstart: string, expr: string) => {
      const schedule = compiled("rrule", expr, "Europe/Chisinau", { dtstart })
      const before = process.cpuUsage()
      for (let i = 0; i < 300; i++) schedule.next(Date.UTC(2026, 0, 1) + i * 7_654_321)
      const { user, system } = process.cpuUsage(before)
      return (user + system) / 300_000
    }
    for (const expr of [
      "FREQ=MINUTELY;INTERVAL=7",
      "FREQ=DAILY",
      "FREQ=WEEKLY;INTERVAL=3",
      "FREQ=MONTHLY;BYDAY=-1FR",
      "FREQ=YEARLY"
    ])
      assert.isBelow(cost("1900-01-01T09:00:00", expr), 1, expr)
  })
})
