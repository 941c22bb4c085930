import * as SqlClient from "@effect/sql/SqlClient"
import { Context, Effect, Either, Layer, Schema } from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import { JsonObject, JsonValue } from "../domain/Json.ts"
import { check } from "../domain/PipelineChecks.ts"
import type { CheckedPipeline } from "../domain/PipelineChecks.ts"
import { PipelineSpec } from "../domain/PipelineSpec.ts"
import { BackoffSeconds, BackoffStrategy } from "../domain/Retry.ts"
import type { StepRecord } from "../domain/Settlement.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { RunError, StepState } from "../domain/Run.ts"
import { find } from "../domain/Zone.ts"
import type { Zone } from "../domain/Zone.ts"
import { storeErrors } from "./Db.ts"

/** What of a revision a run needs. */
const Definition = Schema.Struct({
  title: Schema.String,
  labels: Schema.Record({ key: Schema.String, value: Schema.String }),
  timezone: Schema.String,
  payload: PipelineSpec,
  max_retries: Schema.Int,
  backoff_strategy: BackoffStrategy,
  backoff_seconds: BackoffSeconds,
  backoff_max_seconds: BackoffSeconds,
  timeout_seconds: Schema.Int
})

/** A revision of a task, ready to be run. */
export interface Plan {
  readonly definition: typeof Definition.Type
  readonly pipeline: CheckedPipeline
  readonly zone: Zone
}

/** What a run starts from, beside its plan. */
export interface RunInput {
  /** Null for the pipeline's own. */
  readonly params: JsonObject | null
  /** Null unless an event caused the run. */
  readonly event: JsonValue
  /** All events that the run stands for, oldest first. */
  readonly events?: JsonValue
  /** What earlier leases of the run left. */
  readonly finished: ReadonlyArray<Pick<StepRecord, "step_id" | "state" | "output" | "error" | "attempt">>
}

/** Revisions are kept ready in memory up to this number; they never change. */
const mostKept = 5000

/** Reads what leased runs need: their pinned revisions, what they were given, and the steps that they finished before. */
export class Plans extends Context.Tag("ordinaut/Plans")<
  Plans,
  {
    /** The plan of each run by its id; a run whose revision cannot be run any more has none. */
    readonly load: (work: ReadonlyArray<DueWork>) => Effect.Effect<ReadonlyMap<string, Plan>, StoreUnavailable>
    readonly inputs: (work: ReadonlyArray<DueWork>) => Effect.Effect<ReadonlyMap<string, RunInput>, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const kept = new Map<string, Plan>()

      const keep = (key: string, plan: Plan) => {
        const oldest = kept.size >= mostKept ? kept.keys().next().value : undefined
        if (oldest !== undefined) kept.delete(oldest)
        kept.set(key, plan)
      }

      const missing = Effect.fnUntraced(function* (work: ReadonlyArray<DueWork>) {
        const unknown = new Map(work.filter((one) => !kept.has(keyOf(one))).map((one) => [keyOf(one), one]))
        if (unknown.size === 0) return
        const wanted = [...unknown.values()]
        const rows = yield* sql<{ task_id: string; task_version: number; definition: unknown }>`
          SELECT r.task_id, r.version AS task_version, r.definition
          FROM unnest(${wanted.map(({ task_id }) => task_id)}::uuid[], ${wanted.map(({ task_version }) => task_version)}::integer[])
            AS w (task_id, version) JOIN task_revision r ON r.task_id = w.task_id AND r.version = w.version`
        // Each by itself: a revision that another version wrote, and this one cannot read, fails its own runs alone.
        for (const row of rows) {
          const plan = planOf(row.definition)
          if (Either.isRight(plan)) keep(keyOf(row), plan.right)
        }
      })

      return Plans.of({
        load: Effect.fn("Plans.load")(function* (work) {
          yield* missing(work)
          return new Map(
            work.flatMap((one) => {
              const plan = kept.get(keyOf(one))
              return plan === undefined ? [] : [[one.id, plan] as const]
            })
          )
        }, storeErrors),

        inputs: Effect.fn("Plans.inputs")(function* (work) {
          const given = work.filter(({ trigger }) => trigger !== "schedule").map(({ id }) => id)
          const resumed = work.filter(({ lease_no }) => lease_no > 1).map(({ id }) => id)
          const rows =
            given.length === 0
              ? []
              : yield* sql`
                  SELECT d.id, o.input -> 'params' AS params, o.input -> 'events' AS events, CASE
                    WHEN o.input ? 'event' THEN o.input -> 'event' WHEN e.id IS NOT NULL THEN jsonb_build_object('id', e.id, 'topic', e.topic,
                    'payload', e.payload, 'at', to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) END AS event
                  FROM due_work d LEFT JOIN occurrence o ON o.task_id = d.task_id AND o.key = d.key
                    LEFT JOIN event e ON e.id = d.event_id
                  WHERE d.id = ANY (${given}::uuid[])`.pipe(Effect.flatMap(decodeGiven))
          const steps =
            resumed.length === 0
              ? []
              : yield* sql`
                  SELECT run_id, step_id, state, output, error, attempt FROM live_step
                  WHERE run_id = ANY (${resumed}::uuid[]) AND kind = 'step' AND item = -1`.pipe(
                  Effect.flatMap(decodeSteps)
                )
          const byId = new Map(rows.map((row) => [row.id, row]))
          return new Map(
            work.map(({ id }) => [
              id,
              {
                params: byId.get(id)?.params ?? null,
                event: byId.get(id)?.event ?? null,
                events: eventsOf(byId.get(id)),
                finished: steps.filter(({ run_id }) => run_id === id)
              }
            ])
          )
        }, storeErrors)
      })
    })
  )
}

/** Where nothing was collected, the event alone. */
const eventsOf = (given: { readonly event: JsonValue; readonly events: JsonValue } | undefined): JsonValue =>
  given?.events ?? (given?.event == null ? null : [given.event])

const keyOf = ({ task_id, task_version }: { readonly task_id: string; readonly task_version: number }) =>
  `${task_id}:${task_version}`

const decodeDefinition = Schema.decodeUnknownEither(Definition)

const planOf = (stored: unknown): Either.Either<Plan, unknown> =>
  Either.gen(function* () {
    const definition = yield* decodeDefinition(stored)
    const pipeline = yield* check(definition.payload)
    const zone = yield* Either.fromNullable(find(definition.timezone), () => "unknown zone")
    return { definition, pipeline, zone }
  })

const decodeGiven = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({ id: Schema.String, params: Schema.NullOr(JsonObject), event: JsonValue, events: JsonValue })
  )
)
const decodeSteps = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      run_id: Schema.String,
      step_id: Schema.String,
      state: StepState,
      output: JsonValue,
      error: Schema.NullOr(RunError),
      attempt: Schema.Int
    })
  )
)
