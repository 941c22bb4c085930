import { Either } from "effect"
import { ExpressionError } from "./ExpressionError.ts"
import { compile, type JmesPath, search, truth } from "./JmesPath.ts"
import { Meter } from "./JmesPathMeter.ts"
import type { Path } from "./JmesPathReferences.ts"
import { endOfQuoted, startsQuoted } from "./JmesPathSource.ts"
import { isArray, isObject, type JsonObject, type JsonValue } from "./Json.ts"
import { formatInstant, instantOf, parseTime, type TimeExpression } from "./TimeExpression.ts"
import type { Zone } from "./Zone.ts"

export { ExpressionError } from "./ExpressionError.ts"
export type { Path } from "./JmesPathReferences.ts"

/** What expressions see. `now` (epoch milliseconds) is the run's one logical time, `zone` the task's. */
export interface Bindings {
  readonly params: JsonValue
  readonly steps: JsonValue
  readonly errors: JsonValue
  readonly event: JsonValue
  /** All events that the run stands for, oldest first; `event` is the last. */
  readonly events?: JsonValue
  readonly run: JsonValue
  readonly task: JsonValue
  readonly item?: JsonValue
  readonly index?: number
  readonly now: number
  readonly zone: Zone
}

/** A compiled expression: a time, or JMESPath over the context. `references` are the paths of the context that it reads. */
export interface Expression {
  readonly text: string
  readonly references: ReadonlyArray<Path>
  readonly meaning: TimeExpression | JmesPath
}

/** A compiled `if`. */
export interface Condition {
  readonly text: string
  readonly references: ReadonlyArray<Path>
  readonly query: JmesPath
}

/** What one document is evaluated with: its context, made once, and the steps that all its expressions may take together. */
export interface Scope {
  readonly bindings: Bindings
  readonly context: JsonObject
  readonly meter: Meter
}

/** The scope of one document or condition. */
export const scopeOf = (bindings: Bindings, meter: Meter = new Meter()): Scope => {
  const { now, zone: _, ...values } = bindings
  return { bindings, context: { ...values, now: formatInstant(now) ?? null }, meter }
}

/** The position of the `}` that ends an expression beginning at `from`; quoted pieces and inner braces belong to it. */
export const endOfExpression = (text: string, from: number): number | undefined => {
  let braces = 0
  for (let i = from; i < text.length; i++) {
    if (startsQuoted(text, i)) {
      const end = endOfQuoted(text, i)
      if (end === undefined) return undefined
      i = end - 1
    } else if (text[i] === "{") braces++
    else if (text[i] === "}" && braces-- === 0) return i
  }
  return undefined
}

/** Compiles the inside of one `${…}`. */
export const compileExpression = (text: string): Either.Either<Expression, ExpressionError> => {
  const time = parseTime(text)
  if (typeof time === "string") {
    return Either.left(new ExpressionError({ code: "template_error", expression: text, message: time }))
  }
  if (time !== undefined) return Either.right({ text, references: [["now"]], meaning: time })
  return Either.map(compile(text), (query) => ({ text, references: query.references, meaning: query }))
}

/** The value at a path, own keys only; undefined where there is none. A negative position counts from the end. */
const lookup = (root: JsonValue, path: Path): JsonValue | undefined => {
  let at: JsonValue | undefined = root
  for (const segment of path) {
    if (typeof segment === "number") at = isArray(at) ? at.at(segment) : undefined
    else at = isObject(at) && Object.hasOwn(at, segment) ? at[segment] : undefined
    if (at === undefined) return undefined
  }
  return at
}

const failed = (code: "template_missing" | "template_error", expression: Expression, message: string) =>
  Either.left(new ExpressionError({ code, expression: expression.text, message }))

/**
 * The value of an expression. With `strict`, a plain path that does not exist fails with `template_missing`; without,
 * it is null. Everything else that goes wrong is `template_error`.
 */
export const evaluate = (
  expression: Expression,
  { bindings, context, meter }: Scope,
  strict: boolean
): Either.Either<JsonValue, ExpressionError> => {
  const { meaning } = expression
  if ("offset" in meaning) {
    const instant = formatInstant(instantOf(meaning, bindings.now, bindings.zone))
    return instant === undefined
      ? failed("template_error", expression, "this time lies outside the years 0000 to 9999")
      : Either.right(instant)
  }
  if (meaning.path === undefined) return search(meaning, context, meter)
  const value = lookup(context, meaning.path)
  if (value !== undefined) return Either.right(value)
  return strict ? failed("template_missing", expression, "this does not exist") : Either.right(null)
}

const conditionError = (expression: string, message: string, place?: string) =>
  new ExpressionError({ code: "condition_error", expression, message, ...(place !== undefined && { place }) })

/** The expression of a condition: bare, or as the one inside of `${…}`. */
const unwrap = (text: string): string => {
  const trimmed = text.trim()
  const whole = trimmed.startsWith("${") && endOfExpression(trimmed, 2) === trimmed.length - 1
  return whole ? trimmed.slice(2, -1).trim() : trimmed
}

/** Compiles a condition: JMESPath, bare or in one `${…}`, not empty. `place` is the JSON Pointer of its string. */
export const compileCondition = (text: string, place: string): Either.Either<Condition, ExpressionError> => {
  const inner = unwrap(text)
  if (inner === "") return Either.left(conditionError(text, "a condition must not be empty", place))
  if (inner.startsWith("${")) {
    return Either.left(conditionError(text, "a condition is one expression: write a && b, not ${a} && ${b}", place))
  }
  return compile(inner).pipe(
    Either.map((query) => ({ text: inner, references: query.references, query })),
    Either.mapLeft((error) => conditionError(inner, error.message, place))
  )
}

/** Whether a condition holds, by JMESPath's rule of truth. A path that does not exist is null, thus false. */
export const holds = (
  condition: Condition,
  bindings: Bindings,
  meter?: Meter
): Either.Either<boolean, ExpressionError> => {
  const { context, meter: spent } = scopeOf(bindings, meter)
  return truth(condition.query, context, spent).pipe(
    Either.mapLeft((error) => conditionError(condition.text, error.message))
  )
}

/** The paths of the context that a template or condition reads, e.g. `["steps", "summary", "text"]`; 0 stands for every element of an array. */
export const references = (compiled: { readonly references: ReadonlyArray<Path> }): ReadonlyArray<Path> =>
  compiled.references
