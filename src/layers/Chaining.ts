import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Schema } from "effect"
import { mostHops } from "../domain/Event.ts"
import { Instant } from "../domain/Instant.ts"
import { JsonValue } from "../domain/Json.ts"
import type { Lease } from "./Lease.ts"
import * as Listeners from "./Listeners.ts"
import type { Listener, Spoken } from "./Listeners.ts"

const Entry = Schema.Struct({
  id: Schema.String,
  topic: Schema.String,
  namespace: Schema.String,
  agent_id: Schema.String,
  at: Instant,
  hops: Schema.optionalWith(Schema.Int, { default: () => 0 }),
  traceparent: Schema.optionalWith(Schema.NullOr(Schema.String), { default: () => null }),
  payload: JsonValue
})
const decodeEntries = Schema.decodeUnknown(Schema.Array(Schema.Struct({ value: Entry })))

const nothing = { runs: [], replaces: false }

const spoken = ({ agent_id, at, hops, id, payload, topic, traceparent }: typeof Entry.Type): Spoken => ({
  id,
  topic,
  payload,
  at: at.epochMillis,
  hops: hops + 1,
  traceparent,
  stored: false,
  owner: agent_id
})

/** State changes as events: what the publisher does for the tasks that hear them, within the transaction that numbers them. */
export const make = (sql: SqlClient.SqlClient, lease: typeof Lease.Service) => {
  const { hear, known } = Listeners.make(sql, lease)

  return {
    /** The tasks that hear state changes: those whose pattern's first word is `ordinaut`. */
    listening: known(sql`schedule_kind = 'event' AND schedule_expr ~ '^\\s*ordinaut'`),

    /**
     * Starts the tasks that hear the state changes of these rows of the outbox. An agent's tasks hear of its own runs and tasks.
     * What a refusal says of itself starts nothing: the circle ends there.
     */
    tell: Effect.fnUntraced(function* (listeners: ReadonlyArray<Listener>, ids: ReadonlyArray<string>) {
      if (listeners.length === 0 || ids.length === 0) return nothing
      const owners = [...new Set(listeners.map(({ created_by }) => String(created_by)))]
      const entries = yield* sql`
        SELECT e.value FROM outbox o CROSS JOIN LATERAL jsonb_array_elements(o.entries) WITH ORDINALITY AS e (value, n)
        WHERE o.id = ANY (${ids}::bigint[]) AND e.value ->> 'topic' LIKE 'ordinaut.%' AND e.value ->> 'agent_id' = ANY (${owners}::text[])
          AND coalesce((e.value ->> 'hops')::integer, 0) <= ${mostHops}
        ORDER BY o.id, e.n`.pipe(Effect.flatMap(decodeEntries))
      return yield* hear(
        listeners,
        entries.map(({ value }) => spoken(value))
      )
    })
  }
}
