import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Instant } from "../domain/Instant.ts"
import { AlreadyDecided, Approval, ApprovalNotFound, Decided, Decision } from "../domain/Approval.ts"
import { NotRetryable, Rerun, RunExpired } from "../domain/Rerun.ts"
import {
  Run,
  RunFinished,
  RunItem,
  RunNotFound,
  RunState,
  RunSummary,
  ShownValues,
  StepNotFound,
  Trigger
} from "../domain/Run.ts"
import { InvalidField, TaskCanceled, TooManyRuns } from "../domain/Task.ts"
import { RunsDecide, RunsRead, TasksRun } from "./Auth.ts"
import { body } from "./Bounded.ts"
import * as IdempotencyKey from "./IdempotencyKey.ts"
import { paging, query } from "./Requests.ts"
import { RunQueued } from "./TasksApi.ts"

const id = HttpApiSchema.param("id", Schema.String.annotations({ description: "id of a run" }))
const stepId = HttpApiSchema.param("step_id", Schema.String.annotations({ description: "id of a step of the run" }))

const filters = query({
  ...paging,
  task_id: Schema.optionalWith(Schema.UUID, { exact: true }),
  state: Schema.optionalWith(RunState, { exact: true }),
  trigger: Schema.optionalWith(Trigger, { exact: true }),
  scheduled_after: Schema.optionalWith(Instant, { exact: true }),
  scheduled_before: Schema.optionalWith(Instant, { exact: true })
})

/** What became of the occurrences. */
export class RunsApi extends HttpApiGroup.make("runs")
  .add(
    HttpApiEndpoint.get("list", "/runs")
      .setUrlParams(filters)
      .addSuccess(Schema.Struct({ items: Schema.Array(RunSummary), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(InvalidField)
      .middleware(RunsRead)
      .annotate(OpenApi.Summary, "List runs, newest first")
  )
  .add(
    HttpApiEndpoint.get("get")`/runs/${id}`
      .setUrlParams(query({ values: Schema.optionalWith(ShownValues, { exact: true }) }))
      .addSuccess(Run)
      .addError(RunNotFound)
      .middleware(RunsRead)
      .annotate(OpenApi.Summary, "Read a run with its attempts and steps")
  )
  .add(
    HttpApiEndpoint.get("items")`/runs/${id}/steps/${stepId}/items`
      .setUrlParams(query(paging))
      .addSuccess(Schema.Struct({ items: Schema.Array(RunItem), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(RunNotFound)
      .addError(StepNotFound)
      .addError(InvalidField)
      .middleware(RunsRead)
      .annotate(OpenApi.Summary, "List what became of the elements that a step ran over, in their order")
  )
  .add(
    HttpApiEndpoint.post("cancel")`/runs/${id}/cancel`
      .addSuccess(Run)
      .addError(RunNotFound)
      .addError(RunFinished)
      .middleware(TasksRun)
      .annotate(OpenApi.Summary, "Stop a run: at once while it waits, else at its next safe point")
  )
  .add(
    HttpApiEndpoint.post("retry")`/runs/${id}/retry`
      .setHeaders(IdempotencyKey.headers)
      .setPayload(body(Rerun))
      .addSuccess(RunQueued, { status: 202 })
      .addError(RunNotFound)
      .addError(RunExpired)
      .addError(NotRetryable)
      .addError(TaskCanceled)
      .addError(TooManyRuns)
      .addError(InvalidField)
      .addError(IdempotencyKey.Refusals)
      .middleware(TasksRun)
      .annotate(OpenApi.Summary, "Run again what a run did not bring to its end, with the outputs of the steps before")
  )
  .add(
    HttpApiEndpoint.post("decide")`/runs/${id}/steps/${stepId}/decide`
      .setHeaders(IdempotencyKey.headers)
      .setPayload(body(Decision))
      .addSuccess(Decided)
      .addError(ApprovalNotFound)
      .addError(AlreadyDecided)
      .addError(IdempotencyKey.Refusals)
      .middleware(RunsDecide)
      .annotate(OpenApi.Summary, "Answer a step that waits for an approval; the first answer holds")
  )
  .add(
    HttpApiEndpoint.get("approvals", "/approvals")
      .setUrlParams(query(paging))
      .addSuccess(Schema.Struct({ items: Schema.Array(Approval), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(InvalidField)
      .middleware(RunsDecide)
      .annotate(OpenApi.Summary, "List what waits for this agent's decision, newest first")
  ) {}
