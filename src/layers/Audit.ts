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
      const sql = yield* SqlClient.SqlClient
      return Audit.of({
        record: Effect.fn("Audit.record")(function* (entry) {
          const at = DateTime.toDate(yield* DateTime.now)
          const requestId = yield* RequestId
          yield* sql`
            SELECT audit_append(ROW(
              ${entry.actor}::text, 0, ${at}::timestamptz, ${entry.actor}::text, ${entry.action}::text, ${entry.subject_kind}::text,
              ${entry.subject_id}::text, ${entry.namespace}::text, ${json(entry.before)}::jsonb, ${json(entry.after)}::jsonb,
              ${requestId}::text, '\\x'::bytea)::audit_log)`
        }, storeErrors)
      })
    })
  )
}

const json = (value: unknown) => (value === null ? null : JSON.stringify(value))
