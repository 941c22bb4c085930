import * as Model from "@effect/sql/Model"
import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Duration, Effect, Layer, Schema, Struct } from "effect"
import type { Actor } from "../domain/Agent.ts"
import type { JsonValue } from "../domain/Json.ts"
import type { Page, PageRequest } from "../domain/Page.ts"
import { pageOf } from "../domain/Page.ts"
import { BoundTo, isSecretName, mayUse, SecretInfo, SecretNotFound } from "../domain/Secret.ts"
import type { SecretPut, Target } from "../domain/Secret.ts"
import { references, substitute } from "../domain/SecretReferences.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { InvalidField } from "../domain/Task.ts"
import type { Template } from "../domain/Template.ts"
import { Audit } from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import * as HandedOut from "./HandedOut.ts"
import * as Ids from "./Ids.ts"
import { MasterKey } from "./MasterKey.ts"
import { reseal } from "./SealedRows.ts"
import * as Sealing from "./Sealing.ts"

/** `last_used_at` of a secret is written at most once in this time. */
const usedEvery = Duration.minutes(1)
/** Secrets that one call may refer to, and the characters that their values may add to its input. */
const mostSecrets = 32
const mostAdded = 1_048_576

/** An input with the values of its secrets in it, and the values that were used, by name. */
export interface Revealed {
  readonly input: JsonValue
  readonly used: ReadonlyMap<string, string>
}

/** Values that pipelines refer to by name. Owns `secret`; no method but `resolve` and `reveal` gives a value. */
export class Secrets extends Context.Tag("ordinaut/Secrets")<
  Secrets,
  {
    /** Stores or replaces a secret; `created` says which of the two. */
    readonly put: (
      actor: Actor,
      name: string,
      body: SecretPut
    ) => Effect.Effect<{ readonly secret: SecretInfo; readonly created: boolean }, InvalidField | StoreUnavailable>
    /** Newest first. */
    readonly list: (actor: Actor, page: PageRequest) => Effect.Effect<Page<SecretInfo>, StoreUnavailable>
    readonly remove: (actor: Actor, name: string) => Effect.Effect<void, SecretNotFound | StoreUnavailable>
    /**
     * The rendered input of a call with every `secret://name` in its strings replaced by the value. Fails with
     * `tool_input_invalid`, which names the secret, where there is none or it is not bound to the call's host or tool. Give
     * the template of the input as `written`: then only what the pipeline itself wrote is a reference, and text that an
     * event or another tool brought in is not.
     */
    readonly resolve: (
      namespace: string,
      input: JsonValue,
      target: Target,
      written?: Template
    ) => Effect.Effect<JsonValue, StepFailed | StoreUnavailable>
    /** As `resolve`, with the values that were used, for `redact`. */
    readonly reveal: (
      namespace: string,
      input: JsonValue,
      target: Target,
      written?: Template
    ) => Effect.Effect<Revealed, StepFailed | StoreUnavailable>
    /** Seals what an older master key sealed under the first one, and what was handed out likewise; answers how many. */
    readonly reseal: Effect.Effect<number, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const audit = yield* Audit
      const sealing = Sealing.make((yield* MasterKey).derive("secret"))

      const placeOf = (namespace: string, name: string): Sealing.Place => ({ table: "secret", namespace, name })

      const trail = (actor: Actor, action: string, name: string, before: SecretInfo | null, after: SecretInfo | null) =>
        audit.record({
          actor: actor.id,
          namespace: actor.namespace,
          action,
          subject_kind: "secret",
          subject_id: name,
          before: before === null ? null : { bound_to: before.bound_to },
          after: after === null ? null : { bound_to: after.bound_to }
        })

      const select = (namespace: string, name: string) =>
        sql`
          SELECT id, name, bound_to, last_used_at, created_at, updated_at FROM secret
          WHERE namespace = ${namespace} AND name = ${name} FOR UPDATE`.pipe(
          Effect.flatMap(decodeInfos),
          Effect.map(([found]) => found ?? null)
        )

      const reveal = Effect.fn("Secrets.reveal")(function* (
        namespace: string,
        input: JsonValue,
        target: Target,
        written?: Template
      ) {
        const wanted = references(input, written)
        if (wanted.size === 0) return { input, used: new Map<string, string>() }
        if (wanted.size > mostSecrets) return yield* refused(`a call refers to at most ${mostSecrets} secrets`)
        const rows = yield* sql`
          SELECT name, sealed, data_key, key_id, bound_to, last_used_at FROM secret
          WHERE namespace = ${namespace} AND name = ANY (${[...wanted.keys()]}::text[])`.pipe(
          Effect.flatMap(decodeStored)
        )
        const found = new Map(rows.map((row) => [row.name, row]))
        const used = new Map<string, string>()
        let added = 0
        for (const [name, times] of wanted) {
          const row = found.get(name)
          if (row === undefined) return yield* refused(`there is no secret ${name}`)
          if (!mayUse(row.bound_to, target)) {
            const where = target.host === null ? target.tool : `${target.tool} at ${target.host}`
            return yield* refused(`the secret ${name} is not bound to ${where}`)
          }
          const value = yield* sealing
            .open(placeOf(namespace, name), row)
            .pipe(Effect.mapError(({ message }) => StepFailed.of("internal", message)))
          used.set(name, Buffer.from(value).toString())
          added += times * value.byteLength
        }
        if (added > mostAdded) return yield* refused(`its secrets add more than ${mostAdded} bytes to the input`)
        const now = DateTime.toDateUtc(yield* DateTime.now)
        const since = new Date(now.getTime() - Duration.toMillis(usedEvery))
        const due = rows.filter(({ last_used_at }) => last_used_at === null || last_used_at <= since)
        if (due.length > 0) {
          yield* sql`
            UPDATE secret SET last_used_at = ${now}
            WHERE namespace = ${namespace} AND name = ANY (${due.map(({ name }) => name)}::text[])
              AND (last_used_at IS NULL OR last_used_at <= ${since})`
        }
        return { input: substitute(input, used, written), used }
      }, storeErrors)

      return Secrets.of({
        put: Effect.fn("Secrets.put")(function* (actor, name, { bound_to, value }) {
          if (!isSecretName(name)) return yield* new InvalidField({ path: "path.name", message: nameRule })
          return yield* Effect.gen(function* () {
            const now = DateTime.toDateUtc(yield* DateTime.now)
            const { data_key, key_id, sealed } = sealing.seal(placeOf(actor.namespace, name), Buffer.from(value))
            // Two that come at once: the second waits here and replaces what the first stored.
            yield* sql`SELECT pg_advisory_xact_lock(hashtext('ordinaut.secret'), hashtext(${`${actor.namespace}/${name}`}))`
            const before = yield* select(actor.namespace, name)
            yield* sql`
              INSERT INTO secret (id, namespace, name, sealed, data_key, key_id, bound_to, created_by, created_at, updated_at)
              VALUES (${yield* Ids.next}, ${actor.namespace}, ${name}, ${sealed}, ${data_key}, ${key_id},
                ${JSON.stringify(bound_to)}::jsonb, ${actor.id}, ${now}, ${now})
              ON CONFLICT (namespace, name) DO UPDATE SET sealed = excluded.sealed, data_key = excluded.data_key,
                key_id = excluded.key_id, bound_to = excluded.bound_to, updated_at = excluded.updated_at`
            const secret = yield* select(actor.namespace, name)
            if (secret === null)
              return yield* Effect.dieMessage("A secret is gone within the transaction that stored it.")
            yield* trail(actor, before === null ? "secret.created" : "secret.replaced", name, before, secret)
            return { secret: Struct.omit(secret, "id"), created: before === null }
          }).pipe(sql.withTransaction)
        }, storeErrors),

        list: Effect.fn("Secrets.list")(function* (actor, page) {
          const before = page.before === null ? sql`true` : sql`id < ${page.before}`
          const found = yield* sql`
            SELECT id, name, bound_to, last_used_at, created_at, updated_at FROM secret
            WHERE namespace = ${actor.namespace} AND ${before} ORDER BY id DESC LIMIT ${page.limit + 1}`.pipe(
            Effect.flatMap(decodeInfos)
          )
          const { items, next_cursor } = pageOf(found, page.limit)
          return { items: items.map((info) => Struct.omit(info, "id")), next_cursor }
        }, storeErrors),

        remove: Effect.fn("Secrets.remove")(function* (actor, name) {
          yield* Effect.gen(function* () {
            const before = yield* select(actor.namespace, name)
            if (before === null) return yield* new SecretNotFound({ name })
            yield* sql`DELETE FROM secret WHERE namespace = ${actor.namespace} AND name = ${name}`
            yield* trail(actor, "secret.removed", name, before, null)
          }).pipe(sql.withTransaction)
        }, storeErrors),

        resolve: Effect.fn("Secrets.resolve")((namespace, input, target, written) =>
          Effect.map(reveal(namespace, input, target, written), (revealed) => revealed.input)
        ),
        reveal,

        reseal: Effect.zipWith(
          reseal(sql, sealing, "secret"),
          HandedOut.reseal(sql, sealing),
          (own, handed) => own + handed
        )
      })
    })
  )
}

const nameRule = "is no name of a secret: a letter, then letters, digits, _, . and -, at most 64, not ending in . or -"

const refused = (message: string) => StepFailed.of("tool_input_invalid", message)

const decodeInfos = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      id: Schema.String,
      name: Schema.String,
      bound_to: BoundTo,
      last_used_at: Schema.NullOr(Model.DateTimeFromDate),
      created_at: Model.DateTimeFromDate,
      updated_at: Model.DateTimeFromDate
    })
  )
)
const decodeStored = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      name: Schema.String,
      sealed: Schema.Uint8ArrayFromSelf,
      data_key: Schema.Uint8ArrayFromSelf,
      key_id: Schema.String,
      bound_to: BoundTo,
      last_used_at: Schema.NullOr(Schema.DateFromSelf)
    })
  )
)
