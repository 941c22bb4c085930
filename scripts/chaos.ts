import { Effect } from "effect"
import { parseArgs } from "node:util"
import { lines } from "../tests/chaos/Report.ts"
import { round } from "../tests/chaos/Round.ts"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "0" },
    seconds: { type: "string", default: "0" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    /** Seconds of a worker's lease, from 6. */
    lease: { type: "string", default: "15" },
    /** Tells what happens, as it happens. */
    trace: { type: "boolean", default: false }
  }
})
const asked = Number(values.minutes) * 60 + Number(values.seconds)
const seconds = asked > 0 ? asked : 60
const seed = Number(values.seed)

process.stdout.write(`seed ${seed}, ${seconds} s\n`)
// What a signal interrupts ends its programs and servers before it goes.
const tell = (sentence: string) =>
  process.stdout.write(`${(performance.now() / 1000).toFixed(1).padStart(7)}  ${sentence.slice(0, 500)}\n`)
const options = { seed, seconds, leaseSeconds: Number(values.lease), ...(values.trace ? { tell } : {}) }
const fiber = Effect.runFork(round(options))
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => fiber.unsafeInterruptAsFork(fiber.id()))
fiber.addObserver((exit) => {
  if (exit._tag === "Success") process.stdout.write(`${lines(exit.value).join("\n")}\n`)
  else process.stderr.write(`the round broke off: ${String(exit.cause)}\n`)
  process.exitCode = exit._tag === "Success" && exit.value.violations.length === 0 ? 0 : 1
})
