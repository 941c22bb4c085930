import { Either } from "effect"
import { ExpressionError } from "./ExpressionError.ts"
import { isArray, isObject, type JsonArray, type JsonValue } from "./Json.ts"
import { JmesPathFault, Meter } from "./JmesPathMeter.ts"
import { type Path, referencesOf } from "./JmesPathReferences.ts"
import { type Comparison, type Node, read } from "./JmesPathSyntax.ts"
import { equal, isTrue } from "./JmesPathValues.ts"

/** A compiled JMESPath expression (https://jmespath.org/specification.html). */
export interface JmesPath {
  readonly text: string
  readonly root: Node
  /** The paths of the data that it reads; position 0 stands for every element of an array. */
  readonly references: ReadonlyArray<Path>
  /** The segments of a plain path such as `a.b[0]."c"`; undefined for every other expression. */
  readonly path: Path | undefined
}

const plainPath = (node: Node): Path | undefined => {
  if (node.tag === "field") return [node.name]
  if (node.tag === "index") return [node.at]
  if (node.tag !== "chain" || node.pipe) return undefined
  const left = plainPath(node.left)
  const right = plainPath(node.right)
  return left === undefined || right === undefined ? undefined : [...left, ...right]
}

const guard = <A>(expression: string, run: () => A): Either.Either<A, ExpressionError> =>
  Either.try({
    try: run,
    catch: (error) => {
      if (error instanceof JmesPathFault)
        return new ExpressionError({ code: "template_error", expression, message: error.message })
      throw error
    }
  })

/** Compiles an expression. Fails with `template_error` on syntax, unknown functions and the static limits. */
export const compile = (text: string): Either.Either<JmesPath, ExpressionError> =>
  guard(text, () => {
    const root = read(text)
    return { text, root, references: referencesOf(root), path: plainPath(root) }
  })

/**
 * The value of an expression over data; what does not exist is null. Fails with `template_error` where a function gets
 * an argument of a wrong type, and when the meter's steps are used up. Pass one meter to bound several expressions
 * together. The answer may share parts with the data.
 */
export const search = (
  expression: JmesPath,
  data: JsonValue,
  meter: Meter = new Meter()
): Either.Either<JsonValue, ExpressionError> => guard(expression.text, () => evaluate(expression.root, data, meter))

/** Whether the value of an expression is true by JMESPath's rule: not false, null, or an empty string, array or object. */
export const truth = (
  expression: JmesPath,
  data: JsonValue,
  meter: Meter = new Meter()
): Either.Either<boolean, ExpressionError> =>
  guard(expression.text, () => isTrue(evaluate(expression.root, data, meter), meter))

const own = (value: JsonValue, name: string): JsonValue =>
  isObject(value) && Object.hasOwn(value, name) ? (value[name] ?? null) : null

const element = (value: JsonValue, at: number): JsonValue => (isArray(value) ? (value.at(at) ?? null) : null)

const order = (by: Comparison, left: number, right: number): boolean => {
  if (by === "GT") return left > right
  if (by === "GTE") return left >= right
  return by === "LT" ? left < right : left <= right
}

const compare = (by: Comparison, left: JsonValue, right: JsonValue, meter: Meter): JsonValue => {
  if (by === "EQ") return equal(left, right, meter)
  if (by === "NE") return !equal(left, right, meter)
  return typeof left === "number" && typeof right === "number" ? order(by, left, right) : null
}

/** A bound of a slice within an array, counted from its end where negative, as in Python. */
const bound = (at: number, length: number, step: number): number => {
  const from = at < 0 ? at + length : at
  return step > 0 ? Math.min(Math.max(from, 0), length) : Math.min(Math.max(from, -1), length - 1)
}

const slice = (node: Extract<Node, { tag: "slice" }>, value: JsonArray, meter: Meter): JsonArray => {
  const { length } = value
  const { step } = node
  const start = bound(node.start ?? (step > 0 ? 0 : length - 1), length, step)
  const stop = node.stop === undefined ? (step > 0 ? length : -1) : bound(node.stop, length, step)
  const taken: Array<JsonValue> = []
  for (let i = start; step > 0 ? i < stop : i > stop; i += step) taken.push(value[i] ?? null)
  meter.spend(taken.length)
  return taken
}

const each = (node: Extract<Node, { tag: "each" }>, value: JsonValue, meter: Meter): JsonValue => {
  const left = evaluate(node.left, value, meter)
  let elements: JsonArray
  if (node.of === "array") {
    if (!isArray(left)) return null
    elements = left
  } else {
    if (!isObject(left)) return null
    elements = Object.values(left)
  }
  meter.spend(elements.length)
  const collected: Array<JsonValue> = []
  for (const item of elements) {
    if (node.where !== undefined && !isTrue(evaluate(node.where, item, meter), meter)) continue
    const result = evaluate(node.right, item, meter)
    if (result !== null) collected.push(result)
  }
  return collected
}

const flatten = (value: JsonValue, meter: Meter): JsonValue => {
  if (!isArray(value)) return null
  const merged: Array<JsonValue> = []
  for (const item of value) {
    meter.spend(isArray(item) ? item.length + 1 : 1)
    if (isArray(item)) for (const inner of item) merged.push(inner)
    else merged.push(item)
  }
  return merged
}

/** The recursion is as deep as the tree, which the compiler bounds. */
const evaluate = (node: Node, value: JsonValue, meter: Meter): JsonValue => {
  meter.spend(1)
  switch (node.tag) {
    case "current":
      return value
    case "literal":
      return node.value
    case "field":
      return own(value, node.name)
    case "index":
      return element(value, node.at)
    case "slice":
      return isArray(value) ? slice(node, value, meter) : null
    case "chain":
      return evaluate(node.right, evaluate(node.left, value, meter), meter)
    case "each":
      return each(node, value, meter)
    case "flatten":
      return flatten(evaluate(node.of, value, meter), meter)
    case "compare":
      return compare(node.by, evaluate(node.left, value, meter), evaluate(node.right, value, meter), meter)
    case "and": {
      const left = evaluate(node.left, value, meter)
      return isTrue(left, meter) ? evaluate(node.right, value, meter) : left
    }
    case "or": {
      const left = evaluate(node.left, value, meter)
      return isTrue(left, meter) ? left : evaluate(node.right, value, meter)
    }
    case "not":
      return !isTrue(evaluate(node.of, value, meter), meter)
    case "list":
      return value === null ? null : node.items.map((item) => evaluate(item, value, meter))
    case "record":
      return value === null
        ? null
        : Object.fromEntries(node.entries.map(([name, item]) => [name, evaluate(item, value, meter)]))
    case "call": {
      const args = node.args.map((arg) => evaluate(arg, value, meter))
      const body = node.by
      const by = (item: JsonValue) => (body === undefined ? null : evaluate(body, item, meter))
      return node.fn.call(args, { name: node.name, meter, by })
    }
  }
}
