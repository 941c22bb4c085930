import { parentPort } from "node:worker_threads"
import { Ajv } from "ajv"
import type { ErrorObject, Options, ValidateFunction } from "ajv"
import { Ajv2020 } from "ajv/dist/2020.js"
import formats from "ajv-formats"
import { RE2JS } from "re2js"

/** What the thread is asked: a schema as JSON, and the value to judge as JSON; null only compiles. */
export interface Question {
  readonly schema: string
  readonly value: string | null
}

/** What it answers: what is wrong with the value, or why the schema cannot be used, each with the JSON Pointer of its place. */
export type Answer =
  | { readonly tag: "judged"; readonly problems: ReadonlyArray<Place> }
  | { readonly tag: "refused"; readonly refusal: Place }

interface Place {
  readonly path: string
  readonly message: string
}

/** Compiled schemas are kept up to this many characters of their texts; the oldest use goes first. */
const mostKept = 1_000_000
const mostProblems = 20
const mostMessage = 300

/** Patterns run on RE2, in time linear to the text. Ajv tells patterns apart by `toString`. */
const linear = Object.assign(
  (pattern: string) => {
    const compiled = RE2JS.compile(pattern)
    return { test: (text: string) => compiled.matcher(text).find(), toString: () => `/${pattern}/` }
  },
  // What a standalone build of Ajv would print; none is made here.
  { code: "re2" }
)

const options: Options = {
  // JSON Schema ignores keywords and formats that it does not know, and servers that list tools send both.
  strictSchema: false,
  strictTypes: false,
  strictTuples: false,
  logger: false,
  // A member that an object merely inherits, such as `constructor`, is none.
  ownProperties: true,
  code: { regExp: linear },
  validateSchema: false
}

/** Of the two dialects that are read, the one that a schema names; 2020-12 where it names none. */
const dialectOf = ({ $schema }: Readonly<Record<string, unknown>>): "2020-12" | "draft-07" | undefined => {
  if ($schema === undefined) return "2020-12"
  const name = typeof $schema === "string" ? $schema.replace(/^https?:/, "").replace(/#$/, "") : ""
  if (name === "//json-schema.org/draft/2020-12/schema") return "2020-12"
  return name === "//json-schema.org/draft-07/schema" ? "draft-07" : undefined
}

const judges = { "2020-12": new Ajv2020({ logger: false }), "draft-07": new Ajv({ logger: false }) }
for (const judge of Object.values(judges)) formats.default(judge)

const cut = (text: string) => (text.length > mostMessage ? `${text.slice(0, mostMessage)}…` : text)

const told = ({ instancePath, keyword, message = "is not allowed", params }: ErrorObject): Place => {
  if (keyword === "additionalProperties" || keyword === "unevaluatedProperties") {
    const name: unknown = params["additionalProperty"] ?? params["unevaluatedProperty"]
    return { path: instancePath, message: cut(`must not have the property ${JSON.stringify(name)}`) }
  }
  const allowed: unknown =
    keyword === "enum" ? params["allowedValues"] : keyword === "const" ? params["allowedValue"] : undefined
  return {
    path: instancePath,
    message: cut(allowed === undefined ? message : `${message}: ${JSON.stringify(allowed)}`)
  }
}

const refusal = (path: string, message: string): Place => ({ path, message: cut(message) })

const parsed = (text: string): unknown => JSON.parse(text)

type Compiled = ValidateFunction | Place

const isRefusal = (compiled: Compiled): compiled is Place => typeof compiled !== "function"

const compile = (text: string): Compiled => {
  const schema = parsed(text)
  if (typeof schema !== "object" || schema === null) return refusal("", "a schema is an object")
  // Ajv's own keyword: it would answer a promise.
  if ("$async" in schema) return refusal("/$async", "is no keyword of JSON Schema")
  const dialect = dialectOf({ ...schema })
  if (dialect === undefined) return refusal("/$schema", "is not JSON Schema 2020-12, nor draft-07")
  const judge = judges[dialect]
  if (judge.validateSchema(schema) !== true) {
    const [error] = judge.errors ?? []
    return error === undefined ? refusal("", "is no JSON Schema") : told(error)
  }
  // One for each schema: Ajv remembers the ids within a schema for ever, and another's `$ref` would find them.
  const ajv = new (dialect === "draft-07" ? Ajv : Ajv2020)({ ...options, meta: false })
  formats.default(ajv)
  try {
    const compiled = ajv.compile(schema)
    // A reference that comes back to itself without going down into the value would overflow the stack at any value.
    for (const probe of [null, {}, [], "", 0]) compiled(probe)
    return compiled
  } catch (cause) {
    return refusal("", reasonOf(cause))
  }
}

const reasonOf = (cause: unknown): string => {
  if (cause instanceof RangeError) return "refers to itself without end, or too deep"
  if (!(cause instanceof Error)) return "cannot be compiled"
  if ("missingRef" in cause)
    return `refers to ${String(cause.missingRef)}, which is not within the schema; nothing is fetched`
  return cause.message
}

const kept = new Map<string, Compiled>()
let size = 0

const compiled = (text: string): Compiled => {
  const found = kept.get(text) ?? compile(text)
  if (!kept.delete(text)) size += text.length
  kept.set(text, found)
  for (const [oldest] of kept) {
    if (size <= mostKept) break
    kept.delete(oldest)
    size -= oldest.length
  }
  return found
}

const answer = ({ schema, value }: Question): Answer => {
  const validate = compiled(schema)
  if (isRefusal(validate)) return { tag: "refused", refusal: validate }
  if (value === null) return { tag: "judged", problems: [] }
  try {
    const problems = validate(parsed(value)) ? [] : (validate.errors ?? []).slice(0, mostProblems)
    return { tag: "judged", problems: problems.map(told) }
  } catch (cause) {
    return { tag: "refused", refusal: refusal("", reasonOf(cause)) }
  }
}

parentPort?.on("message", (question: Question) => parentPort?.postMessage(answer(question)))
// The first message says that the thread is loaded.
parentPort?.postMessage("ready")
