import { assert, describe, it } from "@effect/vitest"
import fc from "fast-check"
import { dayOf, exhausted, isDay, matchesTool, summed } from "../../src/domain/Usage.ts"

const characters = fc.constantFrom("a", "b", ".")
const pattern = fc.string({ unit: fc.constantFrom("a", "b", ".", "*"), maxLength: 8 })

describe("usage of tools", () => {
  it("matches patterns as a regular expression does", () => {
    fc.assert(
      fc.property(pattern, fc.string({ unit: characters, maxLength: 10 }), (glob, tool) => {
        const model = new RegExp(`^${glob.replaceAll(".", "\\.").replaceAll("*", ".*")}$`)
        assert.strictEqual(matchesTool(glob, tool), model.test(tool))
      }),
      { numRuns: 2000 }
    )
  })

  it("takes no time for a pattern that makes regular expressions slow", () => {
    assert.isFalse(matchesTool("*a".repeat(100), `${"a".repeat(99)}${"b".repeat(100_000)}`))
  })

  it("exhausts a budget by what all tools of its pattern used", () => {
    const used = [
      { tool: "mail.send", calls: 2, seconds: 1.5, bytes: 100 },
      { tool: "mail.read", calls: 1, seconds: 0.5, bytes: 50 },
      { tool: "core.http", calls: 9, seconds: 9, bytes: 9000 }
    ]
    const limit = (budget: object) => exhausted([{ tool: "mail.*", ...budget }], used, "mail.send", 10)?.limit
    assert.isUndefined(limit({ calls_per_day: 4, seconds_per_day: 2.1, bytes_per_day: 160 }))
    assert.strictEqual(limit({ calls_per_day: 3 }), "calls")
    assert.strictEqual(limit({ seconds_per_day: 2 }), "seconds")
    assert.strictEqual(limit({ bytes_per_day: 159 }), "bytes")
    assert.isUndefined(exhausted([{ tool: "core.*", calls_per_day: 0 }], used, "mail.send", 10))
    assert.strictEqual(
      exhausted(
        [
          { tool: "*", calls_per_day: 100 },
          { tool: "mail.send", calls_per_day: 2 }
        ],
        used,
        "mail.send",
        10
      )?.budget.tool,
      "mail.send"
    )
  })

  it("is summed for each agent, day and tool", () => {
    const one = { agent_id: "a", day: "2026-03-02", tool: "t.a", calls: 1, seconds: 2, bytes: 3 }
    assert.deepStrictEqual(summed([one, { ...one, day: "2026-03-03" }, one, { ...one, agent_id: "b" }]), [
      { ...one, calls: 2, seconds: 4, bytes: 6 },
      { ...one, day: "2026-03-03" },
      { ...one, agent_id: "b" }
    ])
  })

  it("is told by days that there are", () => {
    assert.strictEqual(dayOf(Date.UTC(2026, 2, 2, 23, 59, 59, 999)), "2026-03-02")
    for (const good of ["1970-01-01", "2024-02-29", "9999-12-31"]) assert.isTrue(isDay(good), good)
    for (const bad of ["", "2026-02-30", "2026-3-2", "1969-12-31", "0000-00-00", "2026-03-02T00:00:00Z"])
      assert.isFalse(isDay(bad), bad)
  })
})
