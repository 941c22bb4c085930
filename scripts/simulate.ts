import { parseArgs } from "node:util"
import { large, small } from "../tests/simulation/Scenario.ts"
import { run } from "../tests/simulation/World.ts"
import { excerpt } from "../tests/simulation/worlds.ts"

/** Runs simulated worlds: `--worlds N --seed S`, `--large` for more of everything, `--trace` for all that happens. */
const { values } = parseArgs({
  options: {
    worlds: { type: "string", default: "1000" },
    seed: { type: "string", default: "1" },
    large: { type: "boolean", default: false },
    trace: { type: "boolean", default: false }
  }
})
const worlds = Number(values.worlds)
const first = Number(values.seed)
const size = values.large ? large : small

let done = 0
let runs = 0
let faults = 0
let seconds = 0
let broken = 0
const started = performance.now()
for (let seed = first; seed < first + worlds; seed++) {
  const outcome = run(seed, size)
  done++
  runs += outcome.runs
  faults += outcome.faults
  seconds += outcome.seconds
  if (values.trace) process.stdout.write(`${outcome.trace.join("\n")}\n`)
  if (outcome.violations.length === 0) continue
  broken++
  process.stdout.write(`seed ${seed}: ${outcome.violations.slice(0, 5).join("; ")}\n`)
  if (!values.trace) process.stdout.write(`${excerpt(outcome.trace)}\n`)
  if (broken >= 10) break
}
const took = (performance.now() - started) / 1000
process.stdout.write(
  `${done} worlds in ${took.toFixed(1)} s (${(done / took).toFixed(0)} a second): ${runs} runs, ${faults} faults, ` +
    `${(seconds / 3600).toFixed(1)} virtual hours, ${broken} broken\n`
)
process.exitCode = broken > 0 ? 1 : 0
