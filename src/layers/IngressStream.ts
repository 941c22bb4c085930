import { hostname } from "node:os"
import * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"
import type { Redis as Client } from "ioredis"
import { storeErrors } from "./Db.ts"
import { batch, idleAfter } from "./IngressSource.ts"
import type { Entry, Source } from "./IngressSource.ts"
import { RedisUnavailable } from "./Redis.ts"

/** Where other systems put events: fields `topic`, `payload` (JSON), `namespace` (`main`), `dedupe_key`. */
export const ingressKey = "ordinaut:ingress"
/** Where entries go that cannot be accepted, with the reason in the field `error`. */
export const deadKey = "ordinaut:ingress:dead"
const group = "ordinaut"
/** How long one read waits for entries; milliseconds. */
const blockFor = 5000

const consumer = `${hostname()}:${process.pid}`

/** The stream `ordinaut:ingress` of Redis, read as a member of one consumer group. */
export const ingressStream = (client: Client, sql: SqlClient.SqlClient): Source => {
  const command = <A>(run: () => Promise<A>) =>
    Effect.tryPromise({ try: run, catch: (cause) => new RedisUnavailable({ reason: String(cause) }) })

  const abandoned = Effect.gen(function* () {
    const entries = yield* command(() =>
      client.xautoclaim(ingressKey, group, consumer, idleAfter, "0-0", "COUNT", batch)
    ).pipe(Effect.map(([, claimed]) => entriesOf(claimed)))
    return yield* Effect.forEach(entries, (entry) =>
      command(() => client.xpending(ingressKey, group, entry.id, entry.id, 1)).pipe(
        Effect.map((pending) => ({ ...entry, deliveries: deliveriesOf(pending) }))
      )
    )
  })

  const fresh = command(() =>
    client.xreadgroup("GROUP", group, consumer, "COUNT", batch, "BLOCK", blockFor, "STREAMS", ingressKey, ">")
  ).pipe(Effect.map(readEntries))

  return {
    /** A lost group, as after the stream was deleted, is made again; one that is there is left alone. */
    open: command(() =>
      client.xgroup("CREATE", ingressKey, group, "0", "MKSTREAM").catch((error: unknown) => {
        if (!(error instanceof Error && error.message.includes("BUSYGROUP"))) throw error
      })
    ),

    read: Effect.gen(function* () {
      // A claim counts as a delivery: without a database to commit to, none is made.
      yield* storeErrors(sql`SELECT 1`)
      const left = yield* abandoned
      return left.length > 0 ? left : yield* fresh
    }),

    /** Gone from the stream, too: a group that is made again starts with what nobody has finished. */
    finish: ({ id }) => command(() => client.multi().xack(ingressKey, group, id).xdel(ingressKey, id).exec()),

    bury: ({ fields, id }, error) =>
      command(() =>
        client
          .multi()
          .xadd(deadKey, "MAXLEN", "~", 100_000, "*", ...[...fields].flat(), "entry", id, "error", error)
          .xack(ingressKey, group, id)
          .xdel(ingressKey, id)
          .exec()
      )
  }
}

/** An entry that was trimmed meanwhile comes without fields. */
const entriesOf = (list: unknown): ReadonlyArray<Entry> =>
  Array.isArray(list)
    ? list.flatMap((item: unknown) =>
        Array.isArray(item) && typeof item[0] === "string" && Array.isArray(item[1])
          ? [{ id: item[0], fields: fieldsOf(item[1].map(String)), deliveries: 1 }]
          : []
      )
    : []

const fieldsOf = (list: ReadonlyArray<string>): ReadonlyMap<string, string> => {
  const found = new Map<string, string>()
  for (let i = 0; i + 1 < list.length; i += 2) found.set(list[i] ?? "", list[i + 1] ?? "")
  return found
}

const readEntries = (answer: unknown): ReadonlyArray<Entry> =>
  Array.isArray(answer) ? answer.flatMap((stream: unknown) => (Array.isArray(stream) ? entriesOf(stream[1]) : [])) : []

/** The fourth column of XPENDING's extended form. */
const deliveriesOf = (answer: unknown): number => {
  const row: unknown = Array.isArray(answer) ? answer[0] : undefined
  return Array.isArray(row) ? Number(row[3]) : 0
}
