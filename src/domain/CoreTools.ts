import { Either } from "effect"
import { type Bindings, scopeOf } from "./Expression.ts"
import { compile, search } from "./JmesPath.ts"
import { isObject, type JsonObject, type JsonValue, maxDepth, pointer, type Problem, sizeOf } from "./Json.ts"
import { StepFailed } from "./StepFailed.ts"
import { maxRenderedBytes } from "./Template.ts"

/** Levels of `core.log`, from the least to the most urgent. */
export const logLevels = ["debug", "info", "warn", "error"] as const

/** See the list of the same name. */
export type LogLevel = (typeof logLevels)[number]

/** A line that a step wrote. `data` is null where it gave none. */
export interface LogLine {
  readonly level: LogLevel
  readonly message: string
  readonly data: JsonValue
}

/** What a core tool gave: its output, and the line that it logged. */
export interface CoreResult {
  readonly output: JsonValue
  readonly log: LogLine | undefined
}

const isLevel = (value: JsonValue | undefined): value is LogLevel => logLevels.some((level) => level === value)

/** A field of a tool's input: whether it must be there, and what it must be. */
interface Field {
  readonly required?: true
  readonly expected?: string
  readonly is?: (value: JsonValue) => boolean
}

interface CoreTool {
  readonly fields: ReadonlyMap<string, Field>
  readonly run: (input: JsonObject, bindings: Bindings) => Either.Either<CoreResult, StepFailed>
}

const own = (input: JsonObject, key: string): JsonValue | undefined =>
  Object.hasOwn(input, key) ? input[key] : undefined

const asText = (value: JsonValue | undefined): string =>
  typeof value === "string" ? value : JSON.stringify(value ?? null)

const given = (output: JsonValue): Either.Either<CoreResult, StepFailed> => Either.right({ output, log: undefined })

const transform: CoreTool = {
  fields: new Map<string, Field>([
    ["value", {}],
    ["expression", { expected: "a JMESPath text", is: (value) => typeof value === "string" }]
  ]),
  run: (input, bindings) => {
    const expression = own(input, "expression")
    if (typeof expression !== "string") return given(own(input, "value") ?? null)
    return compile(expression).pipe(
      Either.flatMap((compiled) => {
        const { context, meter } = scopeOf(bindings)
        return search(compiled, context, meter)
      }),
      Either.mapLeft((error) => StepFailed.ofExpression(error)),
      Either.flatMap((output) =>
        sizeOf(output, maxRenderedBytes) === undefined
          ? Either.left(
              StepFailed.of(
                "output_too_large",
                `the output has more than ${maxRenderedBytes} bytes, or nests deeper than ${maxDepth}`
              )
            )
          : given(output)
      )
    )
  }
}

const log: CoreTool = {
  fields: new Map<string, Field>([
    ["message", { required: true }],
    ["level", { expected: `one of ${logLevels.join(", ")}`, is: isLevel }],
    ["data", {}]
  ]),
  run: (input) => {
    const level = own(input, "level")
    const line = {
      level: isLevel(level) ? level : "info",
      message: asText(own(input, "message")),
      data: own(input, "data") ?? null
    }
    return Either.right({ output: { logged: true }, log: line })
  }
}

const fail: CoreTool = {
  fields: new Map<string, Field>([
    ["message", { required: true }],
    ["retryable", { expected: "true or false", is: (value) => typeof value === "boolean" }]
  ]),
  run: (input) =>
    Either.left(
      new StepFailed({
        code: "failed",
        message: asText(own(input, "message")),
        retryable: own(input, "retryable") === true
      })
    )
}

const tools: ReadonlyMap<string, CoreTool> = new Map([
  ["transform", transform],
  ["log", log],
  ["fail", fail]
])

/** Names of the tools of namespace `core`, without the namespace. */
export const coreToolNames: ReadonlyArray<string> = [...tools.keys()]

/**
 * What is wrong with the input of a core tool, with JSON Pointers from the input on. `isOpen` says of a value that it is
 * not known yet, as a template is not before the run; such a value passes. Nothing is known of a tool that does not exist.
 */
export const coreInputProblems = (
  tool: string,
  input: JsonValue,
  isOpen: (value: JsonValue) => boolean
): ReadonlyArray<Problem> => {
  const fields = tools.get(tool)?.fields
  if (fields === undefined) return []
  if (!isObject(input)) {
    // The expression of a transform is read at creation, so that it cannot come out of a template.
    if (isOpen(input) && tool !== "transform") return []
    return [{ path: "", message: `the input of core.${tool} must be an object` }]
  }
  const problems: Array<Problem> = []
  for (const key of Object.keys(input)) {
    const field = fields.get(key)
    const value = input[key] ?? null
    const path = pointer([key])
    if (field === undefined) problems.push({ path, message: `core.${tool} takes ${[...fields.keys()].join(", ")}` })
    else if (field.is !== undefined && !field.is(value) && !isOpen(value))
      problems.push({ path, message: `this must be ${field.expected}` })
  }
  for (const [key, { required }] of fields) {
    if (required && !Object.hasOwn(input, key))
      problems.push({ path: pointer([key]), message: `core.${tool} needs this` })
  }
  if (tool === "transform" && Object.hasOwn(input, "value") === Object.hasOwn(input, "expression")) {
    problems.push({ path: "", message: "core.transform takes value or expression, one of the two" })
  }
  return problems
}

/**
 * Runs a tool of namespace `core` on its rendered input. Fails with `tool_input_invalid`, with what `core.fail` asks for,
 * and for `core.transform` with the expression's error or `output_too_large`.
 */
export const runCore = (tool: string, input: JsonValue, bindings: Bindings): Either.Either<CoreResult, StepFailed> => {
  const found = tools.get(tool)
  if (found === undefined) return Either.left(StepFailed.of("tool_unavailable", `there is no tool core.${tool}`))
  const [problem] = coreInputProblems(tool, input, () => false)
  if (problem !== undefined || !isObject(input)) {
    return Either.left(StepFailed.of("tool_input_invalid", `${problem?.path ?? ""}: ${problem?.message ?? ""}`))
  }
  return found.run(input, bindings)
}
