import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Decision from "../../src/domain/Decision.ts"
import type * as Misfire from "../../src/domain/Misfire.ts"
import { OverlapPolicy } from "../../src/domain/Task.ts"
import { listed, pickMisfires, spaced } from "./dueModel.ts"

const minute = 60_000
const base = Date.UTC(2026, 2, 2, 9)
const policies = ["fire_once", "fire_all", "skip"] as const

const free: Decision.Rules = {
  overlapPolicy: "allow",
  unfinished: false,
  dedupeWindowSeconds: 0,
  lastFiredFor: null,
  runsLeft: null
}

const minutes = (many: number) => Array.from({ length: many }, (_, i) => base + i * minute)

const owedOf = (all: ReadonlyArray<number>, more: Partial<Misfire.Owed> = {}): Misfire.Owed => ({
  timeline: listed(all),
  from: all[0] ?? null,
  now: all.at(-1) ?? base,
  policy: "fire_once",
  graceSeconds: 86_400,
  dueAt: (at) => at,
  ...more
})

/** Minutes since the first; a serial one is marked. */
const short = (decision: Decision.Decision) => ({
  fires: decision.fires.map(
    ({ scheduledFor, serial }) => `${(scheduledFor - base) / minute}${serial ? " serial" : ""}`
  ),
  skips: decision.skips.map(
    ({ count, from, reason, to }) => `${reason} ${(from - base) / minute}-${(to - base) / minute} (${count})`
  )
})

const decided = (many: number, rules: Partial<Decision.Rules>, more: Partial<Misfire.Owed> = {}) =>
  Decision.decide(owedOf(minutes(many), more), { ...free, ...rules }, "misfire")

describe("Decision.decide: overlap", () => {
  it("allow starts each", () => {
    assert.deepStrictEqual(short(decided(3, { unfinished: true })), { fires: ["0", "1", "2"], skips: [] })
  })
  it("skip skips while a run is unfinished, also one of the same moment", () => {
    const overlapPolicy = "skip" as const
    assert.deepStrictEqual(short(decided(3, { overlapPolicy, unfinished: true })), {
      fires: [],
      skips: ["overlap 0-2 (3)"]
    })
    assert.deepStrictEqual(short(decided(3, { overlapPolicy })), { fires: ["0"], skips: ["overlap 1-2 (2)"] })
  })
  it("queue lets each wait for those before it", () => {
    const overlapPolicy = "queue" as const
    assert.deepStrictEqual(short(decided(3, { overlapPolicy })), { fires: ["0", "1 serial", "2 serial"], skips: [] })
    assert.deepStrictEqual(short(decided(1, { overlapPolicy, unfinished: true })).fires, ["0 serial"])
  })
  it("cancel_running ends what is unfinished, and the last of several replaces the others", () => {
    const overlapPolicy = "cancel_running" as const
    const several = decided(3, { overlapPolicy, unfinished: true })
    assert.deepStrictEqual(short(several), { fires: ["2 serial"], skips: ["overlap 0-1 (2)"] })
    assert.isTrue(several.cancelUnfinished)
    assert.isFalse(decided(1, { overlapPolicy }).cancelUnfinished)
    assert.isFalse(
      decided(1, { overlapPolicy, unfinished: true, dedupeWindowSeconds: 60, lastFiredFor: base }).cancelUnfinished
    )
  })
})

describe("Decision.decide: dedupe window", () => {
  it("runs from the last that fired, its end excluded", () => {
    const rules = { dedupeWindowSeconds: 120, lastFiredFor: base - minute }
    assert.deepStrictEqual(short(decided(5, rules)), {
      fires: ["1", "3"],
      skips: ["dedupe 0-0 (1)", "dedupe 2-2 (1)", "dedupe 4-4 (1)"]
    })
  })
  it("says dedupe before overlap", () => {
    const rules = {
      dedupeWindowSeconds: 90,
      lastFiredFor: base - minute,
      overlapPolicy: "skip" as const,
      unfinished: true
    }
    assert.deepStrictEqual(short(decided(3, rules)).skips, ["dedupe 0-0 (1)", "overlap 1-2 (2)"])
  })
})

describe("Decision.decide: max_runs", () => {
  it("ends the schedule with the last run; what comes after does not exist", () => {
    const decision = decided(5, { runsLeft: 2 }, { now: base + 3 * minute })
    assert.deepStrictEqual(short(decision), { fires: ["0", "1"], skips: [] })
    assert.strictEqual(decision.next, null)
    assert.strictEqual(decision.nextDueAt, null)
  })
  it("counts what fires, not what is skipped", () => {
    const rules = { runsLeft: 2, dedupeWindowSeconds: 120 }
    assert.deepStrictEqual(short(decided(5, rules)), { fires: ["0", "2"], skips: ["dedupe 1-1 (1)"] })
    const replaced = decided(5, { runsLeft: 2, overlapPolicy: "cancel_running" }, { now: base + 3 * minute })
    assert.deepStrictEqual(short(replaced), { fires: ["3 serial"], skips: ["overlap 0-2 (3)"] })
    assert.strictEqual(replaced.next, base + 4 * minute)
  })
  it("with none left decides nothing, and is over", () => {
    const late = decided(5, { runsLeft: 0 }, { now: base + 100 * minute, graceSeconds: 0, policy: "skip" })
    assert.deepStrictEqual([short(late), late.next], [{ fires: [], skips: [] }, null])
    assert.strictEqual(decided(5, { runsLeft: 0 }, { now: base - 1 }).next, null)
  })
})

describe("Decision.decide: late ones", () => {
  it("bear the cause why they are late", () => {
    for (const cause of ["misfire", "paused", "edited"] as const) {
      const owed = owedOf(minutes(4), { graceSeconds: 0, policy: "skip", now: base + 3 * minute + 1 })
      assert.deepStrictEqual(short(Decision.decide(owed, free, cause)), { fires: [], skips: [`${cause} 0-3 (4)`] })
    }
  })
  it("obey overlap once they fire", () => {
    const late = { graceSeconds: 0, policy: "fire_all" as const, now: base + 3 * minute + 1 }
    assert.deepStrictEqual(short(decided(4, { overlapPolicy: "skip" }, late)), {
      fires: ["0"],
      skips: ["overlap 1-3 (3)"]
    })
    assert.deepStrictEqual(short(decided(4, { overlapPolicy: "queue" }, late)).fires, [
      "0",
      "1 serial",
      "2 serial",
      "3 serial"
    ])
  })
})

const rulesArbitrary = fc.record({
  overlapPolicy: fc.constantFrom(...OverlapPolicy.literals),
  unfinished: fc.boolean(),
  dedupeWindowSeconds: fc.constantFrom(0, 0, 60, 90, 3600),
  lastFiredFor: fc.option(fc.integer({ min: -90, max: 0 }).map((at) => base + at * minute)),
  runsLeft: fc.option(fc.integer({ min: 0, max: 20 }))
})

const scheduleArbitrary = fc
  .array(fc.oneof(fc.constant(minute), fc.integer({ min: 1, max: 90 * minute })), { minLength: 1, maxLength: 50 })
  .map((gaps) => spaced(base, gaps))

/** Where an occurrence is accounted for: by its fire, or by the reason of each series around it. */
const accountOf = (decision: Decision.Decision, at: number): ReadonlyArray<string> => [
  ...decision.fires.filter(({ scheduledFor }) => scheduledFor === at).map(() => "fired"),
  ...decision.skips.filter(({ from, to }) => from <= at && at <= to).map(({ reason }) => reason)
]

/** The rules one occurrence after the other, as if the clock stopped at each; none of the runs ends in between. */
const oneByOne = (fires: ReadonlyArray<Misfire.Fire>, rules: Decision.Rules): ReadonlyMap<number, string> => {
  const said = new Map<number, string>()
  const before = rules.lastFiredFor
  let last = before
  let running = rules.unfinished
  let left = rules.runsLeft ?? Infinity
  let standing: number | null = null
  for (const { scheduledFor } of fires) {
    if (left === 0) break
    if (rules.dedupeWindowSeconds > 0 && last !== null && scheduledFor - last < rules.dedupeWindowSeconds * 1000) {
      said.set(scheduledFor, "dedupe")
    } else if (rules.overlapPolicy === "skip" && running) {
      said.set(scheduledFor, "overlap")
    } else {
      if (rules.overlapPolicy === "cancel_running" && standing !== null) {
        said.set(standing, "overlap")
        left++
      }
      said.set(scheduledFor, "fired")
      left--
      standing = last = scheduledFor
      running = true
    }
  }
  return said
}

describe("Decision.decide against a model", () => {
  it("accounts for each occurrence through now exactly once, and for none beyond", () => {
    const cases = fc.tuple(
      scheduleArbitrary,
      rulesArbitrary,
      fc.constantFrom(...policies),
      fc.constantFrom(0, 60, 3600),
      fc.nat(110)
    )
    fc.assert(
      fc.property(cases, ([all, rules, policy, graceSeconds, percent]) => {
        const span = (all.at(-1) ?? base) - base
        const owed = owedOf(all, { policy, graceSeconds, now: base + Math.floor((span * percent) / 100) })
        const picked = pickMisfires(all, owed)
        const decision = Decision.decide(owed, rules, "misfire")
        const said = oneByOne(picked.fires, rules)
        const late = (at: number) =>
          rules.runsLeft !== 0 && picked.skipped !== null && picked.skipped.from <= at && at <= picked.skipped.to
        for (const at of all) {
          const expected = said.get(at) ?? (late(at) ? "misfire" : undefined)
          assert.deepStrictEqual(accountOf(decision, at), expected === undefined ? [] : [expected])
        }
        const counted = decision.skips.reduce((sum, { count }) => sum + (count ?? NaN), 0)
        const skipped = all.filter((at) => accountOf(decision, at).some((account) => account !== "fired"))
        assert.strictEqual(counted, skipped.length)
        for (const { scheduledFor } of decision.fires) assert.include(all, scheduledFor)
        for (const { from, to } of decision.skips) assert.includeMembers([...all], [from, to])
        assert.deepStrictEqual(
          decision.fires.map(({ scheduledFor }) => scheduledFor),
          all.filter((at) => said.get(at) === "fired")
        )
        const fired = [...said.values()].filter((account) => account === "fired").length
        const over = rules.runsLeft !== null && fired >= rules.runsLeft
        assert.strictEqual(decision.next, over ? null : picked.next)
      }),
      { numRuns: 1500 }
    )
  })

  it("comes to the same however time is split into ticks, when nothing is late", () => {
    const ticks = fc.array(fc.nat(100), { maxLength: 12 })
    const jitter = fc.constantFrom(0, 50)
    fc.assert(
      fc.property(
        scheduleArbitrary,
        rulesArbitrary,
        ticks,
        jitter,
        (all, { runsLeft, ...rules }, percents, percent) => {
          const end = (all.at(-1) ?? base) + 100 * minute
          const dueAt = (at: number, following: number | null) =>
            at + Math.floor((((following ?? end) - at) * percent) / 100)
          const counted = { ...rules, runsLeft: rules.overlapPolicy === "cancel_running" ? null : runsLeft }
          const whole = through([end], all, counted, dueAt)
          const split = through(
            [...percents.sort((a, b) => a - b).map((at) => base + Math.floor(((end - base) * at) / 100)), end],
            all,
            counted,
            dueAt
          )
          assert.deepStrictEqual(
            split.accounts.map(({ at }) => at),
            whole.accounts.map(({ at }) => at)
          )
          assert.strictEqual(split.lastFiredFor, whole.lastFiredFor)
          if (rules.overlapPolicy !== "cancel_running") assert.deepStrictEqual(split, whole)
        }
      ),
      { numRuns: 500 }
    )
  })
})

/** Decides tick after tick as the scheduler does: from the cursor on, with what was fired before; no run ends meanwhile. */
const through = (
  ticks: ReadonlyArray<number>,
  all: ReadonlyArray<number>,
  rules: Decision.Rules,
  dueAt: Misfire.Owed["dueAt"]
) => {
  let { lastFiredFor, runsLeft, unfinished } = rules
  let from = all[0] ?? null
  const accounts: Array<{ at: number; account: string }> = []
  for (const now of ticks) {
    const state = { ...rules, lastFiredFor, runsLeft, unfinished }
    const decision = Decision.decide(owedOf(all, { from, now, dueAt, graceSeconds: 1e9 }), state, "misfire")
    for (const at of all) for (const account of accountOf(decision, at)) accounts.push({ at, account })
    unfinished ||= decision.fires.length > 0
    lastFiredFor = decision.fires.at(-1)?.scheduledFor ?? lastFiredFor
    if (runsLeft !== null) runsLeft -= decision.fires.length
    from = decision.next
  }
  return { accounts, lastFiredFor }
}
