import type * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Effect } from "effect"
import { storeErrors } from "./Db.ts"
import { batch, idleAfter } from "./IngressSource.ts"
import type { Entry, Source } from "./IngressSource.ts"

/** Nobody is told of a new row: it is looked for this often. */
const lookEvery = "1 second"

interface Row {
  readonly id: string
  readonly topic: string
  readonly payload: string
  readonly namespace: string
  readonly dedupe_key: string | null
  readonly deliveries: number
}

/** Table `ingress`, where the SQL function `stream_add` puts events; dead letters go to `ingress_dead`. Owns both. */
export const ingressTable = (sql: SqlClient.SqlClient): Source => {
  const now = Effect.map(Clock.currentTimeMillis, (at) => new Date(at))
  // Text, so that it is read as any other: JSON that is no number of JavaScript is refused by name.
  const take = Effect.gen(function* () {
    const at = yield* now
    const rows = yield* sql<Row>`
      UPDATE ingress SET delivered_at = ${at}, deliveries = deliveries + 1 WHERE id = ANY (ARRAY(
        SELECT id FROM ingress WHERE delivered_at IS NULL OR delivered_at <= ${new Date(at.getTime() - idleAfter)}
        ORDER BY id LIMIT ${batch} FOR UPDATE SKIP LOCKED))
      RETURNING id, topic, payload::text AS payload, namespace, dedupe_key, deliveries`
    return rows.map((row) => entryOf(row)).sort((a, b) => Number(a.id) - Number(b.id))
  }).pipe(storeErrors)

  return {
    open: Effect.void,
    read: Effect.tap(take, (entries) => (entries.length === 0 ? Effect.sleep(lookEvery) : Effect.void)),
    finish: ({ id }) => storeErrors(sql`DELETE FROM ingress WHERE id = ${id}`),
    bury: ({ id }, error) =>
      Effect.flatMap(now, (at) =>
        storeErrors(sql`
          WITH gone AS (DELETE FROM ingress WHERE id = ${id} RETURNING *)
          INSERT INTO ingress_dead (id, topic, payload, namespace, dedupe_key, at, deliveries, error, buried_at)
          SELECT id, topic, payload, namespace, dedupe_key, at, deliveries, ${error}, ${at} FROM gone`)
      )
  }
}

const entryOf = ({ dedupe_key, deliveries, id, namespace, payload, topic }: Row): Entry => ({
  id,
  deliveries,
  fields: new Map([
    ["topic", topic],
    ["payload", payload],
    ["namespace", namespace],
    // Ids of the two sources may be alike.
    ["dedupe_key", dedupe_key ?? `ingress:table:${id}`]
  ])
})
