import { Effect } from "effect"
import type { Line } from "../domain/Line.ts"
import type { Settlement, TurnResult } from "../domain/Settlement.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import type { Lease } from "./Lease.ts"

/**
 * A turn; where the database refuses its statement as it stands, each settlement goes alone, and nothing is leased. One that is
 * refused alone ends its run as `internal`, without its steps: it takes neither the others nor the worker with it.
 */
export const turnOf = (
  lease: typeof Lease.Service,
  worker: string,
  settled: ReadonlyArray<Settlement>,
  capacity: number,
  suspects: boolean,
  line: Line
): Effect.Effect<TurnResult, StoreUnavailable> =>
  lease
    .turn(worker, settled, capacity, suspects, line)
    .pipe(
      Effect.catchAllDefect((defect) =>
        settled.length === 0 ? Effect.die(defect) : apart(lease, worker, settled, line)
      )
    )

const apart = (lease: typeof Lease.Service, worker: string, settled: ReadonlyArray<Settlement>, line: Line) =>
  Effect.forEach(settled, (one) =>
    lease
      .turn(worker, [one], 0, false, line)
      .pipe(
        Effect.catchAllDefect((defect) =>
          Effect.logError("What a run came to could not be stored.", defect).pipe(
            Effect.annotateLogs({ run_id: one.work.id, task_id: one.work.task_id }),
            Effect.zipRight(lease.turn(worker, [refused(one)], 0, false, line))
          )
        )
      )
  ).pipe(Effect.map((turns) => ({ leased: [], lost: turns.flatMap(({ lost }) => lost), blocked: 0 })))

const refused = ({ finished_at, work }: Settlement): Settlement => ({
  work,
  steps: [],
  finished_at,
  outcome: "ended",
  state: "failed",
  error: StepFailed.of("internal", "what the run came to could not be stored; the log has the details").toldOf(null)
})
