import { Either } from "effect"
import type { CheckedPipeline, CheckedStep } from "./CheckedPipeline.ts"
import { isArray, isObject, type JsonObject, type JsonValue, pointer, type Problem } from "./Json.ts"
import { ErrorCode, isRetryable, StepFailed } from "./StepFailed.ts"

/** What a tool is taken to have done: an output, or a failure. */
export type Given = Either.Either<JsonValue, StepFailed>

/** What is given for the calls of a step; of a `for_each`, for its elements in order, unless the step is to fail whole. */
export type GivenStep =
  | { readonly tag: "call"; readonly call: Given }
  | { readonly tag: "elements"; readonly elements: ReadonlyArray<Given> }

/** What is given for the steps of a pipeline, by id. */
export type GivenOutputs = ReadonlyMap<string, GivenStep>

const isCode = (value: JsonValue | undefined): value is ErrorCode => ErrorCode.literals.some((known) => known === value)

const wrong = (path: string, message: string): Either.Either<never, Problem> => Either.left({ path, message })

/** `{"$error": {code, message?, retryable?}}`, and nothing beside it, stands for a failure. */
const failureOf = (value: JsonValue): JsonValue | undefined =>
  isObject(value) && Object.hasOwn(value, "$error") && Object.keys(value).length === 1 ? value["$error"] : undefined

const failed = (error: JsonValue, place: string): Either.Either<Given, Problem> => {
  if (!isObject(error)) return wrong(place, "this must be an object with code, message and retryable")
  const { code, message = "a failure that was given", retryable, ...rest } = error
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined) return wrong(place + pointer([unknown]), "an error has code, message and retryable")
  if (!isCode(code)) return wrong(`${place}/code`, `this must be one of ${ErrorCode.literals.join(", ")}`)
  if (typeof message !== "string") return wrong(`${place}/message`, "this must be a text")
  if (retryable !== undefined && typeof retryable !== "boolean")
    return wrong(`${place}/retryable`, "this must be true or false")
  return Either.right(Either.left(new StepFailed({ code, message, retryable: retryable ?? isRetryable(code) })))
}

const callOf = (value: JsonValue, place: string): Either.Either<Given, Problem> => {
  const error = failureOf(value)
  return error === undefined ? Either.right(Either.right(value)) : failed(error, `${place}/$error`)
}

const stepOf = (step: CheckedStep, value: JsonValue, place: string): Either.Either<GivenStep, Problem> => {
  if (step.forEach === undefined || failureOf(value) !== undefined) {
    return Either.map(callOf(value, place), (call) => ({ tag: "call", call }))
  }
  if (!isArray(value)) return wrong(place, "the output of a step with for_each is an array, with one output an element")
  return Either.map(Either.all(value.map((element, at) => callOf(element, place + pointer([at])))), (elements) => ({
    tag: "elements",
    elements
  }))
}

/**
 * Reads outputs that are given by the ids of their steps. An object whose only key is `$error` stands for a failure, of the step or
 * of an element. `prefix` is the JSON Pointer of `values`. Fails with the first problem.
 */
export const givenOutputs = (
  pipeline: CheckedPipeline,
  values: JsonObject,
  prefix: string
): Either.Either<GivenOutputs, Problem> => {
  const given = new Map<string, GivenStep>()
  for (const [id, value] of Object.entries(values)) {
    const place = prefix + pointer([id])
    const step = pipeline.steps.find((one) => one.id === id)
    if (step === undefined) {
      const saved = pipeline.steps.find(({ saveAs }) => saveAs === id)
      return wrong(place, saved === undefined ? `no step has the id ${id}` : `use the id of the step, ${saved.id}`)
    }
    const read = stepOf(step, value, place)
    if (Either.isLeft(read)) return Either.left(read.left)
    given.set(id, read.right)
  }
  return Either.right(given)
}
