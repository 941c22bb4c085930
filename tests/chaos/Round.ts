import { Effect, FiberSet, Logger, LogLevel, Schema } from "effect"
import { seeded } from "../simulation/Chance.ts"
import { eventually, query } from "../support/programs.ts"
import { check } from "./Checks.ts"
import { makeClient } from "./Client.ts"
import { falseClock } from "./FalseClock.ts"
import { makeFaults, type Fault } from "./Faults.ts"
import { makeFleet } from "./Fleet.ts"
import { makeLedger } from "./Ledger.ts"
import { makeLoad } from "./Load.ts"
import { quiet } from "./Quiet.ts"
import { makeToolBench } from "./ToolBench.ts"
import { toolsAgree } from "./ToolChecks.ts"
import { makeRecord, type Record } from "./Record.ts"

/** How a round goes. */
export interface Options {
  readonly seed: number
  /** For that long there are requests and faults; the time to start and to come to rest is added. */
  readonly seconds: number
  /** Of the workers; a short one shows more rescues in the same time. */
  readonly leaseSeconds: number
  /** Hears what happens, as it happens. */
  readonly tell?: (sentence: string) => void
}

/** What came of a round. */
export interface Report extends Pick<Record, "faults" | "violations" | "answers" | "rescued" | "resumed" | "stopped"> {
  readonly runs: ReadonlyArray<{ readonly state: string; readonly n: number }>
  readonly occurrences: number
  readonly events: number
  /** Of the log. */
  readonly entries: number
  /** That the tools saw. */
  readonly calls: number
  /** Of approvals, that were acknowledged. */
  readonly decisions: number
  /** Whether there was a clock to set wrong. */
  readonly hadFalseClock: boolean
  /** From the end of the faults until all work was over. */
  readonly restSeconds: number
}

const clients = 5
/** Most work that the checks wait for after the last fault; a run that crashed twice waits to run alone. */
const restWithin = 120

const RunCount = Schema.Struct({ state: Schema.String, n: Schema.Int })

/** Everything that a program may wait for is there again. */
const whole = (database: string) =>
  eventually(
    "PostgreSQL that answers",
    60,
    query(database, Schema.Unknown, "SELECT 1").pipe(Effect.catchAllCause(() => Effect.succeed(undefined)))
  )

/** Starts a fleet of programs, loads it with requests, injects faults by the seed, and checks what is left at the end. */
export const round = ({ leaseSeconds, seconds, seed, tell = () => undefined }: Options): Effect.Effect<Report> =>
  Effect.gen(function* () {
    const record = makeRecord(tell)
    const ledger = makeLedger()
    const [fleet, library] = yield* Effect.all([makeFleet(record, leaseSeconds), falseClock], { concurrency: 2 })
    const bench = yield* makeToolBench(record, seeded(seed))
    const client = makeClient(fleet, record)
    const load = makeLoad(client, ledger, bench, record)
    const stock = yield* load.stock(seeded(seed))

    const end = performance.now() + seconds * 1000
    const isOver = Effect.sync(() => performance.now() >= end)
    const loads = Effect.forEach(
      Array.from({ length: clients }, (_, n) => n),
      (n) => {
        const chance = seeded(seed * 100 + n + 1)
        let requests = 0
        return Effect.suspend(() => load.one(stock, chance, `${n}-${requests++}`)).pipe(
          Effect.zipRight(Effect.suspend(() => Effect.sleep(`${chance.int(50, 250)} millis`))),
          Effect.repeat({ until: () => isOver })
        )
      },
      { concurrency: clients, discard: true }
    )

    const chance = seeded(seed * 100)
    const { atOnce, oneByOne } = makeFaults({
      fleet,
      chance,
      record,
      load,
      stock,
      bench,
      falseClock: library
    })
    const underWay = yield* FiberSet.make()
    const injected = ({ inject, kind }: Fault) =>
      Effect.catchAllDefect(inject, (defect) =>
        Effect.sync(() => record.wrong(`${kind} breaks off: ${String(defect)}`))
      )
    for (const fault of atOnce) yield* FiberSet.run(underWay, injected(fault))
    let bag: Array<Fault> = []
    let bags = 0
    const injections = Effect.gen(function* () {
      // Every kind once before any comes again.
      if (bag.length === 0)
        bag = (bags++ === 0 ? oneByOne : [...oneByOne, ...atOnce])
          .map((fault) => ({ fault, at: chance.unit() }))
          .sort((a, b) => a.at - b.at)
          .map(({ fault }) => fault)
      const fault = bag.pop()
      if (fault !== undefined) yield* FiberSet.run(underWay, injected(fault))
      yield* Effect.sleep(`${chance.int(500, 2500)} millis`)
    }).pipe(Effect.repeat({ until: () => isOver }))
    yield* Effect.all([loads, injections], { concurrency: 2 })

    const stopped = performance.now()
    record.tell("no more faults")
    // Rescues may outlast the faults; nothing else may.
    yield* FiberSet.awaitEmpty(underWay).pipe(Effect.timeoutOption(`${restWithin} seconds`))
    yield* whole(fleet.database)
    yield* quiet(fleet, client, stock, record, restWithin)
    const restSeconds = (performance.now() - stopped) / 1000
    const found = yield* check(fleet, ledger, stock, record)
    const calls = yield* toolsAgree(fleet, bench, ledger, record)
    yield* fleet.finish
    const runs = yield* query(
      fleet.database,
      RunCount,
      "SELECT state, count(*)::integer AS n FROM task_run GROUP BY 1 ORDER BY 1"
    )
    return {
      ...record,
      ...found,
      calls,
      decisions: ledger.decided.size,
      runs,
      hadFalseClock: library !== undefined,
      restSeconds
    }
    // That PostgreSQL is started again is what the faults are about.
  }).pipe(Effect.scoped, Logger.withMinimumLogLevel(LogLevel.None))
