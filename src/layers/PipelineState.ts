import { DateTime, Either } from "effect"
import type { CheckedStep } from "../domain/CheckedPipeline.ts"
import type { DueWork } from "../domain/DueWork.ts"
import type { Bindings } from "../domain/Expression.ts"
import { isArray, maxDepth, sizeOf } from "../domain/Json.ts"
import type { JsonObject, JsonValue } from "../domain/Json.ts"
import type { RunError } from "../domain/Run.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import { maxRenderedBytes } from "../domain/Template.ts"
import type { ToolResult } from "../domain/ToolCall.ts"
import { callKey } from "../domain/Wait.ts"
import type { Wait } from "../domain/Wait.ts"
import { goesOn } from "../domain/WaitEnd.ts"
import type { Plan, RunInput } from "./Plans.ts"

/** Bytes as JSON: of one output, of all outputs that a step gathers over an array, of all inputs and outputs of a run. */
const mostOutput = 1_048_576
const mostGathered = 8 * 1_048_576
const mostOfRun = 16 * 1_048_576

type Known = RunInput["known"][number]

/** What is known of a call that has not ended, or not for good: `calls` are those of earlier attempts. */
interface OpenCall {
  readonly calls: number
  readonly input: JsonValue
  readonly error: RunError | null
  /** When it began, where it waits; epoch milliseconds. */
  readonly since: number | null
}

/** What became of an element. */
type Element = Pick<Known, "output" | "error" | "simulated" | "started_at">

const underWay = (state: Known["state"]) => state === "canceled" || state === "running" || state === "waiting"

/** `Object.create(null)`: a step may be called `__proto__`, which is a name like any other. */
const bare = (): Record<string, JsonValue> => Object.create(null)

/** What is known of a run: which of its steps have ended and how, what it waits for, how much it stores. */
export class PipelineState {
  /** Ids of the steps that have ended. */
  readonly finished = new Set<string>()
  /** Where a failure that has been recorded jumped to, by the id of its step. */
  readonly jumps = new Map<string, number>()
  readonly #plan: Plan
  readonly #work: DueWork
  readonly #input: RunInput
  readonly #steps = bare()
  readonly #errors = bare()
  /** By `callKey`. */
  readonly #open = new Map<string, OpenCall>()
  /** Elements that have ended, by step and index. */
  readonly #elements = new Map<string, Map<number, Element>>()
  #waits: ReadonlyMap<string, Wait> = new Map()
  #bytes = 0

  constructor(plan: Plan, work: DueWork, input: RunInput) {
    this.#plan = plan
    this.#work = work
    this.#input = input
    const steps = new Map(plan.pipeline.steps.map((step) => [step.id, step]))
    for (const known of input.known) {
      const step = steps.get(known.step_id)
      if (step !== undefined) this.#take(step, known)
    }
    for (const step of plan.pipeline.steps) this.#rememberElements(step)
    this.hear(input.waits)
  }

  /** Steps and elements that earlier attempts finished are not run again; one that failed and stopped nothing counts as finished. */
  #take(step: CheckedStep, known: Known) {
    const onFailure = known.item < 0 ? step.onError : (step.forEach?.onItemError ?? "fail")
    if (underWay(known.state) || (known.state === "failed" && onFailure === "fail")) {
      const since = known.state === "waiting" ? known.started_at : null
      this.#open.set(callKey(known), { calls: known.attempt, input: known.input, error: known.error, since })
      return
    }
    // What a step gathered over an array is counted by its elements.
    if (known.item >= 0 || step.forEach === undefined) {
      for (const stored of [known.input, known.output])
        this.#bytes += sizeOf(stored, 2 * mostOutput, maxDepth + 2) ?? 2 * mostOutput
    }
    if (known.item >= 0) {
      this.rememberElement(step, known.item, known)
      return
    }
    this.remember(step, known.output, known.error)
    if (known.state === "failed" && typeof step.onError === "object") this.jumps.set(step.id, step.onError.goto)
  }

  /** The errors of the elements of a step that ended in spite of them. */
  #rememberElements(step: CheckedStep) {
    const elements = [...(this.#elements.get(step.id) ?? [])].filter(([, { error }]) => error !== null)
    const output = this.#steps[step.id]
    if (elements.length === 0 || !isArray(output)) return
    const errors: Array<JsonValue> = output.map(() => null)
    for (const [index, { error }] of elements) errors[index] = error
    this.#errors[step.id] = errors
  }

  /** What the run waits for, as it is now. */
  hear(waits: ReadonlyArray<Wait>) {
    this.#waits = new Map(waits.map((wait) => [callKey(wait), wait]))
  }

  /** What a call of this attempt goes on waiting for. */
  waitOf(step: CheckedStep, item: number): Wait | undefined {
    const wait = this.#waits.get(callKey({ step_id: step.id, item }))
    return wait !== undefined && goesOn(wait, this.#work.attempt) ? wait : undefined
  }

  /** How often a call was made in earlier attempts; where it waits, with which input and since when. */
  openCall(step: CheckedStep, item: number): OpenCall {
    return this.#open.get(callKey({ step_id: step.id, item })) ?? { calls: 0, input: null, error: null, since: null }
  }

  /** A call waits from now on; it may go on under this lease. */
  rememberCall(step: CheckedStep, item: number, call: OpenCall) {
    this.#open.set(callKey({ step_id: step.id, item }), call)
  }

  /** The calls of the main steps that wait; with those of elements, their step, which ends with them. */
  waiting(): ReadonlyArray<{ readonly step: CheckedStep; readonly item: number; readonly call: OpenCall }> {
    return this.#plan.pipeline.main.steps.flatMap((step) => {
      if (this.finished.has(step.id)) return []
      const prefix = callKey({ step_id: step.id, item: -1 }).slice(0, -"-1".length)
      const calls = [...this.#open].flatMap(([key, call]) =>
        key.startsWith(prefix) && call.since !== null ? [{ step, item: Number(key.slice(prefix.length)), call }] : []
      )
      const open = calls.filter(({ item }) => !this.elementsOf(step).has(item))
      const [first] = open
      if (first === undefined || first.item < 0) return open
      const since = this.firstElementAt(step) ?? first.call.since
      return [...open, { step, item: -1, call: { calls: 0, input: null, error: null, since } }]
    })
  }

  elementsOf(step: CheckedStep): ReadonlyMap<number, Element> {
    return this.#elements.get(step.id) ?? new Map()
  }

  /** An element has ended; the step may go on with the others under this lease. */
  rememberElement(step: CheckedStep, index: number, element: Element) {
    const elements = this.#elements.get(step.id) ?? new Map<number, Element>()
    this.#elements.set(step.id, elements.set(index, element))
  }

  /** When the first of a step's elements that have ended began; null where there is none. */
  firstElementAt(step: CheckedStep): number | null {
    let first: number | null = null
    for (const { started_at } of this.elementsOf(step).values()) first = Math.min(first ?? started_at, started_at)
    return first
  }

  /** A step has ended: from now on others read its output and its error. */
  remember(step: CheckedStep, output: JsonValue, error: JsonValue | RunError) {
    this.finished.add(step.id)
    this.#steps[step.id] = output
    if (step.saveAs !== undefined) this.#steps[step.saveAs] = output
    if (error !== null) this.#errors[step.id] = error
  }

  /** Steps that never ran have null as output for those that run after a failure. */
  closeMain() {
    for (const step of this.#plan.pipeline.main.steps)
      if (!this.finished.has(step.id))
        this.remember(step, null, this.#open.get(callKey({ step_id: step.id, item: -1 }))?.error ?? null)
  }

  get bindings(): Bindings {
    const { definition, pipeline, zone } = this.#plan
    const work = this.#work
    return {
      params: this.#input.params ?? pipeline.params,
      steps: this.#steps,
      errors: this.#errors,
      event: this.#input.event,
      events: this.#input.events ?? null,
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
    }
  }

  /** Bounds the output of a call, and what a run stores in all: a statement has to carry it. */
  weigh(input: JsonValue, given: ToolResult): Either.Either<ToolResult, StepFailed> {
    // A simulated output wraps its input.
    const output = sizeOf(given.output, mostOutput + maxRenderedBytes, maxDepth + 2)
    if (output === undefined || (!given.simulated && output > mostOutput)) {
      return Either.left(StepFailed.of("output_too_large", `the output of a step has at most ${mostOutput} bytes`))
    }
    this.#bytes += output + (sizeOf(input, maxRenderedBytes) ?? maxRenderedBytes)
    return this.#bytes > mostOfRun
      ? Either.left(StepFailed.of("output_too_large", `the steps of a run store at most ${mostOfRun} bytes together`))
      : Either.right(given)
  }

  /** Bounds what a step gathers over an array. */
  gathered(outputs: ReadonlyArray<JsonValue>): Either.Either<ReadonlyArray<JsonValue>, StepFailed> {
    return sizeOf(outputs, mostGathered, maxDepth + 3) === undefined
      ? Either.left(
          StepFailed.of("output_too_large", `the outputs of a for_each have at most ${mostGathered} bytes together`)
        )
      : Either.right(outputs)
  }
}

/** A failure as runs and steps tell it. */
export const runError = (stepId: string | null, error: StepFailed): RunError & JsonObject => error.toldOf(stepId)
