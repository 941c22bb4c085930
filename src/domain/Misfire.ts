import type { MisfirePolicy } from "./Task.ts"
import type { Timeline } from "./Timeline.ts"

/** Most late occurrences that `fire_all` fires, the newest; and most that one decision fires at all. */
export const mostFires = 1000
/** Skipped occurrences are counted exactly up to here. */
export const mostCounted = 100_000

/** What is asked: all instants in epoch milliseconds. */
export interface Owed {
  readonly timeline: Timeline
  /** The first occurrence that is not decided yet; null when there is none. */
  readonly from: number | null
  readonly now: number
  readonly policy: MisfirePolicy
  readonly graceSeconds: number
  /** When an occurrence is due, given the one after it. */
  readonly dueAt: (scheduledFor: number, following: number | null) => number
}

/** An occurrence that fires; `late` when its grace was over. */
export interface Fire {
  readonly scheduledFor: number
  readonly dueAt: number
  readonly late: boolean
}

/** A series of occurrences that does not fire; `count` is null past `mostCounted`. */
export interface Series {
  readonly from: number
  readonly to: number
  readonly count: number | null
}

/** What is owed, oldest first, and the first occurrence that is still to come. */
export interface Decided {
  readonly fires: ReadonlyArray<Fire>
  readonly skipped: Series | null
  readonly next: number | null
  readonly nextDueAt: number | null
}

/**
 * What becomes of the occurrences that are due: the one function for every way back to active, be it downtime, a pause, a
 * resume or an edit. Within the grace an occurrence simply fires. Late ones: `fire_once` lets one within the grace stand for
 * them, else fires the latest; `fire_all` fires the newest `mostFires`; `skip` fires none.
 */
export const decide = (owed: Owed): Decided => {
  const walk = walker(owed)
  const late = lateOnes(owed, walk)
  const fresh: Array<Fire> = []
  let at = late.next
  let due = at === null ? null : walk.due(at)
  while (at !== null && due !== null && due <= owed.now && fresh.length < mostFires) {
    fresh.push({ scheduledFor: at, dueAt: due, late: false })
    at = walk.following(at)
    due = at === null ? null : walk.due(at)
  }
  const made = lateFires(owed, late, fresh.length > 0)
  return { fires: [...made.fires, ...fresh], skipped: made.skipped, next: at, nextDueAt: due }
}

interface Walker {
  readonly following: (at: number) => number | null
  readonly due: (at: number) => number
}

const walker = ({ dueAt, timeline }: Owed): Walker => {
  // The due instant needs the occurrence after it, which the walk asks for next: one look-up serves both.
  let known: readonly [number, number | null] | undefined
  const following = (at: number): number | null => {
    if (known?.[0] !== at) known = [at, timeline.next(at)]
    return known[1]
  }
  return { following, due: (at) => dueAt(at, following(at)) }
}

interface Late {
  readonly first: number | null
  readonly last: number | null
  readonly count: number | null
  readonly next: number | null
}

const lateOnes = (owed: Owed, walk: Walker): Late => {
  const graceFrom = owed.now - owed.graceSeconds * 1000
  let count = 0
  let last: number | null = null
  let at = owed.from
  while (at !== null && walk.due(at) < graceFrom) {
    if (count === mostCounted + mostFires) return farBehind(owed, walk, graceFrom)
    count++
    last = at
    at = walk.following(at)
  }
  return { first: count === 0 ? null : owed.from, last, count, next: at }
}

/** Past what is counted, the walk goes on near the end of the late ones. */
const farBehind = (owed: Owed, walk: Walker, graceFrom: number): Late => {
  // Of two in the window the first is late for certain: it is due by the time of the second.
  let at = firstOfWindow(owed, graceFrom, 2)
  let last: number | null = null
  while (at !== null && walk.due(at) < graceFrom) {
    last = at
    at = walk.following(at)
  }
  return { first: owed.from, last, count: null, next: at }
}

const minute = 60_000

/**
 * Where a window that ends at `end` and holds `wanted` occurrences begins, to the minute; `from` where there are fewer. Windows
 * double until they hold enough, then narrow: a burst of seconds long ago must not be walked whole.
 */
const firstOfWindow = ({ from, timeline }: Owed, end: number, wanted: number): number | null => {
  if (from === null) return null
  const enough = (length: number): boolean => {
    let at = timeline.next(end - length)
    for (let found = 1; at !== null && at < end; found++, at = timeline.next(at)) if (found === wanted) return true
    return false
  }
  const whole = end - from
  let short = 0
  let length = minute
  while (length < whole && !enough(length)) {
    short = length
    length *= 2
  }
  length = Math.min(length, whole)
  while (length - short > minute) {
    const half = Math.floor((short + length) / 2)
    if (enough(half)) length = half
    else short = half
  }
  return length === whole ? from : timeline.next(end - length)
}

const lateFires = (owed: Owed, late: Late, freshFollow: boolean): Pick<Decided, "fires" | "skipped"> => {
  const { count, first, last } = late
  if (first === null || last === null) return { fires: [], skipped: null }
  const none = { fires: [], skipped: series(first, last, count) }
  if (owed.policy === "skip") return none
  if (owed.policy === "fire_once") {
    if (freshFollow) return none
    const walk = walker(owed)
    return split(owed, late, [{ scheduledFor: last, dueAt: walk.due(last), late: true }])
  }
  return split(owed, late, newest(owed, last))
}

const newest = (owed: Owed, last: number): ReadonlyArray<Fire> => {
  const walk = walker(owed)
  const fires: Array<Fire> = []
  let at = firstOfWindow(owed, last + 1, mostFires)
  while (at !== null && at <= last) {
    fires.push({ scheduledFor: at, dueAt: walk.due(at), late: true })
    at = walk.following(at)
  }
  return fires.slice(-mostFires)
}

/** The late ones before the first that fires are skipped. */
const split = (owed: Owed, { count, first }: Late, fires: ReadonlyArray<Fire>): Pick<Decided, "fires" | "skipped"> => {
  const until = fires[0]?.scheduledFor
  if (first === null || until === undefined || until === first) return { fires, skipped: null }
  return {
    fires,
    skipped: series(first, lastBefore(owed, until), count === null ? null : count - fires.length)
  }
}

const series = (from: number, to: number, count: number | null): Series => ({
  from,
  to,
  count: count !== null && count > mostCounted ? null : count
})

const lastBefore = (owed: Owed, until: number): number => {
  let at = firstOfWindow(owed, until, 1)
  let last = until
  while (at !== null && at < until) {
    last = at
    at = owed.timeline.next(at)
  }
  return last
}
