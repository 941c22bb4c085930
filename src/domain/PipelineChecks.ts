import { Either } from "effect"
import type { CheckedPipeline, CheckedStep, ForEach, Part } from "./CheckedPipeline.ts"
import { coreInputProblems, coreToolNames, waitingCoreTools } from "./CoreInputs.ts"
import { compileCondition, type Condition, type Path } from "./Expression.ts"
import { explain, type ExpressionError } from "./ExpressionError.ts"
import { compile } from "./JmesPath.ts"
import { isObject, type JsonValue, pointer, type Problem } from "./Json.ts"
import { type Order, orderOf } from "./Needs.ts"
import { InvalidPipeline, type PipelineSpec, type Step } from "./PipelineSpec.ts"
import { type Reader, referenceProblem, type StepName } from "./References.ts"
import { defaultBackoff } from "./Retry.ts"
import { compileTemplate, constantTemplate, type Template } from "./Template.ts"

/** Elements of a `for_each` at a time, where the step does not say. */
const defaultParallel = 10

const idOf = (step: Step, index: number): string => step.id ?? `step_${index + 1}`

const empty = constantTemplate({})
const nothing: Part = { steps: [], needs: null }

/** The expression and, with its strings, the place of everything that a step reads. */
interface Read {
  readonly place: string
  readonly text: string
  readonly references: ReadonlyArray<Path>
}

const readsOf = (template: Template): ReadonlyArray<Read> =>
  template.uses.map(({ expression, place }) => ({ place, text: expression.text, references: expression.references }))

/** A string with a template in it: what it will be is not known before the run. */
const isOpen = (value: JsonValue): boolean => typeof value === "string" && value.includes("${")

const retryOf = ({ retry }: Step): CheckedStep["retry"] => {
  if (retry === undefined) return undefined
  const { on, ...policy } = retry
  return { policy: { ...defaultBackoff, ...policy }, on: on === undefined ? undefined : new Set(on) }
}

class Checker {
  readonly problems: Array<Problem> = []
  readonly #names = new Map<string, StepName>()
  readonly #failureFrom: number

  constructor(failureFrom: number) {
    this.#failureFrom = failureFrom
  }

  /** Names both lists first: what one step may read is judged with all names known. */
  check(spec: PipelineSpec, prefix: string): readonly [Part, Part] {
    const lists = [
      { steps: spec.pipeline, first: 0, place: `${prefix}/pipeline` },
      { steps: spec.on_failure ?? [], first: spec.pipeline.length, place: `${prefix}/on_failure` }
    ]
    for (const { first, place, steps } of lists)
      for (const [at, step] of steps.entries()) this.#name(step, first + at, place + pointer([at]))
    const [main, failure] = lists.map(({ first, place, steps }) => {
      const ids = steps.map((step, at) => idOf(step, first + at))
      const order = orderOf(steps, ids, place)
      this.problems.push(...order.problems)
      return {
        steps: steps.map((step, at) => this.#step(step, at, first, order, place + pointer([at]))),
        needs: order.needs
      }
    })
    return [main ?? nothing, failure ?? nothing]
  }

  #fault(place: string, message: string): void {
    this.problems.push({ path: place, message })
  }

  /** Two steps may not share a name; a step may save its output under its own id. */
  #name(step: Step, index: number, place: string): void {
    const id = idOf(step, index)
    const named = [[id, step.id === undefined ? place : `${place}/id`, true] as const]
    const all =
      step.save_as === undefined || step.save_as === id
        ? named
        : [...named, [step.save_as, `${place}/save_as`, false] as const]
    for (const [name, at, isId] of all) {
      const holder = this.#names.get(name)
      if (holder === undefined) this.#names.set(name, { index, isId })
      else
        this.#fault(at, `the name ${name} is taken by step ${holder.index + 1}; ids and save_as share one name space`)
    }
  }

  #step(step: Step, at: number, first: number, order: Order, place: string): CheckedStep {
    const index = first + at
    const dot = step.uses.indexOf(".")
    const namespace = step.uses.slice(0, dot)
    const tool = step.uses.slice(dot + 1)
    if (namespace === "core") this.#coreInput(tool, step, place)
    this.#times(namespace, tool, step, place)
    const input = this.#input(step, place)
    const condition = step.if === undefined ? undefined : this.#condition(step.if, `${place}/if`)
    const key =
      step.idempotency_key === undefined ? undefined : this.#template(step.idempotency_key, `${place}/idempotency_key`)
    const forEach = this.#forEach(step, place)
    const reader = (ofItem: boolean): Reader => ({
      index,
      // All steps of the pipeline have ended, or never will, when those of on_failure start.
      follows: (other) => other < first || order.precedes(other - first, at),
      ofItem
    })
    const perItem = [...readsOf(input), ...(key === undefined ? [] : readsOf(key))]
    const once = [
      ...(forEach === undefined ? [] : readsOf(forEach.items)),
      ...(condition === undefined
        ? []
        : [{ place: `${place}/if`, text: condition.text, references: condition.references }])
    ]
    for (const read of perItem) this.#references(read, reader(forEach !== undefined))
    for (const read of once) this.#references(read, reader(false))
    return {
      index,
      id: idOf(step, index),
      saveAs: step.save_as,
      uses: step.uses,
      namespace,
      tool,
      input,
      condition,
      idempotencyKey: key,
      timeoutSeconds: step.timeout_seconds,
      expiresSeconds: step.expires_seconds,
      forEach,
      inputSchema: step.input_schema,
      outputSchema: step.output_schema,
      retry: retryOf(step),
      onError: this.#onError(step, index, first, place),
      references: [...perItem, ...once].flatMap((read) => read.references)
    }
  }

  #times(namespace: string, tool: string, step: Step, place: string): void {
    if (namespace !== "core") return
    const waits = waitingCoreTools.has(tool)
    if (step.timeout_seconds !== undefined && (waits || tool === "wait")) {
      const instead = waits ? "it takes expires_seconds instead" : "it ends at its own time"
      this.#fault(`${place}/timeout_seconds`, `core.${tool} waits and has no timeout: ${instead}`)
    }
    if (step.expires_seconds !== undefined && !waits) {
      this.#fault(`${place}/expires_seconds`, `core.${tool} does not wait for others`)
    }
  }

  #forEach(step: Step, place: string): ForEach | undefined {
    if (step.for_each === undefined) {
      for (const field of ["max_parallel", "on_item_error"] as const)
        if (step[field] !== undefined) this.#fault(`${place}/${field}`, "this goes with for_each")
      return undefined
    }
    if (!isOpen(step.for_each)) {
      this.#fault(`${place}/for_each`, "this must be a template that gives an array, such as ${params.list}")
    }
    return {
      items: this.#template(step.for_each, `${place}/for_each`),
      maxParallel: step.max_parallel ?? defaultParallel,
      onItemError: step.on_item_error ?? "fail"
    }
  }

  #coreInput(tool: string, step: Step, place: string): void {
    if (!coreToolNames.includes(tool)) {
      this.#fault(
        `${place}/uses`,
        `there is no core.${tool}; there are ${coreToolNames.map((name) => `core.${name}`).join(", ")}`
      )
    }
    for (const { message, path } of coreInputProblems(tool, step.with ?? {}, isOpen))
      this.#fault(`${place}/with${path}`, message)
  }

  /** The expression of `core.transform` is JMESPath as it stands, not a template: nothing is rendered into it. */
  #input(step: Step, place: string): Template {
    const input = step.with
    if (input === undefined) return empty
    const expression =
      step.uses === "core.transform" && isObject(input) && Object.hasOwn(input, "expression")
        ? input["expression"]
        : undefined
    if (typeof expression !== "string") return this.#template(input, `${place}/with`)
    const at = `${place}/with/expression`
    const compiled = compile(expression)
    if (Either.isLeft(compiled)) {
      this.#fault(at, explain(compiled.left))
      return empty
    }
    const { references, text } = compiled.right
    return constantTemplate(input, [{ place: at, expression: { text, references, meaning: compiled.right } }])
  }

  #template(value: JsonValue, place: string): Template {
    const compiled = compileTemplate(value, place)
    if (Either.isRight(compiled)) return compiled.right
    for (const error of compiled.left) this.#expression(error, place)
    return empty
  }

  #condition(text: string, place: string): Condition | undefined {
    const compiled = compileCondition(text, place)
    if (Either.isRight(compiled)) return compiled.right
    this.#expression(compiled.left, place)
    return undefined
  }

  #expression(error: ExpressionError, place: string): void {
    this.#fault(error.place ?? place, explain(error))
  }

  #references({ place, references, text }: Read, reader: Reader): void {
    const messages = new Set(references.map((path) => referenceProblem(path, reader, this.#names)))
    for (const message of messages) if (message !== undefined) this.#fault(place, `${text}: ${message}`)
  }

  #onError(step: Step, index: number, first: number, place: string): CheckedStep["onError"] {
    const { on_error: onError = "fail" } = step
    if (typeof onError === "string") return onError
    const target = this.#names.get(onError.goto)
    if (target?.isId && target.index > index && (target.index < this.#failureFrom || index >= this.#failureFrom))
      return { goto: target.index - first }
    const reason = target?.isId ? "is not a later step" : "is not the id of a step"
    this.#fault(`${place}/on_error/goto`, `${onError.goto} ${reason}`)
    return "fail"
  }
}

/** More problems than this say nothing more to their reader. */
const maxProblems = 100

/**
 * Checks a pipeline whole, so that nothing that can be known at its creation fails in a run: names, templates,
 * conditions, references, the tools of `core` with their inputs, and jumps. `prefix` is the JSON Pointer of the payload
 * in the body, e.g. `/payload`, and begins the path of every problem. Fails with the first hundred problems.
 */
export const check = (spec: PipelineSpec, prefix: string = ""): Either.Either<CheckedPipeline, InvalidPipeline> => {
  const checker = new Checker(spec.pipeline.length)
  const [main, failure] = checker.check(spec, prefix)
  return checker.problems.length > 0
    ? Either.left(new InvalidPipeline({ errors: checker.problems.slice(0, maxProblems) }))
    : Either.right({
        params: spec.params ?? {},
        strict: spec.strict ?? true,
        main,
        failure,
        steps: [...main.steps, ...failure.steps]
      })
}
