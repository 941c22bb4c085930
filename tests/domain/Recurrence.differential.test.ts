import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "fast-check"
import { zoneNames } from "../support/oracle/anchors.ts"
import { cronCases } from "../support/oracle/CronArbitrary.ts"
import {
  cronDifference,
  cronRefused,
  describeCase,
  describeCron,
  recurrenceDifference,
  ruleRefused
} from "../support/oracle/differences.ts"
import type { Outcome } from "../support/oracle/differences.ts"
import { malformedCrons, malformedRules } from "../support/oracle/malformed.ts"
import { recurrenceCases } from "../support/oracle/RecurrenceArbitrary.ts"
import { nodeIsOlderSince, offsetByIntl, offsetByTable, zoneModel } from "../support/oracle/ZoneModel.ts"

/** How many recurrence expressions are compared, and twice as many cron expressions: `DIFFERENTIAL_RUNS`. */
const RUNS = Number(process.env["DIFFERENTIAL_RUNS"] ?? 2500)
const CRON_RUNS = RUNS * 2

/** The same cases at every run, unless `DIFFERENTIAL_SEED` says otherwise. */
const SEED = Number(process.env["DIFFERENTIAL_SEED"] ?? 5545)

/** Wall time, in milliseconds, on a host that is busy with other tests. */
const TIMEOUT = Math.max(240_000, RUNS * 100)

/** Lets the test runner speak with its worker, which it gives up after a minute of silence. */
const breathe = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Every case of an arbitrary must end without a problem; what became of them is printed and returned. */
const check = async <A>(
  name: string,
  cases: FastCheck.Arbitrary<A>,
  runs: number,
  difference: (item: A) => Outcome,
  words: (item: A) => string
) => {
  const tally = { runs: 0, compared: 0, same: 0, never_fires: 0, count_too_large: 0, different: 0 }
  const property = FastCheck.asyncProperty(cases, async (item) => {
    if (tally.runs % 50 === 0) await breathe()
    const outcome = difference(item)
    tally.runs += 1
    tally.compared += outcome.compared
    tally[outcome.kind] += 1
    assert.isNull(outcome.problem, `${words(item)}\n`)
  })
  await FastCheck.assert(property, { seed: SEED, numRuns: runs })
  console.info(name, tally)
  return tally
}

describe("against an oracle that tries every second", () => {
  it(
    "recurrence sets fire when the definitions of RFC 5545 say so",
    async () => {
      const tally = await check("recurrence sets", recurrenceCases, RUNS, recurrenceDifference, describeCase)
      assert.isAbove(tally.same, RUNS * 0.75)
      assert.isAbove(tally.compared, RUNS * 5)
      assert.isBelow(tally.count_too_large, RUNS * 0.01)
    },
    TIMEOUT
  )

  it(
    "cron expressions fire at the real minutes that match",
    async () => {
      const tally = await check("cron expressions", cronCases, CRON_RUNS, cronDifference, describeCron)
      assert.isAbove(tally.same, CRON_RUNS * 0.9)
      assert.isAbove(tally.compared, CRON_RUNS * 8)
    },
    TIMEOUT
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
      const weeks = Array.from(
        { length: Math.floor((end - from) / 604_800_000) },
        (_, week) => from + week * 604_800_000
      )
      for (const at of [...weeks, ...changes.flatMap((change) => [change.at - 1000, change.at])]) {
        assert.strictEqual(offsetByIntl(name, at), offsetByTable(name, at), `${name} ${new Date(at).toISOString()}`)
      }
    }
  })
})
