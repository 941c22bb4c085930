import { Duration, Effect } from "effect"
import type { Chance } from "../simulation/Chance.ts"
import { eventually } from "../support/programs.ts"
import { clockOff } from "./FalseClock.ts"
import type { Fleet, Slot } from "./Fleet.ts"
import type { makeLoad, Stock } from "./Load.ts"
import { killTheirWorkers } from "./Poison.ts"
import type { Record } from "./Record.ts"
import { heldBy, watch } from "./Rescues.ts"
import { noConnectionLeft, poolsExhausted, redisFull } from "./Shortages.ts"
import type { ToolBench } from "./ToolBench.ts"

/** One kind of fault. It ends when what it broke is whole again. */
export interface Fault {
  readonly kind: string
  readonly inject: Effect.Effect<void>
}

interface Setting {
  readonly fleet: Fleet
  readonly chance: Chance
  readonly record: Record
  readonly load: ReturnType<typeof makeLoad>
  readonly stock: Stock
  readonly bench: ToolBench
  /** Shows a program another time of day; without it no clock is off. */
  readonly falseClock: string | undefined
}

/** The faults that a round injects: at once those that take long, and then one after the other. */
export const makeFaults = ({ bench, chance, falseClock, fleet, load, record, stock }: Setting) => {
  let named = 0
  const poisoning = Effect.unsafeMakeSemaphore(1)
  const between = (from: number, to: number) => Effect.sleep(`${chance.int(from, to)} millis`)

  /** Has a free slot of a kind in hand for the time of a fault; where none is free within that time there is no fault. */
  const withSlot = (program: Slot["program"], use: (slot: Slot) => Effect.Effect<void>) =>
    eventually(
      "free slot",
      15,
      Effect.sync(() => {
        const free = fleet.slots.filter((slot) => slot.program === program && !slot.taken)
        const slot = free[chance.int(0, free.length - 1)]
        if (slot !== undefined) slot.taken = true
        return slot
      })
    ).pipe(
      Effect.catchAllDefect(() => Effect.succeed(undefined)),
      Effect.flatMap((slot) =>
        slot === undefined
          ? Effect.void
          : Effect.ensuring(
              use(slot),
              Effect.sync(() => (slot.taken = false))
            )
      )
    )

  const killed = (program: Slot["program"]): Fault => ({
    kind: `kill -9 of ${program}`,
    inject: withSlot(program, (slot) =>
      Effect.gen(function* () {
        const pid = slot.process?.pid ?? 0
        if (program === "worker") {
          // Between lease and settle, that is; a worker that gets nothing to do within that time is killed idle.
          yield* eventually(
            "work",
            3,
            Effect.map(heldBy(fleet.database, pid), (held) => (held.length > 0 ? held : undefined))
          ).pipe(Effect.catchAllDefect(() => Effect.void))
        }
        const at = performance.now()
        yield* fleet.down(slot, "SIGKILL")
        record.fault(`kill -9 of ${program}`)
        const held = program === "worker" ? yield* heldBy(fleet.database, pid) : []
        yield* Effect.all([watch(fleet, record, held, at), Effect.zipRight(between(0, 2000), fleet.up(slot))], {
          concurrency: 2
        })
      })
    )
  })

  const told = (program: Slot["program"]): Fault => ({
    kind: `SIGTERM to ${program}`,
    inject: withSlot(program, (slot) =>
      Effect.gen(function* () {
        record.fault(`SIGTERM to ${program}`)
        const [took, end] = yield* Effect.timed(fleet.down(slot, "SIGTERM"))
        record.stopped.push(Duration.toMillis(took))
        if (end !== 0) record.wrong(`${slot.name} ends with ${end} after SIGTERM`)
        yield* between(0, 1000)
        yield* fleet.up(slot)
      })
    )
  })

  const frozen: Fault = {
    kind: "SIGSTOP of worker over its leases",
    inject: withSlot("worker", (slot) =>
      Effect.gen(function* () {
        const pid = slot.process?.pid ?? 0
        record.fault("SIGSTOP of worker over its leases")
        yield* Effect.sync(() => process.kill(pid, "SIGSTOP"))
        yield* between(fleet.leaseSeconds * 1000 + 1000, fleet.leaseSeconds * 1000 + 4000)
      }).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            record.thawed.push(performance.now())
            process.kill(slot.process?.pid ?? 0, "SIGCONT")
          })
        )
      )
    )
  }

  const falseClocked = (library: string): Fault => ({
    kind: "clock off by an hour",
    inject: Effect.suspend(() =>
      withSlot(chance.pick(["worker", "scheduler", "api"]), (slot) =>
        Effect.gen(function* () {
          record.fault("clock off by an hour")
          yield* fleet.down(slot, "SIGTERM")
          yield* fleet.up(slot, clockOff(library, chance.pick([-3600, 3600])))
          yield* between(6000, 12_000)
          yield* fleet.down(slot, "SIGTERM")
          yield* fleet.up(slot)
        })
      )
    )
  })

  const simple = (kind: string, inject: Effect.Effect<unknown>): Fault => ({
    kind,
    inject: Effect.zipRight(
      Effect.sync(() => record.fault(kind)),
      Effect.asVoid(inject)
    )
  })

  const postgres = (kind: string, signal: NodeJS.Signals) =>
    simple(`PostgreSQL restarted: ${kind}`, fleet.signalPostgres(signal))

  const { proxy, redis } = fleet
  // One at a time: a frozen process does not stop.
  const redisFault = (kind: string, inject: Effect.Effect<unknown>) => simple(kind, redis.alone(inject))
  /** Once it was acknowledged; an answer that got lost may have started another. */
  const started = (task: string) =>
    load.runNow(task).pipe(
      Effect.tap((run) => (run === undefined ? Effect.sleep("500 millis") : Effect.void)),
      Effect.repeat({ until: (run) => run !== undefined, times: 20 })
    )
  const poison: Fault = {
    kind: "poison run",
    inject: started(stock.deadly).pipe(
      Effect.zipRight(poisoning.withPermits(1)(killTheirWorkers(fleet, bench, record, stock.deadly)))
    )
  }
  const surge = simple("1,000 runs that fail at once", started(stock.surge))
  const others: ReadonlyArray<Fault> = [
    simple(
      "no connection left",
      Effect.suspend(() =>
        noConnectionLeft(
          fleet,
          between(1000, 4000),
          Effect.sync(() => proxy.cut())
        )
      )
    ),
    simple(
      "pools exhausted",
      Effect.suspend(() => poolsExhausted(fleet, between(2000, 5000)))
    ),
    redisFault(
      "Redis out of memory",
      Effect.suspend(() => redisFull(fleet, between(1000, 5000)))
    ),
    killed("worker"),
    killed("worker"),
    killed("scheduler"),
    killed("api"),
    told("worker"),
    told("scheduler"),
    told("api"),
    frozen,
    postgres("fast", "SIGINT"),
    postgres("immediate", "SIGQUIT"),
    postgres("kill -9", "SIGKILL"),
    simple(
      "connections frozen, then cut",
      Effect.sync(() => proxy.freeze()).pipe(
        Effect.zipRight(between(2000, 6000)),
        Effect.zipRight(Effect.sync(() => proxy.cut()))
      )
    ),
    simple(
      "connections cut",
      Effect.sync(() => proxy.cut())
    ),
    redisFault(
      "Redis stopped, then empty",
      redis.stop.pipe(Effect.zipRight(between(500, 3000)), Effect.zipRight(redis.start))
    ),
    redisFault(
      "Redis emptied",
      Effect.ignore(Effect.tryPromise(() => redis.client.flushall()).pipe(Effect.timeout("2 seconds"), Effect.asVoid))
    ),
    redisFault("Redis frozen", redis.freeze.pipe(Effect.zipRight(between(1000, 6000)), Effect.ensuring(redis.thaw))),
    simple(
      "50 equal events at once",
      Effect.suspend(() => load.repeatedEvent(`fifty ${named++}`, 50))
    ),
    simple(
      "50 equal tasks at once",
      Effect.suspend(() => load.repeatedTask(`fifty ${named++}`, 50))
    ),
    ...(falseClock === undefined ? [] : [falseClocked(falseClock)])
  ]
  return { atOnce: [poison, surge], oneByOne: others }
}
