import type { Path } from "./Expression.ts"
import { isArray, isObject, type JsonObject, type JsonValue } from "./Json.ts"

/** References that are followed one after the other. */
const mostReferences = 32

const own = (schema: JsonObject, key: string): JsonValue | undefined =>
  Object.hasOwn(schema, key) ? schema[key] : undefined

/** What a local `$ref` names, `#/$defs/…`; the schema itself where it has none. */
const resolved = (root: JsonObject, schema: JsonValue | undefined): JsonObject | undefined => {
  let at = schema
  for (let left = mostReferences; left > 0; left--) {
    if (!isObject(at)) return undefined
    const ref = own(at, "$ref")
    if (typeof ref !== "string") return at
    if (!ref.startsWith("#")) return undefined
    at = ref
      .slice(1)
      .split("/")
      .filter((part) => part !== "")
      .reduce<JsonValue | undefined>(
        (held, part) => (isObject(held) ? own(held, part.replaceAll("~1", "/").replaceAll("~0", "~")) : undefined),
        root
      )
  }
  return undefined
}

const below = (schema: JsonObject, segment: string | number): JsonValue | undefined => {
  if (typeof segment === "string") {
    const properties = own(schema, "properties")
    return isObject(properties) ? own(properties, segment) : undefined
  }
  const first = own(schema, "prefixItems")
  return (isArray(first) ? first.at(segment) : undefined) ?? own(schema, "items")
}

const zeros: Readonly<Record<string, JsonValue>> = {
  string: "",
  number: 0,
  integer: 0,
  boolean: false,
  array: [],
  object: {},
  null: null
}

/**
 * What may stand at a path of a value by its JSON Schema: the constant, the default, the first of the enumeration, else the zero of
 * the type. Undefined where the schema says nothing of the place.
 */
export const sampleAt = (root: JsonObject, path: Path): JsonValue | undefined => {
  let schema = resolved(root, root)
  for (const segment of path) {
    if (schema === undefined) return undefined
    schema = resolved(root, below(schema, segment))
  }
  if (schema === undefined) return undefined
  for (const key of ["const", "default"]) {
    const value = own(schema, key)
    if (value !== undefined) return value
  }
  const values = own(schema, "enum")
  if (isArray(values) && values[0] !== undefined) return values[0]
  const type = own(schema, "type")
  const name = isArray(type) ? type[0] : type
  return typeof name === "string" && Object.hasOwn(zeros, name) ? zeros[name] : undefined
}
