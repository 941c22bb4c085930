import * as SqlClient from "@effect/sql/SqlClient"
import { Cache, Context, Duration, Effect, Exit, Layer, Schema } from "effect"
import type { Actor } from "../domain/Agent.ts"
import { coreCatalogue } from "../domain/CoreCatalogue.ts"
import { coreToolNames } from "../domain/CoreInputs.ts"
import { ExtensionName } from "../domain/Extension.ts"
import type { Credentials, Extension, ToolSpec } from "../domain/Extension.ts"
import type { Page, PageRequest } from "../domain/Page.ts"
import { pageOf } from "../domain/Page.ts"
import {
  CredentialsUnreadable,
  ExtensionInfo,
  ExtensionNotFound,
  ExtensionVersionMismatch,
  maxTools
} from "../domain/Registration.ts"
import type { ExtensionPut, ExtensionRegistered, ToolInfo } from "../domain/Registration.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { InvalidField } from "../domain/Task.ts"
import { Audit } from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import * as ExtensionCredentials from "./ExtensionCredentials.ts"
import * as ExtensionRows from "./ExtensionRows.ts"
import { extensionOf, infoOf, sealedOf } from "./ExtensionRows.ts"
import { JsonSchemas } from "./JsonSchemas.ts"
import { MasterKey } from "./MasterKey.ts"
import { reseal } from "./SealedRows.ts"
import * as Sealing from "./Sealing.ts"

/** What another process changed is seen within this time. */
const cachedFor = Duration.seconds(1)
const mostCached = 1000
const mostError = 500

/** The services that bring tools. Owns `extension`. */
export class Extensions extends Context.Tag("ordinaut/Extensions")<
  Extensions,
  {
    /**
     * Registers an extension, or changes one: all but the credentials that are left out is replaced. `version` is what
     * `If-Match` asks for. The answer bears the signing secret where this call made it.
     */
    readonly put: (
      actor: Actor,
      name: string,
      body: ExtensionPut,
      version: number | null
    ) => Effect.Effect<
      { readonly extension: ExtensionRegistered; readonly created: boolean },
      InvalidField | ExtensionVersionMismatch | CredentialsUnreadable | StoreUnavailable
    >
    readonly get: (actor: Actor, name: string) => Effect.Effect<ExtensionInfo, ExtensionNotFound | StoreUnavailable>
    /** Newest first. */
    readonly list: (actor: Actor, page: PageRequest) => Effect.Effect<Page<ExtensionInfo>, StoreUnavailable>
    readonly remove: (
      actor: Actor,
      name: string,
      version: number | null
    ) => Effect.Effect<void, ExtensionNotFound | ExtensionVersionMismatch | StoreUnavailable>
    /** Every tool that pipelines of the namespace may use, by address; `after` is the last address of the page before. */
    readonly catalogue: (
      actor: Actor,
      page: { readonly limit: number; readonly after: string | null }
    ) => Effect.Effect<Page<ToolInfo>, StoreUnavailable>
    /** The extension of a name; null for none. As it was at most 1 s ago. */
    readonly find: (namespace: string, name: string) => Effect.Effect<Extension | null, StoreUnavailable>
    /** Its credentials, opened; null for no extension. As they were at most 1 s ago. */
    readonly credentials: (
      namespace: string,
      name: string
    ) => Effect.Effect<Credentials | null, Sealing.Unopenable | StoreUnavailable>
    /** Those of the names that there are, as they are now. */
    readonly named: (
      namespace: string,
      names: ReadonlyArray<string>
    ) => Effect.Effect<ReadonlyMap<string, Extension>, StoreUnavailable>
    /** The MCP servers of all namespaces, whose tools are asked of them. */
    readonly servers: Effect.Effect<ReadonlyArray<Extension>, StoreUnavailable>
    /**
     * What an MCP server listed, or why it did not (`error`): then the tools stay as they were. Tools that were named at the
     * registration stay as well, and a later version of the registration knows nothing of this.
     */
    readonly learned: (
      namespace: string,
      name: string,
      version: number,
      tools: ReadonlyArray<ToolSpec>,
      error: string | null
    ) => Effect.Effect<void, StoreUnavailable>
    /** Seals what an older master key sealed under the first one; answers how many. */
    readonly reseal: Effect.Effect<number, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const audit = yield* Audit
      const schemas = yield* JsonSchemas
      const sealing = Sealing.make((yield* MasterKey).derive("extension"))
      const credentials = ExtensionCredentials.make(sealing)
      const rows = ExtensionRows.make(sql)

      const cache = yield* Cache.makeWith({
        capacity: mostCached,
        // An outage is not remembered.
        timeToLive: (exit) => (Exit.isSuccess(exit) ? cachedFor : Duration.zero),
        lookup: (key: string) => {
          const [namespace = "", name = ""] = key.split("/")
          return storeErrors(rows.one(namespace, name))
        }
      })
      const keyOf = (namespace: string, name: string) => `${namespace}/${name}`
      const cached = (namespace: string, name: string) =>
        isExtensionName(name) ? cache.get(keyOf(namespace, name)) : Effect.succeed(null)

      const trail = (
        actor: Pick<Actor, "id" | "namespace"> | { readonly id: "system"; readonly namespace: string },
        action: string,
        name: string,
        before: ExtensionInfo | null,
        after: ExtensionInfo | null
      ) =>
        audit.record({
          actor: actor.id,
          namespace: actor.namespace,
          action,
          subject_kind: "extension",
          subject_id: name,
          before: before === null ? null : encodeInfo(before),
          after: after === null ? null : encodeInfo(after)
        })

      /** The first schema of a tool that cannot be used. */
      const refusedSchema = Effect.fnUntraced(function* (tool: ToolSpec) {
        for (const field of ["input_schema", "output_schema"] as const) {
          const schema = tool[field]
          if (schema === undefined) continue
          const refusal = yield* Effect.flip(schemas.check(schema)).pipe(Effect.option)
          if (refusal._tag === "Some") return { path: `/${field}${refusal.value.path}`, message: refusal.value.message }
        }
        return undefined
      })

      const unlessChanged = (name: string, version: number | null, found: number) =>
        version === null || version === found ? Effect.void : new ExtensionVersionMismatch({ name, version: found })

      return Extensions.of({
        put: Effect.fn("Extensions.put")(function* (actor, name, body, version) {
          const { namespace } = actor
          if (!isExtensionName(name)) return yield* new InvalidField({ path: "path.name", message: nameRule })
          for (const [at, tool] of (body.tools ?? []).entries()) {
            const refused = yield* refusedSchema(tool)
            if (refused !== undefined)
              return yield* new InvalidField({ path: `/tools/${at}${refused.path}`, message: refused.message })
          }
          const answer = yield* Effect.gen(function* () {
            // Two that come at once: the second waits here and changes what the first stored.
            yield* sql`SELECT pg_advisory_xact_lock(hashtext('ordinaut.extension'), hashtext(${keyOf(namespace, name)}))`
            const before = yield* rows.locked(namespace, name)
            yield* unlessChanged(name, version, before?.version ?? 0)
            const baseUrl = body.base_url?.replace(/\/+$/, "") ?? null
            const keepsAuth = baseUrl !== null && body.auth === undefined && before !== null && before.auth !== null
            if (keepsAuth && originOf(before.base_url) !== originOf(baseUrl)) {
              const message = "belongs to another origin; give the credentials anew, or null"
              return yield* new InvalidField({ path: "/auth", message })
            }
            const stored = {
              namespace,
              name,
              auth: before?.auth ?? null,
              sealed: before === null ? null : sealedOf(before)
            }
            const { auth, made, sealed } = yield* credentials
              .merge(stored, body)
              .pipe(Effect.mapError(({ message }) => new CredentialsUnreadable({ name, reason: message })))
            yield* rows.put({
              namespace,
              name,
              kind: body.kind,
              base_url: baseUrl,
              tools: body.tools,
              auth,
              served_by: body.served_by ?? [],
              sealed,
              by: actor.id
            })
            const after = yield* rows.one(namespace, name)
            if (after === null)
              return yield* Effect.dieMessage("An extension is gone within the transaction that stored it.")
            const created = before === null
            const action = created ? "extension.registered" : "extension.changed"
            yield* trail(actor, action, name, created ? null : infoOf(before), infoOf(after))
            return {
              extension: { ...infoOf(after), ...(made === undefined ? {} : { signing_secret: made }) },
              created
            }
          }).pipe(sql.withTransaction)
          yield* cache.invalidate(keyOf(namespace, name))
          return answer
        }, storeErrors),

        get: Effect.fn("Extensions.get")(function* ({ namespace }, name) {
          const row = yield* rows.one(namespace, name)
          return row === null ? yield* new ExtensionNotFound({ name }) : infoOf(row)
        }, storeErrors),

        list: Effect.fn("Extensions.list")(function* ({ namespace }, page) {
          const before = page.before === null ? sql`true` : sql`id < ${page.before}`
          const found = yield* rows.select(
            sql`namespace = ${namespace} AND ${before} ORDER BY id DESC LIMIT ${page.limit + 1}`
          )
          const { items, next_cursor } = pageOf(found, page.limit)
          return { items: items.map(infoOf), next_cursor }
        }, storeErrors),

        remove: Effect.fn("Extensions.remove")(function* (actor, name, version) {
          yield* Effect.gen(function* () {
            const before = yield* rows.locked(actor.namespace, name)
            if (before === null) return yield* new ExtensionNotFound({ name })
            yield* unlessChanged(name, version, before.version)
            yield* sql`DELETE FROM extension WHERE id = ${before.id}`
            yield* trail(actor, "extension.removed", name, infoOf(before), null)
          }).pipe(sql.withTransaction)
          yield* cache.invalidate(keyOf(actor.namespace, name))
        }, storeErrors),

        catalogue: Effect.fn("Extensions.catalogue")(function* ({ namespace }, { after, limit }) {
          const from = after ?? ""
          const others = yield* rows.tools(namespace, from, limit + 1)
          const found = [...coreTools.filter(({ address }) => address > from), ...others].sort((a, b) =>
            a.address < b.address ? -1 : 1
          )
          const items = found.slice(0, limit)
          return { items, next_cursor: found.length > limit ? (items.at(-1)?.address ?? null) : null }
        }, storeErrors),

        find: Effect.fn("Extensions.find")((namespace, name) =>
          Effect.map(cached(namespace, name), (row) => (row === null ? null : extensionOf(row)))
        ),

        credentials: Effect.fn("Extensions.credentials")(function* (namespace, name) {
          const row = yield* cached(namespace, name)
          return row === null ? null : yield* credentials.credentials({ ...row, sealed: sealedOf(row) })
        }),

        named: Effect.fn("Extensions.named")(function* (namespace, names) {
          const found = names.length === 0 ? [] : yield* rows.named(namespace, names)
          return new Map(found.map((row) => [row.name, extensionOf(row)]))
        }, storeErrors),

        servers: rows.select(sql`kind = 'mcp' AND NOT tools_given`).pipe(
          Effect.map((found) => found.map(extensionOf)),
          Effect.withSpan("Extensions.servers"),
          storeErrors
        ),

        learned: Effect.fn("Extensions.learned")(function* (namespace, name, version, tools, error) {
          const usable: Array<ToolSpec> = []
          const left: Array<string> = []
          for (const tool of error === null ? tools : []) {
            const refused =
              usable.length < maxTools ? yield* refusedSchema(tool) : { path: "", message: "is one too many" }
            if (refused === undefined) usable.push(tool)
            else left.push(`${tool.name}${refused.path}: ${refused.message}`)
          }
          const state = error === null ? "ready" : "failing"
          const told =
            (error ?? (left.length === 0 ? null : `left out: ${left.join("; ")}`))?.slice(0, mostError) ?? null
          yield* Effect.gen(function* () {
            const before = yield* rows.locked(namespace, name)
            if (before === null || before.version !== version || before.kind !== "mcp") return
            const kept = before.tools_given || error !== null ? before.tools : usable
            if (!(yield* rows.tell(before.id, kept, state, told))) return
            const after = { ...before, tools: kept, state, last_error: told } as const
            yield* trail({ id: "system", namespace }, "extension.listed", name, infoOf(before), infoOf(after))
          }).pipe(sql.withTransaction)
          yield* cache.invalidate(keyOf(namespace, name))
        }, storeErrors),

        reseal: reseal(sql, sealing, "extension")
      })
    })
  )
}

const isExtensionName = Schema.is(ExtensionName)
const nameRule = "is no name of an extension: a letter, then letters, digits, _ and -, at most 64, and not core"

const encodeInfo = Schema.encodeSync(ExtensionInfo)

const originOf = (url: string | null): string | null => (url === null ? null : new URL(url).origin)

const coreTools: ReadonlyArray<ToolInfo> = coreToolNames.map((name) =>
  ExtensionRows.toolInfo("core", "core", { name, ...coreCatalogue.get(name) })
)
