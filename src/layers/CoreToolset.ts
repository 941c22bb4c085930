import { Clock, Context, Effect, Either, Layer } from "effect"
import type { Permission } from "../domain/Agent.ts"
import type { CheckedStep } from "../domain/CheckedPipeline.ts"
import { coreInput, runCore } from "../domain/CoreTools.ts"
import type { DueWork } from "../domain/DueWork.ts"
import { parseInstant } from "../domain/Instant.ts"
import { isObject } from "../domain/Json.ts"
import type { JsonObject, JsonValue } from "../domain/Json.ts"
import { longestWaitSeconds } from "../domain/PipelineSpec.ts"
import { permissionProblem } from "../domain/Rights.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { ToolCall } from "../domain/ToolCall.ts"
import { ChildRuns } from "./ChildRuns.ts"
import { Confidential } from "./Confidential.ts"
import { Events } from "./Events.ts"
import { HttpTool } from "./HttpTool.ts"
import { RunRights } from "./RunRights.ts"
import { defaultExpirySeconds, plainTool } from "./Tool.ts"
import type { Begun, Tool } from "./Tool.ts"

/** The tools of namespace `core`. */
export class CoreToolset extends Context.Tag("ordinaut/CoreToolset")<
  CoreToolset,
  { readonly find: (step: CheckedStep) => Effect.Effect<Tool, StepFailed> }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const children = yield* ChildRuns
      const rights = yield* RunRights
      const events = yield* Events
      const http = yield* HttpTool
      const confidential = yield* Confidential

      /** Fails with `forbidden` where the owner of the task may not do by itself what the step does. */
      const permitted = ({ agent_id }: DueWork, permission: Permission) =>
        rights.one(agent_id).pipe(
          Effect.catchTag("StoreUnavailable", () => StepFailed.of("internal", "the database did not answer")),
          Effect.flatMap((found) => permissionProblem(found, permission) ?? Effect.void)
        )

      const start = ({ idempotencyKey, work }: ToolCall, input: JsonObject) =>
        Effect.zipRight(
          permitted(work, "tasks:run"),
          children.start(work, idempotencyKey, String(input["task_id"]), objectOf(input, "params"))
        )

      const tools: Readonly<Record<string, Tool>> = {
        wait: waiting({
          begin: (_, input) =>
            Effect.flatMap(Clock.currentTimeMillis, (now) => {
              const { seconds, until } = input
              const ends =
                typeof until === "string" ? (parseInstant(until) ?? now) : now + Math.round(Number(seconds) * 1000)
              return ends - now > longestWaitSeconds * 1000
                ? StepFailed.of("tool_input_invalid", "/until: this is more than 366 days off")
                : Effect.succeed({ kind: "wait", tool: null, detail: { began: now }, expires_at: Math.max(now, ends) })
            })
        }),
        approval: waiting({
          begin: (call, input) =>
            expiring(call, (expires_at) => ({
              kind: "approval",
              tool: null,
              detail: {
                message: input["message"] ?? null,
                data: input["data"] ?? null,
                approvers: input["approvers"] ?? [],
                on_expire: input["on_expire"] ?? "fail",
                fail_on_reject: input["fail_on_reject"] ?? false
              },
              expires_at
            }))
        }),
        wait_event: waiting({
          begin: (call, input) =>
            expiring(call, (expires_at) => ({
              kind: "event",
              tool: String(input["topic"]),
              detail: { topic: input["topic"] ?? null, if: input["if"] ?? null },
              expires_at
            }))
        }),
        http: plainTool("core", {
          outside: true,
          metered: true,
          idempotent: false,
          call: (call) =>
            confidential
              .call(call, isObject(call.input) ? String(call.input["url"]) : null, (opened) => http.call(opened))
              .pipe(Effect.map((output) => ({ output, simulated: false, log: undefined })))
        }),
        emit: plainTool("core", {
          outside: true,
          call: (call) =>
            Effect.gen(function* () {
              const { payload = null, topic } = yield* coreInput("emit", call.input)
              yield* permitted(call.work, "events:publish")
              const output = yield* events
                .emit({ run: call.work, key: call.idempotencyKey, topic: String(topic), payload })
                .pipe(
                  Effect.catchTag("StoreUnavailable", () => StepFailed.of("internal", "the database did not answer"))
                )
              return { output, simulated: false, log: undefined }
            })
        }),
        run_task: {
          ...waiting({
            begin: (call, input) =>
              Effect.flatMap(start(call, input), (run_id) =>
                expiring(call, (expires_at) => ({ kind: "child", tool: null, detail: { run_id }, expires_at }))
              )
          }),
          outside: true,
          waits: (input) => isObject(input) && input["wait"] === true,
          call: (call) =>
            Effect.flatMap(coreInput("run_task", call.input), (input) =>
              Effect.map(start(call, input), (run_id) => ({ output: { run_id }, simulated: false, log: undefined }))
            )
        }
      }

      return CoreToolset.of({
        find: (step) => Effect.succeed((Object.hasOwn(tools, step.tool) ? tools[step.tool] : undefined) ?? pure(step))
      })
    })
  )
}

/** A tool that computes its output from its input alone. */
const pure = (step: CheckedStep): Tool =>
  plainTool("core", {
    computes: true,
    call: ({ bindings, input }) =>
      Either.map(runCore(step.tool, input, bindings), ({ log, output }) => ({ output, log, simulated: false }))
  })

const waiting = ({
  begin
}: {
  readonly begin: (call: ToolCall, input: JsonObject) => Effect.Effect<Begun, StepFailed>
}): Tool =>
  plainTool("core", {
    waits: () => true,
    begin: (call) => Effect.flatMap(coreInput(call.step.tool, call.input), (input) => begin(call, input))
  })

/** A wait that ends by the step's `expires_seconds`. */
export const expiring = (call: ToolCall, begun: (expiresAt: number) => Begun): Effect.Effect<Begun> =>
  Effect.map(Clock.currentTimeMillis, (now) =>
    begun(now + Math.ceil((call.step.expiresSeconds ?? defaultExpirySeconds) * 1000))
  )

const objectOf = (input: JsonObject, name: string): JsonObject | null => {
  const value: JsonValue | undefined = input[name]
  return value !== undefined && isObject(value) ? value : null
}
