import * as Model from "@effect/sql/Model"
import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { DateTime, Effect, Schema } from "effect"
import { ExtensionKind, ToolSpec } from "../domain/Extension.ts"
import type { Extension } from "../domain/Extension.ts"
import { AuthInfo, ExtensionState } from "../domain/Registration.ts"
import type { ExtensionInfo, ToolInfo } from "../domain/Registration.ts"
import { defaultTimeoutSeconds } from "../domain/ToolTimeout.ts"
import * as Ids from "./Ids.ts"
import type { Sealed } from "./Sealing.ts"

/** A row of `extension`. */
export const ExtensionRow = Schema.Struct({
  id: Schema.String,
  namespace: Schema.String,
  name: Schema.String,
  kind: ExtensionKind,
  base_url: Schema.NullOr(Schema.String),
  tools: Schema.Array(ToolSpec),
  tools_given: Schema.Boolean,
  auth: Schema.NullOr(AuthInfo),
  served_by: Schema.Array(Schema.String),
  state: ExtensionState,
  last_error: Schema.NullOr(Schema.String),
  version: Schema.Int,
  created_at: Model.DateTimeFromDate,
  updated_at: Model.DateTimeFromDate,
  sealed: Schema.NullOr(Schema.Uint8ArrayFromSelf),
  data_key: Schema.NullOr(Schema.Uint8ArrayFromSelf),
  key_id: Schema.NullOr(Schema.String)
})
export type ExtensionRow = typeof ExtensionRow.Type

/** What a registration stores; `tools` undefined for those that a server will list. */
interface Registered extends Pick<ExtensionRow, "namespace" | "name" | "kind" | "base_url" | "auth" | "served_by"> {
  readonly tools: ReadonlyArray<ToolSpec> | undefined
  readonly sealed: Sealed | null
  readonly by: string
}

const decodeRows = Schema.decodeUnknown(Schema.Array(ExtensionRow))

/** The sealed credentials of a row; null where it has none. */
export const sealedOf = ({ data_key, key_id, sealed }: ExtensionRow): Sealed | null =>
  sealed === null || data_key === null || key_id === null ? null : { sealed, data_key, key_id }

/** A row as the API shows it. */
export const infoOf = (row: ExtensionRow): ExtensionInfo => ({
  name: row.name,
  kind: row.kind,
  base_url: row.base_url,
  tools: row.tools,
  auth: row.auth,
  served_by: row.served_by,
  state: row.state,
  last_error: row.last_error,
  version: row.version,
  created_at: row.created_at,
  updated_at: row.updated_at
})

/** A row as a worker calls it. */
export const extensionOf = (row: ExtensionRow): Extension => ({
  namespace: row.namespace,
  name: row.name,
  kind: row.kind,
  base_url: row.base_url,
  tools: row.tools,
  served_by: row.served_by,
  version: row.version,
  updated_at: row.updated_at
})

/** A tool as GET /tools lists it. */
export const toolInfo = (extension: string, kind: ToolInfo["kind"], tool: ToolSpec): ToolInfo => ({
  address: `${extension}.${tool.name}`,
  extension,
  kind,
  description: tool.description ?? "",
  input_schema: tool.input_schema ?? null,
  output_schema: tool.output_schema ?? null,
  timeout_seconds: tool.timeout_seconds ?? defaultTimeoutSeconds,
  idempotent: tool.idempotent ?? false
})

const decodeTools = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({ name: Schema.String, kind: ExtensionKind, tool: ToolSpec }))
)

/** The statements that read `extension`. */
export const make = (sql: SqlClient.SqlClient) => {
  const select = (where: Statement.Fragment) =>
    sql`
      SELECT id, namespace, name, kind, base_url, tools, tools_given, auth, served_by, state, last_error, version, created_at,
        updated_at, sealed, data_key, key_id
      FROM extension WHERE ${where}`.pipe(Effect.flatMap(decodeRows))
  const first = (where: Statement.Fragment) => Effect.map(select(where), ([row]) => row ?? null)
  return {
    select,
    one: (namespace: string, name: string) => first(sql`namespace = ${namespace} AND name = ${name}`),
    locked: (namespace: string, name: string) =>
      first(sql`namespace = ${namespace} AND name = ${name} FOR NO KEY UPDATE`),
    named: (namespace: string, names: ReadonlyArray<string>) =>
      select(sql`namespace = ${namespace} AND name = ANY (${names}::text[])`),
    /** Inserts a registration, or replaces the one that there is and counts its version on. */
    put: Effect.fnUntraced(function* ({
      auth,
      base_url,
      by,
      kind,
      name,
      namespace,
      sealed,
      served_by,
      tools
    }: Registered) {
      const now = DateTime.toDateUtc(yield* DateTime.now)
      yield* sql`
        INSERT INTO extension (id, namespace, name, kind, base_url, tools, tools_given, auth, served_by, state, last_error,
          version, sealed, data_key, key_id, created_by, created_at, updated_at)
        VALUES (${yield* Ids.next}, ${namespace}, ${name}, ${kind}, ${base_url}, ${JSON.stringify(tools ?? [])}::jsonb,
          ${tools !== undefined}, ${auth === null ? null : JSON.stringify(auth)}::jsonb, ${served_by}::text[],
          ${tools === undefined ? "unlisted" : "ready"}, NULL, 1, ${sealed?.sealed ?? null}, ${sealed?.data_key ?? null},
          ${sealed?.key_id ?? null}, ${by}, ${now}, ${now})
        ON CONFLICT (namespace, name) DO UPDATE SET kind = excluded.kind, base_url = excluded.base_url, tools = excluded.tools,
          tools_given = excluded.tools_given, auth = excluded.auth, served_by = excluded.served_by, state = excluded.state,
          last_error = NULL, version = extension.version + 1, sealed = excluded.sealed, data_key = excluded.data_key,
          key_id = excluded.key_id, updated_at = excluded.updated_at`
    }),
    /** Stores what a server told of its tools; answers whether that is anything new. */
    tell: (id: string, tools: ReadonlyArray<ToolSpec>, state: ExtensionRow["state"], error: string | null) =>
      sql`
        UPDATE extension SET tools = ${JSON.stringify(tools)}::jsonb, state = ${state}, last_error = ${error}
        WHERE id = ${id} AND (tools, state, last_error) IS DISTINCT FROM
          (${JSON.stringify(tools)}::jsonb, ${state}::text, ${error}::text) RETURNING id`.pipe(
        Effect.map((changed) => changed.length > 0)
      ),
    /** Tools in the order of the bytes of their addresses, from the one behind `after` on. */
    tools: (namespace: string, after: string, limit: number) =>
      sql`
        SELECT e.name, e.kind, t.tool FROM extension e CROSS JOIN LATERAL jsonb_array_elements(e.tools) AS t (tool)
        WHERE e.namespace = ${namespace} AND (e.name || '.' || (t.tool ->> 'name')) COLLATE "C" > ${after}
        ORDER BY (e.name || '.' || (t.tool ->> 'name')) COLLATE "C" LIMIT ${limit}`.pipe(
        Effect.flatMap(decodeTools),
        Effect.map((rows) => rows.map(({ kind, name, tool }) => toolInfo(name, kind, tool)))
      )
  }
}
