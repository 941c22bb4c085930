import * as FastCheck from "fast-check"
import { changesOf, zoneNames } from "./anchors.ts"
import { firstFirings, startOf } from "./RecurrenceOracle.ts"
import type { DateTime, SetModel } from "./RecurrenceOracle.ts"
import { rarely, rules } from "./RuleArbitrary.ts"
import { DAY, MINUTE, SECOND } from "./RuleModel.ts"
import { lineTexts, ruleText } from "./RuleText.ts"
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
    quarters: FastCheck.oneof(FastCheck.integer({ min: -4, max: 3 }), FastCheck.integer({ min: -10, max: 12 })),
    seconds: FastCheck.oneof({ arbitrary: FastCheck.constant(0), weight: 6 }, FastCheck.constantFrom(1, 30, 59))
  })

const distance = ({ days, quarters, seconds }: Near): number => days * DAY + quarters * 15 * MINUTE + seconds * SECOND

const instantNear = (zoneName: string, place: Near): number => changesOf(zoneName, place.change).at + distance(place)

const localNear = (zoneName: string, place: Near): number =>
  changesOf(zoneName, place.change).at + changesOf(zoneName, place.change).before + distance(place)

/** A date that is one of the rule's own firings (so that it has an effect), or near a change. */
const picks = FastCheck.record({
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
  until: rarely(4, picks),
  rdates: some(additions),
  exdates: some(picks),
  after: FastCheck.oneof(
    { arbitrary: near(FastCheck.integer({ min: -100, max: 1200 })), weight: 8 },
    { arbitrary: near(FastCheck.integer({ min: 5000, max: 22_000 })), weight: 1 },
    { arbitrary: FastCheck.constant(null), weight: 4 }
  ),
  sameChange: FastCheck.boolean(),
  prefixed: FastCheck.boolean()
})

type Pick = typeof picks extends FastCheck.Arbitrary<infer A> ? A : never

type Chosen = typeof raw extends FastCheck.Arbitrary<infer A> ? A : never

const build = (chosen: Chosen): RecurrenceCase => {
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
  const endless: SetModel = {
    rule: chosen.rule,
    zone,
    dtstart: form === "none" ? null : dtstart,
    createdAt: instantNear(zoneName, chosen.created),
    rdates: chosen.rdates.map(({ place, utc }) => dateTime(place, utc)),
    exdates: []
  }
  const picking = chosen.until !== null || chosen.exdates.length > 0
  const firings = picking ? firstFirings(endless, 9, startOf(endless) + 4000 * DAY, { left: 20_000 }).instants : []
  const picked = ({ pick, place, utc }: Pick): DateTime => {
    const at = pick === null ? undefined : firings[pick]
    if (at === undefined) return dateTime(place, utc)
    return { at: utc ? at : at + zone.offsetAt(at), utc }
  }
  const until = chosen.until === null || chosen.rule.count !== null ? null : picked(chosen.until)
  const exdates = chosen.exdates.map((item) => picked(item))
  const set = { ...endless, rule: { ...chosen.rule, until }, exdates }
  const startLine = {
    tzid: { at: dtstart, utc: false },
    floating: { at: dtstart, utc: false },
    utc: { at: utcStart, utc: true },
    field: null,
    none: null
  }[form]
  const lines = lineTexts(set, startLine, form === "tzid")
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
