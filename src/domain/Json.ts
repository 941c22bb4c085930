import { Either, ParseResult, Schema, type SchemaAST } from "effect"

/** A JSON value (RFC 8259), immutable. Objects may bear any key, `__proto__` too, as own properties. */
export type JsonValue = null | boolean | number | string | JsonArray | JsonObject

/** A JSON array. */
export type JsonArray = ReadonlyArray<JsonValue>

/** A JSON object. Read a key only after `Object.hasOwn`; build one with `Object.fromEntries` or spread. */
export interface JsonObject {
  readonly [key: string]: JsonValue
}

/** One thing that is wrong in a document: the JSON Pointer of the place and a sentence. */
export interface Problem {
  readonly path: string
  readonly message: string
}

/** Containers within containers that a stored value may have; a scalar has none. */
export const maxDepth = 64

/** Whether the value is an array. */
export const isArray = (value: unknown): value is JsonArray => Array.isArray(value)

/** Whether the value is an object, not an array and not null. */
export const isObject = (value: JsonValue | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !isArray(value)

/** The JSON Pointer (RFC 6901) of a path; the empty path is the whole document, `""`. */
export const pointer = (path: ReadonlyArray<PropertyKey>): string =>
  path.map((segment) => `/${String(segment).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("")

const textProblem = (text: string): string | undefined => {
  if (text.includes("\u0000")) return "the character U+0000 cannot be stored"
  return /\p{Surrogate}/u.test(text) ? "half of a surrogate pair cannot be stored" : undefined
}

const isPlain = (value: object): value is { readonly [key: string]: unknown } => {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || prototype === Object.prototype
}

interface Fault {
  /** From the place to the root, so that it grows by one on the way out. */
  readonly place: Array<string | number>
  readonly message: string
}

const scalarProblem = (value: unknown): string | undefined => {
  if (value === null || typeof value === "boolean") return undefined
  if (typeof value === "string") return textProblem(value)
  if (typeof value === "number") return Number.isFinite(value) ? undefined : "a number must be finite"
  return "this is not a JSON value"
}

const below = (fault: Fault, key: string | number): Fault => {
  fault.place.push(key)
  return fault
}

/** The first fault in document order. It goes no deeper than `maxDepth`, however deep the value is, so that the stack holds it. */
const firstFault = (value: unknown, depth = 0): Fault | undefined => {
  if (typeof value !== "object" || value === null || !(isArray(value) || isPlain(value))) {
    const message = scalarProblem(value)
    return message === undefined ? undefined : { place: [], message }
  }
  if (depth >= maxDepth) return { place: [], message: `nested deeper than ${maxDepth}` }
  if (isArray(value)) {
    for (let at = 0; at < value.length; at++) {
      const fault = firstFault(value[at], depth + 1)
      if (fault !== undefined) return below(fault, at)
    }
    return undefined
  }
  for (const key of Object.keys(value)) {
    const wrong = textProblem(key)
    if (wrong !== undefined) return { place: [key], message: `in a key, ${wrong}` }
    const fault = firstFault(value[key], depth + 1)
    if (fault !== undefined) return below(fault, key)
  }
  return undefined
}

const pathOf = ({ place }: Fault): ReadonlyArray<string | number> => place.toReversed()

/**
 * What PostgreSQL's `jsonb` or Ordinaut's own limits refuse in a value, with the JSON Pointer of the first such place:
 * U+0000, half a surrogate pair (in keys too), numbers that are not finite, more than `maxDepth` nested containers, and
 * whatever is not JSON at all. Undefined for a value that can be stored. Never overflows the stack.
 */
export const storable = (value: unknown): Problem | undefined => {
  const fault = firstFault(value)
  return fault === undefined ? undefined : { path: pointer(pathOf(fault)), message: fault.message }
}

/** A text that can be stored: what `storable` refuses in it becomes U+FFFD, and what is over `most` UTF-16 units is cut off. */
export const storableText = (text: string, most: number): string =>
  (text.length > most ? `${text.slice(0, most)}…` : text).replaceAll(/\p{Surrogate}|\0/gu, "\uFFFD")

/** Bytes of a text in compact JSON, UTF-8, its quotes counted. */
const textSize = (text: string): number => {
  let size = 2
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit === 0x22 || unit === 0x5c) size += 2
    else if (unit < 0x20) size += unit === 8 || unit === 9 || unit === 10 || unit === 12 || unit === 13 ? 2 : 6
    else if (unit < 0x80) size += 1
    // Each half of a surrogate pair is two of its four bytes.
    else size += unit < 0x800 || (unit & 0xf800) === 0xd800 ? 2 : 3
  }
  return size
}

/**
 * Bytes of a value as compact JSON in UTF-8, or undefined where that is more than `limit` bytes or the value has more
 * than `depth` nested containers. It stops at the limit: a value built from shared parts may print without end.
 */
export const sizeOf = (root: JsonValue, limit: number, depth: number = maxDepth): number | undefined => {
  let size = 0
  const open: Array<readonly [JsonValue, number]> = [[root, depth]]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const [value, left] = next
    if (typeof value === "string") size += value.length > limit ? value.length : textSize(value)
    else if (typeof value !== "object" || value === null) size += String(value).length
    else {
      if (left === 0) return undefined
      const children = isArray(value) ? value : Object.values(value)
      size += 2 + Math.max(0, children.length - 1)
      if (size > limit) return undefined
      for (const child of children) open.push([child, left - 1])
      if (!isArray(value)) for (const key of Object.keys(value)) size += 1 + textSize(key)
    }
    if (size > limit) return undefined
  }
  return size
}

/** Whether a value is JSON that can be stored; `storable` says why not. */
export const isStorable = (value: unknown): value is JsonValue => firstFault(value) === undefined

const isAny = (value: JsonValue): value is JsonValue => value !== undefined

const declare = <A extends JsonValue>(
  is: (value: JsonValue) => value is A,
  expected: string,
  annotations: Schema.Annotations.Schema<A>
): Schema.Schema<A> => {
  const parse = (value: unknown, _: unknown, ast: SchemaAST.Declaration): Either.Either<A, ParseResult.ParseIssue> => {
    if (isStorable(value) && is(value)) return Either.right(value)
    const fault = firstFault(value) ?? { place: [], message: expected }
    const issue = new ParseResult.Type(ast, value, fault.message)
    const [first, ...rest] = pathOf(fault)
    return Either.left(first === undefined ? issue : new ParseResult.Pointer([first, ...rest], value, issue))
  }
  return Schema.declare([], { decode: () => parse, encode: () => parse }, annotations)
}

/**
 * Schema of a JSON value that can be stored (see `storable`); a refusal bears the path of the place. The value passes
 * as it is, uncopied: a copy key by key would let `__proto__` reach a prototype.
 */
export const JsonValue: Schema.Schema<JsonValue> = declare(isAny, "this is not a JSON value", {
  identifier: "JsonValue",
  description: "any JSON value",
  jsonSchema: { type: ["null", "boolean", "number", "string", "array", "object"] }
})

/** Schema of a JSON object that can be stored, as `JsonValue` is. */
export const JsonObject: Schema.Schema<JsonObject> = declare(isObject, "this must be an object", {
  identifier: "JsonObject",
  jsonSchema: { type: "object" }
})

/**
 * Schema of a JSON value that the product made of values that were checked as they came in: it may nest a little deeper than those,
 * as an output does that wraps its input, and passes unchecked on its way out.
 */
export const MadeJson: Schema.Schema<JsonValue> = Schema.declare(
  (value: unknown): value is JsonValue => value !== undefined,
  {
    description: "any JSON value",
    jsonSchema: { type: ["null", "boolean", "number", "string", "array", "object"] }
  }
)

/** The same of an object; a record of the schema library would copy it key by key, and lose a key `__proto__`. */
export const MadeObject: Schema.Schema<JsonObject> = Schema.declare(
  (value: unknown): value is JsonObject => typeof value === "object" && value !== null && !isArray(value),
  { description: "any JSON values by name", jsonSchema: { type: "object" } }
)
