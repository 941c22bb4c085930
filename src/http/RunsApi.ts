import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Instant } from "../domain/Instant.ts"
import { Run, RunFinished, RunNotFound, RunState, RunSummary, Trigger } from "../domain/Run.ts"
import { InvalidField } from "../domain/Task.ts"
import { RunsRead, TasksRun } from "./Auth.ts"
import { paging, query } from "./Requests.ts"

const id = HttpApiSchema.param("id", Schema.String.annotations({ description: "id of a run" }))

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
      .addSuccess(Run)
      .addError(RunNotFound)
      .middleware(RunsRead)
      .annotate(OpenApi.Summary, "Read a run with its attempts and steps")
  )
  .add(
    HttpApiEndpoint.post("cancel")`/runs/${id}/cancel`
      .addSuccess(Run)
      .addError(RunNotFound)
      .addError(RunFinished)
      .middleware(TasksRun)
      .annotate(OpenApi.Summary, "Stop a run: at once while it waits, else at its next safe point")
  ) {}
