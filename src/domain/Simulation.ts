import type { Path } from "./Expression.ts"
import { isObject, type JsonObject, type JsonValue } from "./Json.ts"
import { sampleAt } from "./SchemaSample.ts"
import type { CheckedPipeline, CheckedStep } from "./CheckedPipeline.ts"

/** Placeholders on their way to JSON: one level of an object, of an array, or the value that stands at the end. */
type Draft = Leaf | Map<string, Draft> | Array<Draft | undefined>

interface Leaf {
  readonly value: JsonValue
}

const isLeaf = (draft: Draft): draft is Leaf => !(draft instanceof Map) && !Array.isArray(draft)

/** A longer array would be made of gaps: a reference to a position beyond it gets no placeholder. */
const maxElements = 100

const plainName = /^[A-Za-z_][A-Za-z0-9_]*$/

/** A path as one writes it in an expression: `steps.x.items[0].name`, with quotes where a name needs them. */
export const written = (path: Path): string =>
  path
    .map((segment, i) => {
      if (typeof segment === "number") return `[${segment}]`
      return (i === 0 ? "" : ".") + (plainName.test(segment) ? segment : JSON.stringify(segment))
    })
    .join("")

/** The position in the array, which has one element where it is counted from the end. */
const positionOf = (segment: number): number => Math.max(0, segment)

/** What stands at a place of a draft; undefined where that place is of another kind. */
const childOf = (draft: Draft, segment: string | number): Draft | undefined => {
  if (draft instanceof Map) return typeof segment === "string" ? draft.get(segment) : undefined
  return isDraftArray(draft) && typeof segment === "number" ? draft[positionOf(segment)] : undefined
}

const fits = (draft: Draft, segment: string | number): boolean =>
  typeof segment === "string" ? draft instanceof Map : isDraftArray(draft) && positionOf(segment) < maxElements

const isDraftArray = (draft: Draft): draft is Array<Draft | undefined> => Array.isArray(draft)

const put = (draft: Draft, segment: string | number, child: Draft): void => {
  if (draft instanceof Map) draft.set(String(segment), child)
  else if (isDraftArray(draft) && typeof segment === "number") draft[positionOf(segment)] = child
}

/** Adds a value at a path. What is already there and goes deeper stays; of two kinds at one place, the first stays. */
const add = (root: Draft, path: Path, value: JsonValue): void => {
  let at = root
  for (const [i, segment] of path.entries()) {
    if (!fits(at, segment)) return
    const next = path[i + 1]
    const child = childOf(at, segment)
    if (next === undefined) {
      if (child === undefined) put(at, segment, { value })
      return
    }
    if (child === undefined || isLeaf(child)) put(at, segment, typeof next === "string" ? new Map() : [])
    const below = childOf(at, segment)
    if (below === undefined) return
    at = below
  }
}

const finish = (draft: Draft | undefined): JsonValue => {
  if (draft === undefined) return null
  if (draft instanceof Map) return Object.fromEntries([...draft].map(([key, child]) => [key, finish(child)]))
  return isDraftArray(draft) ? Array.from(draft, (child) => finish(child)) : draft.value
}

/** The paths below `source` that a step reads; what it runs over is an array, and what it reads of `item` lies in the elements of that. */
const readsOf = (step: CheckedStep, source: CheckedStep): ReadonlyArray<Path> => {
  const isBelow = ([root, name]: Path) => root === "steps" && (name === source.id || name === source.saveAs)
  const arrays = (step.forEach?.items.references ?? []).filter((path) => isBelow(path))
  return [
    ...step.references.filter((path) => isBelow(path)),
    ...arrays.flatMap((array) => [
      [...array, 0],
      ...step.references.flatMap(([root, ...below]) => (root === "item" ? [[...array, 0, ...below]] : []))
    ])
  ]
}

/**
 * The output of a step that calls nobody: `status`, `tool_address`, `input_args` (the rendered input), `timestamp` (`at`,
 * RFC 3339) and `message`, and besides these a placeholder `"<simulated steps.x.y>"` at every path below the step that a
 * later step reads, in an array of one where a later one runs over it, so that the flow of the data can be followed to the end of the pipeline. With the `schema` of the output the placeholder is what that says
 * of the place.
 */
export const simulate = (
  pipeline: CheckedPipeline,
  stepIndex: number,
  input: JsonValue,
  at: string,
  schema?: JsonObject
): JsonValue => {
  const step = pipeline.steps[stepIndex]
  if (step === undefined) return null
  const output: JsonObject = {
    status: "simulated",
    tool_address: step.uses,
    input_args: input,
    timestamp: at,
    message: `${step.uses} was simulated: no extension provides it, and nothing was called`
  }
  const placeholders = new Map<string, Draft>()
  for (const path of pipeline.steps.flatMap((other) => readsOf(other, step))) {
    const [, , ...below] = path
    // What is read of an element is read of the output of one of its calls.
    const own = step.forEach !== undefined && typeof below[0] === "number" ? below.slice(1) : below
    const [first] = own
    if (typeof first === "string" && !Object.hasOwn(output, first))
      add(placeholders, own, (schema && sampleAt(schema, own)) ?? `<simulated ${written(path)}>`)
  }
  const finished = finish(placeholders)
  // The five fields last: a placeholder never stands over one of them.
  return isObject(finished) ? { ...finished, ...output } : output
}
