/** What a round saw: faults by kind, what is wrong, and how long the work of a killed worker waited. */
export interface Record {
  readonly fault: (kind: string) => void
  readonly faults: ReadonlyMap<string, number>
  /** Something that must not be, in one sentence. */
  readonly wrong: (sentence: string) => void
  readonly violations: ReadonlyArray<string>
  /** What happens, as it happens. */
  readonly tell: (sentence: string) => void
  /** How the requests ended: by status, or `no answer`. */
  readonly answer: (status: string) => void
  readonly answers: ReadonlyMap<string, number>
  /** Milliseconds from the kill of a worker until a lease of it was taken back, and until that run was leased again or over. */
  readonly rescued: Array<number>
  readonly resumed: Array<number>
  /** Instants, on the monotonic clock, at which frozen workers went on. */
  readonly thawed: Array<number>
  /** Milliseconds that programs took to end after SIGTERM. */
  readonly stopped: Array<number>
}

/** Beyond so many the list says nothing new. */
const mostViolations = 200

/** `tell` hears every sentence about what happens. */
export const makeRecord = (tell: (sentence: string) => void): Record => {
  const faults = new Map<string, number>()
  const answers = new Map<string, number>()
  const violations: Array<string> = []
  const addOne = (counts: Map<string, number>, key: string) => void counts.set(key, (counts.get(key) ?? 0) + 1)
  return {
    fault: (kind) => {
      tell(kind)
      addOne(faults, kind)
    },
    faults,
    tell,
    wrong: (sentence) => {
      tell(`VIOLATION ${sentence}`)
      if (violations.length < mostViolations) violations.push(sentence)
    },
    violations,
    answer: (status) => addOne(answers, status),
    answers,
    rescued: [],
    resumed: [],
    thawed: [],
    stopped: []
  }
}
