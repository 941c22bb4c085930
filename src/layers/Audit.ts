import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Effect, Layer } from "effect"
import type { AuditEntry } from "../domain/AuditEntry.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { RequestId } from "./Correlation.ts"
import { storeErrors } from "./Db.ts"

/** The trail of changes. Owns `audit_log` and `audit_head`. */
export class Audit extends Context.Tag("ordinaut/Audit")<
  Audit,
  {
    /**
     * Appends an entry to the chain of its actor, within the caller's transaction. Its writers queue for one row lock
     * from here to their commit, so this is the last statement of a transaction.
     */
    readonly record: (entry: AuditEntry) => Effect.Effect<void, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const append = appending(yield* SqlClient.SqlClient)
      return Audit.of({
        record: Effect.fn("Audit.record")((entry) => append([entry]), storeErrors)
      })
    })
  )
}

/**
 * `record` of any number of entries by one statement, for who makes changes in batches: in their order, each in the chain of its
 * actor.
 */
export const appending = (sql: SqlClient.SqlClient) =>
  Effect.fnUntraced(function* (entries: ReadonlyArray<AuditEntry>) {
    if (entries.length === 0) return
    const at = DateTime.toDate(yield* DateTime.now)
    const underWay = yield* RequestId
    const named = entries.map(({ request_id = underWay, ...entry }) => ({ ...entry, request_id }))
    yield* sql`
      SELECT audit_append(ROW(
        e.actor, 0, ${at}::timestamptz, e.actor, e.action, e.subject_kind, e.subject_id, e.namespace, nullif(e.before, 'null'),
        nullif(e.after, 'null'), e.request_id, '\\x'::bytea)::audit_log)
      FROM jsonb_to_recordset(${JSON.stringify(named)}::jsonb) AS e (actor text, namespace text, action text, subject_kind text,
        subject_id text, before jsonb, after jsonb, request_id text)`
  })
