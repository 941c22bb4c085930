import * as FastCheck from "fast-check"
import { atLeast, frequencies } from "./RuleModel.ts"
import type { Frequency, RuleModel, WeekdayNumber } from "./RuleModel.ts"

const list = <A>(item: FastCheck.Arbitrary<A>, maxLength: number): FastCheck.Arbitrary<ReadonlyArray<A>> =>
  FastCheck.oneof(
    { arbitrary: FastCheck.uniqueArray(item, { minLength: 1, maxLength: Math.min(3, maxLength) }), weight: 4 },
    FastCheck.array(item, { minLength: 1, maxLength })
  )

/** Present once in `rarity`, else null. */
export const rarely = <A>(rarity: number, item: FastCheck.Arbitrary<A>): FastCheck.Arbitrary<A | null> =>
  FastCheck.oneof({ arbitrary: FastCheck.constant(null), weight: rarity - 1 }, { arbitrary: item, weight: 1 })

const absent = FastCheck.constant(null)

const signed = (max: number, common: number): FastCheck.Arbitrary<number> =>
  FastCheck.oneof(
    { arbitrary: FastCheck.integer({ min: 1, max: common }), weight: 3 },
    { arbitrary: FastCheck.integer({ min: -common, max: -1 }), weight: 3 },
    { arbitrary: FastCheck.integer({ min: -max, max }).filter((item) => item !== 0), weight: 1 }
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

/** Rules that are allowed: every part where its FREQ permits it; without UNTIL. */
export const rules: FastCheck.Arbitrary<RuleModel> = FastCheck.tuple(
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
      bysetpos: rarely(
        fine ? 8 : 4,
        list(fine ? FastCheck.constantFrom(1, -1, 1, -1, 1, -1, 2, -2, 366) : signed(366, 3), 3)
      )
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
