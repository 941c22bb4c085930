import { Either } from "effect"
import { explain } from "./ExpressionError.ts"
import { storable } from "./Json.ts"
import type { JsonObject, JsonValue } from "./Json.ts"
import { referenceProblem } from "./References.ts"
import { StepFailed } from "./StepFailed.ts"
import { compileTemplate, renderText } from "./Template.ts"
import type { Template } from "./Template.ts"
import { find } from "./Zone.ts"

/** Characters of a key, also of one that was rendered. */
export const mostKeyCharacters = 100

/** Whether a concurrency key is a template, which each run renders when it is decided. */
export const isTemplate = (key: string): boolean => key.includes("${")

/** A key belongs to no step. */
const outside = { index: 0, follows: () => false, ofItem: false }
const readable = ["params", "event", "task"]

const compiled = (key: string): Either.Either<Template, string> =>
  Either.gen(function* () {
    const template = yield* Either.mapLeft(compileTemplate(key, ""), (errors) =>
      errors.map((error) => explain(error)).join("; ")
    )
    for (const path of template.references) {
      const problem = readable.includes(String(path[0]))
        ? referenceProblem(path, outside, new Map())
        : `a concurrency key reads ${readable.join(", ")}; there is no ${path.join(".") || "@"} here`
      if (problem !== undefined) return yield* Either.left(problem)
    }
    return template
  })

/** What is wrong with a key as it is given; undefined where nothing is. */
export const keyProblem = (key: string): string | undefined =>
  isTemplate(key) ? Either.match(compiled(key), { onLeft: (problem) => problem, onRight: () => undefined }) : undefined

/** What a key is rendered from: the task, and what the run is given. */
export interface KeyContext {
  readonly task: { readonly id: string; readonly title: string; readonly labels: JsonObject }
  readonly timezone: string
  readonly params: JsonValue
  /** Null unless an event caused the run. */
  readonly event: JsonValue
  /** Whether a path that names nothing is an error, and not null. */
  readonly strict: boolean
}

/**
 * The key of a run. Fails with `template_missing` or `template_error`, the latter also for a key that is empty or has more than 100
 * characters.
 */
export const renderKey = (key: string, context: KeyContext): Either.Either<string, StepFailed> =>
  Either.gen(function* () {
    const failed = (message: string) => StepFailed.of("template_error", `the concurrency key ${message}`)
    const template = yield* Either.mapLeft(compiled(key), (problem) => failed(`cannot be read: ${problem}`))
    const zone = find(context.timezone)
    if (zone === undefined) return yield* Either.left(failed(`needs the zone ${context.timezone}, which there is not`))
    const { event, params, strict, task } = context
    const bindings = { params, steps: null, errors: null, event, run: null, task, now: 0, zone }
    const text = yield* Either.mapLeft(renderText(template, bindings, { strict }), StepFailed.ofExpression)
    if (text.trim() === "") return yield* Either.left(failed("is empty"))
    if (text.length > mostKeyCharacters)
      return yield* Either.left(failed(`has more than ${mostKeyCharacters} characters`))
    const unstorable = storable(text)
    return unstorable === undefined ? text : yield* Either.left(failed(`cannot be stored: ${unstorable.message}`))
  })
