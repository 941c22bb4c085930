import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"
import * as Audit from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import type { Sealed, Sealing } from "./Sealing.ts"

interface Row extends Omit<Sealed, "sealed"> {
  readonly namespace: string
  readonly name: string
}

/**
 * Seals the data keys of a table's rows, for its owner, under the first master key where an older one sealed them; answers how
 * many. A row that does not open is left as it is, and so is one that is changed meanwhile. `named` is the column that names a row.
 */
export const reseal = (sql: SqlClient.SqlClient, sealing: Sealing, table: string, named = "name") =>
  Effect.gen(function* () {
    const old = yield* sql<Row>`
      SELECT namespace, ${sql(named)} AS name, data_key, key_id FROM ${sql(table)} WHERE key_id = ANY (${sealing.olderIds}::text[])`
    const enter = Audit.appending(sql)
    let moved = 0
    for (const { name, namespace, ...stored } of old) {
      const wrapped = yield* Effect.option(sealing.rewrap({ table, namespace, name }, stored))
      if (wrapped._tag === "None") continue
      const { data_key, key_id } = wrapped.value
      const changed = yield* Effect.gen(function* () {
        const rows = yield* sql`
          UPDATE ${sql(table)} SET data_key = ${data_key}, key_id = ${key_id}
          WHERE namespace = ${namespace} AND ${sql(named)} = ${name} AND data_key = ${stored.data_key} RETURNING id`
        yield* enter(rows.map(() => entry(table, namespace, name, stored.key_id, key_id)))
        return rows
      }).pipe(sql.withTransaction)
      moved += changed.length
    }
    return moved
  }).pipe(Effect.withSpan("SealedRows.reseal"), storeErrors)

/** Keys are named by their ids, which tell nothing of them. */
const entry = (table: string, namespace: string, name: string, before: string, after: string) => ({
  actor: "system",
  namespace,
  action: `${table}.resealed`,
  subject_kind: table,
  subject_id: name,
  before: { key_id: before },
  after: { key_id: after }
})
