import { Effect } from "effect"

/** Milliseconds of computing after which all else that the process has to do goes first. */
const longestHold = 10

/** Lets input and output go first: `Effect.yieldNow` lets other fibers, and those alone. */
export const breathe: Effect.Effect<void> = Effect.async<void>((resume) => {
  const next = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(next))
})

/** As `Effect.forEach`, one after the other, for what takes its time to compute: the event loop is not held meanwhile. */
export const forEach = <Of, E, R>(
  all: ReadonlyArray<Of>,
  does: (one: Of) => Effect.Effect<unknown, E, R>
): Effect.Effect<void, E, R> =>
  Effect.gen(function* () {
    let since = performance.now()
    for (const one of all) {
      yield* does(one)
      if (performance.now() - since < longestHold) continue
      yield* breathe
      since = performance.now()
    }
  })

/** As `Array.filter`, likewise. */
export const filter = <Of>(all: ReadonlyArray<Of>, takes: (one: Of) => boolean): Effect.Effect<ReadonlyArray<Of>> => {
  const taken: Array<Of> = []
  const look = (one: Of) => Effect.sync(() => (takes(one) ? taken.push(one) : 0))
  return Effect.as(forEach(all, look), taken)
}
