import { FastCheck } from "effect"

interface JsonSchema {
  readonly $ref?: string
  readonly type?: string | ReadonlyArray<string>
  readonly enum?: ReadonlyArray<unknown>
  readonly anyOf?: ReadonlyArray<JsonSchema>
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: ReadonlyArray<string>
  readonly items?: JsonSchema
  readonly additionalProperties?: JsonSchema | boolean
  readonly format?: string
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
}

const instant = FastCheck.oneof(
  FastCheck.date({ min: new Date(Date.UTC(2026, 2, 2)), max: new Date(Date.UTC(2026, 5, 1)), noInvalidDate: true }).map(
    (date) => date.toISOString()
  ),
  FastCheck.constantFrom("9999-12-31T23:59:59Z", "0100-01-01T00:00:00+23:59", "2026-03-29T03:30:00+02:00")
)

const text = (schema: JsonSchema): FastCheck.Arbitrary<string> => {
  if (schema.format === "date-time") return instant
  if (schema.pattern === undefined) return FastCheck.string({ minLength: 1, maxLength: 12 })
  try {
    return FastCheck.stringMatching(new RegExp(schema.pattern), { size: "small" })
  } catch {
    return FastCheck.string({ maxLength: 12 })
  }
}

/** Values of a JSON Schema as the served OpenAPI document writes them; `schemas` are its components. */
export const fromJsonSchema = (
  root: unknown,
  schemas: Readonly<Record<string, unknown>>
): FastCheck.Arbitrary<unknown> => {
  const of = (held: unknown): FastCheck.Arbitrary<unknown> => {
    const schema: JsonSchema = typeof held === "object" && held !== null ? held : {}
    if (schema.$ref !== undefined) {
      return of({ ...Object(schemas[schema.$ref.split("/").at(-1) ?? ""]), ...schema, $ref: undefined })
    }
    if (schema.enum !== undefined) return FastCheck.constantFrom(...schema.enum)
    if (schema.anyOf !== undefined) return FastCheck.oneof(...schema.anyOf.map(of))
    switch (schema.type) {
      case "null":
        return FastCheck.constant(null)
      case "boolean":
        return FastCheck.boolean()
      case "string":
        return text(schema)
      case "integer":
        return FastCheck.integer({ min: schema.minimum ?? -9, max: schema.maximum ?? 2 ** 31 })
      case "number":
        return FastCheck.double({ min: schema.minimum ?? -9, max: schema.maximum ?? 1e9, noNaN: true })
      case "array":
        return FastCheck.array(of(schema.items), { maxLength: 3 })
      case "object": {
        if (schema.properties === undefined)
          return FastCheck.dictionary(FastCheck.string({ maxLength: 5 }), of(schema.additionalProperties), {
            maxKeys: 3
          })
        const fields = Object.entries(schema.properties).map(([name, value]) => [name, of(value)] as const)
        return FastCheck.record(Object.fromEntries(fields), { requiredKeys: [...(schema.required ?? [])] })
      }
      default:
        return FastCheck.jsonValue({ maxDepth: 2, depthSize: "small" })
    }
  }
  return of(root)
}
