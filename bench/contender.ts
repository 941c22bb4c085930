/** Where a contender works: servers of its own, empty at the start. */
export interface Place {
  readonly postgres: string
  readonly redis: string
  /** What is measured begins, and ends: the CPU time between is the contender's. */
  readonly begin: () => Promise<void>
  readonly end: () => Promise<void>
}

/** What a contest measured; `null` where the contender did not finish in time. */
export interface Figures {
  /** Jobs a second. */
  readonly rate?: number
  /** Milliseconds. */
  readonly p50?: number
  readonly p99?: number
  /** Milliseconds from the due second to the last start. */
  readonly last?: number
  /** How many of them ran. */
  readonly done: number
}

/**
 * One that schedules and runs jobs. Each contest starts it anew on an empty place, checks that each job ran exactly once, and fails
 * where one did not.
 */
export interface Contender {
  /** Runs jobs that were queued at once, with a worker that is up already. */
  readonly drain: (place: Place, jobs: number) => Promise<Figures>
  /** So many clients create work one by one; each answer means that it is durable. */
  readonly create: (place: Place, clients: number, jobs: number) => Promise<Figures>
  /** From the call that creates a single job to its start, with nothing else to do. */
  readonly pickUp: (place: Place, samples: number) => Promise<Figures>
  /** So many schedules of their own, all due in the same second. */
  readonly due: (place: Place, schedules: number) => Promise<Figures>
}

export const contests = ["drain", "create", "pickUp", "due"] as const
export type Contest = (typeof contests)[number]

/** Milliseconds since the epoch, with fractions. */
export const now = () => performance.timeOrigin + performance.now()

export const pause = (millis: number) => new Promise<void>((resume) => setTimeout(resume, millis))

/** Looks every `every` ms until it holds; answers whether it did within `millis`. */
export const until = async (holds: () => Promise<boolean> | boolean, millis: number, every = 20): Promise<boolean> => {
  const last = now() + millis
  while (now() < last) {
    if (await holds()) return true
    await pause(every)
  }
  return false
}

/** Calls `once` `jobs` times by so many clients, each of which waits for its answer; answers the milliseconds that each call took. */
export const byClients = async (
  clients: number,
  jobs: number,
  once: (n: number) => Promise<unknown>
): Promise<Array<number>> => {
  const took: Array<number> = []
  let next = 0
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (next < jobs) {
        const n = next++
        const began = now()
        await once(n)
        took.push(now() - began)
      }
    })
  )
  return took
}

export const quantile = (all: ReadonlyArray<number>, q: number) =>
  [...all].sort((a, b) => a - b)[Math.min(all.length - 1, Math.floor(all.length * q))] ?? Number.NaN

/** The figures of calls that took so many milliseconds each, and all together. */
export const rated = (took: ReadonlyArray<number>, millis: number): Figures => ({
  rate: (took.length / millis) * 1000,
  p50: quantile(took, 0.5),
  p99: quantile(took, 0.99),
  done: took.length
})

/** Notes when each job starts. */
export const startsOf = () => {
  const starts = new Map<number, number>()
  let twice = 0
  return {
    note: (n: number) => {
      if (starts.has(n)) twice++
      else starts.set(n, now())
    },
    starts,
    first: () => starts.values().next().value ?? Number.NaN,
    /** Fails unless each of so many jobs started exactly once. */
    check: (jobs: number) => {
      if (starts.size !== jobs || twice > 0)
        throw new Error(`${starts.size} of ${jobs} jobs ran, ${twice} of them twice`)
    }
  }
}

/** Creates jobs one by one, with a pause that no poller can be in step with; answers the times between call and start. */
export const pickUps = async (samples: number, create: (n: number) => Promise<unknown>) => {
  const called = new Map<number, number>()
  for (let n = 0; n < samples; n++) {
    await pause(100 + Math.random() * 150)
    called.set(n, now())
    await create(n)
  }
  await pause(3000)
  return called
}

/** The quantiles of the times between the calls and the starts. */
export const latencies = (called: ReadonlyMap<number, number>, starts: ReadonlyMap<number, number>): Figures => {
  const all = [...called].map(([n, at]) => (starts.get(n) ?? Number.POSITIVE_INFINITY) - at)
  return { p50: quantile(all, 0.5), p99: quantile(all, 0.99), done: all.filter(Number.isFinite).length }
}

/** How long a contest waits for jobs that are due, milliseconds. */
export const patience = 120_000

/** What became of jobs that were due at an instant. */
export const lags = (dueAt: number, starts: ReadonlyMap<number, number>, jobs: number): Figures => ({
  ...(starts.size === jobs ? { last: Math.max(...starts.values()) - dueAt } : {}),
  done: starts.size
})
