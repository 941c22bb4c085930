import * as Model from "@effect/sql/Model"
import * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { Context, DateTime, Effect, Layer, Schema } from "effect"
import type { Actor } from "../domain/Agent.ts"
import { occurrenceKey } from "../domain/DueWork.ts"
import { isId } from "../domain/Id.ts"
import type { Page, PageRequest } from "../domain/Page.ts"
import { pageOf } from "../domain/Page.ts"
import { Attempt, RunFinished, RunItem, RunNotFound, RunState, RunSummary, StepNotFound } from "../domain/Run.ts"
import { outputOf, StepNames } from "../domain/RunOutput.ts"
import type { Run, ShownValues, Trigger } from "../domain/Run.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { Audit } from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import { Lease } from "./Lease.ts"
import * as RunSteps from "./RunSteps.ts"
import { Wakeups } from "./Wakeups.ts"

/** Which runs a list shows; what is absent does not narrow it. */
export interface RunFilter {
  readonly task_id?: string | undefined
  readonly state?: RunState | undefined
  readonly trigger?: Trigger | undefined
  readonly scheduled_after?: DateTime.Utc | undefined
  readonly scheduled_before?: DateTime.Utc | undefined
}

/** Reads runs, live and past, as one. */
export class Runs extends Context.Tag("ordinaut/Runs")<
  Runs,
  {
    /** Newest first. */
    readonly list: (
      actor: Actor,
      filter: RunFilter,
      page: PageRequest
    ) => Effect.Effect<Page<RunSummary>, StoreUnavailable>
    /** With as much of its inputs and outputs as `values` says. */
    readonly get: (actor: Actor, id: string, values?: ShownValues) => Effect.Effect<Run, RunNotFound | StoreUnavailable>
    /**
     * The elements of a step that runs over an array, in order, at most `limit` behind index `after` (-1: from the first), and the
     * `after` of the next page, null at the end.
     */
    readonly items: (
      actor: Actor,
      id: string,
      stepId: string,
      after: number,
      limit: number
    ) => Effect.Effect<
      { readonly items: ReadonlyArray<RunItem>; readonly next: number | null },
      RunNotFound | StepNotFound | StoreUnavailable
    >
    /** Ends a run that waits at once; asks a running one to stop. Answers the run as it is then. */
    readonly cancel: (actor: Actor, id: string) => Effect.Effect<Run, RunNotFound | RunFinished | StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      const audit = yield* Audit
      const wakeups = yield* Wakeups

      const steps = RunSteps.make(sql)
      const visible = (actor: Actor) =>
        actor.scopes.includes("admin") ? sql`namespace = ${actor.namespace}` : sql`agent_id = ${actor.id}`

      /** Both tables with the same columns; `narrow` is put to each, so that each uses its own indexes. */
      const both = (narrow: Statement.Fragment, limit: number) =>
        sql`
        SELECT u.*, coalesce(r.definition -> 'labels', '{}') AS labels, r.definition -> 'payload' -> 'pipeline' AS pipeline,
          coalesce(r.definition -> 'payload' -> 'on_failure', '[]') AS on_failure,
          floor(extract(epoch FROM u.started_at - u.due_at) * 1000)::float8 AS lag_ms
        FROM (
          (SELECT id, task_id, trigger, scheduled_for, due_at, task_version, priority,
            EXISTS (SELECT FROM live_step s WHERE s.run_id = due_work.id AND s.simulated) AS simulated, parent_run_id, retry_of, event_id,
            NULL::text AS skip_reason, NULL::integer AS skipped_count, NULL::timestamptz AS skipped_from, NULL::timestamptz AS skipped_to,
            CASE state WHEN 'leased' THEN 'running' WHEN 'parked' THEN 'waiting' ELSE 'queued' END AS state, attempt, started_at,
            NULL::timestamptz AS finished_at, NULL::jsonb AS error, split_part(traceparent, '-', 2) AS trace_id, created_at,
            locked_by, attempt_started_at, NULL::jsonb AS attempts
          FROM due_work WHERE ${narrow} ORDER BY id DESC LIMIT ${limit})
          UNION ALL
          (SELECT id, task_id, trigger, scheduled_for, due_at, task_version, priority, simulated, parent_run_id, retry_of, event_id,
            skip_reason, skipped_count, skipped_from, skipped_to, state, attempt, started_at, finished_at, error, trace_id, created_at,
            NULL::uuid, NULL::timestamptz, attempts
          FROM task_run WHERE ${narrow} ORDER BY id DESC LIMIT ${limit})
        ) AS u LEFT JOIN task_revision r ON r.task_id = u.task_id AND r.version = u.task_version
        ORDER BY u.id DESC LIMIT ${limit}`.pipe(Effect.flatMap(decodeRows))

      const pastAttempts = (id: string) =>
        sql`
          SELECT item AS attempt, worker_id, started_at, finished_at, error FROM live_step
          WHERE run_id = ${id} AND kind = 'attempt' ORDER BY item`.pipe(Effect.flatMap(decodeAttempts))

      const eventIds = Effect.fnUntraced(function* ({ event_id, task_id }: typeof Row.Type) {
        if (event_id === null) return []
        const [given] = yield* sql<{ ids: ReadonlyArray<string> }>`
          SELECT jsonb_path_query_array(input -> 'events', '$[*].id') AS ids FROM occurrence
          WHERE task_id = ${task_id} AND key = ${occurrenceKey.event(event_id)} AND input ? 'events'`
        return given?.ids ?? [event_id]
      })

      const one = Effect.fnUntraced(function* (actor: Actor, id: string, values?: ShownValues) {
        const [row] = isId(id) ? yield* both(sql`id = ${id} AND ${visible(actor)}`, 1) : []
        if (row === undefined) return yield* new RunNotFound({ run_id: id })
        const recorded = yield* steps.ended(id, values)
        const attempts = row.attempts ?? [...(yield* pastAttempts(id)), ...underWay(row)]
        const output =
          row.finished_at === null || row.state === "skipped" || values === "none"
            ? null
            : outputOf(row.pipeline ?? [], recorded)
        return {
          ...row,
          event_ids: yield* eventIds(row),
          attempts,
          output,
          steps: RunSteps.stepsOf(row, recorded, yield* steps.elements(id))
        }
      })

      return Runs.of({
        list: Effect.fn("Runs.list")(function* (actor, filter, page) {
          const narrow = sql.and([
            visible(actor),
            ...(page.before === null ? [] : [sql`id < ${page.before}`]),
            ...(filter.task_id === undefined ? [] : [sql`task_id = ${filter.task_id}`]),
            ...(filter.trigger === undefined ? [] : [sql`trigger = ${filter.trigger}`]),
            ...(filter.state === undefined ? [] : [sql`state = ANY (${statesOf[filter.state]})`]),
            ...(filter.scheduled_after === undefined
              ? []
              : [sql`scheduled_for > ${DateTime.toDateUtc(filter.scheduled_after)}`]),
            ...(filter.scheduled_before === undefined
              ? []
              : [sql`scheduled_for < ${DateTime.toDateUtc(filter.scheduled_before)}`])
          ])
          return pageOf(yield* both(narrow, page.limit + 1), page.limit)
        }, storeErrors),

        get: Effect.fn("Runs.get")(one, storeErrors),

        items: Effect.fn("Runs.items")(function* (actor, id, stepId, after, limit) {
          const run = yield* one(actor, id, "none")
          if (!run.steps.some((step) => step.id === stepId))
            return yield* new StepNotFound({ run_id: id, step_id: stepId })
          const found = yield* steps.page(id, stepId, after, limit)
          const items = found.slice(0, limit).map((item) => ({ ...item, logs: item.logs ?? [] }))
          return { items, next: found.length > limit ? (items.at(-1)?.index ?? null) : null }
        }, storeErrors),

        cancel: Effect.fn("Runs.cancel")(function* (actor, id) {
          const run = yield* Effect.gen(function* () {
            const before = yield* one(actor, id, "none")
            const { asked, ended } = yield* lease.cancel([id])
            if (asked.length + ended.length === 0) {
              const { state } = yield* one(actor, id, "none")
              return yield* new RunFinished({ run_id: id, state })
            }
            yield* audit.record({
              actor: actor.id,
              namespace: actor.namespace,
              action: "run.canceled",
              subject_kind: "run",
              subject_id: id,
              before: { state: before.state },
              after: null
            })
            return yield* one(actor, id)
          }).pipe(sql.withTransaction)
          yield* wakeups.signal("cancel")
          return run
        }, storeErrors)
      })
    })
  )
}

/** The states of rows that a state of runs stands for; the two tables share no state but by name. */
const statesOf: Record<RunState, ReadonlyArray<string>> = {
  queued: ["later", "ready", "blocked"],
  running: ["leased"],
  waiting: ["parked"],
  succeeded: ["succeeded"],
  failed: ["failed"],
  canceled: ["canceled"],
  skipped: ["skipped"]
}

const at = Schema.NullOr(Model.DateTimeFromDate)

const Row = Schema.Struct({
  ...RunSummary.fields,
  scheduled_for: Model.DateTimeFromDate,
  due_at: Model.DateTimeFromDate,
  skipped_from: at,
  skipped_to: at,
  started_at: at,
  finished_at: at,
  created_at: Model.DateTimeFromDate,
  trace_id: Schema.NullOr(Schema.String),
  locked_by: Schema.NullOr(Schema.String),
  attempt_started_at: at,
  attempts: Schema.NullOr(Schema.Array(Attempt)),
  pipeline: Schema.NullOr(StepNames),
  on_failure: StepNames
})

const decodeRows = Schema.decodeUnknown(Schema.Array(Row))
const decodeAttempts = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({ ...Attempt.fields, started_at: at, finished_at: at }))
)

/** The attempt that is under way, or that ended without counting and goes on. */
const underWay = (row: typeof Row.Type): ReadonlyArray<Attempt> =>
  row.attempt_started_at === null
    ? []
    : [
        {
          attempt: row.attempt,
          worker_id: row.locked_by,
          started_at: row.attempt_started_at,
          finished_at: null,
          error: null
        }
      ]
