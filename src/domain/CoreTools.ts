import { Either } from "effect"
import { coreInputProblems, type LogLevel, logLevels } from "./CoreInputs.ts"
import { type Bindings, scopeOf } from "./Expression.ts"
import { compile, search } from "./JmesPath.ts"
import type { Meter } from "./JmesPathMeter.ts"
import { isObject, type JsonObject, type JsonValue, maxDepth, sizeOf } from "./Json.ts"
import { StepFailed } from "./StepFailed.ts"
import { maxRenderedBytes } from "./Template.ts"

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

type CoreTool = (input: JsonObject, bindings: Bindings, meter?: Meter) => Either.Either<CoreResult, StepFailed>

const own = (input: JsonObject, key: string): JsonValue | undefined =>
  Object.hasOwn(input, key) ? input[key] : undefined

const asText = (value: JsonValue | undefined): string =>
  typeof value === "string" ? value : JSON.stringify(value ?? null)

const given = (output: JsonValue): Either.Either<CoreResult, StepFailed> => Either.right({ output, log: undefined })

const transform: CoreTool = (input, bindings, counted) => {
  const expression = own(input, "expression")
  if (typeof expression !== "string") return given(own(input, "value") ?? null)
  return compile(expression).pipe(
    Either.flatMap((compiled) => {
      const { context, meter } = scopeOf(bindings, counted)
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

const log: CoreTool = (input) => {
  const level = own(input, "level")
  const line = {
    level: isLevel(level) ? level : "info",
    message: asText(own(input, "message")),
    data: own(input, "data") ?? null
  }
  return Either.right({ output: { logged: true }, log: line })
}

const fail: CoreTool = (input) =>
  Either.left(
    new StepFailed({
      code: "failed",
      message: asText(own(input, "message")),
      retryable: own(input, "retryable") === true
    })
  )

const tools: ReadonlyMap<string, CoreTool> = new Map([
  ["transform", transform],
  ["log", log],
  ["fail", fail]
])

/**
 * Runs a tool of namespace `core` that needs nothing but its input: `transform`, `log`, `fail`. Fails with `tool_input_invalid`,
 * with what `core.fail` asks for, and for `core.transform` with the expression's error or `output_too_large`. `meter` counts
 * its evaluation, where that is not for it alone.
 */
export const runCore = (
  tool: string,
  input: JsonValue,
  bindings: Bindings,
  meter?: Meter
): Either.Either<CoreResult, StepFailed> => {
  const run = tools.get(tool)
  if (run === undefined) return Either.left(StepFailed.of("tool_unavailable", `core.${tool} does not run by itself`))
  return Either.flatMap(coreInput(tool, input), (checked) => run(checked, bindings, meter))
}

/** The rendered input of a core tool, if nothing is wrong with it; fails with `tool_input_invalid`. */
export const coreInput = (tool: string, input: JsonValue): Either.Either<JsonObject, StepFailed> => {
  const [problem] = coreInputProblems(tool, input, () => false)
  return problem === undefined && isObject(input)
    ? Either.right(input)
    : Either.left(StepFailed.of("tool_input_invalid", `${problem?.path ?? ""}: ${problem?.message ?? ""}`))
}
