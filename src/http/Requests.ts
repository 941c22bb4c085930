import * as Headers from "@effect/platform/Headers"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Effect, Schema } from "effect"
import { mostBatchBytes } from "../domain/Batch.ts"
import { isId } from "../domain/Id.ts"
import { storable } from "../domain/Json.ts"
import type { Problem } from "../domain/Json.ts"
import type { PageRequest } from "../domain/Page.ts"
import { InvalidField } from "../domain/Task.ts"
import { keyProblem } from "../domain/JsonText.ts"

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

/** What a body may have: bytes, and keys of all its objects. */
interface Bounds {
  readonly bytes: number
  readonly keys: number
}

const usual: Bounds = { bytes: 1_048_576, keys: 10_000 }
const ofBatches: Bounds = { bytes: mostBatchBytes, keys: 100_000 }

/** The bounds of the body of a request. */
export const boundsOf = ({ method, url }: { readonly method: string; readonly url: string }): Bounds =>
  method === "POST" && /^\/(?:tasks|events)\/batch\/?(?:\?|$)/.test(url) ? ofBatches : usual

const tooLarge = ({ bytes }: Bounds) =>
  new BadRequest({ status: 413, code: "content_too_large", detail: `a body has at most ${bytes} bytes` })

const notJson = () =>
  new BadRequest({
    status: 415,
    code: "unsupported_media_type",
    detail: "a body is JSON, not compressed: Content-Type: application/json"
  })

const json = /^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i

const unreadable = (code: string, detail: string) => new BadRequest({ status: 400, code, detail })

const invalid = (problem: Problem) =>
  new BadRequest({
    status: 422,
    code: "validation_failed",
    detail: `${problem.path || "the body"}: ${problem.message}`,
    errors: [problem]
  })

/**
 * The bytes of a body. What is too large is read to its end all the same, and dropped: the platform would close the connection,
 * and the client would never see the answer.
 */
const bytesOf = (request: HttpServerRequest.HttpServerRequest) =>
  Effect.async<Uint8Array, BadRequest>((resume) => {
    const bounds = boundsOf(request)
    const source = NodeHttpServerRequest.toIncomingMessage(request)
    const chunks: Array<Uint8Array> = []
    let size = 0
    source.on("data", (chunk: Uint8Array) => {
      size += chunk.length
      if (size <= bounds.bytes) chunks.push(chunk)
      else resume(Effect.fail(tooLarge(bounds)))
    })
    source.once("end", () => resume(Effect.succeed(Buffer.concat(chunks))))
    const cut = () => resume(Effect.fail(unreadable("unreadable_body", "the body could not be read to its end")))
    source.once("error", cut)
    source.once("close", cut)
  })

/** A body that is left out is an empty object, so that the bodies which have no required field are optional. */
const readJson = (request: HttpServerRequest.HttpServerRequest) =>
  Effect.gen(function* () {
    const bytes = yield* bytesOf(request)
    if (bytes.byteLength === 0) return {}
    if (!json.test(request.headers["content-type"] ?? "")) return yield* notJson()
    const text = yield* Effect.try({
      try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
      catch: () => unreadable("invalid_json", "the body is no JSON: it is not encoded as UTF-8")
    })
    const value = yield* Effect.try({
      try: (): unknown => JSON.parse(text),
      catch: (cause) =>
        unreadable("invalid_json", `the body is no JSON: ${cause instanceof Error ? cause.message : ""}`)
    })
    const problem = storable(value) ?? keyProblem(text, boundsOf(request).keys)
    return problem === undefined ? value : yield* invalid(problem)
  })

/**
 * The request with its body read our way: JSON or nothing, of a bounded size, holding only what the database can store. The
 * media type is judged there alone: the platform would read others than `application/json` by itself, past all that.
 */
export const guarded = (request: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest => {
  // A body is a stream, which can be read once; who decodes it and who compares it with another both ask for it.
  const read = Effect.runSync(Effect.cached(readJson(request)))
  return Object.create(request, {
    json: { get: () => read },
    headers: { get: () => Headers.set(request.headers, "content-type", "application/json") }
  })
}

const unstorable = /%00/

/** What can be told to be wrong before a handler looks: a body too large, compressed or no JSON, or a text that no store takes. */
export const refusal = (request: HttpServerRequest.HttpServerRequest): BadRequest | undefined => {
  if (unstorable.test(request.url)) {
    const [path = "", query = ""] = request.url.split("?")
    if (unstorable.test(path)) {
      return new BadRequest({ status: 404, code: "route_not_found", detail: "no path bears the character U+0000" })
    }
    const name =
      query
        .split("&")
        .find((part) => unstorable.test(part))
        ?.split("=")[0] ?? ""
    return invalid({ path: `query.${name}`, message: "the character U+0000 cannot be stored, and so not be found" })
  }
  const bounds = boundsOf(request)
  if (Number(request.headers["content-length"] ?? 0) > bounds.bytes) return tooLarge(bounds)
  const hasBody =
    request.headers["transfer-encoding"] !== undefined || Number(request.headers["content-length"] ?? 0) > 0
  if (!hasBody) return undefined
  if ((request.headers["content-encoding"] ?? "identity") !== "identity") return notJson()
  const type = request.headers["content-type"]
  return type !== undefined && !json.test(type) ? notJson() : undefined
}

/** The W3C trace context of a request; null without one, and for one that is malformed, which its specification passes over. */
export const traceparent: Effect.Effect<string | null, never, HttpServerRequest.HttpServerRequest> = Effect.map(
  HttpServerRequest.HttpServerRequest,
  ({ headers }) => {
    const text = headers["traceparent"] ?? ""
    return /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)/.test(text)
      ? text.slice(0, 55)
      : null
  }
)

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
