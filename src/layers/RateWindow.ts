import { windowSeconds } from "../domain/RateLimit.ts"

const length = windowSeconds * 1000

/** Counters that are kept at once; the one counted first is forgotten when there are more. */
const mostCounters = 50_000

interface Counter {
  /** What all processes counted, as far as it was told here. */
  known: number
  /** What was counted here since. */
  unsent: number
}

/** What one process counts in the present minute. All is forgotten at the next. */
export interface RateWindow {
  /** Counts one more, and answers how many there are. */
  readonly add: (key: string, now: number) => number
  /** How many there are. */
  readonly count: (key: string, now: number) => number
  /** How many all processes counted: what was counted here is part of it. */
  readonly learn: (key: string, now: number, total: number) => void
  /** What was counted here since the last call, and the start of its window (epoch milliseconds). */
  readonly unsent: (now: number) => { readonly window: number; readonly counts: ReadonlyMap<string, number> }
  /** What `unsent` gave has been told: `totals` are what all processes counted until then. */
  readonly told: (window: number, counts: ReadonlyMap<string, number>, totals: ReadonlyMap<string, number>) => void
}

/** Milliseconds until the next window. */
export const untilNext = (now: number): number => length - (now % length)

/** Counters of fixed windows of a minute, in memory. */
export const make = (): RateWindow => {
  let window = 0
  let counters = new Map<string, Counter>()
  const turn = (now: number) => {
    const start = now - (now % length)
    if (start === window) return
    window = start
    counters = new Map()
  }
  const counter = (key: string): Counter => {
    const found = counters.get(key)
    if (found !== undefined) return found
    const oldest = counters.size >= mostCounters ? counters.keys().next().value : undefined
    if (oldest !== undefined) counters.delete(oldest)
    const made = { known: 0, unsent: 0 }
    counters.set(key, made)
    return made
  }
  return {
    add: (key, now) => {
      turn(now)
      const one = counter(key)
      one.unsent += 1
      return one.known + one.unsent
    },
    count: (key, now) => {
      turn(now)
      const one = counters.get(key)
      return one === undefined ? 0 : one.known + one.unsent
    },
    learn: (key, now, total) => {
      turn(now)
      const one = counter(key)
      one.known = Math.max(one.known, total)
      one.unsent = 0
    },
    unsent: (now) => {
      turn(now)
      return {
        window,
        counts: new Map([...counters].flatMap(([key, one]) => (one.unsent > 0 ? [[key, one.unsent]] : [])))
      }
    },
    told: (of, counts, totals) => {
      if (of !== window) return
      for (const [key, sent] of counts) {
        const one = counters.get(key)
        if (one === undefined) continue
        one.unsent -= sent
        one.known = totals.get(key) ?? one.known + sent
      }
    }
  }
}
