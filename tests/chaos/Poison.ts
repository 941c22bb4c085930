import { Effect, Schema } from "effect"
import { eventually, query } from "../support/programs.ts"
import type { Fleet, Slot } from "./Fleet.ts"
import type { Record } from "./Record.ts"
import type { ToolBench } from "./ToolBench.ts"

const Pid = Schema.Struct({ pid: Schema.Int })

/** Undefined while PostgreSQL is away. */
const quietly = <A>(effect: Effect.Effect<A>): Effect.Effect<A | undefined> =>
  Effect.catchAllCause(effect, () => Effect.succeed(undefined))

/** The worker that calls for a run, in hand; undefined while it is not known, or another fault has it. */
const caller = ({ database, slots }: Fleet, run: string) =>
  Effect.map(
    quietly(
      query(
        database,
        Pid,
        "SELECT w.pid FROM due_work d JOIN worker_heartbeat w ON w.id = d.locked_by WHERE d.id = $1 AND d.state = 'leased'",
        [run]
      )
    ),
    (rows): Slot | undefined => {
      const slot = slots.find(({ process, taken }) => !taken && process !== undefined && process.pid === rows?.[0]?.pid)
      if (slot !== undefined) slot.taken = true
      return slot
    }
  )

/**
 * Kills every worker that calls for a run of a task, until no such run is under way. Crashes do not count while the database is away,
 * so that more than three may be needed.
 */
export const killTheirWorkers = (fleet: Fleet, bench: ToolBench, record: Record, task: string) =>
  Effect.gen(function* () {
    const left = quietly(query(fleet.database, Schema.Unknown, "SELECT 1 FROM due_work WHERE task_id = $1", [task]))
    let known = 0
    const look = Effect.gen(function* () {
      if ((yield* left)?.length === 0) return "over" as const
      const call = bench.deadly.at(-1)
      if (call === undefined || bench.deadly.length === known) return undefined
      const slot = yield* caller(fleet, call.run)
      if (slot !== undefined) known = bench.deadly.length
      return slot
    })
    for (;;) {
      const found = yield* eventually("end of the deadly runs, or call of one", 120, look)
      if (found === "over") return
      record.fault("poison run kills its worker")
      yield* fleet
        .down(found, "SIGKILL")
        .pipe(Effect.zipRight(fleet.up(found)), Effect.ensuring(Effect.sync(() => (found.taken = false))))
    }
  })
