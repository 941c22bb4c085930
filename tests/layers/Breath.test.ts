import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Breath from "../../src/layers/Breath.ts"

it.effect("a long selection is an array's filter, and lets input and output go first meanwhile", () =>
  Effect.gen(function* () {
    let others = 0
    const busy = (one: number) => {
      for (const end = performance.now() + 6; performance.now() < end;);
      if (one % 4 === 0) setImmediate(() => others++)
      return one % 3 === 0
    }
    const all = Array.from({ length: 20 }, (_, i) => i)
    assert.deepStrictEqual(
      yield* Breath.filter(all, busy),
      all.filter((one) => one % 3 === 0)
    )
    assert.isAtLeast(others, 3)
  })
)
