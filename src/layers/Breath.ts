import { Effect } from "effect"

/** Milliseconds of computing after which all else that the process has to do goes first. */
const longestHold = 10

/** Lets input and output go first: `Effect.yieldNow` lets other fibers, and those alone. */
export const breathe: Effect.Effect<void> = Effect.async<void>((resume) => {
  const next = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(next))
})

/** As `Array.filter`, for many elements or a test that takes its time: the event loop is not held meanwhile. */
export const filter = <Of>(all: ReadonlyArray<Of>, takes: (one: Of) => boolean): Effect.Effect<ReadonlyArray<Of>> =>
  Effect.gen(function* () {
    const taken: Array<Of> = []
    let since = performance.now()
    for (const one of all) {
      if (takes(one)) taken.push(one)
      if (performance.now() - since < longestHold) continue
      yield* breathe
      since = performance.now()
    }
    return taken
  })
