import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { Effect, Schema } from "effect"
import { isId } from "../domain/Id.ts"
import { storable } from "../domain/Json.ts"
import type { PageRequest } from "../domain/Page.ts"
import { InvalidField } from "../domain/Task.ts"

/** A request that never reached a handler: unreadable, too large, of the wrong type, or for no route. */
export class BadRequest extends Schema.TaggedError<BadRequest>()(
  "BadRequest",
  {
    status: Schema.Int,
    code: Schema.String,
    detail: Schema.String,
    errors: Schema.optional(Schema.Array(Schema.Struct({ path: Schema.String, message: Schema.String }))),
    headers: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.String }))
  },
  HttpApiSchema.annotations({ status: 400 })
) {}

/** Largest body, in bytes. */
export const maxBody = 1_048_576

const tooLarge = () =>
  new BadRequest({ status: 413, code: "content_too_large", detail: `a body has at most ${maxBody} bytes` })

const notJson = () =>
  new BadRequest({
    status: 415,
    code: "unsupported_media_type",
    detail: "a body is JSON: Content-Type: application/json"
  })

const readJson = (request: HttpServerRequest.HttpServerRequest) =>
  Effect.gen(function* () {
    const text = yield* request.text.pipe(
      Effect.mapError(({ cause }) =>
        cause instanceof Error && cause.message.includes("maxBytes")
          ? tooLarge()
          : new BadRequest({ status: 400, code: "unreadable_body", detail: "the body could not be read to its end" })
      )
    )
    if (text === "") return null
    if (!/^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(request.headers["content-type"] ?? ""))
      return yield* notJson()
    const value = yield* Effect.try({
      try: (): unknown => JSON.parse(text),
      catch: (cause) =>
        new BadRequest({
          status: 400,
          code: "invalid_json",
          detail: `the body is no JSON: ${cause instanceof Error ? cause.message : ""}`
        })
    })
    const problem = storable(value)
    if (problem !== undefined) {
      return yield* new BadRequest({
        status: 422,
        code: "validation_failed",
        detail: `${problem.path} ${problem.message}`,
        errors: [problem]
      })
    }
    return value
  })

/** The request with its body read our way: JSON or nothing, of a bounded size, holding only what the database can store. */
export const guarded = (request: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest =>
  Object.create(request, { json: { get: () => readJson(request) } })

/** Whether a request says beforehand that its body is too large, or bears one that is no JSON. */
export const refusal = (request: HttpServerRequest.HttpServerRequest): BadRequest | undefined => {
  if (Number(request.headers["content-length"] ?? 0) > maxBody) return tooLarge()
  const type = request.headers["content-type"]
  const hasBody =
    request.headers["transfer-encoding"] !== undefined || Number(request.headers["content-length"] ?? 0) > 0
  return hasBody && type !== undefined && !/json/i.test(type) ? notJson() : undefined
}

/** A body that may be left out altogether. */
export const optionalBody = <A, I>(schema: Schema.Schema<A, I>): Schema.Schema<A, I | null> =>
  Schema.transform(Schema.NullOr(Schema.encodedSchema(schema)), schema, {
    strict: false,
    decode: (body) => body ?? {},
    encode: (body) => body
  }).annotations({ jsonSchema: {} })

const Limit = Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, 200)).annotations({
  jsonSchema: { type: "integer", minimum: 1, maximum: 200, default: 50 }
})

/** Query parameters of every list. */
export const paging = {
  limit: Schema.optionalWith(Limit, { exact: true }),
  cursor: Schema.optionalWith(Schema.String, { exact: true })
}

/** Refuses unknown parameters, so that a typo is not silently dropped. */
export const query = <Fields extends Schema.Struct.Fields>(fields: Fields) =>
  Schema.Struct(fields).annotations({ parseOptions: { onExcessProperty: "error", errors: "all" } })

/** What a list asks for; fails for a cursor that no list gave. */
export const pageRequest = (params: {
  readonly limit?: number | undefined
  readonly cursor?: string | undefined
}): Effect.Effect<PageRequest, InvalidField> =>
  params.cursor !== undefined && !isId(params.cursor)
    ? Effect.fail(new InvalidField({ path: "query.cursor", message: "is no cursor of a list's next_cursor" }))
    : Effect.succeed({ limit: params.limit ?? 50, before: params.cursor ?? null })

/** The version that `If-Match` names; null without the header. Fails for one that is no ETag of ours. */
export const ifMatch: Effect.Effect<number | null, BadRequest, HttpServerRequest.HttpServerRequest> = Effect.gen(
  function* () {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const text = headers["if-match"]
    if (text === undefined || text.trim() === "*") return null
    const [, version] = /^\s*(?:W\/)?"(\d{1,9})"\s*$/.exec(text) ?? []
    if (version === undefined) {
      return yield* new BadRequest({
        status: 400,
        code: "invalid_header",
        detail: 'If-Match takes an ETag such as "3"'
      })
    }
    return Number(version)
  }
)
