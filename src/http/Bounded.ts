import { Either, Option, ParseResult, SchemaAST } from "effect"
import type { Schema } from "effect"

/** What a schema finds wrong in one body at most: each finding is formatted twice, which takes a hundred times the finding. */
const mostIssues = 1000

/** The first issues of a tree, in its order; `left` says how many more it may hold. */
const prune = (issue: ParseResult.ParseIssue, left: { count: number }): ParseResult.ParseIssue => {
  switch (issue._tag) {
    case "Composite": {
      if (!Array.isArray(issue.issues)) return issue
      const kept: Array<ParseResult.ParseIssue> = []
      for (const part of issue.issues as ReadonlyArray<ParseResult.ParseIssue>) {
        if (left.count <= 0 && kept.length > 0) break
        kept.push(prune(part, left))
      }
      const [first, ...rest] = kept
      return first === undefined ? issue : new ParseResult.Composite(issue.ast, issue.actual, [first, ...rest])
    }
    case "Pointer":
      return new ParseResult.Pointer(issue.path, issue.actual, prune(issue.issue, left))
    case "Refinement":
      return new ParseResult.Refinement(issue.ast, issue.actual, issue.kind, prune(issue.issue, left))
    case "Transformation":
      return new ParseResult.Transformation(issue.ast, issue.actual, issue.kind, prune(issue.issue, left))
    default:
      left.count -= 1
      return issue
  }
}

const fallback: SchemaAST.DecodingFallbackAnnotation<never> = (issue) =>
  Either.left(prune(issue, { count: mostIssues }))

/** The body of an endpoint: a schema that stops telling what is wrong when it has told enough. */
export const body = <A, I>(schema: Schema.Schema<A, I>): Schema.Schema<A, I> =>
  schema.annotations({
    decodingFallback: fallback,
    // New annotations drop the name, under which the OpenAPI document keeps the schema.
    ...Option.match(SchemaAST.getIdentifierAnnotation(schema.ast), {
      onNone: () => ({}),
      onSome: (identifier) => ({ identifier })
    })
  })
