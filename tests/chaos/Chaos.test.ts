import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { lines } from "./Report.ts"
import { round } from "./Round.ts"

describe("chaos", () => {
  it.live(
    "breaks no promise, whatever is killed, frozen, cut or emptied",
    () =>
      Effect.gen(function* () {
        const report = yield* round({ seed: 4, seconds: 30, leaseSeconds: 6 })
        assert.deepStrictEqual([...report.violations], [], lines(report).join("\n"))
        assert.isAbove(report.faults.size, 10)
        assert.isAbove(report.occurrences, 100)
        assert.isAbove(report.events, 10)
        assert.isAbove(report.calls, 50)
      }),
    400_000
  )
})
