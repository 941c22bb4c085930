import { Clock, Duration, Effect } from "effect"
import type { Scheduler } from "effect"
import type { Chance } from "./Chance.ts"

/** Something that happens at an instant, unless it is called off. */
interface Timer {
  readonly at: number
  readonly order: number
  happens: (() => void) | null
}

/** What was planned, and how to call it off. */
export interface Planned {
  readonly callOff: () => void
}

/** So much at one instant, and something spins without ever sleeping. */
const mostAtOnce = 20_000

/** A loop goes round and round at one instant. */
export class Spinning extends Error {
  constructor(at: number) {
    super(`a loop spins at ${new Date(at).toISOString()}`)
  }
}

const never: Planned = { callOff: () => undefined }

/**
 * Time of a world, in epoch milliseconds: it stands still while anything can run, then leaps to the next thing that is planned.
 * Nothing in it waits for real time, so that a run is the same for the same seed.
 */
export class VirtualTime {
  now: number
  readonly #chance: Chance
  readonly #machines: Array<Machine> = []
  readonly #heap: Array<Timer> = []
  #order = 0

  constructor(start: number, chance: Chance) {
    this.now = start
    this.#chance = chance
  }

  /** A process that is not started yet. */
  machine(name: string): Machine {
    const machine = new Machine(name, this)
    this.#machines.push(machine)
    return machine
  }

  plan(after: number, happens: () => void): Planned {
    if (after === Infinity) return never
    const timer: Timer = { at: this.now + Math.max(0, after), order: this.#order++, happens }
    push(this.#heap, timer)
    return {
      callOff: () => {
        timer.happens = null
      }
    }
  }

  /** Runs the world until an instant, or until `done` holds after a leap. Answers whether it holds. */
  runUntil(end: number, done: () => boolean = () => false): boolean {
    let standing = 0
    for (;;) {
      this.#runAll()
      if (done()) return true
      const next = this.#heap[0]
      if (next === undefined || next.at > end) {
        this.now = Math.max(this.now, end)
        return false
      }
      pop(this.#heap)
      standing = next.at > this.now ? 0 : standing + 1
      if (standing > mostAtOnce) throw new Spinning(this.now)
      this.now = Math.max(this.now, next.at)
      next.happens?.()
    }
  }

  /** Processes take turns by chance, so that what may interleave does. */
  #runAll() {
    for (;;) {
      const able = this.#machines.filter((machine) => machine.canRun)
      const one = able.length > 1 ? able[this.#chance.int(0, able.length - 1)] : able[0]
      if (one === undefined) return
      one.runSome()
    }
  }
}

const before = (a: Timer, b: Timer) => a.at < b.at || (a.at === b.at && a.order < b.order)

const push = (heap: Array<Timer>, timer: Timer) => {
  let at = heap.length
  heap.push(timer)
  while (at > 0) {
    const up = (at - 1) >> 1
    const parent = heap[up]
    if (parent === undefined || !before(timer, parent)) break
    heap[at] = parent
    at = up
  }
  heap[at] = timer
}

const pop = (heap: Array<Timer>) => {
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return
  let at = 0
  for (;;) {
    const left = heap[2 * at + 1]
    const right = heap[2 * at + 2]
    if (left === undefined) break
    const [down, child] = right !== undefined && before(right, left) ? [2 * at + 2, right] : [2 * at + 1, left]
    if (!before(child, last)) break
    heap[at] = child
    at = down
  }
  heap[at] = last
}

/**
 * One process: the scheduler of its fibers. Frozen it runs nothing and keeps all that is queued, like a process under SIGSTOP;
 * dead it runs nothing ever again, not even finalizers, like one under SIGKILL.
 */
export class Machine implements Scheduler.Scheduler {
  readonly name: string
  readonly clock: Clock.Clock
  readonly time: VirtualTime
  #queue: Array<() => void> = []
  #state: "running" | "frozen" | "dead" = "running"
  /** Since when it runs, is frozen or is dead. */
  since: number

  constructor(name: string, time: VirtualTime) {
    this.name = name
    this.time = time
    this.since = time.now
    this.clock = {
      [Clock.ClockTypeId]: Clock.ClockTypeId,
      unsafeCurrentTimeMillis: () => time.now,
      unsafeCurrentTimeNanos: () => BigInt(time.now) * 1_000_000n,
      currentTimeMillis: Effect.sync(() => time.now),
      currentTimeNanos: Effect.sync(() => BigInt(time.now) * 1_000_000n),
      sleep: (duration) =>
        Effect.async<void>((resume) => {
          const planned = time.plan(Duration.toMillis(duration), () => resume(Effect.void))
          return Effect.sync(() => planned.callOff())
        })
    }
  }

  get state() {
    return this.#state
  }

  get canRun() {
    return this.#state === "running" && this.#queue.length > 0
  }

  #become(state: "running" | "frozen" | "dead") {
    if (this.#state === "dead" || this.#state === state) return
    this.#state = state
    this.since = this.time.now
  }

  freeze() {
    this.#become("frozen")
  }

  thaw() {
    if (this.#state === "frozen") this.#become("running")
  }

  kill() {
    this.#become("dead")
    this.#queue = []
  }

  shouldYield(): false {
    return false
  }

  scheduleTask(task: () => void) {
    if (this.#state !== "dead") this.#queue.push(task)
  }

  /** Runs what is queued now; a task may freeze or kill its own process. */
  runSome() {
    const tasks = this.#queue
    this.#queue = []
    for (const [i, task] of tasks.entries()) {
      task()
      if (this.#state === "running") continue
      if (this.#state === "frozen") this.#queue = [...tasks.slice(i + 1), ...this.#queue]
      return
    }
  }
}
