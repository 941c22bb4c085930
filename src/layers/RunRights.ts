import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, Effect, Layer, Schema } from "effect"
import { Budget } from "../domain/Agent.ts"
import { noRights } from "../domain/Rights.ts"
import type { Rights } from "../domain/Rights.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { storeErrors } from "./Db.ts"

/** A disabled owner, a narrowed scope and another budget take effect in every process within this time, milliseconds. */
const knownFor = 5000

/** Agents that are kept in memory. */
const mostKept = 10_000

/** With which rights runs run: those that the owners of their tasks have by then. */
export class RunRights extends Context.Tag("ordinaut/RunRights")<
  RunRights,
  {
    /** The rights of agents by their ids, at most 5 s old. Every id has an entry. */
    readonly of: (agentIds: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, Rights>, StoreUnavailable>
    readonly one: (agentId: string) => Effect.Effect<Rights, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const kept = new Map<string, { readonly rights: Rights; readonly until: number }>()

      const read = Effect.fnUntraced(function* (ids: ReadonlyArray<string>, now: number) {
        const rows = yield* sql`
          SELECT id, scopes, budgets,
            CASE WHEN deleted_at IS NOT NULL THEN 'removed' WHEN disabled THEN 'disabled' ELSE 'active' END AS standing
          FROM agent WHERE id = ANY (${ids}::uuid[])`.pipe(Effect.flatMap(decodeRows))
        const found = new Map(rows.map(({ id, ...rights }) => [id, rights]))
        for (const id of ids) {
          // Put at the end anew, so that the first are the oldest.
          kept.delete(id)
          const oldest = kept.size >= mostKept ? kept.keys().next().value : undefined
          if (oldest !== undefined) kept.delete(oldest)
          kept.set(id, { rights: found.get(id) ?? noRights, until: now + knownFor })
        }
      })

      const of = Effect.fn("RunRights.of")(function* (agentIds: ReadonlyArray<string>) {
        const ids = [...new Set(agentIds)]
        const known = new Map<string, Rights>()
        const now = yield* Clock.currentTimeMillis
        const stale = ids.filter((id) => (kept.get(id)?.until ?? 0) <= now)
        if (stale.length > 0) yield* read(stale, now)
        for (const id of ids) known.set(id, kept.get(id)?.rights ?? noRights)
        return known
      }, storeErrors)

      return RunRights.of({
        of,
        one: (agentId) => Effect.map(of([agentId]), (known) => known.get(agentId) ?? noRights)
      })
    })
  )
}

const decodeRows = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      id: Schema.String,
      scopes: Schema.Array(Schema.String),
      budgets: Schema.Array(Budget),
      standing: Schema.Literal("active", "disabled", "removed")
    })
  )
)
