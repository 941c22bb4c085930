import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Either } from "effect"
import * as Misfire from "../../src/domain/Misfire.ts"
import { compile, dueAt } from "../../src/domain/ScheduleSpec.ts"
import type { MisfirePolicy } from "../../src/domain/Task.ts"
import type { Timeline } from "../../src/domain/Timeline.ts"
import { listed, pickMisfires, spaced } from "./dueModel.ts"

const minute = 60_000
const day = 1440 * minute
const now = Date.UTC(2026, 2, 2, 9)
const policies = ["fire_once", "fire_all", "skip"] as const

const everyMinute: Timeline = { next: (after) => (Math.floor(after / minute) + 1) * minute }
const everySecond: Timeline = { next: (after) => (Math.floor(after / 1000) + 1) * 1000 }

const decide = (more: Partial<Misfire.Owed>) =>
  Misfire.decide({
    timeline: everyMinute,
    from: now,
    now,
    policy: "fire_once",
    graceSeconds: 60,
    dueAt: (at) => at,
    ...more
  })

const short = ({ fires, next, skipped }: Misfire.Decided) => ({
  fires: fires.map(({ late, scheduledFor }) => `${(scheduledFor - now) / minute}${late ? " late" : ""}`),
  skipped: skipped === null ? null : [(skipped.from - now) / minute, (skipped.to - now) / minute, skipped.count],
  next: next === null ? null : (next - now) / minute
})

describe("Misfire.decide", () => {
  const table: ReadonlyArray<
    readonly [string, MisfirePolicy, number, number, Array<string>, Array<number | null> | null]
  > = [
    // what, policy, grace in seconds, first undecided in minutes, fires, skipped
    ["on time", "fire_once", 60, 0, ["0"], null],
    ["on time", "skip", 0, 0, ["0"], null],
    ["the end of the grace is within it", "skip", 60, -1, ["-1", "0"], null],
    ["one within the grace stands for the late", "fire_once", 60, -4, ["-1", "0"], [-4, -2, 3]],
    ["a long grace fires each", "fire_once", 300, -4, ["-4", "-3", "-2", "-1", "0"], null],
    ["all, oldest first", "fire_all", 60, -3, ["-3 late", "-2 late", "-1", "0"], null],
    ["none of the late", "skip", 60, -4, ["-1", "0"], [-4, -2, 3]]
  ]
  for (const [what, policy, graceSeconds, from, fires, skipped] of table) {
    it(`${policy}, grace ${graceSeconds} s, owed since ${from} min: ${what}`, () => {
      const decided = decide({ policy, graceSeconds, from: now + from * minute })
      assert.deepStrictEqual(short(decided), { fires, skipped, next: 1 })
      assert.strictEqual(decided.nextDueAt, now + minute)
    })
  }

  it("fire_once fires the latest, late, where none is within the grace", () => {
    const decided = decide({ now: now + 30_000, graceSeconds: 10, from: now - 3 * minute })
    assert.deepStrictEqual(short(decided), { fires: ["0 late"], skipped: [-3, -1, 3], next: 1 })
  })

  it("decides nothing where nothing is due, and foresees the next", () => {
    assert.deepStrictEqual(short(decide({ from: now + minute })), { fires: [], skipped: null, next: 1 })
    assert.deepStrictEqual(decide({ from: null }), { fires: [], skipped: null, next: null, nextDueAt: null })
  })

  it("an occurrence whose jitter lies ahead is not due yet, and lateness counts from its due instant", () => {
    const spread = (at: number) => at + 40_000
    const ahead = decide({ dueAt: spread, from: now })
    assert.deepStrictEqual(short(ahead), { fires: [], skipped: null, next: 0 })
    assert.strictEqual(ahead.nextDueAt, now + 40_000)
    assert.deepStrictEqual(short(decide({ dueAt: spread, from: now - minute, graceSeconds: 30 })).fires, ["-1"])
    assert.deepStrictEqual(short(decide({ dueAt: spread, from: now - minute, graceSeconds: 19 })).fires, ["-1 late"])
  })

  it("fire_all fires the newest thousand of the late and counts the others", () => {
    const decided = decide({ policy: "fire_all", graceSeconds: 0, from: now - 1500 * minute })
    assert.strictEqual(decided.fires.length, 1001)
    assert.strictEqual(decided.fires[0]?.scheduledFor, now - 1000 * minute)
    assert.isTrue(decided.fires.slice(0, 1000).every(({ late }) => late))
    assert.deepStrictEqual(short(decided).skipped, [-1500, -1001, 500])
  })

  it("counts exactly up to 100,000, and no further", () => {
    const skipped = (policy: MisfirePolicy, late: number) =>
      short(decide({ policy, graceSeconds: 0, now: now + 1, from: now - (late - 1) * minute })).skipped
    assert.deepStrictEqual(skipped("skip", 100_000), [-99_999, 0, 100_000])
    assert.deepStrictEqual(skipped("skip", 100_001), [-100_000, 0, null])
    assert.deepStrictEqual(skipped("fire_once", 100_001), [-100_000, -1, 100_000])
    assert.deepStrictEqual(skipped("fire_once", 100_002), [-100_001, -1, null])
    assert.deepStrictEqual(skipped("fire_all", 101_000), [-100_999, -1000, 100_000])
    assert.deepStrictEqual(skipped("fire_all", 101_001), [-101_000, -1000, null])
    assert.deepStrictEqual(skipped("skip", 5_000_000), [-4_999_999, 0, null])
  })

  it("loses nothing past what it counts where the newest of the late is not due yet", () => {
    const decided = decide({
      policy: "skip",
      graceSeconds: 0,
      now: now + 30_000,
      from: now - 200_000 * minute,
      dueAt: (at, following) => Math.min(at + 45_000, following ?? Infinity)
    })
    assert.deepStrictEqual(short(decided), { fires: [], skipped: [-200_000, -1, null], next: 0 })
  })

  it("a due instant at the next occurrence is late like any other", () => {
    const decided = decide({ graceSeconds: 0, from: now - 3 * minute, dueAt: (_, following) => following ?? Infinity })
    assert.deepStrictEqual(short(decided), { fires: ["-1"], skipped: [-3, -2, 2], next: 0 })
  })

  it("bursts far back cost no more than what is near", () => {
    // A second each of February; every other month nothing.
    const february: Timeline = {
      next: (after) => {
        const at = everySecond.next(after) ?? 0
        const year = new Date(at).getUTCFullYear()
        if (at < Date.UTC(year, 1, 1)) return Date.UTC(year, 1, 1)
        return at < Date.UTC(year, 2, 1) ? at : Date.UTC(year + 1, 1, 1)
      }
    }
    let asked = 0
    const timeline = { next: (after: number) => (asked++, february.next(after)) }
    const decided = decide({ timeline, policy: "fire_all", now: Date.UTC(2026, 2, 31), from: Date.UTC(2026, 1, 1) })
    assert.strictEqual(decided.fires.length, 1000)
    assert.strictEqual(decided.fires.at(-1)?.scheduledFor, Date.UTC(2026, 2, 1) - 1000)
    assert.isBelow(asked, 200_000)
  })

  it("a second each over a year of downtime is decided within 300 ms of processor time", () => {
    for (const [kind, expr] of [
      ["cron", "* * * * * *"],
      ["rrule", "FREQ=SECONDLY"]
    ] as const) {
      const timeline = Either.getOrThrow(
        compile({ kind, expr, timezone: "Europe/Chisinau", dtstart: null, createdAt: now - 366 * day })
      )
      for (const policy of policies) {
        const measured = [1, 2].map(() => {
          const before = process.cpuUsage()
          const decided = decide({
            timeline,
            policy,
            from: timeline.next(now - 365 * day),
            dueAt: (at, following) => dueAt("task", at, following, 30)
          })
          const { system, user } = process.cpuUsage(before)
          assert.strictEqual(decided.skipped?.count, null)
          assert.isAbove(decided.fires.length, 30)
          return (user + system) / 1000
        })
        assert.isBelow(Math.min(...measured), 300, `${kind} ${policy}`)
      }
    }
  })
})

describe("Misfire.decide against a model that lists every occurrence", () => {
  const gaps = fc.array(fc.oneof(fc.constantFrom(1000, minute, day), fc.integer({ min: 1, max: 10 * minute })), {
    minLength: 1,
    maxLength: 60
  })
  const cases = fc.record({
    gaps,
    nowAt: fc.double({ min: 0, max: 1.2, noNaN: true }),
    policy: fc.constantFrom(...policies),
    graceSeconds: fc.constantFrom(0, 1, 60, 600, 86_400),
    jitterSeconds: fc.constantFrom(0, 0, 30, 86_400)
  })
  it("fires, skips, counts and foresees the same", () => {
    fc.assert(
      fc.property(cases, ({ gaps, graceSeconds, jitterSeconds, nowAt, policy }) => {
        const all = spaced(now, gaps)
        const span = (all.at(-1) ?? now) - now
        const at = now + Math.floor(span * nowAt)
        const due = (occurrence: number, following: number | null) =>
          dueAt("a task", occurrence, following, jitterSeconds)
        const owed = {
          timeline: listed(all),
          from: all[0] ?? null,
          now: at,
          policy,
          graceSeconds,
          dueAt: due
        }
        assert.deepStrictEqual(Misfire.decide(owed), pickMisfires(all, owed))
      }),
      { numRuns: 1000 }
    )
  })

  it("and so with thousands of occurrences", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 900, max: 3000 }),
        fc.constantFrom(...policies),
        fc.constantFrom(0, 1, 3600),
        fc.integer({ min: 0, max: 1 }),
        (many, policy, graceSeconds, far) => {
          const all = Array.from({ length: many }, (_, i) => now + i * 7000 + (i > many / 2 ? far * day : 0))
          const owed = {
            timeline: listed(all),
            from: all[0] ?? null,
            now: (all.at(-2) ?? now) + 3,
            policy,
            graceSeconds,
            dueAt: (at: number) => at
          }
          assert.deepStrictEqual(Misfire.decide(owed), pickMisfires(all, owed))
        }
      ),
      { numRuns: 60 }
    )
  })
})
