import { hostname } from "node:os"
import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Either, Layer, Option, Schema } from "effect"
import type { Redis as Client } from "ioredis"
import { EventCreate } from "../domain/Event.ts"
import { storable } from "../domain/Json.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { storeErrors } from "./Db.ts"
import { Draining } from "./Draining.ts"
import { Events } from "./Events.ts"
import * as Metrics from "./Metrics.ts"
import { Redis, RedisUnavailable } from "./Redis.ts"
import * as Retries from "./Retries.ts"

/** Where other systems put events: fields `topic`, `payload` (JSON), `namespace` (`main`), `dedupe_key`. */
export const ingressKey = "ordinaut:ingress"
/** Where entries go that cannot be accepted, with the reason in the field `error`. */
export const deadKey = "ordinaut:ingress:dead"
const group = "ordinaut"
/** An entry that was delivered this often without an end goes to the dead letters. */
const mostDeliveries = 5
/** What a consumer has not acknowledged for this long is another's to take; milliseconds. */
const idleAfter = 30_000
/** How long one read waits for entries; milliseconds. */
const blockFor = 5000
/** Entries of one read. */
const batch = 100

interface Entry {
  readonly id: string
  readonly fields: ReadonlyArray<string>
}

const decodeEvent = Schema.decodeUnknownEither(EventCreate)

const consumer = `${hostname()}:${process.pid}`

/**
 * Reads `ordinaut:ingress` as a member of one consumer group and publishes what it reads: accepted once, whatever is delivered
 * again, and acknowledged after the commit. What a dead consumer left is claimed, what cannot be accepted goes to the dead letters.
 */
const pass = (client: Client) =>
  Effect.gen(function* () {
    const events = yield* Events
    const sql = yield* SqlClient.SqlClient
    const command = <A>(run: () => Promise<A>) =>
      Effect.tryPromise({ try: run, catch: (cause) => new RedisUnavailable({ reason: String(cause) }) })

    /** Gone from the stream, too: a group that is made again starts with what nobody has finished. */
    const finish = (entry: Entry) =>
      command(() => client.multi().xack(ingressKey, group, entry.id).xdel(ingressKey, entry.id).exec())

    const bury = (entry: Entry, error: string) =>
      Effect.logWarning("An event of the ingress stream cannot be accepted; it is a dead letter.").pipe(
        Effect.annotateLogs({ entry: entry.id, reason: error }),
        Effect.zipRight(
          command(() =>
            client
              .multi()
              .xadd(deadKey, "MAXLEN", "~", 100_000, "*", ...entry.fields, "entry", entry.id, "error", error)
              .xack(ingressKey, group, entry.id)
              .xdel(ingressKey, entry.id)
              .exec()
          )
        ),
        Effect.tap(() => Effect.sync(() => Metrics.ingress.add(1, { outcome: "dead" })))
      )

    const take = (entry: Entry): Effect.Effect<unknown, RedisUnavailable | StoreUnavailable> =>
      Either.match(eventOf(entry), {
        onLeft: (error) => bury(entry, error),
        onRight: ({ event, namespace }) =>
          events.ingest(namespace, event).pipe(
            Effect.zipRight(finish(entry)),
            Effect.tap(() => Effect.sync(() => Metrics.ingress.add(1, { outcome: "accepted" }))),
            Effect.catchTag("InvalidField", ({ message }) => bury(entry, message))
          )
      })

    const abandoned = Effect.gen(function* () {
      const [, entries] = yield* command(() =>
        client.xautoclaim(ingressKey, group, consumer, idleAfter, "0-0", "COUNT", batch)
      ).pipe(Effect.map(claimed))
      for (const entry of entries) {
        const pending = yield* command(() => client.xpending(ingressKey, group, entry.id, entry.id, 1))
        if (deliveriesOf(pending) > mostDeliveries)
          yield* bury(entry, `delivered more than ${mostDeliveries} times without an end`)
        else yield* take(entry)
      }
    })

    // A claim counts as a delivery: without a database to commit to, none is made.
    yield* storeErrors(sql`SELECT 1`)
    yield* abandoned
    const fresh = yield* command(() =>
      client.xreadgroup("GROUP", group, consumer, "COUNT", batch, "BLOCK", blockFor, "STREAMS", ingressKey, ">")
    )
    for (const entry of readEntries(fresh)) yield* take(entry)
  })

/** A lost group, as after the stream was deleted, is made again; one that is there is left alone. */
const ensureGroup = (client: Client) =>
  Effect.tryPromise({
    try: () =>
      client.xgroup("CREATE", ingressKey, group, "0", "MKSTREAM").catch((error: unknown) => {
        if (!(error instanceof Error && error.message.includes("BUSYGROUP"))) throw error
      }),
    catch: (cause) => new RedisUnavailable({ reason: String(cause) })
  })

/** Reads the ingress as long as the scope is open; without Redis there is none. */
export const loop = Layer.scopedDiscard(
  Effect.gen(function* () {
    const redis = yield* Redis
    const draining = yield* Draining
    const events = yield* Events
    const sql = yield* SqlClient.SqlClient
    if (Option.isNone(redis)) return
    const client = yield* redis.value.dedicated
    const round = ensureGroup(client).pipe(
      Effect.zipRight(Effect.forever(pass(client))),
      Effect.provideService(Events, events),
      Effect.provideService(SqlClient.SqlClient, sql)
    )
    yield* draining.supervised(Effect.retry(round, Retries.loop))
  })
)

const fieldsOf = (entry: Entry): ReadonlyMap<string, string> => {
  const found = new Map<string, string>()
  for (let i = 0; i + 1 < entry.fields.length; i += 2) found.set(entry.fields[i] ?? "", entry.fields[i + 1] ?? "")
  return found
}

/** The event of an entry; the Left says what is wrong with it. Without a key of its own it is deduped by its id. */
const eventOf = (entry: Entry) =>
  Either.gen(function* () {
    const fields = fieldsOf(entry)
    const payload = yield* Either.try({
      try: (): unknown => JSON.parse(fields.get("payload") ?? "null"),
      catch: () => "the field payload is no JSON"
    })
    const problem = storable(payload)
    if (problem !== undefined) return yield* Either.left(`payload${problem.path}: ${problem.message}`)
    const dedupe_key = fields.get("dedupe_key") ?? `ingress:${entry.id}`
    const event = yield* Either.mapLeft(
      decodeEvent({ topic: fields.get("topic") ?? "", payload, dedupe_key }),
      (error) => error.message
    )
    return { event: { ...event, dedupe_key }, namespace: fields.get("namespace") ?? "main" }
  })

/** An entry that was trimmed meanwhile comes without fields. */
const entriesOf = (list: unknown): ReadonlyArray<Entry> =>
  Array.isArray(list)
    ? list.flatMap((item: unknown) =>
        Array.isArray(item) && typeof item[0] === "string" && Array.isArray(item[1])
          ? [{ id: item[0], fields: item[1].map(String) }]
          : []
      )
    : []

const claimed = (answer: ReadonlyArray<unknown>) => [answer[0], entriesOf(answer[1])] as const

const readEntries = (answer: unknown): ReadonlyArray<Entry> =>
  Array.isArray(answer) ? answer.flatMap((stream: unknown) => (Array.isArray(stream) ? entriesOf(stream[1]) : [])) : []

/** The fourth column of XPENDING's extended form. */
const deliveriesOf = (answer: unknown): number => {
  const row: unknown = Array.isArray(answer) ? answer[0] : undefined
  return Array.isArray(row) ? Number(row[3]) : 0
}
