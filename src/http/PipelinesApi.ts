import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { DryRunStep } from "../domain/DryRunStep.ts"
import { Topic } from "../domain/Event.ts"
import { Instant } from "../domain/Instant.ts"
import { JsonObject, JsonValue } from "../domain/Json.ts"
import { InvalidPipeline, PipelineSpec } from "../domain/PipelineSpec.ts"
import { InvalidField } from "../domain/Task.ts"
import { TasksRead } from "./Auth.ts"
import { body } from "./Bounded.ts"

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

/** Body of POST /pipelines/dry_run. */
export const DryRunCreate = Schema.Struct({
  payload: PipelineSpec,
  /** What `now` is; the present when left out. */
  at: optional(Instant),
  /** IANA name of the zone of calendar times. */
  timezone: optional(Schema.NonEmptyString.pipe(Schema.maxLength(100))),
  /** The event that causes the run; `at` is that of the run when left out. */
  event: optional(
    Schema.Struct({
      topic: Topic,
      payload: JsonValue,
      id: optional(Schema.NonEmptyString.pipe(Schema.maxLength(100))),
      at: optional(Instant)
    })
  ),
  /** What steps are taken to give, by their ids; `{"$error": {code, message?, retryable?}}` for a failure. */
  tool_outputs: optional(JsonObject)
}).annotations({ identifier: "DryRunCreate", parseOptions: { onExcessProperty: "error", errors: "all" } })

/** Answer of POST /pipelines/dry_run. */
export const DryRunResult = Schema.Struct({ steps: Schema.Array(DryRunStep) }).annotations({
  identifier: "DryRunResult"
})

/** What a pipeline would do, before a task bears it. */
export class PipelinesApi extends HttpApiGroup.make("pipelines").add(
  HttpApiEndpoint.post("dryRun", "/pipelines/dry_run")
    .setPayload(body(DryRunCreate))
    .addSuccess(DryRunResult)
    .addError(InvalidField)
    .addError(InvalidPipeline)
    .middleware(TasksRead)
    .annotate(OpenApi.Summary, "See what each step of a pipeline would get and give; no tool is called, nothing stored")
) {}
