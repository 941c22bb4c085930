import * as SqlClient from "@effect/sql/SqlClient"
import { Array as Arr, Context, Effect, Either, Layer, Schema } from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import { JsonObject, JsonValue, MadeJson } from "../domain/Json.ts"
import { check } from "../domain/PipelineChecks.ts"
import type { CheckedPipeline } from "../domain/CheckedPipeline.ts"
import { PipelineSpec } from "../domain/PipelineSpec.ts"
import { BackoffSeconds, BackoffStrategy } from "../domain/Retry.ts"
import type { StepRecord } from "../domain/Settlement.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { RunError, StepState } from "../domain/Run.ts"
import { find } from "../domain/Zone.ts"
import { WaitDetail, WaitKind, WaitResult } from "../domain/Wait.ts"
import type { Wait } from "../domain/Wait.ts"
import type { Zone } from "../domain/Zone.ts"
import { storeErrors } from "./Db.ts"

/** What of a revision a run needs. */
const Definition = Schema.Struct({
  title: Schema.String,
  labels: Schema.Record({ key: Schema.String, value: Schema.String }),
  timezone: Schema.String,
  concurrency_key: Schema.optional(Schema.NullOr(Schema.String)),
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
  /** The extensions that its steps were bound to when it was made: without one of them its steps fail, and are not simulated. */
  readonly bound: ReadonlySet<string>
}

/** What a run starts from, beside its plan. */
export interface RunInput {
  /** Null for the pipeline's own. */
  readonly params: JsonObject | null
  /** Null unless an event caused the run. */
  readonly event: JsonValue
  /** All events that the run stands for, oldest first. */
  readonly events?: JsonValue
  /** What earlier leases of the run left of its steps, and of the elements that these ran over. */
  readonly known: ReadonlyArray<
    Pick<
      StepRecord,
      "step_id" | "item" | "state" | "input" | "output" | "error" | "attempt" | "simulated" | "started_at"
    >
  >
  /** What it waits for, or has waited for. */
  readonly waits: ReadonlyArray<Wait>
  /** Set where the run has failed for good, and its `on_failure` is under way. */
  readonly failed: RunError | null
}

/** Of a run that starts afresh. */
export const noInput: RunInput = { params: null, event: null, known: [], waits: [], failed: null }

/** Revisions are kept ready in memory up to this number; they never change. */
const mostKept = 5000

/** Reads what leased runs need: their pinned revisions, what they were given, and the steps that they finished before. */
export class Plans extends Context.Tag("ordinaut/Plans")<
  Plans,
  {
    /** The plan of each run by its id; a run whose revision cannot be run any more has none. */
    readonly load: (work: ReadonlyArray<DueWork>) => Effect.Effect<ReadonlyMap<string, Plan>, StoreUnavailable>
    readonly inputs: (work: ReadonlyArray<DueWork>) => Effect.Effect<ReadonlyMap<string, RunInput>, StoreUnavailable>
    /** What a run waits for, as it is now. */
    readonly waits: (id: string) => Effect.Effect<ReadonlyArray<Wait>, StoreUnavailable>
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

      /** Plans by `keyOf`: of those kept now, and of the others from the store, whatever gives way for them. */
      const plansOf = Effect.fnUntraced(function* (work: ReadonlyArray<DueWork>) {
        const found = new Map<string, Plan>()
        const unknown = new Map<string, DueWork>()
        for (const one of work) {
          const plan = kept.get(keyOf(one))
          if (plan === undefined) unknown.set(keyOf(one), one)
          else found.set(keyOf(one), plan)
        }
        if (unknown.size === 0) return found
        const wanted = [...unknown.values()]
        const rows = yield* sql<{
          task_id: string
          task_version: number
          definition: unknown
          bound: ReadonlyArray<string>
        }>`
          SELECT r.task_id, r.version AS task_version, r.definition, r.bound_extensions AS bound
          FROM unnest(${wanted.map(({ task_id }) => task_id)}::uuid[], ${wanted.map(({ task_version }) => task_version)}::integer[])
            AS w (task_id, version) JOIN task_revision r ON r.task_id = w.task_id AND r.version = w.version`
        // Each by itself: a revision that another version wrote, and this one cannot read, fails its own runs alone.
        for (const row of rows) {
          const plan = planOf(row.definition, row.bound)
          if (Either.isLeft(plan)) continue
          found.set(keyOf(row), plan.right)
          keep(keyOf(row), plan.right)
        }
        return found
      })

      const left = (ids: ReadonlyArray<string>) =>
        sql`
          SELECT run_id, kind, step_id, item, state, input, output, error, attempt, simulated,
            coalesce((extract(epoch FROM started_at) * 1000)::float8, 0) AS started_at FROM live_step
          WHERE run_id = ANY (${ids}::uuid[]) AND kind IN ('step', 'log')`.pipe(Effect.flatMap(decodeSteps))

      const waitsOf = (ids: ReadonlyArray<string>) =>
        sql`
          SELECT run_id, step_id, item, kind, detail, result, (extract(epoch FROM expires_at) * 1000)::float8 AS expires_at
          FROM pending_item WHERE run_id = ANY (${ids}::uuid[])`.pipe(Effect.flatMap(decodeWaits))

      return Plans.of({
        load: Effect.fn("Plans.load")(function* (work) {
          const found = yield* plansOf(work)
          return new Map(
            work.flatMap((one) => {
              const plan = found.get(keyOf(one))
              return plan === undefined ? [] : [[one.id, plan] as const]
            })
          )
        }, storeErrors),

        inputs: Effect.fn("Plans.inputs")(function* (work) {
          const given = work.filter(({ trigger }) => trigger !== "schedule").map(({ id }) => id)
          // A retry of an ended run starts with what that one had finished.
          const resumed = work
            .filter(({ lease_no, trigger }) => lease_no > 1 || trigger === "retry")
            .map(({ id }) => id)
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
          const [steps, waits] = resumed.length === 0 ? [[], []] : yield* Effect.all([left(resumed), waitsOf(resumed)])
          const byId = new Map(rows.map((row) => [row.id, row]))
          const stepsById = Arr.groupBy(steps, ({ run_id }) => run_id)
          const waitsById = Arr.groupBy(waits, ({ run_id }) => run_id)
          return new Map(
            work.map(({ id }) => {
              const known = stepsById[id] ?? []
              return [
                id,
                {
                  params: byId.get(id)?.params ?? null,
                  event: byId.get(id)?.event ?? null,
                  events: eventsOf(byId.get(id)),
                  known: known.filter(({ kind }) => kind === "step"),
                  waits: waitsById[id] ?? [],
                  failed: known.find(({ kind }) => kind === "log")?.error ?? null
                }
              ]
            })
          )
        }, storeErrors),

        waits: Effect.fn("Plans.waits")((id) => waitsOf([id]), storeErrors)
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

const planOf = (stored: unknown, bound: ReadonlyArray<string>): Either.Either<Plan, unknown> =>
  Either.gen(function* () {
    const definition = yield* decodeDefinition(stored)
    const pipeline = yield* check(definition.payload)
    const zone = yield* Either.fromNullable(find(definition.timezone), () => "unknown zone")
    return { definition, pipeline, zone, bound: new Set(bound) }
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
      kind: Schema.String,
      step_id: Schema.String,
      item: Schema.Int,
      state: StepState,
      input: MadeJson,
      output: MadeJson,
      error: Schema.NullOr(RunError),
      attempt: Schema.Int,
      simulated: Schema.Boolean,
      started_at: Schema.Number
    })
  )
)
const decodeWaits = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      run_id: Schema.String,
      step_id: Schema.String,
      item: Schema.Int,
      kind: WaitKind,
      detail: WaitDetail,
      result: Schema.NullOr(WaitResult),
      expires_at: Schema.NullOr(Schema.Number)
    })
  )
)
