import type { Path } from "./Expression.ts"
import { pointer } from "./Json.ts"

/** What a name under `steps` stands for: the position of its step, and whether it is the step's id. */
export interface StepName {
  readonly index: number
  readonly isId: boolean
}

/** Who reads: a step at a position, in a place where `item` and `index` are known or not. */
export interface Reader {
  readonly index: number
  /** Whether a step has always ended, or been skipped, when the reader starts. */
  readonly follows: (step: number) => boolean
  readonly ofItem: boolean
}

const roots = ["params", "steps", "errors", "event", "events", "run", "task", "now"]

/** The fields of the parts of the context that are the same in every run. */
const fields: ReadonlyMap<string, ReadonlyArray<string>> = new Map([
  ["event", ["topic", "payload", "id", "at"]],
  ["run", ["id", "attempt", "scheduled_for", "trigger"]],
  ["task", ["id", "title", "labels"]]
])

const unknownRoot = (root: string): string => {
  if (root === "item" || root === "index")
    return `${root} is known only in with and idempotency_key of a step with for_each`
  if (root === "true" || root === "false" || root === "null")
    return `write \`${root}\` between backticks: bare, it is the name of a field`
  return `there is no ${root}; an expression reads ${roots.join(", ")}`
}

const stepProblem = (name: string, reader: Reader, names: ReadonlyMap<string, StepName>): string | undefined => {
  const step = names.get(name)
  if (step === undefined) return `no step has the id or save_as ${name}`
  if (step.index === reader.index) return `${name} is this step's own output, which does not exist before it has run`
  if (reader.follows(step.index)) return undefined
  return reader.index < step.index
    ? `${name} is the output of a later step`
    : `${name} is the output of a step that this one does not need`
}

/**
 * Why what a step reads can never be there: a name that no context has, an unknown step, one that runs later. Undefined
 * for a reference that may hold. `names` are all names under `steps`.
 */
export const referenceProblem = (
  path: Path,
  reader: Reader,
  names: ReadonlyMap<string, StepName>
): string | undefined => {
  const [root, second] = path
  if (root === undefined) return undefined
  if (typeof root === "number") return "the context is an object, not an array"
  if (reader.ofItem && root === "index")
    return second === undefined ? undefined : "index is a number, and has nothing below it"
  if (reader.ofItem && root === "item") return undefined
  if (!roots.includes(root)) return unknownRoot(root)
  if (second === undefined) return undefined
  if (root === "now") return "now is a time, and has nothing below it"
  if (root === "params") return undefined
  if (root === "events") {
    if (typeof second === "string") return `events is an array: write events[0].${second}, or events[].${second}`
    return path[2] === undefined ? undefined : referenceProblem(["event", ...path.slice(2)], reader, names)
  }
  if (typeof second === "number") return `${root} is an object, not an array`
  if (root === "steps") return stepProblem(second, reader, names)
  if (root === "errors") {
    return names.get(second)?.isId === false
      ? "errors are found by the id of their step"
      : stepProblem(second, reader, names)
  }
  const known = fields.get(root) ?? []
  return known.includes(second)
    ? undefined
    : `${pointer([root, second])} does not exist; ${root} has ${known.join(", ")}`
}
