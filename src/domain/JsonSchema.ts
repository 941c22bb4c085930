import { Schema } from "effect"
import { isArray, isObject, type JsonObject, type JsonValue, pointer, type Problem, sizeOf } from "./Json.ts"

/** Bytes of compact JSON, and nested containers, that a JSON Schema of a user may have. */
export const maxSchemaBytes = 65_536
export const maxSchemaDepth = 32

/** A JSON Schema that cannot be used: it is none, passes a limit, or takes too long. `path` is the JSON Pointer into it. */
export class SchemaRefused extends Schema.TaggedError<SchemaRefused>()("SchemaRefused", {
  path: Schema.String,
  message: Schema.String
}) {}

const prototypeKey = (value: JsonValue, path: ReadonlyArray<string | number>): Problem | undefined => {
  if (isArray(value)) {
    for (const [at, item] of value.entries()) {
      const found = prototypeKey(item, [...path, at])
      if (found !== undefined) return found
    }
  } else if (isObject(value)) {
    for (const [key, held] of Object.entries(value)) {
      if (key === "__proto__")
        return { path: pointer([...path, key]), message: "no schema can speak of the key __proto__" }
      const found = prototypeKey(held, [...path, key])
      if (found !== undefined) return found
    }
  }
  return undefined
}

/**
 * What can be told to be wrong with a schema before it is compiled: its size, its depth, and a key `__proto__`, which the
 * validator would pass over in silence.
 */
export const schemaProblem = (schema: JsonObject): Problem | undefined =>
  sizeOf(schema, maxSchemaBytes, maxSchemaDepth) === undefined
    ? { path: "", message: `a schema has at most ${maxSchemaBytes} bytes and nests at most ${maxSchemaDepth} deep` }
    : prototypeKey(schema, [])
