import { parseArgs } from "node:util"
import { large, small } from "../tests/simulation/Scenario.ts"
import { run } from "../tests/simulation/World.ts"
import { excerpt } from "../tests/simulation/worlds.ts"

/** Runs every `step`-th world of a range of seeds, as `scripts/simulate.ts` asks, and tells it the sums. */
const { values } = parseArgs({
  options: {
    first: { type: "string", default: "1" },
    end: { type: "string", default: "1" },
    step: { type: "string", default: "1" },
    large: { type: "boolean", default: false },
    trace: { type: "boolean", default: false }
  }
})
const sums = { worlds: 0, runs: 0, faults: 0, seconds: 0, broken: 0 }
for (let seed = Number(values.first); seed < Number(values.end) && sums.broken < 10; seed += Number(values.step)) {
  const { faults, runs, seconds, trace, violations } = run(seed, values.large ? large : small)
  sums.worlds++
  sums.runs += runs
  sums.faults += faults
  sums.seconds += seconds
  if (values.trace) process.stdout.write(`${trace.join("\n")}\n`)
  if (violations.length === 0) continue
  sums.broken++
  process.stdout.write(`seed ${seed}: ${violations.slice(0, 5).join("; ")}\n`)
  if (!values.trace) process.stdout.write(`${excerpt(trace)}\n`)
}
process.send?.(sums)
