/** A JSON Schema of the document, as far as it is completed here. */
interface Node {
  readonly type?: string | ReadonlyArray<string>
  readonly enum?: unknown
  readonly const?: unknown
  readonly [key: string]: unknown
}

/** What holds for every text and list of a place, whatever its schema says. */
export interface Most {
  readonly characters: number
  readonly elements: number
}

/** A body of 8 MiB, the largest that is taken, holds no longer text and no more elements than these; nothing else is stored. */
export const ofBodies: Most = { characters: 8_388_608, elements: 4_194_304 }

/** A request line and its headers have 16 KiB together. */
export const ofHeads: Most = { characters: 16_384, elements: 1000 }

/** The router takes no longer part of a path. */
export const ofPaths: Most = { characters: 200, elements: 1 }

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && !Array.isArray(value)

const int32 = 2 ** 31

const integer = (schema: Node): Node => {
  const { maximum = Number.MAX_SAFE_INTEGER, minimum = Number.MIN_SAFE_INTEGER } = schema
  const small = Number(minimum) >= -int32 && Number(maximum) < int32
  return { ...schema, minimum, maximum, format: small ? "int32" : "int64" }
}

/** The keywords that hold schemas: one, a list, or by name. */
const inner = (schema: Node, most: Most): Node => {
  const one = (value: unknown) => (isNode(value) ? completed(value, most) : value)
  const change = (key: string, value: unknown) => {
    switch (key) {
      case "items":
      case "additionalProperties":
        return one(value)
      case "anyOf":
      case "oneOf":
      case "allOf":
      case "prefixItems":
        return Array.isArray(value) ? value.map(one) : value
      case "properties":
      case "patternProperties":
        return isNode(value)
          ? Object.fromEntries(Object.entries(value).map(([name, held]) => [name, one(held)]))
          : value
      default:
        return value
    }
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, change(key, value)]))
}

/**
 * A schema that says the bounds of every text, list and integer in it: where it has none of its own, those that hold for all. An
 * integer is one that a JSON number can tell exactly.
 */
export const completed = (schema: Node, most: Most): Node => {
  const held = inner(schema, most)
  const types = new Set([held.type].flat())
  const listed = held.enum !== undefined || held.const !== undefined
  return {
    ...(types.has("integer") && !listed ? integer(held) : held),
    ...(types.has("string") && !listed && !("maxLength" in held) ? { maxLength: most.characters } : {}),
    ...(types.has("array") && !("maxItems" in held) ? { maxItems: most.elements } : {}),
    ...(types.has("array") && !("items" in held) && !("prefixItems" in held) ? { items: {} } : {})
  }
}
