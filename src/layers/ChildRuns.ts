import { createHash } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Effect, Layer, Schema } from "effect"
import { occurrenceKey } from "../domain/DueWork.ts"
import type { DueWork } from "../domain/DueWork.ts"
import { mostHops } from "../domain/Event.ts"
import { isId, uuidV7 } from "../domain/Id.ts"
import type { JsonObject } from "../domain/Json.ts"
import { RunError, RunState } from "../domain/Run.ts"
import { outputOf, RecordedOutput, StepNames } from "../domain/RunOutput.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import type { Answer } from "../domain/Wait.ts"
import { Audit } from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import * as Firing from "./Firing.ts"
import { Lease } from "./Lease.ts"
import { decodeEach } from "./TaskRows.ts"
import { Wakeups } from "./Wakeups.ts"

/** Answers that one statement carries. */
const batch = 200

/** Runs that other runs start. */
export class ChildRuns extends Context.Tag("ordinaut/ChildRuns")<
  ChildRuns,
  {
    /**
     * Starts a run of another task of the same owner; the same run when asked again with the same key. Answers its id. Fails with
     * `tool_input_invalid` where there is no such task, or it is canceled, with `loop_detected` where runs start each other without
     * end, and with `too_many_runs` where the task has as many unfinished ones as it may.
     */
    readonly start: (
      parent: DueWork,
      key: string,
      taskId: string,
      params: JsonObject | null
    ) => Effect.Effect<string, StepFailed>
    /** Tells those who wait for runs that have ended. Answers how many it told. */
    readonly finish: Effect.Effect<number, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      const audit = yield* Audit
      const wakeups = yield* Wakeups

      return ChildRuns.of({
        start: Effect.fn("ChildRuns.start")(
          function* (parent, key, taskId, params) {
            if (parent.hops >= mostHops) {
              return yield* StepFailed.of(
                "loop_detected",
                `runs started each other more than ${mostHops} times in a row`
              )
            }
            const rows = isId(taskId)
              ? yield* sql<{ id: string }>`
                  SELECT * FROM task WHERE id = ${taskId} AND (created_by = ${parent.agent_id} OR EXISTS (
                    SELECT FROM agent a WHERE a.id = ${parent.agent_id} AND 'admin' = ANY (a.scopes) AND a.namespace = task.namespace))`
              : []
            const [task] = decodeEach(rows)[1]
            if (task === undefined)
              return yield* StepFailed.of("tool_input_invalid", `/task_id: there is no task ${taskId}`)
            if (task.status === "canceled")
              return yield* StepFailed.of("tool_input_invalid", `/task_id: task ${taskId} is canceled`)
            const id = runIdOf(parent, key)
            const now = DateTime.toEpochMillis(yield* DateTime.now)
            yield* Effect.gen(function* () {
              // Of many starts at once each sees those before it.
              yield* sql`SELECT pg_advisory_xact_lock(hashtextextended(${`ordinaut.room:${task.id}`}, 0))`
              const [known] =
                yield* sql`SELECT FROM occurrence WHERE task_id = ${task.id} AND key = ${occurrenceKey.manual(id)}`
              if (known === undefined && (yield* lease.room([task.id])).get(task.id) === 0) {
                return yield* StepFailed.of(
                  "too_many_runs",
                  `task ${taskId} has as many unfinished runs as ORDINAUT_MAX_UNFINISHED_RUNS allows`
                )
              }
              const queued = yield* lease.enqueue([
                {
                  ...Firing.workFor(id, task, { params }),
                  key: occurrenceKey.manual(id),
                  trigger: "manual",
                  scheduled_for: now,
                  due_at: now,
                  serial: false,
                  parent_run_id: parent.id,
                  hops: parent.hops + 1,
                  ...(params === null ? {} : { input: { params } }),
                  ...(parent.traceparent === null ? {} : { traceparent: parent.traceparent })
                }
              ])
              // A call that is made again starts nothing.
              if (queued.length === 0) return
              yield* audit.record({
                actor: parent.agent_id,
                namespace: task.namespace,
                action: "task.run_now",
                subject_kind: "task",
                subject_id: task.id,
                before: null,
                after: { run_id: id, parent_run_id: parent.id }
              })
            }).pipe(sql.withTransaction)
            yield* wakeups.signal("work")
            return id
          },
          storeErrors,
          Effect.catchTag("StoreUnavailable", () => StepFailed.of("internal", "the database did not answer"))
        ),

        finish: Effect.gen(function* () {
          const ended = yield* sql`
            SELECT p.id, p.detail ->> 'run_id' AS run_id, r.state, r.error,
              coalesce(v.definition -> 'payload' -> 'pipeline', '[]') AS pipeline,
              (SELECT coalesce(jsonb_agg(jsonb_build_object('step_id', s.step_id, 'output', s.output)), '[]')
                FROM run_step s WHERE s.run_id = r.id AND s.item = -1) AS recorded
            FROM (
              SELECT id, detail FROM pending_item o WHERE kind = 'child' AND result IS NULL
                AND NOT EXISTS (SELECT FROM due_work d WHERE d.id = (o.detail ->> 'run_id')::uuid) LIMIT ${batch}) AS p
            JOIN task_run r ON r.id = (p.detail ->> 'run_id')::uuid
            LEFT JOIN task_revision v ON v.task_id = r.task_id AND v.version = r.task_version`.pipe(
            Effect.flatMap(decodeEnded)
          )
          const answered = yield* lease.answer(ended.map((one) => answerOf(one)))
          if (answered.length > 0) yield* wakeups.signal("work")
          return answered.length
        }).pipe(Effect.withSpan("ChildRuns.finish"), storeErrors)
      })
    })
  )
}

/** The same for the same call of the same run, so that a call that is made again starts nothing. */
const runIdOf = (parent: DueWork, key: string): string =>
  uuidV7(DateTime.toEpochMillis(parent.created_at), createHash("sha256").update(`${parent.id} ${key}`).digest(), 0)

const Ended = Schema.Struct({
  id: Schema.String,
  run_id: Schema.String,
  state: RunState,
  error: Schema.NullOr(RunError),
  pipeline: StepNames,
  recorded: Schema.Array(RecordedOutput)
})
const decodeEnded = Schema.decodeUnknown(Schema.Array(Ended))

const answerOf = ({ error, id, pipeline, recorded, run_id, state }: typeof Ended.Type): Answer => ({
  id,
  result:
    state === "succeeded"
      ? { output: { run_id, state, output: outputOf(pipeline, recorded) } }
      : {
          error: {
            code: "failed",
            message: `run ${run_id} ended as ${state}${error === null ? "" : `: ${error.code}: ${error.message}`}`,
            retryable: false
          }
        }
})
