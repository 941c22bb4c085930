import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import { Instant } from "./Instant.ts"

/** Most occurrences of one backfill. */
export const mostOccurrences = 10_000

/** Body of POST /tasks/{id}/backfill: a window, both ends inclusive. */
export const BackfillCreate = Schema.Struct({
  from: Instant,
  to: Instant,
  /** Leave out what fired already. */
  only_missed: Schema.optionalWith(Schema.Boolean, { exact: true, default: () => true }),
  /** Runs of the backfill at once. */
  max_parallel: Schema.optionalWith(Schema.Int.pipe(Schema.between(1, 100)), { exact: true, default: () => 1 }),
  /** Answer the occurrences, enqueue nothing. */
  dry_run: Schema.optionalWith(Schema.Boolean, { exact: true, default: () => false })
}).annotations({ identifier: "BackfillCreate", parseOptions: { onExcessProperty: "error", errors: "all" } })
export type BackfillCreate = typeof BackfillCreate.Type

/** What a backfill will enqueue; `backfill_id` is null for a dry run. */
export interface BackfillAccepted {
  readonly backfill_id: string | null
  /** Epoch milliseconds, oldest first. */
  readonly occurrences: ReadonlyArray<number>
}

/** How far a backfill is. */
export const Backfill = Schema.Struct({
  id: Schema.String,
  task_id: Schema.String,
  state: Schema.Literal("running", "finished", "canceled"),
  occurrences: Schema.Int,
  enqueued: Schema.Int,
  created_at: Instant
}).annotations({ identifier: "Backfill" })
export type Backfill = typeof Backfill.Type

/** No such backfill, or not visible to this agent. */
export class BackfillNotFound extends Schema.TaggedError<BackfillNotFound>()(
  "BackfillNotFound",
  { backfill_id: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}
