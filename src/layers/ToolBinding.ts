import { Effect, Option } from "effect"
import type { CheckedPipeline, CheckedStep } from "../domain/CheckedPipeline.ts"
import type { Extension, ToolSpec } from "../domain/Extension.ts"
import { type JsonObject, type JsonValue, type Problem } from "../domain/Json.ts"
import { InvalidPipeline } from "../domain/PipelineSpec.ts"
import { references } from "../domain/SecretReferences.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import type { Template } from "../domain/Template.ts"
import type { Extensions } from "./Extensions.ts"
import type { JsonSchemas } from "./JsonSchemas.ts"

interface Needs {
  readonly extensions: typeof Extensions.Service
  readonly schemas: typeof JsonSchemas.Service
  /** What becomes of a tool that no extension brings. */
  readonly unknownTools: "simulate" | "fail"
}

/** Names that a pipeline is bound to: its steps of these extensions are never simulated. */
type Bound = ReadonlyArray<string>

/**
 * Binds a pipeline to the extensions that its namespace has when it is made. Fails for tools that they do not list, for
 * schemas that cannot be used, and for inputs without templates that do not fit them; `prefix` is the place of the payload.
 */
export const make =
  ({ extensions, schemas, unknownTools }: Needs) =>
  (
    namespace: string,
    pipeline: CheckedPipeline,
    prefix: string
  ): Effect.Effect<Bound, InvalidPipeline | StoreUnavailable> =>
    Effect.gen(function* () {
      const used = new Set(pipeline.steps.map((step) => step.namespace).filter((name) => name !== "core"))
      const known = yield* extensions.named(namespace, [...used])
      const problems: Array<Problem> = []
      for (const step of pipeline.steps) {
        const place = placeOf(pipeline, step, prefix)
        const extension = known.get(step.namespace)
        const tool = extension?.tools.find(({ name }) => name === step.tool)
        const missing = tool === undefined ? missingTool(step, extension, unknownTools) : undefined
        if (missing !== undefined) problems.push({ path: `${place}/uses`, message: missing })
        problems.push(...(yield* schemaProblems(schemas, step, tool, place)))
      }
      if (problems.length > 0) return yield* new InvalidPipeline({ errors: problems.slice(0, mostProblems) })
      return [...known.keys()].sort()
    })

/** More problems than this say nothing more to their reader. */
const mostProblems = 100

const placeOf = ({ main }: CheckedPipeline, { index }: CheckedStep, prefix: string): string => {
  const first = main.steps.length
  return index < first ? `${prefix}/pipeline/${index}` : `${prefix}/on_failure/${index - first}`
}

const missingTool = (
  { namespace, uses }: CheckedStep,
  extension: Extension | undefined,
  unknownTools: Needs["unknownTools"]
): string | undefined => {
  if (namespace === "core") return undefined
  if (extension === undefined)
    return unknownTools === "fail" ? `no extension brings ${uses}, and unknown tools are not simulated here` : undefined
  // An MCP server that has not told its tools yet may have every one.
  if (extension.kind === "mcp" && extension.tools.length === 0) return undefined
  const names = extension.tools.slice(0, 20).map(({ name }) => `${namespace}.${name}`)
  return `the extension ${namespace} brings no ${uses}; it brings ${names.length === 0 ? "none" : names.join(", ")}`
}

/** What a template renders to where it reads nothing; none where it does, and where a secret would still be put in. */
const constantOf = ({ root, uses }: Template): Option.Option<JsonValue> => {
  if (uses.length > 0) return Option.none()
  const value = standing(root)
  return references(value).size > 0 ? Option.none() : Option.some(value)
}

const standing = (node: Template["root"]): JsonValue => {
  if (node.tag === "constant") return node.value
  if (node.tag === "list") return node.items.map(standing)
  if (node.tag === "record")
    return Object.fromEntries(node.entries.map(([key, held]) => [key, standing(held)] as const))
  return null
}

const schemaProblems = (
  schemas: Needs["schemas"],
  { input, inputSchema, outputSchema }: CheckedStep,
  tool: ToolSpec | undefined,
  place: string
) =>
  Effect.gen(function* () {
    const own = [
      ["input_schema", inputSchema],
      ["output_schema", outputSchema]
    ] as const
    for (const [field, schema] of own) {
      if (schema === undefined) continue
      const refused = yield* Effect.flip(schemas.check(schema)).pipe(Effect.option)
      if (Option.isSome(refused))
        return [{ path: `${place}/${field}${refused.value.path}`, message: refused.value.message }]
    }
    const value = constantOf(input)
    if (Option.isNone(value)) return []
    return yield* Effect.forEach([tool?.input_schema, inputSchema], (schema) =>
      schema === undefined ? Effect.succeed([]) : misfits(schemas, schema, value.value, `${place}/with`)
    ).pipe(Effect.map((found) => found.flat()))
  })

const misfits = (
  schemas: Needs["schemas"],
  schema: JsonObject,
  value: JsonValue,
  place: string
): Effect.Effect<ReadonlyArray<Problem>> =>
  schemas.validate(schema, value).pipe(
    Effect.map((problems) => problems.map(({ message, path }) => ({ path: place + path, message }))),
    Effect.catchTag("SchemaRefused", ({ message }) =>
      Effect.succeed([{ path: place, message: `cannot be judged by its schema, which ${message}` }])
    )
  )
