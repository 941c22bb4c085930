import { Schema } from "effect"

/**
 * A template or condition that cannot be read, or not be evaluated. `template_missing`: a plain path names nothing;
 * `template_error`: everything else in a template; `condition_error`: everything in a condition. `expression` is its
 * text, `place` the JSON Pointer of the string that holds it.
 */
export class ExpressionError extends Schema.TaggedError<ExpressionError>()("ExpressionError", {
  code: Schema.Literal("template_missing", "template_error", "condition_error"),
  expression: Schema.String,
  message: Schema.String,
  place: Schema.optionalWith(Schema.String, { exact: true })
}) {}

/** The error as one sentence that quotes the expression, shortened where it is long. */
export const explain = ({ expression, message }: ExpressionError): string => {
  if (expression === "") return message
  return `${expression.length > 100 ? `${expression.slice(0, 100)}…` : expression}: ${message}`
}
