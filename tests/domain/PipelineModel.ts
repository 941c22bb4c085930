import { isArray, isObject, type JsonObject, type JsonValue } from "../../src/domain/Json.ts"

/** What a tool does at one call, and how long it takes, milliseconds. */
export type Answer =
  | { readonly ok: JsonValue; readonly takes: number }
  | { readonly code: string; readonly retryable: boolean; readonly takes: number }

/** What the tool of a step does at its n-th call in the run, from 1; `index` is the element, -1 outside of a for_each. */
export type World = (step: string, index: number, n: number) => Answer

/** What a step's input has of another one: its output, or the code of its error. */
export interface Read {
  readonly from: string
  readonly what: "output" | "error"
}

/** A step by its meaning; `pipelineArbitrary.ts` writes it as the API takes it. */
export interface ModelStep {
  readonly id: string
  /** Null for none; a truth value is a parameter, else whether another step put out something true, or failed. */
  readonly condition: boolean | Read | null
  readonly reads: ReadonlyArray<Read>
  /** Whether its input reads a parameter that is not there. */
  readonly missing: boolean
  /** Begins its own idempotency key; null for the default. */
  readonly key: string | null
  readonly each: {
    readonly list: ReadonlyArray<JsonValue>
    readonly parallel: number
    readonly onItemError: "fail" | "continue"
  } | null
  /** `on` null for all retryable failures. */
  readonly retry: { readonly most: number; readonly on: ReadonlyArray<string> | null } | null
  readonly onError: "fail" | "continue" | { readonly goto: string }
  /** Null where the steps run in order. */
  readonly needs: ReadonlyArray<string> | null
}

/** A pipeline with the part of its task that matters to one run. */
export interface ModelPipeline {
  readonly main: ReadonlyArray<ModelStep>
  readonly failure: ReadonlyArray<ModelStep>
  readonly maxRetries: number
}

/** One call of a tool. */
export interface Call {
  readonly step: string
  readonly index: number
  readonly key: string
  readonly input: JsonObject
}

/** How a step failed. */
export interface Fault {
  readonly code: string
  readonly retryable: boolean
}

/** The end of a step. `errors` are those of the elements of a for_each that went on over them, null where there was none. */
export interface StepEnd {
  readonly state: "succeeded" | "failed" | "skipped"
  readonly output: JsonValue
  readonly error: Fault | null
  readonly errors: ReadonlyArray<Fault | null> | null
}

/** What a run comes to. A step that never ended is not among `steps`. */
export interface Outcome {
  readonly state: "succeeded" | "failed"
  readonly error: (Fault & { readonly step: string }) | null
  readonly attempts: number
  readonly steps: ReadonlyMap<string, StepEnd>
  readonly calls: ReadonlyArray<Call>
  /** Where the outcome hangs on what the rules leave open, such as which of two things comes first at one instant. */
  readonly unsettled: ReadonlyArray<string>
}

/** JMESPath's rule of truth. */
const isTrue = (value: JsonValue): boolean => {
  if (value === null || value === false || value === "") return false
  if (isArray(value)) return value.length > 0
  return !isObject(value) || Object.keys(value).length > 0
}

const skipped: StepEnd = { state: "skipped", output: null, error: null, errors: null }
const failedBy = (error: Fault): StepEnd => ({ state: "failed", output: null, error, errors: null })

/** What became of one call with its retries, or of a whole step, at an instant. */
interface Ended<A> {
  readonly at: number
  readonly end: A
}

class Interpreter {
  readonly steps = new Map<string, StepEnd>()
  readonly calls: Array<Call> = []
  readonly unsettled: Array<string> = []
  readonly #world: World
  readonly #runId: string
  readonly #counts = new Map<string, number>()
  /** When the last element of a for_each started. */
  readonly #lastStarts = new Map<string, number>()
  /** Outputs of elements, which are not called again. */
  readonly #done = new Map<string, JsonValue>()

  constructor(world: World, runId: string) {
    this.#world = world
    this.#runId = runId
  }

  /** One attempt over some steps: those that ended before are left alone. The failure that ends it, or null. */
  attempt(steps: ReadonlyArray<ModelStep>, inFailure: boolean): (Fault & { readonly step: string }) | null {
    return steps.some(({ needs }) => needs !== null) ? this.#graph(steps, inFailure) : this.#sequence(steps, inFailure)
  }

  #isOver({ id, onError }: ModelStep): boolean {
    const end = this.steps.get(id)
    return end !== undefined && (end.state !== "failed" || onError !== "fail")
  }

  #sequence(steps: ReadonlyArray<ModelStep>, inFailure: boolean) {
    for (let place = 0; place < steps.length;) {
      const step = steps[place]
      if (step === undefined) break
      place++
      if (this.#isOver(step)) continue
      const { end } = this.#step(step, 0, inFailure)
      this.steps.set(step.id, end)
      if (end.error === null || step.onError === "continue") continue
      if (step.onError === "fail") return { ...end.error, step: step.id }
      const { goto } = step.onError
      const target = steps.findIndex(({ id }) => id === goto)
      for (const jumped of steps.slice(place, target)) this.steps.set(jumped.id, skipped)
      place = target
    }
    return null
  }

  #graph(steps: ReadonlyArray<ModelStep>, inFailure: boolean) {
    const over = new Set(steps.filter((step) => this.#isOver(step)).map(({ id }) => id))
    const waiting = new Set(steps.filter(({ id }) => !over.has(id)))
    const running = new Map<ModelStep, Ended<StepEnd>>()
    const failures: Array<Fault & { readonly step: string; readonly at: number }> = []
    for (let now = 0; ;) {
      // Ready at one instant, they start together: what one of them does at once stops none of the others.
      const ready = [...waiting].filter(
        ({ needs }) => failures.length === 0 && (needs ?? []).every((id) => over.has(id))
      )
      for (const step of ready) {
        waiting.delete(step)
        running.set(step, this.#step(step, now, inFailure))
      }
      const next = Math.min(...[...running.values()].map(({ at }) => at))
      if (next === Infinity) break
      const due = [...running].filter(([, { at }]) => at === next)
      const fails = due.filter(([step, { end }]) => end.error !== null && step.onError === "fail")
      const started = next === now ? ready : []
      if (fails.length > 0 && new Set([...due.map(([step]) => step), ...started]).size > 1)
        this.unsettled.push(
          `${fails.map(([{ id }]) => id).join(", ")} fails at the instant at which others start or end`
        )
      for (const [step, { at, end }] of due) {
        running.delete(step)
        this.steps.set(step.id, end)
        over.add(step.id)
        if (end.error !== null && step.onError === "fail") failures.push({ ...end.error, step: step.id, at })
      }
      for (const { id } of running.keys())
        if (failures.length > 0 && (this.#lastStarts.get(id) ?? 0) > next)
          this.unsettled.push(`elements of ${id} start after another step has failed`)
      now = next
    }
    const [first] = failures
    if (first === undefined) return null
    if (failures.some(({ retryable }) => retryable !== first.retryable))
      this.unsettled.push("of failures at the same time one is retryable and one is not")
    const { at: _, ...fault } = first
    return fault
  }

  #step(step: ModelStep, start: number, inFailure: boolean): Ended<StepEnd> {
    if (step.condition !== null && !this.#holds(step.condition)) return { at: start, end: skipped }
    if (step.each !== null) return this.#elements(step, step.each, start, inFailure)
    const { at, end } = this.#call(step, -1, null, start, inFailure)
    return {
      at,
      end: "code" in end ? failedBy(end) : { state: "succeeded", output: end.ok, error: null, errors: null }
    }
  }

  #holds(condition: boolean | Read): boolean {
    if (typeof condition === "boolean") return condition
    const end = this.steps.get(condition.from)
    if (condition.what === "output") return isTrue(end?.output ?? null)
    return (end?.error ?? end?.errors ?? null) !== null
  }

  /** Elements start in order, as soon as there is room for one, until one fails that may not. */
  #elements(step: ModelStep, each: NonNullable<ModelStep["each"]>, start: number, inFailure: boolean): Ended<StepEnd> {
    const rooms = Array.from({ length: each.parallel }, () => start)
    const outputs: Array<JsonValue> = each.list.map(() => null)
    const errors: Array<Fault | null> = each.list.map(() => null)
    const faults: Array<Ended<Fault>> = []
    for (const [index, item] of each.list.entries()) {
      const known = this.#done.get(`${step.id}:${index}`)
      if (known !== undefined) {
        outputs[index] = known
        continue
      }
      const from = Math.min(...rooms)
      const stop = Math.min(...faults.map(({ at }) => at))
      if (stop <= from) {
        if (stop === from && !step.missing && rooms.filter((at) => at === from).length > 1)
          this.unsettled.push(`elements of ${step.id} end at one instant, at which one fails`)
        break
      }
      this.#lastStarts.set(step.id, from)
      const { at, end } = this.#call(step, index, item, from, inFailure)
      rooms[rooms.indexOf(from)] = at
      if ("ok" in end) {
        outputs[index] = end.ok
        this.#done.set(`${step.id}:${index}`, end.ok)
      } else {
        errors[index] = end
        if (each.onItemError === "fail") faults.push({ at, end })
      }
    }
    const at = Math.max(start, ...rooms)
    const [first] = faults.toSorted((one, other) => one.at - other.at)
    if (first !== undefined) {
      if (
        faults.some(
          ({ at: other, end }) => end !== first.end && (other === first.at || end.retryable !== first.end.retryable)
        )
      )
        this.unsettled.push(`elements of ${step.id} fail in different ways at the same time`)
      return { at, end: failedBy(first.end) }
    }
    const anyError = errors.some((error) => error !== null)
    return { at, end: { state: "succeeded", output: outputs, error: null, errors: anyError ? errors : null } }
  }

  /** A call with its retries; an input that cannot be rendered is no call. */
  #call(
    step: ModelStep,
    index: number,
    item: JsonValue,
    start: number,
    inFailure: boolean
  ): Ended<{ readonly ok: JsonValue } | Fault> {
    if (step.missing) return { at: start, end: { code: "template_missing", retryable: false } }
    const input: JsonObject = {
      ...Object.fromEntries(step.reads.map((read, at) => [`r${at}`, this.#read(read, inFailure)])),
      ...(index >= 0 && { item, index })
    }
    const suffix = index < 0 ? "" : `:${index}`
    const key = step.key === null ? `${this.#runId}:${step.id}${suffix}` : `${step.key}:${this.#runId}${suffix}`
    const place = `${step.id}:${index}`
    let at = start
    for (let left = step.retry?.most ?? 1; ; left--) {
      const n = (this.#counts.get(place) ?? 0) + 1
      this.#counts.set(place, n)
      this.calls.push({ step: step.id, index, key, input })
      const answer = this.#world(step.id, index, n)
      at += answer.takes
      if ("ok" in answer) return { at, end: { ok: answer.ok } }
      const { code, retryable } = answer
      const again = step.retry !== null && (step.retry.on === null ? retryable : step.retry.on.includes(code))
      if (!again || left <= 1) return { at, end: { code, retryable } }
    }
  }

  /** In `on_failure`, a step may never have ended, and what is read of it is written with an alternative. */
  #read({ from, what }: Read, inFailure: boolean): JsonValue {
    const end = this.steps.get(from)
    if (what === "error") return end?.errors?.[0]?.code ?? end?.error?.code ?? "none"
    const output = end?.output ?? null
    return inFailure && !isTrue(output) ? "none" : output
  }
}

/**
 * What a run comes to, by the rules of pipelines alone: attempts until nothing fails, or the error is not retryable, or `maxRetries`
 * more are used up; then `on_failure`, once.
 */
export const interpret = ({ failure, main, maxRetries }: ModelPipeline, world: World, runId: string): Outcome => {
  const run = new Interpreter(world, runId)
  let attempts = 0
  let error: Outcome["error"] = null
  do {
    attempts++
    error = run.attempt(main, false)
  } while (error !== null && error.retryable && attempts <= maxRetries)
  if (error !== null) run.attempt(failure, true)
  const { calls, steps, unsettled } = run
  return { state: error === null ? "succeeded" : "failed", error, attempts, steps, calls, unsettled }
}
