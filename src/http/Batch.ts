import * as HttpApiError from "@effect/platform/HttpApiError"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { Effect, Either, ParseResult, Schema } from "effect"
import { mostItemBytes, mostItems } from "../domain/Batch.ts"
import { JsonValue, sizeOf } from "../domain/Json.ts"
import { RequestId } from "../layers/Correlation.ts"
import { body } from "./Bounded.ts"
import * as Problem from "./Problem.ts"
import type { ApiError } from "./ProblemDescriptions.ts"
import { BadRequest } from "./Requests.ts"

/** The body of a batch: its items are looked at one by one, so that one that is wrong leaves the others alone. */
export const batchOf = (name: string, item: string) =>
  Schema.Struct({
    items: Schema.Array(
      JsonValue.annotations({
        jsonSchema: { $ref: `#/components/schemas/${item}` },
        description: "as in a request of its own"
      })
    ).pipe(Schema.minItems(1), Schema.maxItems(mostItems))
  }).annotations({ identifier: name, parseOptions: { onExcessProperty: "error", errors: "all" } })

/** What an item's answer has beside its body: the status that a request of its own would have been answered with, and the problem. */
export const answered = {
  status: Schema.Int,
  // With the members that some problems have beside those of RFC 9457.
  error: Schema.NullOr(Schema.extend(Problem.Problem, Schema.Record({ key: Schema.String, value: Schema.Unknown })))
}

const tooLarge = new BadRequest({
  status: 413,
  code: "content_too_large",
  detail: `an item has at most ${mostItemBytes} bytes`
})

/** An item as its own request would be decoded. */
const decodeItem = <A, I>(schema: Schema.Schema<A, I>) => {
  const decode = Schema.decodeUnknownEither(body(schema))
  return (item: JsonValue): Either.Either<A, ApiError> =>
    sizeOf(item, mostItemBytes) === undefined
      ? Either.left(tooLarge)
      : Either.mapLeft(
          decode(item),
          (error) =>
            new HttpApiError.HttpApiDecodeError({
              issues: ParseResult.ArrayFormatter.formatErrorSync(error),
              message: error.message
            })
        )
}

/**
 * Decodes the items of a batch, each by itself, and does the work for those that are valid. Answers for each item what became of it,
 * or its problem document.
 */
export const each = <A, I, B, E extends ApiError, Failure, R>(
  schema: Schema.Schema<A, I>,
  items: ReadonlyArray<JsonValue>,
  work: (valid: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<Either.Either<B, E>>, Failure, R>
) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const place = {
      method: request.method,
      instance: request.url.split("?")[0] ?? request.url,
      requestId: (yield* RequestId) ?? ""
    }
    const decode = decodeItem(schema)
    const decoded = yield* Effect.forEach(items, (item, index) =>
      // Other requests have their turn meanwhile.
      Effect.zipRight(
        index % 20 === 19 ? Effect.yieldNow() : Effect.void,
        Effect.sync(() => decode(item))
      )
    )
    const done = yield* work(decoded.flatMap((one) => (Either.isRight(one) ? [one.right] : [])))
    let next = 0
    return yield* Effect.forEach(decoded, (one, index) =>
      Effect.gen(function* () {
        const outcome: Either.Either<B, ApiError> = Either.isLeft(one)
          ? Either.left(one.left)
          : yield* Effect.orDie(Effect.fromNullable(done[next++]))
        return Either.mapLeft(outcome, (error) => Problem.documentOf(error, place, `/items/${index}`))
      })
    )
  })
