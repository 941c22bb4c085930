import { setFlagsFromString } from "node:v8"
import type { Size } from "./Scenario.ts"
import { run } from "./World.ts"

/** Events of a failing world that are shown. */
const told = 60

// Worlds are nothing but short-lived objects: with room for those a world takes half the time.
setFlagsFromString("--max-semi-space-size=64")
setFlagsFromString("--min-semi-space-size=16")

/** The events before the first violation. */
export const excerpt = (trace: ReadonlyArray<string>): string => {
  const at = trace.findIndex((line) => line.includes("VIOLATION"))
  return trace.slice(Math.max(0, at - told), at + 1).join("\n")
}

/**
 * Runs the worlds of the seeds from `first` on until so much time has passed, at least `least` of them. The first that breaks an
 * invariant fails the test with its seed and what happened before: `npm run simulate -- --seed N --worlds 1 --trace` tells all.
 */
export const surviveWorlds = async (first: number, size: Size, millis: number, least: number): Promise<number> => {
  const end = performance.now() + millis
  let seed = first
  for (; performance.now() < end || seed < first + least; seed++) {
    const { trace, violations } = run(seed, size)
    if (violations.length > 0) throw new Error(`seed ${seed}: ${violations.slice(0, 5).join("; ")}\n${excerpt(trace)}`)
    // The runner hears from its worker only between worlds.
    if (seed % 20 === 0) await new Promise((resume) => setImmediate(resume))
  }
  return seed - first
}
