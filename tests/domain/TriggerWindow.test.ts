import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { TriggerRule } from "../../src/domain/TriggerSpec.ts"
import { mostWhole, mostWholeBytes, take } from "../../src/domain/TriggerWindow.ts"
import type { Window } from "../../src/domain/TriggerWindow.ts"

/** The groups into which a rule parts events by their instants, as `take` says. */
const grouped = (rule: TriggerRule, instants: ReadonlyArray<number>) => {
  const groups: Array<Array<number>> = []
  let open: Window | null = null
  let group: Array<number> = []
  for (const at of instants) {
    const taken = take(rule, open, { at, bytes: 10, hops: 0 })
    if (taken.overdue) {
      groups.push(group)
      group = []
    }
    group.push(at)
    assert.strictEqual(taken.window.size, group.length)
    assert.isAtLeast(taken.window.closeAt, taken.window.lastAt)
    open = taken.full ? null : taken.window
    if (taken.full) {
      groups.push(group)
      group = []
    }
  }
  return group.length > 0 ? [...groups, group] : groups
}

/** The same by the words of the manual: an event ends the group before it when that was quiet, old or full by then. */
const modelled = ({ longest, most, quiet }: TriggerRule, instants: ReadonlyArray<number>) => {
  const groups: Array<Array<number>> = []
  for (const at of instants) {
    const last = groups.at(-1)
    const quietFor = at - (last?.at(-1) ?? -Infinity)
    const old = at - (last?.[0] ?? -Infinity)
    if (last === undefined || last.length === most || quietFor >= (quiet ?? Infinity) || old >= longest)
      groups.push([at])
    else last.push(at)
  }
  return groups
}

describe("TriggerWindow", () => {
  it("parts events as the model does", () => {
    const rule = fc.record({
      quiet: fc.option(fc.integer({ min: 1, max: 20 })),
      longest: fc.integer({ min: 1, max: 60 }),
      most: fc.integer({ min: 1, max: 6 }),
      key: fc.constant(null)
    })
    const gaps = fc.array(fc.integer({ min: 0, max: 25 }), { maxLength: 60 })
    fc.assert(
      fc.property(rule, gaps, (given, between) => {
        let at = 1000
        const instants = between.map((gap) => (at += gap))
        assert.deepStrictEqual(grouped(given, instants), modelled(given, instants))
      }),
      { numRuns: 2000 }
    )
  })

  it("keeps whole what is within the bounds, and nothing after the first that is not", () => {
    const rule = { quiet: null, longest: 1000, most: 10_000, key: null }
    const whole = (sizes: ReadonlyArray<number>) => {
      let open: Window | null = null
      return sizes.map((bytes) => {
        const taken = take(rule, open, { at: 1, bytes, hops: 0 })
        open = taken.window
        return taken.whole
      })
    }
    assert.deepStrictEqual(whole([2 * mostWholeBytes, 1]), [true, false])
    assert.deepStrictEqual(whole([mostWholeBytes - 1, 2, 1]), [true, false, false])
    const many = whole(Array.from({ length: mostWhole + 2 }, () => 1))
    assert.deepStrictEqual(many.slice(-3), [true, false, false])
  })

  it("goes by the longest chain that led to one of its events, and by the latest instant", () => {
    const rule = { quiet: 10, longest: 1000, most: 10, key: null }
    const first = take(rule, null, { at: 5, bytes: 1, hops: 7 }).window
    const { hops, lastAt } = take(rule, first, { at: 3, bytes: 1, hops: 2 }).window
    assert.deepStrictEqual({ hops, lastAt }, { hops: 7, lastAt: 5 })
  })
})
