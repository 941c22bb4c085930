import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"
import { storeErrors } from "./Db.ts"
import type { Sealed, Sealing } from "./Sealing.ts"

interface Row extends Omit<Sealed, "sealed"> {
  readonly namespace: string
  readonly name: string
}

/**
 * Seals the data keys of a table's rows, for its owner, under the first master key where an older one sealed them; answers how
 * many. A row that does not open is left as it is, and so is one that is changed meanwhile.
 */
export const reseal = (sql: SqlClient.SqlClient, sealing: Sealing, table: string) =>
  Effect.gen(function* () {
    const old = yield* sql<Row>`
      SELECT namespace, name, data_key, key_id FROM ${sql(table)} WHERE key_id = ANY (${sealing.olderIds}::text[])`
    let moved = 0
    for (const { name, namespace, ...stored } of old) {
      const wrapped = yield* Effect.option(sealing.rewrap({ table, namespace, name }, stored))
      if (wrapped._tag === "None") continue
      const { data_key, key_id } = wrapped.value
      const changed = yield* sql`
        UPDATE ${sql(table)} SET data_key = ${data_key}, key_id = ${key_id}
        WHERE namespace = ${namespace} AND name = ${name} AND data_key = ${stored.data_key} RETURNING id`
      moved += changed.length
    }
    return moved
  }).pipe(Effect.withSpan("SealedRows.reseal"), storeErrors)
