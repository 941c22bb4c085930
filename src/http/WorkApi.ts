import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import {
  WorkDone,
  WorkFailed,
  WorkHeartbeat,
  WorkItem,
  WorkItemNotFound,
  WorkKept,
  WorkLeaseLost,
  WorkWanted
} from "../domain/WorkItem.ts"
import { WorkExecute } from "./Auth.ts"
import { body } from "./Bounded.ts"

const id = HttpApiSchema.param("id", Schema.String.annotations({ description: "id of an item" }))

/** Steps that external workers do. */
export class WorkApi extends HttpApiGroup.make("work")
  .add(
    HttpApiEndpoint.post("lease", "/work/lease")
      .setPayload(body(WorkWanted))
      .addSuccess(Schema.Struct({ items: Schema.Array(WorkItem) }))
      .middleware(WorkExecute)
      .annotate(OpenApi.Summary, "Lease steps to do; waits for the first one as long as asked")
  )
  .add(
    HttpApiEndpoint.post("heartbeat")`/work/${id}/heartbeat`
      .setPayload(body(WorkHeartbeat))
      .addSuccess(WorkKept)
      .addError(WorkItemNotFound)
      .addError(WorkLeaseLost)
      .middleware(WorkExecute)
      .annotate(OpenApi.Summary, "Keep a leased step, and hear whether it is to be canceled")
  )
  .add(
    HttpApiEndpoint.post("complete")`/work/${id}/complete`
      .setPayload(body(WorkDone))
      .addSuccess(HttpApiSchema.NoContent)
      .addError(WorkItemNotFound)
      .addError(WorkLeaseLost)
      .middleware(WorkExecute)
      .annotate(OpenApi.Summary, "Give the output of a leased step")
  )
  .add(
    HttpApiEndpoint.post("fail")`/work/${id}/fail`
      .setPayload(body(WorkFailed))
      .addSuccess(HttpApiSchema.NoContent)
      .addError(WorkItemNotFound)
      .addError(WorkLeaseLost)
      .middleware(WorkExecute)
      .annotate(OpenApi.Summary, "Say that a leased step has failed")
  ) {}
