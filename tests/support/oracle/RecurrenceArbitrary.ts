import * as FastCheck from "fast-check"
import { changesOf, zoneNames } from "./anchors.ts"
import { firstFirings } from "./RecurrenceOracle.ts"
import type { DateTime, SetModel } from "./RecurrenceOracle.ts"
import { atLeast, DAY, frequencies, MINUTE, SECOND, weekdays } from "./RuleModel.ts"
import type { Frequency, RuleModel, WeekdayNumber } from "./RuleModel.ts"
import { zoneModel } from "./ZoneModel.ts"

/** A recurrence expression as text and as model, with instants to ask from. */
export interface RecurrenceCase {
  readonly text: string
  /** The field `dtstart`, local; null when it is left out. */
  readonly field: number | null
  readonly set: SetModel
  readonly after: number
}

/** A place in time near a change of the zone's clock: which change, and how far from it. */
interface Near {
  readonly change: number
  readonly days: number
  readonly quarters: number
  readonly seconds: number
}

const near = (days: FastCheck.Arbitrary<number>): FastCheck.Arbitrary<Near> =>
  FastCheck.record({
    change: FastCheck.nat(1000),
    days: FastCheck.oneof(FastCheck.constant(0), FastCheck.integer({ min: -3, max: 3 }), days),
    quarters: FastCheck.integer({ min: -10, max: 12 }),
    seconds: FastCheck.oneof({ arbitrary: FastCheck.constant(0), weight: 6 }, FastCheck.constantFrom(1, 30, 59))
  })

const distance = ({ days, quarters, seconds }: Near): number => days * DAY + quarters * 15 * MINUTE + seconds * SECOND

const instantNear = (zoneName: string, place: Near): number => changesOf(zoneName, place.change).at + distance(place)

const localNear = (zoneName: string, place: Near): number =>
  changesOf(zoneName, place.change).at + changesOf(zoneName, place.change).before + distance(place)

const list = <A>(item: FastCheck.Arbitrary<A>, maxLength: number): FastCheck.Arbitrary<ReadonlyArray<A>> =>
  FastCheck.oneof(
    { arbitrary: FastCheck.uniqueArray(item, { minLength: 1, maxLength: Math.min(3, maxLength) }), weight: 4 },
    FastCheck.array(item, { minLength: 1, maxLength })
  )

/** Present once in `rarity`. */
const rarely = <A>(rarity: number, item: FastCheck.Arbitrary<A>): FastCheck.Arbitrary<A | null> =>
  FastCheck.oneof({ arbitrary: FastCheck.constant(null), weight: rarity - 1 }, { arbitrary: item, weight: 1 })

const absent = FastCheck.constant(null)

const signed = (max: number, common: number): FastCheck.Arbitrary<number> =>
  FastCheck.oneof(
    FastCheck.integer({ min: 1, max: common }),
    FastCheck.integer({ min: -common, max: -1 }),
    FastCheck.integer({ min: -max, max }).filter((item) => item !== 0)
  )

const hours = FastCheck.oneof(FastCheck.constantFrom(0, 1, 2, 3, 23), FastCheck.integer({ min: 0, max: 23 }))
const sixtieths = FastCheck.oneof(FastCheck.constantFrom(0, 15, 30, 45, 59), FastCheck.integer({ min: 0, max: 59 }))

const weekdayNumbers = (freq: Frequency, withWeek: boolean): FastCheck.Arbitrary<WeekdayNumber> => {
  const weekday = FastCheck.integer({ min: 0, max: 6 })
  const plain = FastCheck.record({ ordinal: absent, weekday })
  if (!atLeast(freq, "MONTHLY") || withWeek) return plain
  const max = freq === "MONTHLY" ? 5 : 53
  return FastCheck.oneof(plain, FastCheck.record({ ordinal: signed(max, 5), weekday }))
}

/** Rules that are allowed: every part where its FREQ permits it. */
const rules: FastCheck.Arbitrary<RuleModel> = FastCheck.tuple(
  FastCheck.constantFrom(...frequencies),
  FastCheck.integer({ min: 0, max: 4 }).map((roll) => roll === 0)
)
  .chain(([freq, withWeek]) => {
    const yearly = freq === "YEARLY"
    const fine = !atLeast(freq, "DAILY")
    return FastCheck.record({
      freq: FastCheck.constant(freq),
      interval: FastCheck.oneof(
        { arbitrary: FastCheck.constant(1), weight: 4 },
        { arbitrary: FastCheck.integer({ min: 1, max: 6 }), weight: 3 },
        { arbitrary: FastCheck.integer({ min: 1, max: yearly ? 9 : 100 }), weight: 1 },
        { arbitrary: FastCheck.constantFrom(5, 7, 12, 15, 24, 30, 45, 60, 90), weight: fine ? 2 : 0 },
        { arbitrary: FastCheck.constantFrom(360, 1440, 3600, 5400, 7200, 86_400), weight: freq === "SECONDLY" ? 3 : 0 }
      ),
      count: rarely(4, FastCheck.integer({ min: 1, max: 20 })),
      until: absent,
      wkst: rarely(3, FastCheck.integer({ min: 0, max: 6 })),
      bymonth: rarely(5, list(FastCheck.integer({ min: 1, max: 12 }), 6)),
      byweekno: yearly && withWeek ? list(signed(53, 5), 6) : absent,
      byyearday: yearly || fine ? rarely(9, list(signed(366, 100), 12)) : absent,
      bymonthday: freq === "WEEKLY" ? absent : rarely(5, list(signed(31, 31), 6)),
      byday: rarely(3, list(weekdayNumbers(freq, yearly && withWeek), 5)),
      byhour: rarely(3, list(hours, 6)),
      byminute: rarely(3, list(sixtieths, 4)),
      bysecond: rarely(freq === "SECONDLY" ? 3 : 6, list(sixtieths, 3)),
      bysetpos: rarely(fine ? 8 : 4, list(fine ? FastCheck.constantFrom(1, -1, 1, -1, 1, -1, 2, -2, 366) : signed(366, 4), 3))
    })
  })
  .map((rule) => (onlyPositions(rule) ? { ...rule, bysetpos: null } : rule))

/** "BYSETPOS […] MUST only be used in conjunction with another BYxxx rule part." */
const onlyPositions = (rule: RuleModel): boolean =>
  [
    rule.bymonth,
    rule.byweekno,
    rule.byyearday,
    rule.bymonthday,
    rule.byday,
    rule.byhour,
    rule.byminute,
    rule.bysecond
  ].every((part) => part === null)

const two = (value: number): string => String(value).padStart(2, "0")

/** `YYYYMMDDTHHMMSS` of fake-UTC milliseconds, with a Z for an instant. */
export const dateTimeText = ({ at, utc }: DateTime): string => {
  const date = new Date(at)
  const day = `${date.getUTCFullYear()}${two(date.getUTCMonth() + 1)}${two(date.getUTCDate())}`
  return `${day}T${two(date.getUTCHours())}${two(date.getUTCMinutes())}${two(date.getUTCSeconds())}${utc ? "Z" : ""}`
}

/** The rule as RFC 5545 writes it. */
export const ruleText = (rule: RuleModel): string => {
  const days = rule.byday?.map(({ ordinal, weekday }) => `${ordinal ?? ""}${weekdays[weekday]}`) ?? null
  const parts: ReadonlyArray<readonly [string, unknown]> = [
    ["FREQ", rule.freq],
    ["INTERVAL", rule.interval === 1 ? null : rule.interval],
    ["COUNT", rule.count],
    ["UNTIL", rule.until === null ? null : dateTimeText(rule.until)],
    ["WKST", rule.wkst === null ? null : weekdays[rule.wkst]],
    ["BYMONTH", rule.bymonth],
    ["BYWEEKNO", rule.byweekno],
    ["BYYEARDAY", rule.byyearday],
    ["BYMONTHDAY", rule.bymonthday],
    ["BYDAY", days],
    ["BYHOUR", rule.byhour],
    ["BYMINUTE", rule.byminute],
    ["BYSECOND", rule.bysecond],
    ["BYSETPOS", rule.bysetpos]
  ]
  return parts.flatMap(([name, value]) => (value === null ? [] : [`${name}=${String(value)}`])).join(";")
}

/** A date removed: one of the rule's own firings (so that it has an effect), or a place near a change. */
interface Removal {
  readonly pick: number | null
  readonly place: Near
  readonly utc: boolean
}

const removals = FastCheck.record({
  pick: FastCheck.option(FastCheck.nat(8), { freq: 3, nil: null }),
  place: near(FastCheck.integer({ min: -30, max: 30 })),
  utc: FastCheck.boolean()
})

const additions = FastCheck.record({ place: near(FastCheck.integer({ min: -30, max: 30 })), utc: FastCheck.boolean() })

const some = <A>(item: FastCheck.Arbitrary<A>): FastCheck.Arbitrary<ReadonlyArray<A>> =>
  FastCheck.oneof(
    { arbitrary: FastCheck.constant([]), weight: 4 },
    { arbitrary: FastCheck.array(item, { minLength: 1, maxLength: 3 }), weight: 1 }
  )

/** How the start is given: by the field, by a line with TZID, without one, in UTC, or not at all. */
const startForms = ["field", "field", "field", "tzid", "floating", "utc", "none"] as const

const raw = FastCheck.record({
  zoneName: FastCheck.constantFrom(...zoneNames),
  rule: rules,
  form: FastCheck.constantFrom(...startForms),
  start: near(FastCheck.integer({ min: -800, max: 60 })),
  created: near(FastCheck.integer({ min: -10, max: 10 })),
  until: rarely(
    6,
    FastCheck.record({ place: near(FastCheck.integer({ min: -5, max: 500 })), utc: FastCheck.boolean() })
  ),
  rdates: some(additions),
  exdates: some(removals),
  after: FastCheck.oneof(
    { arbitrary: near(FastCheck.integer({ min: -100, max: 1200 })), weight: 8 },
    { arbitrary: near(FastCheck.integer({ min: 5000, max: 22_000 })), weight: 1 },
    { arbitrary: FastCheck.constant(null), weight: 4 }
  ),
  sameChange: FastCheck.boolean(),
  prefixed: FastCheck.boolean()
})

const build = (chosen: typeof raw extends FastCheck.Arbitrary<infer A> ? A : never): RecurrenceCase => {
  const { zoneName, form } = chosen
  const zone = zoneModel(zoneName)
  const asked = form === "none" ? chosen.created : chosen.start
  const placed = (place: Near): Near => (chosen.sameChange ? { ...place, change: asked.change } : place)
  const dateTime = (place: Near, utc: boolean): DateTime => ({
    at: utc ? instantNear(zoneName, placed(place)) : localNear(zoneName, placed(place)),
    utc
  })
  const utcStart = instantNear(zoneName, chosen.start)
  const dtstart = form === "utc" ? utcStart + zone.offsetAt(utcStart) : localNear(zoneName, chosen.start)
  const until =
    chosen.until === null || chosen.rule.count !== null ? null : dateTime(chosen.until.place, chosen.until.utc)
  const plain: SetModel = {
    rule: { ...chosen.rule, until },
    zone,
    dtstart: form === "none" ? null : dtstart,
    createdAt: instantNear(zoneName, chosen.created),
    rdates: chosen.rdates.map(({ place, utc }) => dateTime(place, utc)),
    exdates: []
  }
  const firings =
    chosen.exdates.length === 0 ? [] : firstFirings(plain, 9, plain.createdAt + 4000 * DAY, { left: 20_000 }).instants
  const exdates = chosen.exdates.map(({ pick, place, utc }) => {
    const at = pick === null ? undefined : firings[pick]
    if (at === undefined) return dateTime(place, utc)
    return { at: utc ? at : at + zone.offsetAt(at), utc }
  })
  const set = { ...plain, exdates }
  const line = {
    tzid: `DTSTART;TZID=${zoneName}:${dateTimeText({ at: dtstart, utc: false })}`,
    floating: `DTSTART:${dateTimeText({ at: dtstart, utc: false })}`,
    utc: `DTSTART:${dateTimeText({ at: utcStart, utc: true })}`,
    field: null,
    none: null
  }[form]
  const dates = (name: string, items: ReadonlyArray<DateTime>) => [
    ...items.filter(({ utc }) => utc).map((item) => `${name}:${dateTimeText(item)}`),
    ...(items.every(({ utc }) => utc)
      ? []
      : [
          `${name};TZID=${zoneName}:${items
            .filter(({ utc }) => !utc)
            .map(dateTimeText)
            .join(",")}`
        ])
  ]
  const lines = [line, null, ...dates("RDATE", set.rdates), ...dates("EXDATE", exdates)].filter((text) => text !== null)
  const written = ruleText(set.rule)
  return {
    text: lines.length === 0 && !chosen.prefixed ? written : [`RRULE:${written}`, ...lines].join("\n"),
    field: form === "field" ? dtstart : null,
    set,
    after: chosen.after === null ? -Infinity : instantNear(zoneName, placed(chosen.after))
  }
}

/** Recurrence expressions around the clock changes of many zones. */
export const recurrenceCases: FastCheck.Arbitrary<RecurrenceCase> = raw.map(build)
