import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Either, Layer, Option, Schema } from "effect"
import { EventCreate } from "../domain/Event.ts"
import { storable } from "../domain/Json.ts"
import { Draining } from "./Draining.ts"
import { Events } from "./Events.ts"
import type { Entry, Source, Unavailable } from "./IngressSource.ts"
import { ingressStream } from "./IngressStream.ts"
import { ingressTable } from "./IngressTable.ts"
import * as Metrics from "./Metrics.ts"
import { Redis } from "./Redis.ts"
import * as Retries from "./Retries.ts"

/** An entry that was delivered this often without an end goes to the dead letters. */
const mostDeliveries = 5

const decodeEvent = Schema.decodeUnknownEither(EventCreate)

/**
 * Reads what other systems put before the product and publishes it: accepted once, whatever is delivered again, and finished after the
 * commit. What a dead consumer left is delivered again, what cannot be accepted goes to the dead letters.
 */
const pass = (source: Source, events: typeof Events.Service) => {
  const bury = (entry: Entry, error: string) =>
    Effect.logWarning("An event of the ingress cannot be accepted; it is a dead letter.").pipe(
      Effect.annotateLogs({ entry: entry.id, reason: error }),
      Effect.zipRight(source.bury(entry, error)),
      Effect.tap(() => Effect.sync(() => Metrics.ingress.add(1, { outcome: "dead" })))
    )

  const take = (entry: Entry): Effect.Effect<unknown, Unavailable> =>
    entry.deliveries > mostDeliveries
      ? bury(entry, `delivered more than ${mostDeliveries} times without an end`)
      : Either.match(eventOf(entry), {
          onLeft: (error) => bury(entry, error),
          onRight: ({ event, namespace }) =>
            events.ingest(namespace, event).pipe(
              Effect.zipRight(source.finish(entry)),
              Effect.tap(() => Effect.sync(() => Metrics.ingress.add(1, { outcome: "accepted" }))),
              Effect.catchTag("InvalidField", ({ message }) => bury(entry, message))
            )
        })

  return Effect.flatMap(source.read, (entries) => Effect.forEach(entries, take, { discard: true }))
}

/** Reads the ingress as long as the scope is open: the table that is always there, and the stream of Redis where there is one. */
export const loop = Layer.scopedDiscard(
  Effect.gen(function* () {
    const redis = yield* Redis
    const draining = yield* Draining
    const events = yield* Events
    const sql = yield* SqlClient.SqlClient
    const streams = Option.isNone(redis) ? [] : [ingressStream(yield* redis.value.dedicated, sql)]
    for (const source of [ingressTable(sql), ...streams]) {
      const round = Effect.zipRight(source.open, Effect.forever(pass(source, events)))
      yield* draining.supervised(Effect.retry(round, Retries.loop))
    }
  })
)

/** The event of an entry; the Left says what is wrong with it. Without a key of its own it is deduped by its id. */
const eventOf = ({ fields, id }: Entry) =>
  Either.gen(function* () {
    const payload = yield* Either.try({
      try: (): unknown => JSON.parse(fields.get("payload") ?? "null"),
      catch: () => "the field payload is no JSON"
    })
    const problem = storable(payload)
    if (problem !== undefined) return yield* Either.left(`payload${problem.path}: ${problem.message}`)
    const dedupe_key = fields.get("dedupe_key") ?? `ingress:${id}`
    const event = yield* Either.mapLeft(
      decodeEvent({ topic: fields.get("topic") ?? "", payload, dedupe_key }),
      (error) => error.message
    )
    return { event: { ...event, dedupe_key }, namespace: fields.get("namespace") ?? "main" }
  })
