import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import type { CheckedPipeline } from "./CheckedPipeline.ts"
import { StepId } from "./PipelineSpec.ts"
import { RunState } from "./Run.ts"

/** Body of POST /runs/{id}/retry. */
export const Rerun = Schema.Struct({
  /** The steps before this one keep their outputs; by default the first that has not ended well. */
  from_step: Schema.optionalWith(StepId, { exact: true }),
  /** Which revision runs: that of the run, or the task's latest. */
  task_version: Schema.optionalWith(Schema.Literal("same", "latest"), {
    exact: true,
    default: (): "same" | "latest" => "same"
  })
}).annotations({ identifier: "Rerun", parseOptions: { onExcessProperty: "error", errors: "all" } })
export type Rerun = typeof Rerun.Type

/** The run cannot be retried: it is under way, or was skipped, or the pipeline has changed since. */
export class NotRetryable extends Schema.TaggedError<NotRetryable>()(
  "NotRetryable",
  {
    run_id: Schema.String,
    state: RunState,
    reason: Schema.Literal("run_unfinished", "run_skipped", "pipeline_changed")
  },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** The run is older than the history is kept. */
export class RunExpired extends Schema.TaggedError<RunExpired>()(
  "RunExpired",
  { run_id: Schema.String },
  HttpApiSchema.annotations({ status: 410 })
) {}

/**
 * Ids of the steps whose ends a new run takes over, of those that were recorded: all before `from`, or all where that is undefined;
 * with needs, all but `from` and what needs it. The failure that ended the run is no end to keep: its step is run again.
 */
export const keptSteps = (
  { main }: CheckedPipeline,
  recorded: ReadonlySet<string>,
  from: string | undefined
): ReadonlyArray<string> => {
  const first = main.steps.findIndex(({ id }) => id === from)
  const again = new Set(from === undefined ? [] : [first])
  const { needs } = main
  if (needs !== null) {
    for (let size = -1; size !== again.size;) {
      size = again.size
      for (const [place, of] of needs.entries()) if (of.some((need) => again.has(need))) again.add(place)
    }
  }
  return main.steps.flatMap(({ id }, place) => {
    const before = needs === null && from !== undefined ? place < first : !again.has(place)
    return before && recorded.has(id) ? [id] : []
  })
}
