import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Effect, Schema } from "effect"
import { IdempotencyKeyInUse, IdempotencyKeyReused } from "../domain/IdempotentAnswer.ts"
import type { Answer } from "../domain/IdempotentAnswer.ts"
import { JsonValue } from "../domain/Json.ts"
import { Idempotency } from "../layers/Idempotency.ts"
import { CurrentAgent } from "./Auth.ts"
import { BadRequest } from "./Requests.ts"

/** The header, as the OpenAPI document shows it. `once` looks at its form. */
export const headers = Schema.Struct({
  "idempotency-key": Schema.optionalWith(
    Schema.String.annotations({
      description: "1 to 255 characters: a repeat with the same key and body within 24 h gets the first answer again",
      jsonSchema: { type: "string", minLength: 1, maxLength: 255 }
    }),
    { exact: true }
  )
})

/** What an endpoint that honours the header may fail with. */
export const Refusals = Schema.Union(IdempotencyKeyReused, IdempotencyKeyInUse, BadRequest)

const mostCharacters = 255

const keyOf = (text: string) =>
  text.trim() === "" || text.length > mostCharacters || /\p{Cc}/u.test(text)
    ? new BadRequest({
        status: 400,
        code: "invalid_header",
        detail: `Idempotency-Key takes 1 to ${mostCharacters} characters, none of them a control character`
      })
    : Effect.succeed(text)

/** A value that an endpoint declares, as the answer with a status. */
export const answer = <A, I>(schema: Schema.Schema<A, I>, status: number, value: A) =>
  Schema.encode(schema)(value).pipe(
    Effect.orDie,
    Effect.map((body) => HttpServerResponse.unsafeJson(body, { status }))
  )

const replayable = ["location", "etag", "content-type"]

const toAnswer = ({ body, headers: sent, status }: HttpServerResponse.HttpServerResponse): Answer => {
  const text = body._tag === "Uint8Array" ? new TextDecoder().decode(body.body) : null
  const kept = replayable.flatMap((name) => (sent[name] === undefined ? [] : [[name, sent[name]] as const]))
  return { status, headers: Object.fromEntries(kept), body: text }
}

const toResponse = ({ body, headers: kept, status }: Answer) => {
  const { "content-type": contentType = "application/json", ...others } = kept
  const sent = { ...others, "idempotency-replayed": "true" }
  return body === null
    ? HttpServerResponse.empty({ status, headers: sent })
    : HttpServerResponse.text(body, { status, contentType, headers: sent })
}

/**
 * Wraps the work of an endpoint: with an `Idempotency-Key` it is done once, and a repeat gets the first answer again, marked by
 * `Idempotency-Replayed: true`. Without the header it is done as it is. The endpoint declares `headers` and `Refusals`.
 */
export const once = Effect.map(
  Idempotency,
  (idempotency) =>
    <E, R>(work: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) =>
      Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        const given = request.headers["idempotency-key"]
        if (given === undefined) return yield* work
        const key = yield* keyOf(given)
        const { id } = yield* CurrentAgent
        // Read already, to decode the payload.
        const body = yield* Effect.orDie(Effect.flatMap(request.json, Schema.decodeUnknown(JsonValue)))
        const path = (request.url.split("?")[0] ?? "").replace(/(?<=.)\/$/, "")
        let first: HttpServerResponse.HttpServerResponse | undefined
        const { answer: found, replayed } = yield* idempotency.once(
          { agent_id: id, key, route: `${request.method} ${path}`, body },
          Effect.map(work, (response) => {
            first = response
            return toAnswer(response)
          })
        )
        return replayed || first === undefined ? toResponse(found) : first
      })
)
