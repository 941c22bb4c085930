import * as Model from "@effect/sql/Model"
import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Schema, Struct } from "effect"
import { MadeJson } from "../domain/Json.ts"
import { LogLine, RunError, RunItem, StepState } from "../domain/Run.ts"
import type { RunStep, ShownValues } from "../domain/Run.ts"
import { namesOf } from "../domain/RunOutput.ts"
import type { StepNames } from "../domain/RunOutput.ts"

const at = Schema.NullOr(Model.DateTimeFromDate)

/** Bytes of inputs and outputs that a run shows with its steps without being asked, and of one that it shows in any event. */
const shownTogether = 1_048_576
const shownAlways = 16_384

const StepRow = Schema.Struct({
  step_id: Schema.String,
  uses: Schema.NullOr(Schema.String),
  state: StepState,
  attempt: Schema.Int,
  input: MadeJson,
  output: MadeJson,
  error: Schema.NullOr(RunError),
  simulated: Schema.Boolean,
  input_omitted: Schema.Boolean,
  output_omitted: Schema.Boolean,
  logs: Schema.NullOr(Schema.Array(LogLine)),
  started_at: at,
  finished_at: at
})

const decodeSteps = Schema.decodeUnknown(Schema.Array(StepRow))
const decodeCounts = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      step_id: Schema.String,
      total: Schema.Int,
      succeeded: Schema.Int,
      failed: Schema.Int,
      waits: Schema.Boolean,
      simulated: Schema.Boolean,
      started_at: at
    })
  )
)
const decodeItems = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({ ...RunItem.fields, logs: Schema.NullOr(Schema.Array(LogLine)), started_at: at, finished_at: at })
  )
)

/** Reads the steps of runs and the elements that these ran over, live and past as one. */
export const make = (sql: SqlClient.SqlClient) => {
  /** The steps that have begun, each with its last state; what is told to be omitted is null, save an output that its run shows. */
  const ended = (id: string, values: ShownValues | undefined) => {
    const omitted = (size: string) =>
      values === undefined
        ? sql`(${sql(size)} > ${shownAlways} AND sum(input_size + output_size) OVER () > ${shownTogether})`
        : sql`(${values === "none"} AND ${sql(size)} > 0)`
    const columns =
      sql.literal(`step_id, uses, state, attempt, input, output, error, simulated, logs, started_at, finished_at,
        coalesce(octet_length(nullif(input, 'null')::text), 0) AS input_size,
        coalesce(octet_length(nullif(output, 'null')::text), 0) AS output_size`)
    return sql`
      SELECT step_id, uses, state, attempt, error, simulated, logs, started_at, finished_at, input_omitted, output_omitted,
        CASE WHEN NOT input_omitted THEN input END AS input, CASE WHEN NOT ${values === "none"} THEN output END AS output
      FROM (
        SELECT *, ${omitted("input_size")} AS input_omitted, ${omitted("output_size")} AS output_omitted FROM (
          SELECT ${columns} FROM live_step WHERE run_id = ${id} AND kind = 'step' AND item = -1
          UNION ALL
          SELECT ${columns} FROM run_step WHERE run_id = ${id} AND item = -1) AS known) AS told`.pipe(
      Effect.flatMap(decodeSteps)
    )
  }

  /** How many elements of each step there are, and how they ended. */
  const elements = (id: string) =>
    sql`
      SELECT step_id, count(*)::integer AS total, count(*) FILTER (WHERE state = 'succeeded')::integer AS succeeded,
        count(*) FILTER (WHERE state = 'failed')::integer AS failed, bool_or(state = 'waiting') AS waits, bool_or(simulated) AS simulated,
        min(started_at) AS started_at
      FROM (
        SELECT step_id, state, simulated, started_at FROM live_step WHERE run_id = ${id} AND kind = 'step' AND item >= 0
        UNION ALL
        SELECT step_id, state, simulated, started_at FROM run_step WHERE run_id = ${id} AND item >= 0) AS elements
      GROUP BY 1`.pipe(Effect.flatMap(decodeCounts))

  /** At most `limit` + 1 elements of a step behind an index, in order. */
  const page = (id: string, stepId: string, after: number, limit: number) =>
    sql`
        SELECT * FROM (
          SELECT item AS index, state, attempt, input, output, error, logs, started_at, finished_at, simulated
          FROM live_step WHERE run_id = ${id} AND kind = 'step' AND step_id = ${stepId}
          UNION ALL
          SELECT item, state, attempt, input, output, error, logs, started_at, finished_at, simulated
          FROM run_step WHERE run_id = ${id} AND step_id = ${stepId}) AS elements
        WHERE index > ${after} ORDER BY index LIMIT ${limit + 1}`.pipe(Effect.flatMap(decodeItems))
  return { ended, elements, page }
}

/** What of a run says which steps it has. */
interface Steps {
  readonly state: string
  readonly finished_at: unknown
  readonly pipeline: StepNames | null
  readonly on_failure: StepNames
}

/** All steps of the pinned revision, in its order, then those of `on_failure` that have run; one that has not ended is pending. */
export const stepsOf = (
  row: Steps,
  recorded: ReadonlyArray<typeof StepRow.Type>,
  counts: Effect.Effect.Success<ReturnType<typeof decodeCounts>>
): ReadonlyArray<RunStep> => {
  if (row.state === "skipped") return []
  const known = new Map(recorded.map((step) => [step.step_id, step]))
  const counted = new Map(counts.map((count) => [count.step_id, count]))
  const main = row.pipeline ?? []
  const after = namesOf(row.on_failure, main.length).filter(({ id }) => known.has(id) || counted.has(id))
  return [...namesOf(main), ...after].map(({ id, uses }): RunStep => {
    const step = known.get(id)
    const count = counted.get(id)
    const items = count === undefined ? null : { total: count.total, succeeded: count.succeeded, failed: count.failed }
    return step === undefined
      ? {
          id,
          uses,
          state:
            count === undefined
              ? "pending"
              : row.finished_at !== null
                ? "canceled"
                : count.waits
                  ? "waiting"
                  : "running",
          attempt: null,
          input: null,
          output: null,
          error: null,
          logs: [],
          started_at: count?.started_at ?? null,
          finished_at: null,
          simulated: count?.simulated ?? false,
          omitted: [],
          items
        }
      : {
          ...Struct.omit(step, "input_omitted", "output_omitted"),
          output: step.output_omitted ? null : step.output,
          omitted: [
            ...(step.input_omitted ? (["input"] as const) : []),
            ...(step.output_omitted ? (["output"] as const) : [])
          ],
          // Under way when its worker was lost: the run waits to be leased again.
          state: step.state === "running" && row.state === "queued" ? "pending" : step.state,
          id,
          uses,
          logs: step.logs ?? [],
          finished_at: step.state === "running" || step.state === "waiting" ? null : step.finished_at,
          items
        }
  })
}
