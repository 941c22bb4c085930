import { describe, it } from "@effect/vitest"
import { large } from "./Scenario.ts"
import { surviveWorlds } from "./worlds.ts"

describe("the simulation, with more of everything and for minutes", () => {
  it("holds every invariant in large worlds", { timeout: 180_000 }, async () => {
    const worlds = await surviveWorlds(1, large, 10_000, 5)
    process.stdout.write(`${worlds} large worlds\n`)
  })
})
