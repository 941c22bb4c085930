import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Schema } from "effect"
import { descriptions } from "./ProblemDescriptions.ts"
import type { ApiError, Description } from "./ProblemDescriptions.ts"

/** What is wrong with one value; `path` is a JSON Pointer into the body, or `query.<name>`. */
export const FieldError = Schema.Struct({ path: Schema.String, message: Schema.String })

/** An error as it travels: RFC 9457 `application/problem+json`. `code` is stable, `errors` comes with 422 alone. */
export const Problem = Schema.Struct({
  type: Schema.String,
  title: Schema.String,
  status: Schema.Int,
  detail: Schema.String,
  instance: Schema.String,
  code: Schema.String,
  request_id: Schema.String,
  errors: Schema.optionalWith(Schema.Array(FieldError), { exact: true })
})

const titles: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  410: "Gone",
  412: "Precondition Failed",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  422: "Unprocessable Content",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable"
}

/** The request that is answered. */
export interface Place {
  readonly method: string
  readonly instance: string
  readonly requestId: string
}

const isApiError = (error: unknown): error is ApiError =>
  typeof error === "object" &&
  error !== null &&
  "_tag" in error &&
  typeof error._tag === "string" &&
  error._tag in descriptions

/** The description of a tag is the one for the error's own type, which the index loses. */
const describe = (error: ApiError, method: string): Description =>
  (descriptions[error._tag] as (error: ApiError, method: string) => Description)(error, method)

/** `at` is where the value that was looked at lies in the body. */
const documentIn = (
  { code, detail, errors, more, status }: Description,
  { instance, requestId }: Place,
  at: string
) => ({
  type: "about:blank",
  title: titles[status] ?? "Error",
  status,
  detail,
  instance,
  code,
  request_id: requestId,
  ...(errors === undefined ? {} : { errors: errors.map(({ message, path }) => ({ path: `${at}${path}`, message })) }),
  ...more
})

const respond = (description: Description, place: Place) => {
  const { headers, status } = description
  return HttpServerResponse.text(JSON.stringify(documentIn(description, place, "")), {
    status,
    contentType: "application/problem+json",
    ...(headers === undefined ? {} : { headers })
  })
}

/** The problem document of an error of one item of a batch, which lies at `at` in its body. */
export const documentOf = (error: ApiError, place: Place, at: string): typeof Problem.Type =>
  documentIn(describe(error, place.method), place, at)

/** The answer to an error of the API; undefined for anything else, which is a bug. */
export const toResponse = (error: unknown, place: Place): HttpServerResponse.HttpServerResponse | undefined =>
  isApiError(error) ? respond(describe(error, place.method), place) : undefined

/** The answer to a bug: it says nothing of what happened, which the log says. */
export const internal = (place: Place): HttpServerResponse.HttpServerResponse =>
  respond(
    { status: 500, code: "internal", detail: "something went wrong here; the log has it under the request's id" },
    place
  )
