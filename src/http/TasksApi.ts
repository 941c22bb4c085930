import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Backfill, BackfillCreate, BackfillNotFound } from "../domain/Backfill.ts"
import { Instant } from "../domain/Instant.ts"
import { JsonObject } from "../domain/Json.ts"
import { Explanation, Occurrence } from "../domain/Occurrence.ts"
import { InvalidPipeline } from "../domain/PipelineSpec.ts"
import { ScheduleKind } from "../domain/ScheduleSpec.ts"
import {
  DuplicateRun,
  DuplicateTask,
  InvalidField,
  NothingToSnooze,
  Reason,
  Resume,
  Revision,
  Snooze,
  Task,
  TaskCanceled,
  TaskCreate,
  TaskNotFound,
  TaskPatch,
  TaskStatus,
  TooManyRuns,
  TooManyTasks,
  VersionMismatch
} from "../domain/Task.ts"
import { InvalidSchedule } from "../domain/Timeline.ts"
import { TasksRead, TasksRun, TasksWrite } from "./Auth.ts"
import * as Batch from "./Batch.ts"
import { body } from "./Bounded.ts"
import * as IdempotencyKey from "./IdempotencyKey.ts"
import { BadRequest, paging, query } from "./Requests.ts"

const TaskJson = Task.json.annotations({ identifier: "Task" })
const id = HttpApiSchema.param("id", Schema.String.annotations({ description: "id of a task" }))

const backfillId = HttpApiSchema.param("id", Schema.String.annotations({ description: "id of a backfill" }))

const whole = (from: number, to: number) =>
  Schema.NumberFromString.pipe(Schema.int(), Schema.between(from, to)).annotations({
    jsonSchema: { type: "integer", minimum: from, maximum: to }
  })
const Count = whole(1, 1000)

const Label = Schema.String.pipe(Schema.pattern(/^[^:]+:.*$/)).annotations({ message: () => "is key:value" })

const filters = query({
  ...paging,
  status: Schema.optionalWith(TaskStatus, { exact: true }),
  schedule_kind: Schema.optionalWith(ScheduleKind, { exact: true }),
  created_by: Schema.optionalWith(Schema.UUID, { exact: true }),
  label: Schema.optionalWith(Schema.Array(Label), { exact: true }),
  q: Schema.optionalWith(Schema.String.pipe(Schema.maxLength(200)), { exact: true }),
  due_before: Schema.optionalWith(Instant, { exact: true })
})

const RunNow = Schema.Struct({ params: Schema.optionalWith(JsonObject, { exact: true }) }).annotations({
  identifier: "RunNow",
  parseOptions: { onExcessProperty: "error", errors: "all" }
})

const TaskBatch = Batch.batchOf("TaskBatch", "TaskCreate")

/** The answer to a batch, item for item: 201 and the task, or the problem. */
export const TasksMade = Schema.Struct({
  items: Schema.Array(Schema.Struct({ ...Batch.answered, task: Schema.NullOr(TaskJson) }))
}).annotations({ identifier: "TasksMade" })

/** The answer to a run that was asked for. */
export const RunQueued = Schema.Struct({ run_id: Schema.String })

/** The answer to a backfill, and to a dry run of one. */
export const BackfillStarted = Schema.Struct({ backfill_id: Schema.String, occurrences: Schema.Int })
export const BackfillForetold = Schema.Struct({ occurrences: Schema.Array(Instant) })

/** What a change may fail with. */
const Refusals = Schema.Union(
  InvalidSchedule,
  InvalidPipeline,
  TaskNotFound,
  TaskCanceled,
  DuplicateTask,
  TooManyTasks,
  VersionMismatch,
  BadRequest
)

/** Tasks and the states that they go through. */
export class TasksApi extends HttpApiGroup.make("tasks")
  .add(
    HttpApiEndpoint.post("create", "/tasks")
      .setHeaders(IdempotencyKey.headers)
      .setPayload(body(TaskCreate))
      .addSuccess(TaskJson, { status: 201 })
      .addError(InvalidSchedule)
      .addError(InvalidPipeline)
      .addError(DuplicateTask)
      .addError(TooManyTasks)
      .addError(IdempotencyKey.Refusals)
      .middleware(TasksWrite)
      .annotate(OpenApi.Summary, "Create a task; it fires from then on")
  )
  .add(
    HttpApiEndpoint.post("createAll", "/tasks/batch")
      .setHeaders(IdempotencyKey.headers)
      .setPayload(body(TaskBatch))
      .addSuccess(TasksMade)
      .addError(IdempotencyKey.Refusals)
      .middleware(TasksWrite)
      .annotate(OpenApi.Summary, "Create up to 1,000 tasks, all that are valid in one transaction")
  )
  .add(
    HttpApiEndpoint.get("list", "/tasks")
      .setUrlParams(filters)
      .addSuccess(Schema.Struct({ items: Schema.Array(TaskJson), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(InvalidField)
      .middleware(TasksRead)
      .annotate(OpenApi.Summary, "List tasks, newest first")
  )
  .add(
    HttpApiEndpoint.get("get")`/tasks/${id}`
      .addSuccess(TaskJson)
      .addError(TaskNotFound)
      .middleware(TasksRead)
      .annotate(OpenApi.Summary, "Read a task")
  )
  .add(
    HttpApiEndpoint.patch("patch")`/tasks/${id}`
      .setPayload(body(TaskPatch))
      .addSuccess(TaskJson)
      .addError(Refusals)
      .middleware(TasksWrite)
      .annotate(OpenApi.Summary, "Change the given fields of a task")
  )
  .add(
    HttpApiEndpoint.put("put")`/tasks/${id}`
      .setPayload(body(TaskPatch))
      .addSuccess(TaskJson)
      .addError(Refusals)
      .middleware(TasksWrite)
      .annotate(OpenApi.Summary, "The same as PATCH")
  )
  .add(
    HttpApiEndpoint.get("versions")`/tasks/${id}/versions`
      .setUrlParams(query(paging))
      .addSuccess(Schema.Struct({ items: Schema.Array(Revision), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(TaskNotFound)
      .addError(InvalidField)
      .middleware(TasksRead)
      .annotate(OpenApi.Summary, "The definitions that a task had, newest first")
  )
  .add(
    HttpApiEndpoint.get("occurrences")`/tasks/${id}/occurrences`
      .setUrlParams(
        query({
          after: Schema.optionalWith(Instant, { exact: true }),
          count: Schema.optionalWith(Count, { exact: true })
        })
      )
      .addSuccess(Schema.Struct({ items: Schema.Array(Occurrence) }))
      .addError(TaskNotFound)
      .middleware(TasksRead)
      .annotate(OpenApi.Summary, "The next fire times of a task")
  )
  .add(
    HttpApiEndpoint.get("explain")`/tasks/${id}/explain`
      .setUrlParams(query({ at: Schema.optionalWith(Instant, { exact: true }) }))
      .addSuccess(Explanation)
      .addError(TaskNotFound)
      .middleware(TasksRead)
      .annotate(OpenApi.Summary, "Why a task will or will not run next, or what became of one instant")
  )
  .add(
    HttpApiEndpoint.post("backfill")`/tasks/${id}/backfill`
      .setHeaders(IdempotencyKey.headers)
      .setPayload(body(BackfillCreate))
      .addSuccess(BackfillStarted, { status: 202 })
      .addSuccess(BackfillForetold)
      .addError(TaskNotFound)
      .addError(TaskCanceled)
      .addError(InvalidField)
      .addError(IdempotencyKey.Refusals)
      .middleware(TasksRun)
      .annotate(OpenApi.Summary, "Run what a window of the schedule missed; the cursor stays where it is")
  )
  .add(
    HttpApiEndpoint.post("cancelBackfill")`/backfills/${backfillId}/cancel`
      .addSuccess(Backfill)
      .addError(BackfillNotFound)
      .middleware(TasksRun)
      .annotate(OpenApi.Summary, "Stop a backfill")
  )
  .add(
    HttpApiEndpoint.del("remove")`/tasks/${id}`
      .addSuccess(Schema.Void, { status: 204 })
      .addError(TaskNotFound)
      .addError(VersionMismatch)
      .addError(BadRequest)
      .middleware(TasksWrite)
      .annotate(OpenApi.Summary, "Cancel a task for good")
  )
  .add(
    HttpApiEndpoint.post("runNow")`/tasks/${id}/run_now`
      .setHeaders(IdempotencyKey.headers)
      .setPayload(body(RunNow))
      .addSuccess(RunQueued, { status: 202 })
      .addError(TaskNotFound)
      .addError(TaskCanceled)
      .addError(DuplicateRun)
      .addError(TooManyRuns)
      .addError(IdempotencyKey.Refusals)
      .middleware(TasksRun)
      .annotate(OpenApi.Summary, "Run a task now, whatever its schedule says")
  )
  .add(
    HttpApiEndpoint.post("snooze")`/tasks/${id}/snooze`
      .setPayload(body(Snooze))
      .addSuccess(TaskJson)
      .addError(TaskNotFound)
      .addError(TaskCanceled)
      .addError(NothingToSnooze)
      .addError(InvalidField)
      .addError(VersionMismatch)
      .addError(BadRequest)
      .middleware(TasksWrite)
      .annotate(OpenApi.Summary, "Put off the next occurrence; those after it stay")
  )
  .add(
    HttpApiEndpoint.post("pause")`/tasks/${id}/pause`
      .setPayload(body(Reason))
      .addSuccess(TaskJson)
      .addError(TaskNotFound)
      .addError(TaskCanceled)
      .addError(VersionMismatch)
      .addError(BadRequest)
      .middleware(TasksWrite)
      .annotate(OpenApi.Summary, "Stop deciding occurrences until a resume")
  )
  .add(
    HttpApiEndpoint.post("resume")`/tasks/${id}/resume`
      .setPayload(body(Resume))
      .addSuccess(TaskJson)
      .addError(TaskNotFound)
      .addError(TaskCanceled)
      .addError(VersionMismatch)
      .addError(BadRequest)
      .middleware(TasksWrite)
      .annotate(OpenApi.Summary, "Decide what the pause missed, and go on")
  )
  .add(
    HttpApiEndpoint.post("cancel")`/tasks/${id}/cancel`
      .setPayload(body(Reason))
      .addSuccess(TaskJson)
      .addError(TaskNotFound)
      .addError(VersionMismatch)
      .addError(BadRequest)
      .middleware(TasksWrite)
      .annotate(OpenApi.Summary, "Cancel a task for good, with its unfinished runs")
  ) {}
