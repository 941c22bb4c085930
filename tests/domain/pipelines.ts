import { assert } from "@effect/vitest"
import { Either, ParseResult, Schema } from "effect"
import type { CheckedPipeline } from "../../src/domain/CheckedPipeline.ts"
import { check } from "../../src/domain/PipelineChecks.ts"
import { PipelineSpec } from "../../src/domain/PipelineSpec.ts"

/** Decodes a payload as the API does. */
export const decode = Schema.decodeUnknownEither(PipelineSpec, { onExcessProperty: "error", errors: "all" })

/** The place and the sentence of all that is wrong with a payload under `/payload`. */
export const problems = (payload: unknown): ReadonlyArray<readonly [string, string]> => {
  const decoded = decode(payload)
  if (Either.isLeft(decoded)) {
    return ParseResult.ArrayFormatter.formatErrorSync(decoded.left).map((issue) => [
      `/${issue.path.join("/")}`,
      issue.message
    ])
  }
  const checked = check(decoded.right, "/payload")
  return Either.isLeft(checked) ? checked.left.errors.map(({ message, path }) => [path, message]) : []
}

/** The places alone. */
export const paths = (payload: unknown) => problems(payload).map(([path]) => path)

/** The checked pipeline of a payload with which nothing is wrong. */
export const valid = (payload: unknown): CheckedPipeline => {
  assert.deepStrictEqual(problems(payload), [])
  return Either.getOrThrow(Either.flatMap(decode(payload), (spec) => check(spec)))
}

/** A step that does nothing in particular. */
export const call = { uses: "mail.send" }

/** Asserts one problem, its place and a part of its sentence. */
export const one = (payload: unknown, path: string, part: string) => {
  const found = problems(payload)
  assert.deepStrictEqual(
    found.map(([place]) => place),
    [path],
    JSON.stringify(found)
  )
  assert.include(found[0]?.[1], part)
}
