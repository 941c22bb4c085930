import * as SqlClient from "@effect/sql/SqlClient"
import { Context, Effect, Layer, Schema } from "effect"
import { AgentNotFound } from "../domain/Agent.ts"
import type { Actor } from "../domain/Agent.ts"
import { isId } from "../domain/Id.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { summed, UsageOfDay } from "../domain/Usage.ts"
import type { NewUsage } from "../domain/Usage.ts"
import { visibleTo } from "./AgentRows.ts"
import { storeErrors } from "./Db.ts"

/** Where a page of usage goes on: after this day and tool. */
export interface UsagePlace {
  readonly day: string
  readonly tool: string
}

/** The statement, or CTE, that adds up what was used, each row of `usage_day` once and in the order of its key. */
export const countUsage = (sql: SqlClient.SqlClient, usage: ReadonlyArray<NewUsage>) => sql`
  INSERT INTO usage_day (agent_id, day, tool, calls, seconds, bytes)
  SELECT agent_id, day, tool, calls, seconds, bytes FROM jsonb_to_recordset(${JSON.stringify(summed(usage))}::jsonb)
    AS u (agent_id uuid, day date, tool text, calls bigint, seconds double precision, bytes bigint)
  ORDER BY agent_id, day, tool
  ON CONFLICT (agent_id, day, tool) DO UPDATE SET calls = usage_day.calls + excluded.calls,
    seconds = usage_day.seconds + excluded.seconds, bytes = usage_day.bytes + excluded.bytes`

/** `countUsage` as the CTE `used` with its comma, or nothing where nothing was used. */
export const usedCte = (sql: SqlClient.SqlClient, usage: ReadonlyArray<NewUsage>) =>
  usage.length === 0 ? sql.literal("") : sql`used AS (${countUsage(sql, usage)}),`

/** What agents used of tools. `usage_day` is written by the statements that `countUsage` is part of. */
export class Usages extends Context.Tag("ordinaut/Usages")<
  Usages,
  {
    /** By day, the newest first, and tool; at most `limit`, those after `after`, on the days from `from` to `to`. */
    readonly of: (
      actor: Actor,
      agentId: string,
      days: { readonly from: string | null; readonly to: string | null },
      after: UsagePlace | null,
      limit: number
    ) => Effect.Effect<ReadonlyArray<UsageOfDay>, AgentNotFound | StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      return Usages.of({
        of: Effect.fn("Usages.of")(function* (actor, agentId, { from, to }, after, limit) {
          const seen = isId(agentId)
            ? yield* sql`SELECT a.id FROM agent a WHERE a.deleted_at IS NULL AND a.id = ${agentId} AND ${visibleTo(sql, actor)}`
            : []
          if (seen.length === 0) return yield* new AgentNotFound({ agent_id: agentId })
          const where = sql.and([
            sql`agent_id = ${agentId}`,
            ...(from === null ? [] : [sql`day >= ${from}::date`]),
            ...(to === null ? [] : [sql`day <= ${to}::date`]),
            ...(after === null
              ? []
              : [sql`(day < ${after.day}::date OR (day = ${after.day}::date AND tool COLLATE "C" > ${after.tool}))`])
          ])
          return yield* sql`
            SELECT to_char(day, 'YYYY-MM-DD') AS day, tool, calls::float8 AS calls, seconds, bytes::float8 AS bytes FROM usage_day
            WHERE ${where} ORDER BY usage_day.day DESC, tool COLLATE "C" LIMIT ${limit}`.pipe(
            Effect.flatMap(decodeUsage)
          )
        }, storeErrors)
      })
    })
  )
}

const decodeUsage = Schema.decodeUnknown(Schema.Array(UsageOfDay))
