import { Either } from "effect"
import type { CheckedStep } from "./CheckedPipeline.ts"
import { parseInstant } from "./Instant.ts"
import { isArray, isObject, type JsonObject, type JsonValue } from "./Json.ts"
import { longestWaitSeconds } from "./PipelineSpec.ts"
import { written } from "./Simulation.ts"
import { StepFailed } from "./StepFailed.ts"

const own = (value: JsonValue | undefined, key: string): JsonValue | undefined =>
  isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined

/** What a core tool would give, made from its input, the placeholders below its step, and the instant of the call. */
type Simulated = (known: {
  readonly input: JsonObject
  /** A placeholder for all of a field, with those of its parts that later steps read. */
  readonly read: (field: string) => JsonValue
  readonly at: number
}) => Either.Either<JsonValue, StepFailed>

const wait: Simulated = ({ at, input }) => {
  const until = own(input, "until")
  const seconds = own(input, "seconds")
  const waited =
    typeof until === "string" ? Math.max(0, ((parseInstant(until) ?? at) - at) / 1000) : Number(seconds ?? 0)
  return waited > longestWaitSeconds
    ? Either.left(StepFailed.of("tool_input_invalid", "/until: this is more than 366 days off"))
    : Either.right({ waited_seconds: waited })
}

const http: Simulated = ({ read }) => {
  const headers = read("headers")
  return Either.right({ status: 200, headers: isObject(headers) ? headers : {}, body: read("body") })
}

const approval: Simulated = ({ at, input, read }) => {
  const approvers = own(input, "approvers")
  const [first] = isArray(approvers) ? approvers : []
  return Either.right({
    status: "approved",
    data: read("data"),
    comment: null,
    decided_by: first ?? read("decided_by"),
    decided_at: new Date(at).toISOString()
  })
}

const waitEvent: Simulated = ({ at, input, read }) =>
  Either.right({
    topic: own(input, "topic") ?? null,
    payload: read("payload"),
    id: read("id"),
    at: new Date(at).toISOString()
  })

const runTask: Simulated = ({ input, read }) =>
  Either.right({
    run_id: read("run_id"),
    ...(own(input, "wait") === true && { state: "succeeded", output: read("output") })
  })

const tools: ReadonlyMap<string, Simulated> = new Map<string, Simulated>([
  ["http", http],
  ["wait", wait],
  ["approval", approval],
  ["wait_event", waitEvent],
  ["emit", ({ read }) => Either.right({ event_id: read("event_id") })],
  ["run_task", runTask]
])

/** Core tools that reach outside of the run, or wait: their outputs can be simulated alone. */
export const outwardCoreTools: ReadonlySet<string> = new Set(tools.keys())

/**
 * What a core tool that reaches outside would give, in the form that its documentation promises: a request is answered with 200,
 * an approval is given, a child succeeds. What nobody can know is `"<simulated steps.x.y>"`, or what `placeholders`, the simulated
 * output of the step, has of it. `input` is checked before; `at` is the instant of the call.
 */
export const simulateCore = (
  step: CheckedStep,
  input: JsonObject,
  placeholders: JsonValue,
  at: number
): Either.Either<JsonValue, StepFailed> => {
  const read = (field: string) => own(placeholders, field) ?? `<simulated ${written(["steps", step.id, field])}>`
  return tools.get(step.tool)?.({ input, read, at }) ?? Either.right(null)
}
