import {
  ConfigProvider,
  Context,
  Duration,
  Effect,
  Layer,
  Logger,
  LogLevel,
  Random,
  Runtime,
  RuntimeFlags
} from "effect"
import type { Fiber } from "effect"
import type { Rights } from "../../src/domain/Rights.ts"
import { Backfills } from "../../src/layers/Backfills.ts"
import { ChildRuns } from "../../src/layers/ChildRuns.ts"
import { Draining } from "../../src/layers/Draining.ts"
import { History } from "../../src/layers/History.ts"
import { Pipeline } from "../../src/layers/Pipeline.ts"
import { Pulse } from "../../src/layers/Pulse.ts"
import { RunRights } from "../../src/layers/RunRights.ts"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { Tools } from "../../src/layers/Tools.ts"
import { Wakeups } from "../../src/layers/Wakeups.ts"
import type { Channel } from "../../src/layers/Wakeups.ts"
import { Worker } from "../../src/layers/Worker.ts"
import * as WorkerLoop from "../../src/layers/WorkerLoop.ts"
import * as Bench from "./Bench.ts"
import type { Chance } from "./Chance.ts"
import type { Machine } from "./Machine.ts"
import { twin } from "./TwinStore.ts"
import type { Call, Services } from "./TwinStore.ts"
import type { Tables } from "./TwinTables.ts"
import type { Witness } from "./Witness.ts"

/** What processes share. */
export interface Fleet {
  readonly tables: Tables
  readonly witness: Witness
  readonly chance: Chance
  readonly kill: (machine: Machine) => void
  /** The wake-ups of every process that was started; signals reach them all, unless one is lost. */
  readonly wakeups: Map<Machine, typeof Wakeups.Service>
  readonly settings: ReadonlyMap<string, string>
}

/** Nobody asks how many fibers a world had and how long they lived. */
const runtime = Runtime.disableRuntimeFlag(Runtime.defaultRuntime, RuntimeFlags.RuntimeMetrics)

/** Told of the worker's id before its loops start. */
class Registry extends Context.Tag("simulation/Registry")<Registry, (id: string) => void>() {}

const registered = Layer.effectDiscard(
  Effect.gen(function* () {
    const register = yield* Registry
    register((yield* Worker).id)
  })
)

const childless = Layer.mock(ChildRuns, { finish: Effect.succeed(0) })

/** Every owner may do everything. */
const unbounded: Rights = { standing: "active", scopes: ["admin"], budgets: [] }
const permissive = Layer.mock(RunRights, {
  of: (ids) => Effect.succeed(new Map(ids.map((id) => [id, unbounded])))
})

const idle = Layer.mergeAll(
  Layer.mock(Backfills, { advance: Effect.succeed(0) }),
  Layer.mock(History, { keep: Effect.void, prepare: Effect.void })
)

const programs: Record<
  "worker" | "scheduler",
  Layer.Layer<never, unknown, Services | Wakeups | Tools | Registry | Draining>
> = {
  worker: WorkerLoop.loop.pipe(
    Layer.provide(registered),
    Layer.provide(Worker.layer),
    Layer.provide([Pipeline.layer, childless, permissive, Pulse.layer])
  ),
  scheduler: Scheduler.loop.pipe(Layer.provide(Scheduler.layer), Layer.provide([idle, Pulse.layer]))
}

/** Wake-ups that reach every process; now and then one is lost. */
const wakeups = ({ chance, wakeups: all }: Fleet, machine: Machine): typeof Wakeups.Service => {
  const signaled = new Set<Channel>()
  const waiting = new Map<Channel, () => void>()
  const signalHere = (channel: Channel) =>
    Effect.sync(() => {
      const wake = waiting.get(channel)
      if (wake === undefined) signaled.add(channel)
      else wake()
    })
  const own = Wakeups.of({
    signalHere,
    afterwards: (effect) => effect,
    signal: (channel) =>
      Effect.suspend(() =>
        Effect.forEach(
          [...all].filter(([{ state }]) => state !== "dead" && !chance.maybe(0.05)),
          ([, other]) => other.signalHere(channel),
          { discard: true }
        )
      ),
    wait: (channel, atMost) =>
      Effect.async<void>((resume) => {
        if (signaled.delete(channel)) return resume(Effect.void)
        const wake = () => {
          waiting.delete(channel)
          late.callOff()
          resume(Effect.void)
        }
        const late = machine.time.plan(Duration.toMillis(atMost), wake)
        waiting.set(channel, wake)
        return Effect.sync(() => {
          waiting.delete(channel)
          late.callOff()
        })
      })
  })
  all.set(machine, own)
  return own
}

/** Starts the product's own program in a process; it goes on until the process is killed, or asked to stop. */
export const start = (
  fleet: Fleet,
  program: "worker" | "scheduler",
  machine: Machine,
  call: Call
): Fiber.RuntimeFiber<void> => {
  const { chance, kill, settings, tables, witness } = fleet
  const context = Context.merge(
    twin(tables, call),
    Context.make(Tools, Bench.tools(witness, chance, machine, kill)).pipe(
      Context.add(Wakeups, wakeups(fleet, machine)),
      Context.add(Registry, (id) => void witness.workers.set(id, machine))
    )
  )
  const main = Effect.gen(function* () {
    const draining = yield* Draining
    yield* Layer.build(programs[program])
    return yield* draining.fatal
  }).pipe(
    Effect.scoped,
    Effect.provide(Draining.layer),
    Effect.provide(context),
    Effect.catchAllCause((cause) => Effect.sync(() => witness.object(`${machine.name} died: ${String(cause)}`))),
    Effect.withClock(machine.clock),
    Effect.withRandom(Random.make(chance.int(0, 2 ** 31))),
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(settings))),
    Logger.withMinimumLogLevel(LogLevel.None),
    Effect.withTracerEnabled(false)
  )
  return Runtime.runFork(runtime)(main, { scheduler: machine, immediate: false })
}
