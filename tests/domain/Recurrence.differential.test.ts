import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "fast-check"
import { cronCases } from "../support/oracle/CronArbitrary.ts"
import { cronDifference, describeCase, describeCron, recurrenceDifference } from "../support/oracle/differences.ts"
import type { Outcome } from "../support/oracle/differences.ts"
import { recurrenceCases } from "../support/oracle/RecurrenceArbitrary.ts"
import { malformedCrons, malformedRules } from "../support/oracle/malformed.ts"
import { cronRefused, ruleRefused } from "../support/oracle/differences.ts"
import { nodeIsOlderSince, offsetByIntl, offsetByTable, zoneModel } from "../support/oracle/ZoneModel.ts"
import { zoneNames } from "../support/oracle/anchors.ts"

/** How many recurrence expressions are compared, and as many cron expressions: `DIFFERENTIAL_RUNS`. */
const RUNS = Number(process.env["DIFFERENTIAL_RUNS"] ?? 3000)

/** The same cases at every run, unless `DIFFERENTIAL_SEED` says otherwise. */
const SEED = Number(process.env["DIFFERENTIAL_SEED"] ?? 5545)

const MILLISECONDS_PER_CASE = 40

/** Every case of an arbitrary must end without a problem; what became of them is printed and returned. */
const check = <A>(
  name: string,
  cases: FastCheck.Arbitrary<A>,
  difference: (item: A) => Outcome,
  words: (item: A) => string
) => {
  const tally = { runs: 0, compared: 0, same: 0, never_fires: 0, count_too_large: 0, different: 0 }
  const property = FastCheck.property(cases, (item) => {
    const outcome = difference(item)
    tally.runs += 1
    tally.compared += outcome.compared
    tally[outcome.kind] += 1
    assert.isNull(outcome.problem, `${words(item)}\n`)
  })
  FastCheck.assert(property, { seed: SEED, numRuns: RUNS })
  console.info(name, tally)
  return tally
}

describe("against an oracle that tries every second", () => {
  it(
    "recurrence sets fire when the definitions of RFC 5545 say so",
    () => {
      const tally = check("recurrence sets", recurrenceCases, recurrenceDifference, describeCase)
      assert.isAbove(tally.same, RUNS * 0.75)
      assert.isAbove(tally.compared, RUNS * 5)
      assert.isBelow(tally.count_too_large, RUNS * 0.01)
    },
    Math.max(30_000, RUNS * MILLISECONDS_PER_CASE)
  )

  it(
    "cron expressions fire at the real minutes that match",
    () => {
      const tally = check("cron expressions", cronCases, cronDifference, describeCron)
      assert.isAbove(tally.same, RUNS * 0.9)
      assert.isAbove(tally.compared, RUNS * 8)
    },
    Math.max(30_000, RUNS * MILLISECONDS_PER_CASE)
  )

  it("rules with one fault are refused as invalid, not as never firing", () => {
    FastCheck.assert(
      FastCheck.property(malformedRules, (text) => assert.isTrue(ruleRefused(text), text)),
      { seed: SEED, numRuns: 1000 }
    )
  })

  it("cron expressions with one fault are refused as invalid", () => {
    FastCheck.assert(
      FastCheck.property(malformedCrons, (text) => assert.isTrue(cronRefused(text), text)),
      { seed: SEED, numRuns: 1000 }
    )
  })
})

describe("the oracle's zones", () => {
  it("Intl and the packed table agree wherever Node's data is not older", () => {
    const [from, to] = [Date.UTC(1985, 0, 1), Date.UTC(2040, 0, 1)]
    for (const name of zoneNames) {
      const end = Math.min(to, nodeIsOlderSince[name] ?? to)
      const changes = zoneModel(name).changes(from, end - 1)
      const weeks = Array.from({ length: Math.floor((end - from) / 604_800_000) }, (_, week) => from + week * 604_800_000)
      for (const at of [...weeks, ...changes.flatMap((change) => [change.at - 1000, change.at])]) {
        assert.strictEqual(offsetByIntl(name, at), offsetByTable(name, at), `${name} ${new Date(at).toISOString()}`)
      }
    }
  })
})
