import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck } from "effect"
import * as Cron from "../../src/domain/Cron.ts"
import { occurrences } from "../../src/domain/Timeline.ts"
import * as Zone from "../../src/domain/Zone.ts"

const zone = (name: string): Zone.Zone => {
  const found = Zone.find(name)
  assert.isDefined(found, name)
  return found
}

const cron = (expr: string, name = "UTC"): Cron.Cron =>
  Either.getOrThrowWith(Cron.parse(expr, zone(name)), (error) => error)

const short = (at: number): string => new Date(at).toISOString().replace(":00.000Z", "Z")

const following = (expr: string, name: string, after: string, count: number): ReadonlyArray<string> =>
  occurrences(cron(expr, name), Date.parse(after), count).map(short)

describe("clock changes", () => {
  const newYork = "America/New_York"
  const cases: ReadonlyArray<readonly [string, string, string, string, ReadonlyArray<string>]> = [
    [
      "a missing fixed time fires at the change",
      "30 2 * * *",
      newYork,
      "2024-03-10T05:00:00Z",
      ["2024-03-10T07:00Z", "2024-03-11T06:30Z"]
    ],
    [
      "several missing times fire once",
      "0,30 2 * * *",
      newYork,
      "2024-03-10T05:00:00Z",
      ["2024-03-10T07:00Z", "2024-03-11T06:00Z"]
    ],
    [
      "a missing time and the first one after the gap fire once",
      "0 2,3 * * *",
      newYork,
      "2024-03-10T05:00:00Z",
      ["2024-03-10T07:00Z", "2024-03-11T06:00Z"]
    ],
    [
      "a repeated fixed time fires at its first instant",
      "30 1 * * *",
      newYork,
      "2024-11-03T04:00:00Z",
      ["2024-11-03T05:30Z", "2024-11-04T06:30Z"]
    ],
    [
      "a wildcard follows the real clock through an overlap",
      "*/30 * * * *",
      newYork,
      "2024-11-03T04:30:00Z",
      ["2024-11-03T05:00Z", "2024-11-03T05:30Z", "2024-11-03T06:00Z", "2024-11-03T06:30Z", "2024-11-03T07:00Z"]
    ],
    [
      "a wildcard whose hour is missing does not run",
      "*/30 2 * * *",
      newYork,
      "2024-03-10T05:00:00Z",
      ["2024-03-11T06:00Z"]
    ],
    [
      "a wildcard hour jumps over the gap",
      "0 */2 * * *",
      newYork,
      "2024-03-10T04:30:00Z",
      ["2024-03-10T05:00Z", "2024-03-10T08:00Z"]
    ],
    ["half an hour", "15 2 * * *", "Australia/Lord_Howe", "2024-10-05T00:00:00Z", ["2024-10-05T15:30Z"]],
    ["midnight", "0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", ["2018-11-04T03:00Z", "2018-11-05T02:00Z"]],
    [
      "a day that is left out is lost",
      "0 9 * * *",
      "Pacific/Apia",
      "2011-12-29T00:00:00Z",
      ["2011-12-29T19:00Z", "2011-12-30T19:00Z", "2011-12-31T19:00Z"]
    ],
    ["Chisinau in spring", "30 3 * * *", "Europe/Chisinau", "2024-03-30T12:00:00Z", ["2024-03-31T01:00Z"]],
    ["Chisinau in autumn", "30 3 * * *", "Europe/Chisinau", "2024-10-26T12:00:00Z", ["2024-10-27T00:30Z"]],
    [
      "a fixed list of all hours fires its repeated reading once",
      "0 0-23 * * *",
      newYork,
      "2024-11-03T04:30:00Z",
      ["2024-11-03T05:00Z", "2024-11-03T07:00Z"]
    ],
    [
      "every reading of a repeated day repeats",
      "0 9 * * *",
      "Pacific/Kwajalein",
      "1969-09-29T00:00:00Z",
      ["1969-09-29T22:00Z", "1969-09-30T21:00Z", "1969-10-01T21:00Z"]
    ]
  ]
  for (const [title, expr, name, after, expected] of cases) {
    it(`${title}: ${expr} in ${name}`, () => {
      assert.deepStrictEqual(following(expr, name, after, expected.length), expected)
    })
  }

  it("seconds that are missing collapse too", () => {
    assert.deepStrictEqual(following("* 30 2 * * *", newYork, "2024-03-10T05:00:00Z", 2), [
      "2024-03-10T07:00Z",
      "2024-03-11T06:30Z"
    ])
  })
})

describe("days", () => {
  it("either field matches when both are restricted", () => {
    const found = following("0 0 13 * 5", "UTC", "2024-01-01T00:00:00Z", 200)
    for (const text of found) assert.isTrue(new Date(text).getUTCDay() === 5 || new Date(text).getUTCDate() === 13)
    assert.include(found, "2024-01-13T00:00Z")
    assert.include(found, "2024-01-05T00:00Z")
  })

  it("both must match when one begins with a star", () => {
    assert.deepStrictEqual(following("0 0 */2 * 1", "UTC", "2024-01-10T00:00:00Z", 3), [
      "2024-01-15T00:00Z",
      "2024-01-29T00:00Z",
      "2024-02-05T00:00Z"
    ])
    assert.deepStrictEqual(following("0 0 13 * */5", "UTC", "2024-01-01T00:00:00Z", 2), [
      "2024-09-13T00:00Z",
      "2024-10-13T00:00Z"
    ])
  })

  it("waits for the leap day", () => {
    assert.deepStrictEqual(following("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00Z"])
  })
})

describe("syntax", () => {
  const minutesOf = (field: string) =>
    following(`${field} * * * *`, "UTC", "2023-12-31T23:59:00Z", 60)
      .filter((text) => text.startsWith("2024-01-01T00"))
      .map((text) => Number(text.slice(14, 16)))

  it("reads stars, ranges, steps and lists", () => {
    assert.deepStrictEqual(minutesOf("*/20"), [0, 20, 40])
    assert.deepStrictEqual(minutesOf("5-20/5,1,1"), [1, 5, 10, 15, 20])
    assert.deepStrictEqual(minutesOf("*/90"), [0])
    assert.strictEqual(minutesOf("*").length, 60)
  })

  it("reads six fields, seconds first", () => {
    const found = occurrences(cron("10,5 0 12 * * *"), Date.parse("2024-01-01T00:00:00Z"), 3)
    assert.deepStrictEqual(
      found.map((at) => new Date(at).toISOString()),
      ["2024-01-01T12:00:05.000Z", "2024-01-01T12:00:10.000Z", "2024-01-02T12:00:05.000Z"]
    )
  })

  it("reads names and 7", () => {
    const same = (a: string, b: string) =>
      assert.deepStrictEqual(
        following(a, "UTC", "2024-01-01T00:00:00Z", 30),
        following(b, "UTC", "2024-01-01T00:00:00Z", 30),
        `${a} | ${b}`
      )
    same("0 0 * jan-Mar mon-FRI", "0 0 * 1-3 1-5")
    same("0 0 * * 7", "0 0 * * SUN")
    same("0 0 * * 5-7", "0 0 * * 0,5,6")
    same("0 0 * * 0-7", "0 0 * * *")
    same("@YEARLY", "0 0 1 1 *")
    same("@annually", "0 0 1 1 *")
    same("@monthly", "0 0 1 * *")
    same("@weekly", "0 0 * * 0")
    same("@daily", "0 0 * * *")
    same("@midnight", "0 0 * * *")
    same("@hourly", "0 * * * *")
    same("  0   0 * * *  ", "0 0 * * *")
  })

  const refused: ReadonlyArray<readonly [string, RegExp]> = [
    ["", /fields/],
    ["* * * *", /fields/],
    ["* * * * * * *", /fields/],
    ["5/15 * * * *", /BYMINUTE=5,20,35,50/],
    ["0 0 L * *", /BYMONTHDAY=-1/],
    ["0 0 * * 5L", /BYDAY=-1FR/],
    ["0 0 15W * *", /BYSETPOS/],
    ["0 0 * * 2#1", /BYDAY=2MO/],
    ["0 0 ? * 1", /BYMONTHDAY/],
    ["0 0 * * FRI-MON", /BYDAY=FR,SA,SU,MO/],
    ["0 0 * * SAT-SUN", /BYDAY=SA,SU/],
    ["0 22-2 * * *", /BYHOUR=22,23,0,1,2/],
    ["*/0 * * * *", /step/],
    ["1-5/0 * * * *", /step/],
    ["*/ * * * *", /step/],
    ["*/2/2 * * * *", /step/],
    ["@reboot", /FREQ/],
    ["@never", /@yearly/],
    ["1,,2 * * * *", /empty/],
    [", * * * *", /empty/],
    ["60 * * * *", /minute/],
    ["0 24 * * *", /hour/],
    ["0 0 0 * *", /day of month/],
    ["0 0 32 * *", /day of month/],
    ["0 0 1 13 *", /month/],
    ["0 0 1 0 *", /month/],
    ["0 0 * * 8", /day of week/],
    ["0 0 * FEBR *", /month/],
    ["0 0 * * MONDAY", /day of week/],
    ["-1 * * * *", /minute/],
    ["1- * * * *", /minute/],
    ["1.5 * * * *", /minute/],
    ["1-2-3 * * * *", /minute/],
    ["H * * * *", /minute/],
    ["60 0 0 1 1 *", /second/]
  ]
  for (const [expr, message] of refused) {
    it(`refuses "${expr}"`, () => {
      const error = Either.flip(Cron.parse(expr, zone("UTC"))).pipe(Either.getOrThrow)
      assert.strictEqual(error.code, "invalid_schedule")
      assert.strictEqual(error.field, "schedule_expr")
      assert.match(error.message, message)
    })
  }

  it("refuses a day that no year has", () => {
    for (const expr of ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30,31 2 */1"]) {
      const error = Either.flip(Cron.parse(expr, zone("UTC"))).pipe(Either.getOrThrow)
      assert.strictEqual(error.code, "never_fires")
    }
  })
})

const field = (low: number, high: number): FastCheck.Arbitrary<string> =>
  FastCheck.oneof(
    FastCheck.constant("*"),
    FastCheck.integer({ min: low, max: high }).map(String),
    FastCheck.integer({ min: 1, max: 20 }).map((step) => `*/${step}`),
    FastCheck.tuple(FastCheck.integer({ min: low, max: high }), FastCheck.integer({ min: low, max: high })).map(
      ([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`
    ),
    FastCheck.array(FastCheck.integer({ min: low, max: high }), { minLength: 1, maxLength: 4 }).map((list) =>
      list.join(",")
    )
  )

const expressions = FastCheck.tuple(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)).map((fields) =>
  fields.join(" ")
)
const places = FastCheck.constantFrom(
  "America/New_York",
  "Europe/Chisinau",
  "Australia/Lord_Howe",
  "Pacific/Apia",
  "America/Sao_Paulo",
  "UTC"
)
const moments = FastCheck.integer({ min: Date.UTC(2005, 0, 1), max: Date.UTC(2036, 0, 1) })

describe("properties", () => {
  it.prop("occurrences rise strictly, and next never skips one", [expressions, places, moments], ([expr, name, at]) => {
    const timeline = cron(expr, name)
    const found = occurrences(timeline, at, 40)
    let before = at
    for (const [index, occurrence] of found.entries()) {
      assert.isAbove(occurrence, before)
      const within = before + Math.floor((occurrence - before) / 2)
      assert.strictEqual(timeline.next(within), occurrence)
      assert.strictEqual(timeline.next(occurrence - 1), occurrence)
      assert.strictEqual(timeline.next(occurrence), found[index + 1] ?? timeline.next(occurrence))
      before = occurrence
    }
  })

  it.prop("a reading that the expression does not name comes of a gap only", [expressions, places, moments], (args) => {
    const [expr, name, at] = args
    const timeline = cron(expr, name)
    for (const occurrence of occurrences(timeline, at, 40)) {
      if (timeline.asksFor(Zone.toLocal(zone(name), occurrence))) continue
      const change = Zone.nextTransition(zone(name), occurrence - 1)
      assert.strictEqual(change?.at, occurrence)
      assert.isAbove(change?.offsetAfter ?? 0, change?.offsetBefore ?? 0)
    }
  })
})
