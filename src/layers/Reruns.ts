import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Duration, Effect, Either, Layer, Option, Schema } from "effect"
import type { Actor } from "../domain/Agent.ts"
import { occurrenceKey } from "../domain/DueWork.ts"
import { isId, millisOfId } from "../domain/Id.ts"
import type { JsonObject, JsonValue } from "../domain/Json.ts"
import { check } from "../domain/PipelineChecks.ts"
import { PipelineSpec } from "../domain/PipelineSpec.ts"
import { keptSteps, NotRetryable, RunExpired } from "../domain/Rerun.ts"
import type { Rerun } from "../domain/Rerun.ts"
import { RunId, RunNotFound } from "../domain/Run.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { InvalidField, TaskCanceled, TooManyRuns } from "../domain/Task.ts"
import { Audit } from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import * as Firing from "./Firing.ts"
import * as Ids from "./Ids.ts"
import { Lease } from "./Lease.ts"
import { Runs } from "./Runs.ts"
import * as Settings from "./Settings.ts"
import * as TaskRows from "./TaskRows.ts"
import { Wakeups } from "./Wakeups.ts"

/** Runs that try again what another run did not bring to its end. */
export class Reruns extends Context.Tag("ordinaut/Reruns")<
  Reruns,
  {
    /**
     * Queues a new run that keeps the outputs of the steps before `from_step`, with what the first one was given. Answers its id.
     */
    readonly retry: (
      actor: Actor,
      runId: string,
      rerun: Rerun,
      traceparent: string | null
    ) => Effect.Effect<
      RunId,
      RunNotFound | RunExpired | NotRetryable | TaskCanceled | TooManyRuns | InvalidField | StoreUnavailable
    >
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      const runs = yield* Runs
      const audit = yield* Audit
      const wakeups = yield* Wakeups
      const keptDays = yield* Settings.runRetentionDays
      const rows = TaskRows.make(sql)

      const pipelineOf = Effect.fnUntraced(function* (taskId: string, version: number) {
        const [row] = yield* sql<{ payload: unknown }>`
          SELECT definition -> 'payload' AS payload FROM task_revision WHERE task_id = ${taskId} AND version = ${version}`
        return Option.getRight(Either.flatMap(decodeSpec(row?.payload), (spec) => check(spec)))
      })

      return Reruns.of({
        retry: Effect.fn("Reruns.retry")(function* (actor, runId, { from_step, task_version }, traceparent) {
          const now = DateTime.toEpochMillis(yield* DateTime.now)
          if (isId(runId) && millisOfId(runId) < now - Duration.toMillis(Duration.days(keptDays))) {
            return yield* new RunExpired({ run_id: runId })
          }
          const id = yield* Ids.next
          yield* Effect.gen(function* () {
            const source = yield* runs.get(actor, runId, "none")
            const refuse = (reason: NotRetryable["reason"]) =>
              new NotRetryable({ run_id: source.id, state: source.state, reason })
            if (source.finished_at === null) return yield* refuse("run_unfinished")
            if (source.state === "skipped") return yield* refuse("run_skipped")
            // The lock orders the retries of one task, so that each has a number of its own.
            const task = yield* rows
              .locked(actor, source.task_id)
              .pipe(Effect.catchTag("TaskNotFound", () => new RunNotFound({ run_id: runId })))
            if (task.status === "canceled") return yield* new TaskCanceled({ task_id: task.id })
            const version = task_version === "latest" ? task.version : source.task_version
            const [was, pipeline] = yield* Effect.all([
              pipelineOf(task.id, source.task_version),
              pipelineOf(task.id, version)
            ])
            if (Option.isNone(was) || Option.isNone(pipeline)) return yield* refuse("pipeline_changed")
            if (from_step !== undefined && !was.value.main.steps.some((step) => step.id === from_step)) {
              return yield* new InvalidField({ path: "/from_step", message: `the run has no step ${from_step}` })
            }
            const recorded = source.steps.filter((step) => final.has(step.state)).map((step) => step.id)
            const kept = keptSteps(was.value, new Set(recorded), from_step)
            const known = new Set(pipeline.value.main.steps.map((step) => step.id))
            if ([...kept, ...(from_step === undefined ? [] : [from_step])].some((step) => !known.has(step))) {
              return yield* refuse("pipeline_changed")
            }
            const [given] = yield* sql<{ input: JsonObject | null; event: JsonValue; n: number }>`
              SELECT (SELECT jsonb_build_object('id', e.id, 'topic', e.topic, 'payload', e.payload,
                  'at', to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
                  FROM event e WHERE e.id = ${source.event_id}) AS event,
                (SELECT input FROM occurrence WHERE task_id = ${task.id} AND run_id = ${runId}) AS input,
                (SELECT count(*)::integer FROM occurrence WHERE task_id = ${task.id} AND key LIKE ${`r:${runId}:%`}) AS n`
            if ((yield* lease.room([task.id])).get(task.id) === 0) return yield* new TooManyRuns({ task_id: task.id })
            yield* lease.enqueue([
              {
                ...Firing.workFor(id, task, {
                  params: given?.input?.["params"] ?? null,
                  event: given?.input?.["event"] ?? given?.event ?? null
                }),
                task_version: version,
                key: occurrenceKey.retry(runId, (given?.n ?? 0) + 1),
                trigger: "retry",
                scheduled_for: DateTime.toEpochMillis(source.scheduled_for),
                due_at: now,
                serial: false,
                retry_of: runId,
                ...(source.event_id === null ? {} : { event_id: source.event_id }),
                ...(given?.input == null ? {} : { input: given.input }),
                ...(traceparent === null ? {} : { traceparent })
              }
            ])
            yield* lease.takeOver(id, runId, kept)
            yield* audit.record({
              actor: actor.id,
              namespace: actor.namespace,
              action: "run.retried",
              subject_kind: "run",
              subject_id: runId,
              before: { state: source.state },
              after: { run_id: id, from_step: from_step ?? null, task_version: version }
            })
          }).pipe(sql.withTransaction)
          yield* wakeups.signal("work")
          return RunId.make(id)
        }, storeErrors)
      })
    })
  )
}

const final = new Set<string>(["succeeded", "skipped", "failed"])

const decodeSpec = Schema.decodeUnknownEither(PipelineSpec)
