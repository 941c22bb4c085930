import { assert, describe, it } from "@effect/vitest"
import { Either, Schema } from "effect"
import * as TriggerSpec from "../../src/domain/TriggerSpec.ts"

const decode = Schema.decodeUnknownEither(TriggerSpec.TriggerSpec, { onExcessProperty: "error" })
const rule = (spec: unknown) => Either.getOrThrow(TriggerSpec.read(Either.getOrThrow(decode(spec))))

describe("TriggerSpec", () => {
  it("reads a debounce, ten times as long at most by default, and a batch", () => {
    assert.deepInclude(rule({ debounce_seconds: 5 }), { quiet: 5000, longest: 50_000, most: 10_000, key: null })
    assert.deepInclude(rule({ debounce_seconds: 5, debounce_max_seconds: 7 }), { quiet: 5000, longest: 7000 })
    assert.deepInclude(rule({ batch: { max_events: 3, max_seconds: 60 } }), { quiet: null, longest: 60_000, most: 3 })
    assert.isNotNull(rule({ debounce_seconds: 1, key: "${event.payload.id}" }).key)
  })

  it("takes one of the two, whole, within its bounds, and nothing else", () => {
    const batch = { max_events: 3, max_seconds: 60 }
    const wrong = [
      {},
      { key: "a" },
      { debounce_seconds: 5, batch },
      { debounce_max_seconds: 5 },
      { debounce_max_seconds: 5, batch },
      { debounce_seconds: 5, debounce_max_seconds: 4 },
      { debounce_seconds: 0 },
      { debounce_seconds: 1.5 },
      { debounce_seconds: 86_401 },
      { batch: { max_events: 3 } },
      { batch: { max_events: 0, max_seconds: 1 } },
      { batch: { max_events: 10_001, max_seconds: 1 } },
      { batch: { ...batch, key: "a" } },
      { debounce_seconds: 5, key: "" },
      { debounce_seconds: 5, quiet: 1 }
    ]
    for (const spec of wrong) assert.isTrue(Either.isLeft(decode(spec)), JSON.stringify(spec))
  })

  it("names the key that reads what is not there, or is no template", () => {
    const problem = (key: string) =>
      TriggerSpec.problemsOf({ debounce_seconds: 1, key }, "event", "/payload/trigger").map(({ path }) => path)
    for (const key of ["${params.a}", "${event.total}", "${event.payload.", "${steps.a}", "${now}", "${@}"])
      assert.deepStrictEqual(problem(key), ["/payload/trigger/key"], key)
    for (const key of ["plain", "${event.topic}:${event.payload.a.b}", "${event.payload || 'x'}"])
      assert.deepStrictEqual(problem(key), [], key)
    assert.deepStrictEqual(
      TriggerSpec.problemsOf({ debounce_seconds: 1 }, "cron", "/payload/trigger").map(({ path }) => path),
      ["/payload/trigger"]
    )
  })
})
