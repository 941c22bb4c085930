import type * as Misfire from "../../src/domain/Misfire.ts"
import type { Timeline } from "../../src/domain/Timeline.ts"

/** A timeline of exactly these instants, in ascending order. */
export const listed = (all: ReadonlyArray<number>): Timeline => ({
  next: (after) => {
    let low = 0
    for (let high = all.length; low < high;) {
      const middle = (low + high) >> 1
      if ((all[middle] ?? Infinity) > after) high = middle
      else low = middle + 1
    }
    return all[low] ?? null
  }
})

/** Instants from `first` on, each a gap after the one before. */
export const spaced = (first: number, gaps: ReadonlyArray<number>): ReadonlyArray<number> => {
  let at = first
  return gaps.map((gap) => (at += gap))
}

/**
 * The misfire rules over the whole list of what is not decided yet, in the plainest way: what is due by now is either within
 * the grace and fires, or late and handled by the policy. At most a thousand of each kind fire at once.
 */
export const pickMisfires = (all: ReadonlyArray<number>, owed: Misfire.Owed): Misfire.Decided => {
  const known = all.map((at, i) => ({ at, due: owed.dueAt(at, all[i + 1] ?? null) }))
  const due = known.filter(({ due }) => due <= owed.now)
  const late = due.filter(({ due }) => owed.now - due > owed.graceSeconds * 1000)
  const fresh = due.slice(late.length, late.length + 1000)
  const fired =
    owed.policy === "fire_all"
      ? late.slice(-1000)
      : owed.policy === "fire_once" && fresh.length === 0
        ? late.slice(-1)
        : []
  const skipped = late.slice(0, late.length - fired.length)
  const next = known[late.length + fresh.length]
  const first = skipped[0]
  const last = skipped.at(-1)
  return {
    fires: [
      ...fired.map(({ at, due }) => ({ scheduledFor: at, dueAt: due, late: true })),
      ...fresh.map(({ at, due }) => ({ scheduledFor: at, dueAt: due, late: false }))
    ],
    skipped:
      first === undefined || last === undefined
        ? null
        : { from: first.at, to: last.at, count: skipped.length > 100_000 ? null : skipped.length },
    next: next?.at ?? null,
    nextDueAt: next?.due ?? null
  }
}
