import { Effect, Schema } from "effect"
import { eventually, query } from "../support/programs.ts"
import type { Fleet, Slot } from "./Fleet.ts"
import type { Record } from "./Record.ts"
import type { ToolBench } from "./ToolBench.ts"

const Left = Schema.Struct({ what: Schema.NullOr(Schema.String) })
const Held = Schema.Struct({ id: Schema.String, lease_no: Schema.Int, pid: Schema.Int })
const held = `
  SELECT d.id, d.lease_no, w.pid FROM due_work d JOIN worker_heartbeat w ON w.id = d.locked_by
  WHERE d.task_id = $1 AND d.state = 'leased'`

/** How the runs of a task stand, and for how long. */
const state = `
  SELECT string_agg(concat_ws(' ', d.id, d.state, 'lease', d.lease_no, 'crashes', d.crashes, 'leased', clock_timestamp() - d.leased_at,
    'pid', w.pid), ', ') AS what FROM due_work d LEFT JOIN worker_heartbeat w ON w.id = d.locked_by WHERE d.task_id = $1`

/** Undefined while PostgreSQL is away. */
const quietly = <A>(effect: Effect.Effect<A>): Effect.Effect<A | undefined> =>
  Effect.catchAllCause(effect, () => Effect.succeed(undefined))

/** A worker that has called for a run of a task under the lease that it holds, in hand; undefined where there is none that is free. */
const caller = ({ database, slots }: Fleet, bench: ToolBench, task: string) =>
  Effect.map(quietly(query(database, Held, held, [task])), (rows = []): Slot | undefined => {
    const pids = new Set(
      rows.flatMap(({ id, lease_no, pid }) =>
        bench.deadly.some(({ lease, run }) => run === id && lease === lease_no) ? [pid] : []
      )
    )
    const slot = slots.find(({ process, taken }) => !taken && process !== undefined && pids.has(process.pid))
    if (slot !== undefined) slot.taken = true
    return slot
  })

/**
 * Kills every worker that calls for a run of a task, until no such run is under way. Crashes do not count while the database is away,
 * so that more than three may be needed.
 */
export const killTheirWorkers = (fleet: Fleet, bench: ToolBench, record: Record, task: string) =>
  Effect.gen(function* () {
    const left = quietly(query(fleet.database, Schema.Unknown, "SELECT 1 FROM due_work WHERE task_id = $1", [task]))
    const look = Effect.gen(function* () {
      if ((yield* left)?.length === 0) return "over" as const
      return yield* caller(fleet, bench, task)
    })
    for (;;) {
      const found = yield* eventually("end of the deadly runs, or call of one", 120, look).pipe(
        Effect.catchAllDefect(() =>
          Effect.map(quietly(query(fleet.database, Left, state, [task])), (rows) => {
            record.wrong(`nothing becomes of the deadly runs: ${rows?.[0]?.what}`)
            return "over" as const
          })
        )
      )
      if (found === "over") return
      record.fault("poison run kills its worker")
      yield* fleet
        .down(found, "SIGKILL")
        .pipe(Effect.zipRight(fleet.up(found)), Effect.ensuring(Effect.sync(() => (found.taken = false))))
    }
  })
