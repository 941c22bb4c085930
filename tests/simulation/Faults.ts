import { Effect } from "effect"
import { StoreUnavailable } from "../../src/domain/StoreUnavailable.ts"
import type { Chance } from "./Chance.ts"
import type { Machine, VirtualTime } from "./Machine.ts"
import type { Call } from "./TwinStore.ts"

/** What may go wrong between the processes and the store. */
export interface Weather {
  /** Whether anything goes wrong at all. */
  stormy: boolean
  /** Until when the store answers nobody; epoch milliseconds. */
  downUntil: number
  /** Until when single processes cannot reach it. */
  readonly cutOff: Map<Machine, number>
  /** Until when single processes wait for an answer that takes long. */
  readonly stuck: Map<Machine, number>
  /** Calls that wait for an answer: what gives each up at once, as a reset connection does. */
  readonly waiting: Set<() => void>
  /** Whether processes die in the middle of calls. */
  readonly deadly: boolean
}

/** What becomes of one statement; milliseconds from its sending. */
interface Fate {
  /** When it takes effect; null for never. */
  readonly applied: number | null
  /** When its caller hears of it; `answered` false is an outage to the caller, whether the statement took effect or not. */
  readonly heard: number
  readonly answered: boolean
  readonly kills?: "before" | "after"
}

const prompt: Fate = { applied: 0, heard: 0, answered: true }

/** How long the server lets a statement run, and how long a caller waits for an answer. */
const patience = (name: string) =>
  name === "renew" ? { statement: 2000, silence: 3000 } : { statement: 10_000, silence: 12_000 }

const inCalm = (chance: Chance): Fate =>
  chance.maybe(0.8) ? prompt : { applied: chance.int(0, 20), heard: chance.int(20, 40), answered: true }

const inStorm = (name: string, chance: Chance, deadly: boolean): Fate => {
  const { silence, statement } = patience(name)
  const dice = chance.unit()
  if (dice < 0.7) return prompt
  if (dice < 0.93) {
    const applied = chance.int(0, 20)
    return { applied, heard: applied + chance.int(0, 20), answered: true }
  }
  if (dice < 0.97) {
    const applied = chance.int(0, Math.min(3000, statement))
    return { applied, heard: applied + chance.int(0, 500), answered: true }
  }
  if (dice < 0.978) {
    const applied = chance.int(0, statement)
    const heard = Math.max(applied, chance.int(0, silence))
    return { applied, heard, answered: heard < silence }
  }
  if (dice < 0.986) return { applied: null, heard: chance.int(0, 50), answered: false }
  if (dice < 0.994 || !deadly) {
    const applied = chance.int(0, 50)
    return { applied, heard: applied + chance.int(0, 50), answered: false }
  }
  return { ...prompt, kills: chance.maybe(0.5) ? "before" : "after" }
}

const away = (name: string, chance: Chance): Fate => ({
  applied: null,
  heard: chance.maybe(0.2) ? patience(name).silence : chance.int(0, 30),
  answered: false
})

const unavailable = new StoreUnavailable({ retry_after: 1 })

/** The way of one process to the store. What it sent may take effect after its death, and without its hearing of it. */
export const wayToStore = (
  time: VirtualTime,
  chance: Chance,
  weather: Weather,
  machine: Machine,
  kill: (machine: Machine) => void
): Call => {
  const isAway = () => weather.downUntil > time.now || (weather.cutOff.get(machine) ?? 0) > time.now
  return <A>(name: string, apply: (now: number) => A) =>
    Effect.suspend(() => {
      const fate = !weather.stormy
        ? inCalm(chance)
        : isAway()
          ? away(name, chance)
          : inStorm(name, chance, weather.deadly)
      if (fate === prompt) return Effect.sync(() => apply(time.now))
      return Effect.async<A, StoreUnavailable>((resume) => {
        const sent = time.now
        if (fate.heard > 1000) weather.stuck.set(machine, Math.max(weather.stuck.get(machine) ?? 0, sent + fate.heard))
        if (fate.kills === "before") return kill(machine)
        let answer: Effect.Effect<A, StoreUnavailable> = Effect.fail(unavailable)
        const applying =
          fate.applied === null
            ? null
            : time.plan(fate.applied, () => {
                const result = apply(sent)
                if (fate.answered) answer = Effect.succeed(result)
                if (fate.kills === "after") kill(machine)
              })
        const hear = () => {
          weather.waiting.delete(giveUp)
          hearing.callOff()
          resume(answer)
        }
        const hearing = time.plan(fate.heard, hear)
        const giveUp = () => {
          applying?.callOff()
          hear()
        }
        weather.waiting.add(giveUp)
        return Effect.sync(() => {
          weather.waiting.delete(giveUp)
          hearing.callOff()
          if (chance.maybe(0.5)) applying?.callOff()
        })
      })
    })
}
