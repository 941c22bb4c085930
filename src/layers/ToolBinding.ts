import { Context, Effect, Either, Layer, Option } from "effect"
import type { CheckedPipeline, CheckedStep } from "../domain/CheckedPipeline.ts"
import type { Judge } from "../domain/DryJudgement.ts"
import type { Extension, ToolSpec } from "../domain/Extension.ts"
import { type JsonObject, type JsonValue, type Problem } from "../domain/Json.ts"
import { InvalidPipeline } from "../domain/PipelineSpec.ts"
import type { PipelineSpec } from "../domain/PipelineSpec.ts"
import { references } from "../domain/SecretReferences.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import type { Template } from "../domain/Template.ts"
import { Extensions } from "./Extensions.ts"
import { JsonSchemas } from "./JsonSchemas.ts"
import { fits } from "./SchemaFit.ts"
import * as Settings from "./Settings.ts"

/** Binds pipelines to the extensions that bring their tools. */
export class ToolBinding extends Context.Tag("ordinaut/ToolBinding")<
  ToolBinding,
  {
    /**
     * Names of the extensions of the namespace, as it is now, that a pipeline uses: its steps of these are never simulated. Fails for
     * tools that they do not list, for schemas that cannot be used, and for inputs without templates that do not fit them; `prefix` is
     * the place of the payload. Many pipelines share what `known` answered for all of them.
     */
    readonly bind: (
      namespace: string,
      pipeline: CheckedPipeline,
      prefix: string,
      known?: ReadonlyMap<string, Extension>
    ) => Effect.Effect<ReadonlyArray<string>, InvalidPipeline | StoreUnavailable>
    /** The extensions that some payloads use, as they are now, by name. */
    readonly known: (
      namespace: string,
      payloads: ReadonlyArray<PipelineSpec>
    ) => Effect.Effect<ReadonlyMap<string, Extension>, StoreUnavailable>
    /**
     * Judges the inputs and outputs of a pipeline's steps as a run would, by their schemas and those of the tools as they are now. What
     * takes longer than 5 s for all together is refused.
     */
    readonly judge: (namespace: string, pipeline: CheckedPipeline) => Effect.Effect<Judge, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const extensions = yield* Extensions
      const schemas = yield* JsonSchemas
      const unknownTools = yield* Settings.unknownTools
      const named = (namespace: string, names: ReadonlyArray<string>) => {
        const used = [...new Set(names)].filter((name) => name !== "core")
        return used.length === 0 ? Effect.succeed(none) : extensions.named(namespace, used)
      }
      const usedBy = (namespace: string, { steps }: CheckedPipeline) =>
        named(
          namespace,
          steps.map((step) => step.namespace)
        )
      return ToolBinding.of({
        known: Effect.fn("ToolBinding.known")((namespace, payloads) =>
          named(
            namespace,
            payloads.flatMap(({ on_failure = [], pipeline }) =>
              [...pipeline, ...on_failure].map(({ uses }) => uses.slice(0, uses.indexOf(".")))
            )
          )
        ),

        judge: Effect.fn("ToolBinding.judge")(function* (namespace, pipeline) {
          const known = yield* usedBy(namespace, pipeline)
          let spent = 0
          return (step, what, value) => {
            const tool = known.get(step.namespace)?.tools.find(({ name }) => name === step.tool)
            const code = what === "input" ? "tool_input_invalid" : "tool_output_invalid"
            const own = what === "input" ? step.inputSchema : step.outputSchema
            const all = [own, what === "input" ? tool?.input_schema : tool?.output_schema]
            if (all.every((schema) => schema === undefined)) return Effect.succeed(null)
            if (spent > longestJudgement)
              return Effect.succeed(StepFailed.of(code, "the schemas of all steps take longer than 5 s together"))
            const started = performance.now()
            return Effect.either(fits(schemas, code, all)(value)).pipe(
              Effect.map((judged) => (Either.isLeft(judged) ? judged.left : null)),
              Effect.ensuring(Effect.sync(() => void (spent += performance.now() - started)))
            )
          }
        }),

        bind: Effect.fn("ToolBinding.bind")(function* (namespace, pipeline, prefix, shared) {
          const used = new Set(pipeline.steps.map((step) => step.namespace))
          const found = shared ?? (yield* usedBy(namespace, pipeline))
          const known = new Map([...found].filter(([name]) => used.has(name)))
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
      })
    })
  )
}

const none: ReadonlyMap<string, Extension> = new Map()

/** What judging the values of one dry run may take, milliseconds. */
const longestJudgement = 5000

/** More problems than this say nothing more to their reader. */
const mostProblems = 100

const placeOf = ({ main }: CheckedPipeline, { index }: CheckedStep, prefix: string): string => {
  const first = main.steps.length
  return index < first ? `${prefix}/pipeline/${index}` : `${prefix}/on_failure/${index - first}`
}

const missingTool = (
  { namespace, uses }: CheckedStep,
  extension: Extension | undefined,
  unknownTools: "simulate" | "fail"
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
  schemas: typeof JsonSchemas.Service,
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
  schemas: typeof JsonSchemas.Service,
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
