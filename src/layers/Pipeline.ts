import { Clock, Context, DateTime, Duration, Effect, Either, Layer, LogLevel, Random, Schedule } from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import { holds } from "../domain/Expression.ts"
import type { Bindings } from "../domain/Expression.ts"
import { maxDepth, sizeOf } from "../domain/Json.ts"
import type { JsonObject, JsonValue } from "../domain/Json.ts"
import type { CheckedStep } from "../domain/PipelineChecks.ts"
import { delay } from "../domain/Retry.ts"
import type { RunError } from "../domain/Run.ts"
import type { StepRecord } from "../domain/Settlement.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import { maxRenderedBytes, render, renderText } from "../domain/Template.ts"
import type { ToolResult } from "../domain/ToolCall.ts"
import * as Metrics from "./Metrics.ts"
import type { Plan, RunInput } from "./Plans.ts"
import { Tools } from "./Tools.ts"

/** What a step may take when neither it nor its tool says so. */
const defaultTimeoutSeconds = 30
/** Bytes of one output, and of all inputs and outputs of a run, as JSON. */
const mostOutput = 1_048_576
const mostOfRun = 16 * 1_048_576

/** The step that ended a run in failure. */
export interface Failure {
  readonly step: CheckedStep
  readonly error: StepFailed
}

/** Runs pipelines: renders, decides, calls, records. */
export class Pipeline extends Context.Tag("ordinaut/Pipeline")<
  Pipeline,
  {
    /**
     * Runs the steps of a plan in order, from the first that is not finished. Every step that ends is given to `record`
     * before the next one starts. Answers the failure that ended the run, or null when all steps are done.
     */
    readonly run: (
      plan: Plan,
      work: DueWork,
      input: RunInput,
      record: (step: StepRecord) => Effect.Effect<void>
    ) => Effect.Effect<Failure | null>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const tools = yield* Tools

      const call = (plan: Plan, step: CheckedStep, input: JsonValue, bindings: Bindings, work: DueWork) =>
        Effect.gen(function* () {
          const { pipeline } = plan
          const idempotencyKey =
            step.idempotencyKey === undefined
              ? `${work.id}:${step.id}`
              : yield* renderText(step.idempotencyKey, bindings, pipeline).pipe(Either.mapLeft(StepFailed.ofExpression))
          let calls = 0
          const once = Effect.suspend(() => {
            calls++
            return tools.call({ pipeline, step, work, item: -1, input, bindings, idempotencyKey })
          }).pipe(
            Effect.timeoutFail({
              duration: Duration.seconds(step.timeoutSeconds ?? defaultTimeoutSeconds),
              onTimeout: () =>
                StepFailed.of(
                  "timeout",
                  `${step.uses} gave no answer within ${step.timeoutSeconds ?? defaultTimeoutSeconds} s`
                )
            }),
            // A bug in a tool fails its step; it does not take the worker down.
            Effect.catchAllDefect((defect) =>
              Effect.logError("A tool threw.", defect).pipe(
                Effect.zipRight(StepFailed.of("internal", "the tool ended unexpectedly; the log has the details"))
              )
            ),
            Effect.tapBoth({
              onSuccess: () => counted(step, "succeeded"),
              onFailure: ({ code }) => counted(step, code)
            })
          )
          const result = yield* Effect.either(step.retry === undefined ? once : Effect.retry(once, retries(step.retry)))
          return { result, calls }
        })

      const counted = (step: CheckedStep, outcome: string) =>
        Effect.sync(() => Metrics.toolCalls.add(1, { tool_kind: tools.kindOf(step), outcome }))

      return Pipeline.of({
        run: Effect.fn("Pipeline.run")(function* (plan, work, input, record) {
          const { pipeline } = plan
          const state = resume(plan, input)
          let index = 0
          while (index < pipeline.steps.length) {
            const step = pipeline.steps[index]
            if (step === undefined) break
            index++
            if (state.finished.has(step.id)) {
              index = state.jumps.get(step.id) ?? index
              continue
            }
            const started_at = yield* Clock.currentTimeMillis
            const bindings = bindingsOf(plan, work, input, state)
            const before = state.calls.get(step.id) ?? 0
            const ended = (
              end: Pick<StepRecord, "state" | "input" | "output" | "error"> & {
                readonly calls?: number
                readonly simulated?: boolean
                readonly logs?: StepRecord["logs"]
              }
            ) =>
              Effect.gen(function* () {
                const finished_at = yield* Clock.currentTimeMillis
                const { calls = 0, logs = [], simulated = false, ...rest } = end
                const labels = { tool_kind: tools.kindOf(step), outcome: end.state }
                Metrics.steps.add(1, labels)
                Metrics.stepDuration.add((finished_at - started_at) / 1000, labels)
                remember(state, step, end.output, end.error)
                yield* record({
                  step_id: step.id,
                  position: step.index,
                  item: -1,
                  uses: step.uses,
                  attempt: before + calls,
                  simulated,
                  logs,
                  started_at,
                  finished_at,
                  ...rest
                })
              })

            const prepared = prepare(step, bindings, pipeline.strict)
            if (Either.isRight(prepared) && prepared.right === "skip") {
              yield* ended({ state: "skipped", input: null, output: null, error: null })
              continue
            }
            const rendered = Either.isRight(prepared) && prepared.right !== "skip" ? prepared.right.input : null
            const { calls, result } = Either.isLeft(prepared)
              ? { result: Either.left(prepared.left), calls: 0 }
              : yield* call(plan, step, rendered, bindings, work).pipe(
                  Effect.onInterrupt(() => ended({ state: "canceled", input: rendered, output: null, error: null })),
                  Effect.catchAll((error) => Effect.succeed({ result: Either.left(error), calls: 0 }))
                )
            const judged = Either.flatMap(result, (given) => weighed(state, rendered, given))
            if (Either.isRight(judged)) {
              const { log, output, simulated } = judged.right
              const logs = log === undefined ? [] : [{ ...log, at: DateTime.formatIso(yield* DateTime.now) }]
              if (log !== undefined) {
                yield* Effect.logWithLevel(logLevels[log.level], log.message).pipe(
                  Effect.annotateLogs({ run_id: work.id, task_id: work.task_id, step_id: step.id, data: log.data })
                )
              }
              yield* ended({ state: "succeeded", input: rendered, output, error: null, calls, simulated, logs })
              continue
            }
            const error = judged.left
            yield* ended({ state: "failed", input: rendered, output: null, error: runError(step, error), calls })
            if (step.onError === "fail") return { step, error }
            if (step.onError !== "continue") {
              for (const jumped of pipeline.steps.slice(index, step.onError.goto)) {
                const now = yield* Clock.currentTimeMillis
                remember(state, jumped, null, null)
                yield* record(skippedRecord(jumped, now))
              }
              index = step.onError.goto
            }
          }
          return null
        })
      })
    })
  )
}

const logLevels = { debug: LogLevel.Debug, info: LogLevel.Info, warn: LogLevel.Warning, error: LogLevel.Error }

/** What is known of the run so far. */
interface State {
  readonly finished: Set<string>
  readonly jumps: Map<string, number>
  readonly calls: Map<string, number>
  readonly steps: Record<string, JsonValue>
  readonly errors: Record<string, JsonValue>
  /** What the inputs and outputs of the run take so far, as JSON. */
  bytes: number
}

/** Bounds the output of a step, and what a run stores in all: a statement has to carry it. */
const weighed = (state: State, input: JsonValue, given: ToolResult): Either.Either<ToolResult, StepFailed> => {
  // A simulated output wraps its input.
  const output = sizeOf(given.output, mostOutput + maxRenderedBytes, maxDepth + 2)
  if (output === undefined || (!given.simulated && output > mostOutput)) {
    return Either.left(StepFailed.of("output_too_large", `the output of a step has at most ${mostOutput} bytes`))
  }
  state.bytes += output + (sizeOf(input, maxRenderedBytes) ?? maxRenderedBytes)
  return state.bytes > mostOfRun
    ? Either.left(StepFailed.of("output_too_large", `the steps of a run store at most ${mostOfRun} bytes together`))
    : Either.right(given)
}

/** `Object.create(null)`: a step may be called `__proto__`, which is a name like any other. */
const bare = (): Record<string, JsonValue> => Object.create(null)

const remember = ({ errors, finished, steps }: State, step: CheckedStep, output: JsonValue, error: RunError | null) => {
  finished.add(step.id)
  steps[step.id] = output
  if (step.saveAs !== undefined) steps[step.saveAs] = output
  if (error !== null) errors[step.id] = error
}

/** Steps that earlier attempts finished are not run again; one that failed and did not end the run counts as finished. */
const resume = ({ pipeline }: Plan, input: RunInput): State => {
  const state: State = {
    finished: new Set(),
    jumps: new Map(),
    calls: new Map(),
    steps: bare(),
    errors: bare(),
    bytes: 0
  }
  for (const known of input.finished) {
    const step = pipeline.steps.find(({ id }) => id === known.step_id)
    if (step === undefined) continue
    state.calls.set(step.id, known.attempt)
    if (known.state === "canceled" || (known.state === "failed" && step.onError === "fail")) continue
    remember(state, step, known.output, known.error)
    state.bytes += sizeOf(known.output, 2 * mostOutput, maxDepth + 2) ?? mostOutput
    if (known.state === "failed" && typeof step.onError === "object") state.jumps.set(step.id, step.onError.goto)
  }
  return state
}

const bindingsOf = ({ definition, pipeline, zone }: Plan, work: DueWork, input: RunInput, state: State): Bindings => ({
  params: input.params ?? pipeline.params,
  steps: state.steps,
  errors: state.errors,
  event: input.event,
  events: input.events ?? null,
  run: {
    id: work.id,
    attempt: work.attempt,
    scheduled_for: DateTime.formatIso(work.scheduled_for),
    trigger: work.trigger
  },
  task: { id: work.task_id, title: definition.title, labels: definition.labels },
  // The first start of the run: the same for every step and every attempt.
  now: DateTime.toEpochMillis(work.started_at),
  zone
})

const prepare = (
  step: CheckedStep,
  bindings: Bindings,
  strict: boolean
): Either.Either<{ readonly input: JsonValue } | "skip", StepFailed> =>
  Either.gen(function* () {
    if (step.condition !== undefined) {
      const held = yield* Either.mapLeft(holds(step.condition, bindings), StepFailed.ofExpression)
      if (!held) return "skip"
    }
    const input = yield* Either.mapLeft(render(step.input, bindings, { strict }), StepFailed.ofExpression)
    return { input }
  })

/** The step's own retries: a pause by its backoff between calls, only for failures that it names or that are retryable. */
const retries = ({ on, policy }: NonNullable<CheckedStep["retry"]>) => ({
  while: (error: StepFailed) => (on === undefined ? error.retryable : on.has(error.code)),
  schedule: Schedule.recurs(policy.max_attempts - 1).pipe(
    Schedule.addDelayEffect((n) => Effect.map(Random.next, (unit) => Duration.millis(delay(policy, n + 1, unit))))
  )
})

/** A failure as runs and steps tell it. */
export const runError = (step: CheckedStep | null, error: StepFailed): RunError & JsonObject => ({
  code: error.code,
  message: error.message,
  step_id: step?.id ?? null,
  retryable: error.retryable
})

const skippedRecord = (step: CheckedStep, now: number): StepRecord => ({
  step_id: step.id,
  position: step.index,
  item: -1,
  uses: step.uses,
  state: "skipped",
  attempt: 0,
  input: null,
  output: null,
  error: null,
  simulated: false,
  logs: [],
  started_at: now,
  finished_at: now
})
