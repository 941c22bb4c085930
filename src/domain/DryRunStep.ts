import { Effect, Either, Schema } from "effect"
import type { CheckedPipeline, CheckedStep, ForEach } from "./CheckedPipeline.ts"
import { type DryCall, DryCalls, spent } from "./DryCalls.ts"
import { type Bindings, holds } from "./Expression.ts"
import { judged, type Judge, type Placeholders, readsPlaceholders } from "./DryJudgement.ts"
import type { Given, GivenOutputs } from "./GivenOutput.ts"
import { isArray, type JsonArray, type JsonObject, type JsonValue, MadeJson } from "./Json.ts"
import { RunError } from "./Run.ts"
import { StepFailed } from "./StepFailed.ts"
import { render } from "./Template.ts"
import { formatInstant } from "./TimeExpression.ts"
import type { Zone } from "./Zone.ts"

const shown = { input: MadeJson, output: MadeJson, simulated: Schema.Boolean, error: Schema.NullOr(RunError) }

/** What one element of a `for_each` would get and give. */
export const DryRunItem = Schema.Struct({ index: Schema.Int, ...shown }).annotations({ identifier: "DryRunItem" })
export type DryRunItem = typeof DryRunItem.Type

/** What would become of a step. */
export const DryRunStep = Schema.Struct({
  id: Schema.String,
  /** Whether it would start, be it to fail; not where it is skipped, jumped over, or comes after the end. */
  would_run: Schema.Boolean,
  /** Whether its condition held; null without one, and where it was not asked or cannot be evaluated. */
  if: Schema.NullOr(Schema.Boolean),
  ...shown,
  /** Elements of its `for_each`, of which `items` are the first; left out without one, and where it did not come to that. */
  total: Schema.optionalWith(Schema.Int, { exact: true }),
  items: Schema.optionalWith(Schema.Array(DryRunItem), { exact: true })
}).annotations({ identifier: "DryRunStep" })
export type DryRunStep = typeof DryRunStep.Type

/** Elements that are rendered of a `for_each`, and of all together. */
const mostShown = 100
const mostShownOfAll = 2000

/** Elements of a `for_each`, and bytes of its output as JSON. */
const mostElements = 10_000
const mostOfForEach = 8 * 1_048_576

/** Stands for the ids that only a run, a task or an event that exists has. */
export const noId = "00000000-0000-7000-8000-000000000000"

/** What a dry run starts from. */
export interface DryRunInput {
  /** The run's one logical time, epoch milliseconds. */
  readonly at: number
  readonly zone: Zone
  /** Null unless an event causes the run. */
  readonly event: JsonValue
  readonly given: GivenOutputs
  /** By which inputs and outputs are judged; not at all without. */
  readonly judge?: Judge
  /** Done before each evaluation, so that a long dry run lets others have their turn. */
  readonly pause: Effect.Effect<void>
}

/** A dry run under way: what is known so far, and what it has taken. */
export interface DryState {
  readonly pipeline: CheckedPipeline
  readonly from: DryRunInput
  readonly steps: Record<string, JsonValue>
  readonly errors: Record<string, JsonValue>
  readonly calls: DryCalls
  readonly placeholders: Placeholders
  /** Elements that may still be rendered. */
  elements: number
}

/** `Object.create(null)`: a step may be called `__proto__`, which is a name like any other. */
const bare = (): Record<string, JsonValue> => Object.create(null)

/** The state in which nothing has run yet. */
export const startOf = (pipeline: CheckedPipeline, from: DryRunInput): DryState => ({
  pipeline,
  from,
  steps: bare(),
  errors: bare(),
  calls: new DryCalls(pipeline),
  placeholders: { steps: new Set(), errors: new Set() },
  elements: mostShownOfAll
})

/** The context as a run by the schedule, or by the event, would see it in its first attempt. */
const bindingsOf = ({ errors, from, pipeline, steps }: DryState): Bindings => ({
  params: pipeline.params,
  steps,
  errors,
  event: from.event,
  events: from.event === null ? null : [from.event],
  run: {
    id: noId,
    attempt: 1,
    scheduled_for: formatInstant(from.at) ?? null,
    trigger: from.event === null ? "schedule" : "event"
  },
  task: { id: noId, title: "dry run", labels: {} },
  now: from.at,
  zone: from.zone
})

const runError = (step: CheckedStep, error: StepFailed): RunError & JsonObject => error.toldOf(step.id)

/** What became of a step, and what later ones find under `errors`. */
export interface Ended {
  readonly step: DryRunStep
  readonly errors: JsonValue | undefined
}

/** A step that does not start; `condition` is false where that is why. */
export const notStarted = (step: CheckedStep, condition: boolean | null): DryRunStep => ({
  id: step.id,
  would_run: false,
  if: condition,
  input: null,
  output: null,
  simulated: false,
  error: null
})

const failed = (step: CheckedStep, condition: boolean | null, error: StepFailed, more: Partial<DryRunStep> = {}) => {
  const told = runError(step, error)
  return { step: { ...notStarted(step, condition), ...more, would_run: true, error: told }, errors: told }
}

const shownCall = (step: CheckedStep, { error, input, output, simulated }: DryCall) => ({
  input,
  output,
  simulated,
  error: error === null ? null : runError(step, error)
})

const arrayOf = (state: DryState, { items }: ForEach): Either.Either<JsonArray, StepFailed> =>
  Either.gen(function* () {
    const options = { strict: state.pipeline.strict, meter: state.calls.meter }
    const value = yield* Either.mapLeft(render(items, bindingsOf(state), options), StepFailed.ofExpression)
    if (!isArray(value)) return yield* Either.left(StepFailed.of("template_error", "for_each must give an array"))
    return value.length <= mostElements
      ? value
      : yield* Either.left(StepFailed.of("template_error", `for_each runs over at most ${mostElements} elements`))
  })

/** The calls of a `for_each`: the first elements are rendered; for the others stands what is given, or null. */
const each = (state: DryState, step: CheckedStep, forEach: ForEach, condition: boolean | null) =>
  Effect.gen(function* () {
    const array = arrayOf(state, forEach)
    if (Either.isLeft(array)) return failed(step, condition, array.left)
    const given = state.from.given.get(step.id)
    if (given?.tag === "call" && Either.isLeft(given.call)) return failed(step, condition, given.call.left)
    const elements = given?.tag === "elements" ? given.elements : []
    const items: Array<DryRunItem> = []
    const outputs = array.right.map((_, index) => Either.getOrNull(elements[index] ?? Either.right(null)))
    const errors: Array<JsonValue> = array.right.map((_, index) => {
      const one = elements[index]
      return one !== undefined && Either.isLeft(one) ? runError(step, one.left) : null
    })
    const total = array.right.length
    const most = Math.min(mostShown, state.elements)
    let bytes = 0
    for (const [index, item] of array.right.slice(0, most).entries()) {
      yield* state.from.pause
      state.elements--
      const bindings = { ...bindingsOf(state), item, index }
      const call = yield* made(state, step, bindings, elements[index])
      const told = shownCall(step, call)
      items.push({ index, ...told })
      outputs[index] = call.output
      errors[index] = told.error
      bytes += call.bytes
      const error =
        bytes > mostOfForEach
          ? StepFailed.of("output_too_large", `the output of a for_each has at most ${mostOfForEach} bytes`)
          : call.error
      // What is over for all steps does not go on with the next element.
      if (error !== null && (error !== call.error || state.calls.isSpent || forEach.onItemError === "fail"))
        return failed(step, condition, error, { total, items, simulated: items.some(({ simulated }) => simulated) })
    }
    const simulated = items.some((item) => item.simulated)
    const beyond = elements.slice(items.length, total).find((one) => Either.isLeft(one))
    if (beyond !== undefined && Either.isLeft(beyond) && forEach.onItemError === "fail")
      return failed(step, condition, beyond.left, { total, items, simulated })
    return {
      step: { ...notStarted(step, condition), would_run: true, output: outputs, simulated, total, items },
      errors: errors.some((error) => error !== null) ? errors : undefined
    }
  })

const single = (state: DryState, step: CheckedStep, condition: boolean | null): Effect.Effect<Ended> => {
  const given = state.from.given.get(step.id)
  const output: Given | undefined = given?.tag === "call" ? given.call : undefined
  return Effect.map(made(state, step, bindingsOf(state), output), (call) => {
    const told = shownCall(step, call)
    return { step: { ...notStarted(step, condition), would_run: true, ...told }, errors: told.error ?? undefined }
  })
}

/** A call, with what the schemas say of it. */
const made = (
  { calls, from: { judge }, placeholders }: DryState,
  step: CheckedStep,
  bindings: Bindings,
  given: Given | undefined
): Effect.Effect<DryCall> => {
  const call = calls.call(step, bindings, given)
  return judge === undefined ? Effect.succeed(call) : judged(judge, step, call, readsPlaceholders(step, placeholders))
}

/** One step: its condition, its elements or its call. */
export const stepOf = (state: DryState, step: CheckedStep): Effect.Effect<Ended> =>
  Effect.gen(function* () {
    yield* state.from.pause
    if (state.calls.isSpent) return failed(step, null, spent())
    const held = step.condition === undefined ? undefined : holds(step.condition, bindingsOf(state), state.calls.meter)
    if (held !== undefined && Either.isLeft(held)) return failed(step, null, StepFailed.ofExpression(held.left))
    const condition = held === undefined ? null : held.right
    if (condition === false) return { step: notStarted(step, false), errors: undefined }
    const ended = yield* step.forEach === undefined
      ? single(state, step, condition)
      : each(state, step, step.forEach, condition)
    const isComputed = !state.from.given.has(step.id) && readsPlaceholders(step, state.placeholders)
    if (ended.step.simulated || isComputed)
      for (const name of [step.id, step.saveAs]) if (name !== undefined) state.placeholders.steps.add(name)
    return ended
  })

/** What later steps see of one that has ended. */
export const remember = (
  { errors, steps }: DryState,
  step: CheckedStep,
  output: JsonValue,
  error: JsonValue | undefined
) => {
  steps[step.id] = output
  if (step.saveAs !== undefined) steps[step.saveAs] = output
  if (error !== undefined) errors[step.id] = error
}
