import { assert } from "@effect/vitest"
import type { Timeline } from "../../src/domain/Timeline.ts"

/** A stretch of a task's life under one schedule: its occurrences after `after` up to and with `through`, epoch milliseconds. */
export interface Regime {
  readonly timeline: Timeline
  readonly after: number
  readonly through: number
}

/** What became of occurrences: one that fired (`count` 1, `from` = `to`), or a skipped series. */
export interface Account {
  readonly what: string
  readonly from: number
  readonly to: number
  readonly count: number | null
}

const iso = (at: number | undefined) => (at === undefined ? "none" : new Date(at).toISOString())

const expected = ({ after, through, timeline }: Regime): ReadonlyArray<number> => {
  const found: Array<number> = []
  for (let at = timeline.next(after); at !== null && at <= through; at = timeline.next(at)) found.push(at)
  return found
}

/** Fails unless every occurrence of the regimes has exactly one account, every account its occurrences, and every count is right. */
export const assertAccounted = (
  task: string,
  regimes: ReadonlyArray<Regime>,
  accounts: ReadonlyArray<Account>
): number => {
  const due = regimes.flatMap((regime) => expected(regime))
  let i = 0
  for (const { count, from, to, what } of accounts.toSorted((a, b) => a.from - b.from || a.to - b.to)) {
    const tale = `${task}: ${what} ${iso(from)} to ${iso(to)}, ${count}`
    if (due[i] !== from) assert.fail(`${tale}: the next occurrence without an account is ${iso(due[i])}`)
    const first = i
    while (i < due.length && (due[i] ?? Infinity) <= to) i++
    if (due[i - 1] !== to) assert.fail(`${tale}: ends at no occurrence`)
    if (count === null ? i - first <= 100_000 : i - first !== count)
      assert.fail(`${tale}: counts wrong, there are ${i - first}`)
  }
  if (i < due.length) assert.fail(`${task}: nothing became of ${iso(due[i])} and ${due.length - i - 1} after it`)
  return due.length
}

/** Random numbers in [0, 1) that a seed decides (mulberry32). */
export const randomOf = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
