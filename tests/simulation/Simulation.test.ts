import { assert, describe, it } from "@effect/vitest"
import { small } from "./Scenario.ts"
import { run } from "./World.ts"
import { surviveWorlds } from "./worlds.ts"

describe("the simulation", () => {
  it("tells the same story for the same seed", () => {
    for (let seed = 1; seed <= 10; seed++) assert.deepStrictEqual(run(seed, small).trace, run(seed, small).trace)
  })

  it("holds every invariant in small worlds", { timeout: 180_000 }, async () => {
    const worlds = await surviveWorlds(1, small, 8_000, 100)
    process.stdout.write(`${worlds} small worlds\n`)
  })
})
