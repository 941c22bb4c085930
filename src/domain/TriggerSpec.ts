import { Either, Schema } from "effect"
import { explain } from "./ExpressionError.ts"
import type { Problem } from "./Json.ts"
import { referenceProblem } from "./References.ts"
import type { ScheduleKind } from "./ScheduleSpec.ts"
import { compileTemplate, type Template } from "./Template.ts"

/** Events that one window collects at most; one that is full runs at once. */
export const mostEvents = 10_000

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })
const int = (from: number, to: number) => Schema.Int.pipe(Schema.between(from, to))

/**
 * How an event task collects events into one run: when none came for `debounce_seconds` (at the latest `debounce_max_seconds` after
 * the first, ten times as long by default), or in a `batch` of so many, or after so long. `key` parts them: a template over `event`.
 */
export const TriggerSpec = Schema.Struct({
  debounce_seconds: optional(int(1, 86_400)),
  debounce_max_seconds: optional(int(1, 864_000)),
  batch: optional(Schema.Struct({ max_events: int(1, mostEvents), max_seconds: int(1, 86_400) })),
  key: optional(Schema.String.pipe(Schema.minLength(1), Schema.maxLength(1000)))
}).pipe(
  Schema.filter(({ batch, debounce_max_seconds: longest, debounce_seconds: quiet }) => {
    if ((batch === undefined) === (quiet === undefined))
      return { path: ["debounce_seconds"], message: "give either debounce_seconds or batch" }
    if (longest === undefined) return true
    if (quiet === undefined)
      return { path: ["debounce_max_seconds"], message: "belongs to debounce_seconds; a batch has max_seconds" }
    return longest >= quiet || { path: ["debounce_max_seconds"], message: "is shorter than debounce_seconds" }
  })
)
export type TriggerSpec = typeof TriggerSpec.Type

/** A trigger as windows are kept by it; milliseconds. */
export interface TriggerRule {
  /** A window closes when no event came for so long; null where only its age and size count. */
  readonly quiet: number | null
  /** A window closes this long after its first event. */
  readonly longest: number
  /** A window with so many events closes at once. */
  readonly most: number
  /** Null where one window takes all. */
  readonly key: Template | null
}

/** A key belongs to no step. */
const outside = { index: 0, follows: () => false, ofItem: false }

const keyOf = (text: string, place: string): Either.Either<Template, ReadonlyArray<Problem>> =>
  Either.gen(function* () {
    const template = yield* Either.mapLeft(compileTemplate(text, place), (errors) =>
      errors.map((error) => ({ path: place, message: explain(error) }))
    )
    const problems = template.references.flatMap((path) => {
      const message =
        path[0] === "event"
          ? referenceProblem(path, outside, new Map())
          : `a key reads event; there is no ${path.join(".") || "@"} here`
      return message === undefined ? [] : [{ path: place, message }]
    })
    return problems.length > 0 ? yield* Either.left(problems) : template
  })

/** Reads a trigger; `place` is its JSON Pointer. Fails with what is wrong with its key. */
export const read = (spec: TriggerSpec, place = ""): Either.Either<TriggerRule, ReadonlyArray<Problem>> =>
  Either.map(spec.key === undefined ? Either.right(null) : keyOf(spec.key, `${place}/key`), (key) => {
    if (spec.batch !== undefined)
      return { quiet: null, longest: spec.batch.max_seconds * 1000, most: spec.batch.max_events, key }
    const quiet = (spec.debounce_seconds ?? 1) * 1000
    const longest = spec.debounce_max_seconds === undefined ? 10 * quiet : spec.debounce_max_seconds * 1000
    return { quiet, longest, most: mostEvents, key }
  })

/** What is wrong with how a task collects events; nothing where it does not. */
export const problemsOf = (
  spec: TriggerSpec | undefined,
  kind: ScheduleKind,
  place: string
): ReadonlyArray<Problem> => {
  if (spec === undefined) return []
  if (kind !== "event") return [{ path: place, message: "only a task of schedule_kind event collects events" }]
  return Either.match(read(spec, place), { onLeft: (problems) => problems, onRight: () => [] })
}
