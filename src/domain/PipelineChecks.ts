import { Either } from "effect"
import { coreInputProblems, coreToolNames } from "./CoreTools.ts"
import { compileCondition, type Condition, type Path } from "./Expression.ts"
import { explain, type ExpressionError } from "./ExpressionError.ts"
import { compile } from "./JmesPath.ts"
import { isObject, type JsonObject, type JsonValue, pointer, type Problem } from "./Json.ts"
import { InvalidPipeline, type PipelineSpec, type Step } from "./PipelineSpec.ts"
import { referenceProblem, type StepName } from "./References.ts"
import { defaultBackoff, type RetryPolicy } from "./Retry.ts"
import type { ErrorCode } from "./StepFailed.ts"
import { compileTemplate, constantTemplate, type Template } from "./Template.ts"

/** A step that can be run: its names resolved, its templates and its condition compiled. */
export interface CheckedStep {
  /** The position in the pipeline, from 0. */
  readonly index: number
  readonly id: string
  readonly saveAs: string | undefined
  /** The tool's address as written, and its two parts. */
  readonly uses: string
  readonly namespace: string
  readonly tool: string
  readonly input: Template
  readonly condition: Condition | undefined
  /** Undefined for the default, `<run id>:<step id>`. */
  readonly idempotencyKey: Template | undefined
  /** Undefined for the tool's own. */
  readonly timeoutSeconds: number | undefined
  /** Undefined for one call an attempt of the run; `on` undefined for all retryable failures. */
  readonly retry: { readonly policy: RetryPolicy; readonly on: ReadonlySet<ErrorCode> | undefined } | undefined
  /** What follows a failure; `goto` is the position of a later step. */
  readonly onError: "fail" | "continue" | { readonly goto: number }
  /** The paths of the context that the step reads, in its input, its condition and its key. */
  readonly references: ReadonlyArray<Path>
}

/** A pipeline that can be run. */
export interface CheckedPipeline {
  readonly params: JsonObject
  readonly strict: boolean
  readonly steps: ReadonlyArray<CheckedStep>
}

const idOf = (step: Step, index: number): string => step.id ?? `step_${index + 1}`

const empty = constantTemplate({})

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
  readonly #steps: ReadonlyArray<Step>
  readonly #prefix: string

  constructor(steps: ReadonlyArray<Step>, prefix: string) {
    this.#steps = steps
    this.#prefix = `${prefix}/pipeline`
  }

  check(): ReadonlyArray<CheckedStep> {
    for (const [index, step] of this.#steps.entries()) this.#name(step, index)
    return this.#steps.map((step, index) => this.#step(step, index))
  }

  #fault(place: string, message: string): void {
    this.problems.push({ path: place, message })
  }

  /** Two steps may not share a name; a step may save its output under its own id. */
  #name(step: Step, index: number): void {
    const place = this.#prefix + pointer([index])
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

  #step(step: Step, index: number): CheckedStep {
    const place = this.#prefix + pointer([index])
    const dot = step.uses.indexOf(".")
    const namespace = step.uses.slice(0, dot)
    const tool = step.uses.slice(dot + 1)
    if (namespace === "core") this.#coreInput(tool, step, place)
    const input = this.#input(step, place)
    const condition = step.if === undefined ? undefined : this.#condition(step.if, `${place}/if`)
    const key =
      step.idempotency_key === undefined ? undefined : this.#template(step.idempotency_key, `${place}/idempotency_key`)
    const reads = [...readsOf(input), ...(key === undefined ? [] : readsOf(key))]
    if (condition !== undefined)
      reads.push({ place: `${place}/if`, text: condition.text, references: condition.references })
    for (const read of reads) this.#references(read, index)
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
      retry: retryOf(step),
      onError: this.#onError(step, index, place),
      references: reads.flatMap((read) => read.references)
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

  #references({ place, references, text }: Read, index: number): void {
    const messages = new Set(references.map((path) => referenceProblem(path, index, this.#names)))
    for (const message of messages) if (message !== undefined) this.#fault(place, `${text}: ${message}`)
  }

  #onError(step: Step, index: number, place: string): CheckedStep["onError"] {
    const { on_error: onError = "fail" } = step
    if (typeof onError === "string") return onError
    const target = this.#names.get(onError.goto)
    if (target?.isId && target.index > index) return { goto: target.index }
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
  const checker = new Checker(spec.pipeline, prefix)
  const steps = checker.check()
  return checker.problems.length > 0
    ? Either.left(new InvalidPipeline({ errors: checker.problems.slice(0, maxProblems) }))
    : Either.right({ params: spec.params ?? {}, strict: spec.strict ?? true, steps })
}
