import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import { DAY, GREGORIAN_CYCLE, dateOf, dayOf } from "../../src/domain/Calendar.ts"
import * as Zone from "../../src/domain/Zone.ts"
import table from "moment-timezone/data/packed/latest.json" with { type: "json" }

const HOUR = 3_600_000

const zone = (name: string): Zone.Zone => {
  const found = Zone.find(name)
  assert.isDefined(found, name)
  return found
}

const local = (text: string): number => {
  const found = Zone.parseLocal(text)
  assert.isDefined(found, text)
  return found
}

const names = [
  ...table.zones.map((line) => line.split("|")[0] ?? ""),
  ...table.links.map((line) => line.split("|")[1] ?? "")
]
const zones = names.flatMap((name) => Zone.find(name) ?? [])

describe("names", () => {
  it("accepts places, links and UTC", () => {
    for (const name of [
      "UTC",
      "Etc/UTC",
      "Etc/GMT+5",
      "Europe/Kiev",
      "Europe/Kyiv",
      "Europe/Chisinau",
      "Asia/Calcutta",
      "America/Argentina/Buenos_Aires",
      "Japan"
    ])
      assert.strictEqual(zone(name).name, name)
  })

  it("refuses offsets, abbreviations, wrong case and unknown names", () => {
    for (const name of [
      "",
      " ",
      "+02:00",
      "-05",
      "UTC+2",
      "GMT+0",
      "GMT",
      "EST",
      "CET",
      "MST",
      "HST",
      "EST5EDT",
      "PST8PDT",
      "europe/chisinau",
      "Europe/chisinau",
      "utc",
      "Europe/Atlantis",
      "Europe/Chisinau ",
      "constructor",
      "__proto__",
      "Europe"
    ])
      assert.isUndefined(Zone.find(name), name)
  })

  it("knows where the data come from", () => {
    assert.match(Zone.tzdataVersion, /^20\d\d[a-z]$/)
  })
})

describe("offsets", () => {
  it("has Moldova change at 01:00 UTC", () => {
    const at = (text: string) => Zone.offsetAt(zone("Europe/Chisinau"), Date.parse(text))
    assert.strictEqual(at("2024-03-31T00:30:00Z"), 2 * HOUR)
    assert.strictEqual(at("2024-03-31T00:59:59.999Z"), 2 * HOUR)
    assert.strictEqual(at("2024-03-31T01:00:00Z"), 3 * HOUR)
    assert.strictEqual(at("2024-10-27T00:59:59Z"), 3 * HOUR)
    assert.strictEqual(at("2024-10-27T01:00:00Z"), 2 * HOUR)
  })

  it("unpacks local mean time to the second", () => {
    assert.strictEqual(Zone.offsetAt(zone("Europe/Paris"), Date.UTC(1800, 0, 1)), (9 * 60 + 21) * 1000)
    assert.strictEqual(Zone.offsetAt(zone("America/New_York"), Date.UTC(1800, 0, 1)), -(4 * 3600 + 56 * 60 + 2) * 1000)
  })

  it("has half-hour and day-long changes", () => {
    assert.deepStrictEqual(Zone.nextTransition(zone("Australia/Lord_Howe"), Date.UTC(2024, 7, 1)), {
      at: Date.parse("2024-10-05T15:30:00Z"),
      offsetBefore: 10.5 * HOUR,
      offsetAfter: 11 * HOUR
    })
    assert.deepStrictEqual(Zone.nextTransition(zone("Pacific/Apia"), Date.UTC(2011, 11, 1)), {
      at: Date.parse("2011-12-30T10:00:00Z"),
      offsetBefore: -10 * HOUR,
      offsetAfter: 14 * HOUR
    })
    assert.isNull(Zone.nextTransition(zone("UTC"), 0))
    assert.isNull(Zone.nextTransition(zone("Asia/Tokyo"), Date.UTC(2024, 0, 1)))
  })

  it("agrees with the engine's own data where those have not changed since", () => {
    for (const name of ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]) {
      const format = new Intl.DateTimeFormat("sv-SE", { timeZone: name, dateStyle: "short", timeStyle: "medium" })
      for (let at = Date.UTC(1975, 0, 1, 0, 30); at < Date.UTC(2036, 0, 1); at += 37 * HOUR)
        assert.strictEqual(
          Zone.formatLocal(Zone.toLocal(zone(name), at)),
          format.format(at).replace(" ", "T"),
          `${name} ${at}`
        )
    }
  })
})

describe("beyond the table", () => {
  it("keeps the last year's rules for ever", () => {
    const newYork = zone("America/New_York")
    const at = (text: string) => Zone.offsetAt(newYork, Date.parse(text))
    // The second Sunday in March and the first in November of years with different starts.
    assert.strictEqual(at("2600-03-09T06:59:59Z"), -5 * HOUR)
    assert.strictEqual(at("2600-03-09T07:00:00Z"), -4 * HOUR)
    assert.strictEqual(at("2600-11-02T05:59:59Z"), -4 * HOUR)
    assert.strictEqual(at("2600-11-02T06:00:00Z"), -5 * HOUR)
    assert.strictEqual(at("5003-07-01T00:00:00Z"), -4 * HOUR)
    assert.strictEqual(at("9999-12-31T23:59:59Z"), -5 * HOUR)
  })

  it("has a table whose last four centuries are one cycle of the calendar", () => {
    const endless = zones.filter(({ changes }) => (changes.at(-1) ?? 0) > Date.UTC(2400, 0, 1))
    assert.isAbove(endless.length, 100)
    for (const { name, changes, offsets } of endless) {
      const last = changes.at(-1) ?? 0
      const first = changes.indexOf(last - GREGORIAN_CYCLE)
      assert.isAtLeast(first, 0, name)
      assert.strictEqual(changes.length - 1 - first, 800, name)
      // Every year changes in the same two months at the same time of day, on the same weekday.
      const pattern = (index: number) => {
        const shown = (changes[index] ?? 0) + (offsets[index] ?? 0)
        return [new Date(shown).getUTCMonth(), new Date(shown).getUTCDay(), shown % DAY, offsets[index + 1]].join()
      }
      const patterns = new Set(Array.from({ length: 800 }, (_, i) => pattern(first + i)))
      // Egypt changes at midnight after the last Thursday, on the Friday that may fall into the next month.
      assert.isAtMost(patterns.size, 4, name)
    }
  })
})

describe("readings", () => {
  const apia = zone("Pacific/Apia")
  const newYork = zone("America/New_York")

  it("has one, two or no instants", () => {
    assert.deepStrictEqual(Zone.instantsOf(newYork, local("2024-07-01T12:00:00")), [Date.parse("2024-07-01T16:00:00Z")])
    assert.deepStrictEqual(Zone.instantsOf(newYork, local("2024-11-03T01:30:00")), [
      Date.parse("2024-11-03T05:30:00Z"),
      Date.parse("2024-11-03T06:30:00Z")
    ])
    assert.deepStrictEqual(Zone.instantsOf(newYork, local("2024-03-10T02:30:00")), [])
    assert.deepStrictEqual(Zone.instantsOf(newYork, local("2024-03-10T03:00:00")), [Date.parse("2024-03-10T07:00:00Z")])
    assert.deepStrictEqual(Zone.instantsOf(apia, local("2011-12-30T12:00:00")), [])
  })

  it("takes the earlier of two, and moves a missing one forward by the gap", () => {
    const resolved = (name: string, text: string) => new Date(Zone.resolve(zone(name), local(text))).toISOString()
    assert.strictEqual(resolved("America/New_York", "2024-11-03T01:30:00"), "2024-11-03T05:30:00.000Z")
    assert.strictEqual(resolved("America/New_York", "2024-03-10T02:30:00"), "2024-03-10T07:30:00.000Z")
    assert.strictEqual(resolved("Australia/Lord_Howe", "2024-10-06T02:15:00"), "2024-10-05T15:45:00.000Z")
    assert.strictEqual(resolved("Pacific/Apia", "2011-12-30T09:00:00"), "2011-12-30T19:00:00.000Z")
    assert.strictEqual(resolved("America/Sao_Paulo", "2018-11-04T00:00:00"), "2018-11-04T03:00:00.000Z")
  })

  it.prop(
    "every instant is among the instants of its reading",
    [FastCheck.constantFrom(...zones), FastCheck.integer({ min: Date.UTC(1840, 0, 1), max: Date.UTC(2700, 0, 1) })],
    ([where, instant]) => {
      const found = Zone.instantsOf(where, Zone.toLocal(where, instant))
      assert.include(found, instant)
      assert.isAtMost(found.length, 2)
      assert.strictEqual(Zone.resolve(where, Zone.toLocal(where, instant)), found[0])
    },
    { fastCheck: { numRuns: 3000 } }
  )

  it("holds at every change of every zone; a stretch outlasts the gap before it", () => {
    for (const where of zones) {
      for (const [index, at] of where.changes.entries()) {
        if (at > Date.UTC(2100, 0, 1)) break
        const before = where.offsets[index] ?? 0
        const after = where.offsets[index + 1] ?? 0
        const next = where.changes[index + 1] ?? Infinity
        assert.isAbove(next - at, Math.abs(after - before), where.name)
        assert.isBelow(Math.abs(after), 16 * HOUR, where.name)
        const middle = at + (before + after) / 2
        assert.strictEqual(Zone.instantsOf(where, middle).length, after > before ? 0 : 2, `${where.name} ${at}`)
        assert.strictEqual(Zone.resolve(where, middle), middle - before, `${where.name} ${at}`)
        assert.deepStrictEqual(Zone.nextTransition(where, at - 1), { at, offsetBefore: before, offsetAfter: after })
      }
    }
  })
})

describe("wall time", () => {
  it("reads and writes YYYY-MM-DDTHH:MM:SS", () => {
    for (const text of [
      "2024-02-29T23:59:59",
      "1969-12-31T23:59:59",
      "0001-01-01T00:00:00",
      "0099-03-01T00:00:01",
      "9999-12-31T23:59:59"
    ])
      assert.strictEqual(Zone.formatLocal(local(text)), text)
  })

  it("refuses what is no real date and time", () => {
    for (const text of [
      "",
      "2024-02-30T00:00:00",
      "2023-02-29T00:00:00",
      "2024-13-01T00:00:00",
      "2024-00-01T00:00:00",
      "2024-01-00T00:00:00",
      "2024-01-01T24:00:00",
      "2024-01-01T00:60:00",
      "2024-01-01T00:00:60",
      "2024-01-01T00:00",
      "2024-01-01 00:00:00",
      "2024-01-01T00:00:00Z",
      "0000-01-01T00:00:00",
      "2024-1-1T0:0:0"
    ])
      assert.isUndefined(Zone.parseLocal(text), text)
  })

  it("counts days as Date does", () => {
    for (let day = -800_000; day < 800_000; day += 97) {
      const { year, month, day: dayOfMonth } = dateOf(day)
      const date = new Date(day * DAY)
      assert.deepStrictEqual(
        [year, month, dayOfMonth],
        [date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate()]
      )
      assert.strictEqual(dayOf(year, month, dayOfMonth), day)
    }
  })
})
