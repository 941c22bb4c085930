/** Seeded chance: the same seed gives the same numbers. */
export interface Chance {
  /** 0 ≤ n < 1. */
  readonly unit: () => number
  /** A whole number, both bounds included. */
  readonly int: (from: number, to: number) => number
  readonly maybe: (probability: number) => boolean
  readonly pick: <A>(of: readonly [A, ...ReadonlyArray<A>]) => A
  readonly bytes: (length: number) => Uint8Array
}

/** Mulberry32 (T. Ettinger): 32 bits of state, good enough to choose faults with. */
export const seeded = (seed: number): Chance => {
  let state = Math.imul(seed, 2654435761) >>> 0
  const unit = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
  const int = (from: number, to: number) => from + Math.floor(unit() * (to - from + 1))
  return {
    unit,
    int,
    maybe: (probability) => unit() < probability,
    pick: (of) => of[int(0, of.length - 1)] ?? of[0],
    bytes: (length) => Uint8Array.from({ length }, () => int(0, 255))
  }
}
