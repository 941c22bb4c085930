import { Either } from "effect"
import type { CheckedPipeline, CheckedStep } from "./CheckedPipeline.ts"
import { coreInput, runCore } from "./CoreTools.ts"
import { outwardCoreTools, simulateCore } from "./CoreSimulation.ts"
import type { Bindings } from "./Expression.ts"
import type { Given } from "./GivenOutput.ts"
import { Meter, stepBudget } from "./JmesPathMeter.ts"
import { isObject, type JsonObject, type JsonValue, maxDepth, sizeOf } from "./Json.ts"
import { simulate } from "./Simulation.ts"
import { StepFailed } from "./StepFailed.ts"
import { maxRenderedBytes, render, renderText } from "./Template.ts"
import { formatInstant } from "./TimeExpression.ts"

/** Bytes of one output, and of all inputs and outputs together, as JSON. */
const mostOutput = 1_048_576
const mostOfAll = 16 * 1_048_576

/** Evaluation steps of all documents and conditions together: about 2 s at worst. */
const mostSteps = 20 * stepBudget

/** The failure of a step for which no room is left. */
export const spent = (): StepFailed =>
  StepFailed.of("output_too_large", `the inputs and outputs of all steps have at most ${mostOfAll} bytes together`)

/** What a call would get and give. */
export interface DryCall {
  readonly input: JsonValue
  /** Whether the input could be rendered. */
  readonly rendered: boolean
  readonly output: JsonValue
  readonly simulated: boolean
  readonly error: StepFailed | null
  /** What the output has as JSON. */
  readonly bytes: number
}

interface Output {
  readonly output: JsonValue
  readonly simulated: boolean
}

const asGiven = (output: JsonValue): Output => ({ output, simulated: false })
const asSimulated = (output: JsonValue): Output => ({ output, simulated: true })

/** The calls of a dry run, none of which is made, and what they have taken together. */
export class DryCalls {
  readonly #pipeline: CheckedPipeline
  readonly #meter = new Meter(mostSteps)
  readonly #simulated = new Map<number, JsonValue>()
  #bytes = 0

  constructor(pipeline: CheckedPipeline) {
    this.#pipeline = pipeline
  }

  /** A meter for one document or condition. */
  get meter(): Meter {
    return new Meter(stepBudget, this.#meter)
  }

  /** Whether the inputs and outputs so far are more than may be shown: no further step has room. */
  get isSpent(): boolean {
    return this.#bytes > mostOfAll
  }

  /**
   * One call of a step's tool: its input rendered, and its output as it is given, computed (`core.transform`, `core.log`,
   * `core.fail`) or simulated. Fails as the call would before it is made.
   */
  call(step: CheckedStep, bindings: Bindings, given: Given | undefined): DryCall {
    const failed = (input: JsonValue, error: StepFailed, isRendered = true): DryCall => ({
      input,
      rendered: isRendered,
      output: null,
      simulated: false,
      error,
      bytes: 0
    })
    const rendered = render(step.input, bindings, { strict: this.#pipeline.strict, meter: this.meter })
    if (Either.isLeft(rendered)) return failed(null, StepFailed.ofExpression(rendered.left), false)
    const input = rendered.right
    if (!this.#take(sizeOf(input, maxRenderedBytes) ?? maxRenderedBytes)) return failed(null, spent(), false)
    const answer = this.#output(step, input, bindings, given)
    if (Either.isLeft(answer)) return failed(input, answer.left)
    const { output, simulated } = answer.right
    // A simulated output wraps its input.
    const bytes = sizeOf(output, simulated ? mostOutput + maxRenderedBytes : mostOutput, maxDepth + 2)
    if (bytes === undefined) {
      return failed(input, StepFailed.of("output_too_large", `the output of a step has at most ${mostOutput} bytes`))
    }
    return this.#take(bytes) ? { input, rendered: true, output, simulated, error: null, bytes } : failed(input, spent())
  }

  #take(bytes: number): boolean {
    this.#bytes += bytes
    return !this.isSpent
  }

  #output(
    step: CheckedStep,
    input: JsonValue,
    bindings: Bindings,
    given: Given | undefined
  ): Either.Either<Output, StepFailed> {
    const { meter } = this
    const options = { strict: this.#pipeline.strict, meter: this.meter }
    const blank = () => this.#blank(step)
    return Either.gen(function* () {
      if (step.idempotencyKey !== undefined)
        yield* Either.mapLeft(renderText(step.idempotencyKey, bindings, options), StepFailed.ofExpression)
      // Even where the output is given: a call with this input would not get that far.
      if (step.namespace === "core") yield* coreInput(step.tool, input)
      if (given !== undefined) return asGiven(yield* given)
      if (step.namespace !== "core")
        return asSimulated({ ...blank(), input_args: input, timestamp: formatInstant(bindings.now) ?? null })
      return outwardCoreTools.has(step.tool) && isObject(input)
        ? asSimulated(yield* simulateCore(step, input, blank(), bindings.now))
        : asGiven((yield* runCore(step.tool, input, bindings, meter)).output)
    })
  }

  /** The placeholders of a step are the same for all elements of its array. */
  #blank(step: CheckedStep): JsonObject {
    const known = this.#simulated.get(step.index) ?? simulate(this.#pipeline, step.index, null, "")
    this.#simulated.set(step.index, known)
    return isObject(known) ? known : {}
  }
}
