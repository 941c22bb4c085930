import * as Model from "@effect/sql/Model"
import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, DateTime, Duration, Effect, Layer, Schema } from "effect"
import type { Actor } from "../domain/Agent.ts"
import { AuditRecord } from "../domain/AuditEntry.ts"
import type { Anchor, Link, Verdict } from "../domain/AuditEntry.ts"
import type { Page } from "../domain/Page.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { InvalidField } from "../domain/Task.ts"
import * as AuditChain from "./AuditChain.ts"
import { storeErrors } from "./Db.ts"
import { MasterKey } from "./MasterKey.ts"
import { fitting } from "./PageSize.ts"

/** What narrows the trail; `after` is included, `before` is not. */
export interface AuditFilter {
  readonly actor?: string | undefined
  readonly action?: string | undefined
  readonly subject_kind?: string | undefined
  readonly subject_id?: string | undefined
  readonly after?: DateTime.Utc | undefined
  readonly before?: DateTime.Utc | undefined
}

/** What is to be verified, and how much of it at once. */
export interface Verification {
  /** Null: all chains. */
  readonly namespace: string | null
  /** Where a verification before this one stopped. */
  readonly cursor: string | null
  /** It stops, and can be gone on with, after about this many entries, or this time. */
  readonly most: number
  readonly lasting: Duration.Duration
  /** Heads that were told outside of the database, against which the trail must hold. */
  readonly anchors: ReadonlyArray<Anchor>
}

/** Reads the trail of changes, and verifies it. */
export class AuditTrail extends Context.Tag("ordinaut/AuditTrail")<
  AuditTrail,
  {
    /** The entries of the actor's namespace, newest first. Fails for a cursor that no list gave. */
    readonly list: (
      actor: Actor,
      filter: AuditFilter,
      page: { readonly limit: number; readonly cursor: string | null }
    ) => Effect.Effect<Page<AuditRecord>, InvalidField | StoreUnavailable>
    /** Walks the chains in batches, each from its checkpoint, to the first broken link. Fails for a cursor that it did not give. */
    readonly verify: (wanted: Verification) => Effect.Effect<Verdict, InvalidField | StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const signers = (yield* MasterKey).derive("audit-checkpoint")
      const chain = AuditChain.make(sql)

      /** From the checkpoint, or from where the cursor says that the chain was known to hold. */
      const start = Effect.fnUntraced(function* (checkpoint: AuditChain.Checkpoint, from: Link | null) {
        if (from === null || from.chain !== checkpoint.chain || from.seq <= checkpoint.seq) return checkpoint
        const hash = yield* chain.hashOf(from.chain, from.seq)
        return hash === undefined ? checkpoint : { seq: from.seq, hash }
      })

      return AuditTrail.of({
        list: Effect.fn("AuditTrail.list")(function* (actor, filter, { cursor, limit }) {
          const last = cursor === null ? null : yield* readPlace(cursor)
          const where = sql.and([
            sql`namespace = ${actor.namespace}`,
            // The chain of an actor bears its name, and its index.
            ...(filter.actor === undefined ? [] : [sql`chain = ${filter.actor}`]),
            ...(filter.action === undefined ? [] : [sql`action = ${filter.action}`]),
            ...(filter.subject_kind === undefined ? [] : [sql`subject_kind = ${filter.subject_kind}`]),
            ...(filter.subject_id === undefined ? [] : [sql`subject_id = ${filter.subject_id}`]),
            ...(filter.after === undefined ? [] : [sql`at >= ${DateTime.toDateUtc(filter.after)}`]),
            ...(filter.before === undefined ? [] : [sql`at < ${DateTime.toDateUtc(filter.before)}`]),
            ...(last === null ? [] : [sql`(at, chain, seq) < (${new Date(last.at)}, ${last.chain}, ${last.seq})`])
          ])
          const fits = yield* fitting(
            sql`
              SELECT coalesce(octet_length(before::text), 0) + coalesce(octet_length(after::text), 0) AS size
              FROM audit_log WHERE ${where} ORDER BY at DESC, chain DESC, seq DESC LIMIT ${limit}`
          )
          const found = yield* Effect.flatMap(
            sql`
              SELECT chain, seq::float8 AS seq, at, actor, action, subject_kind, subject_id, before, after, request_id,
                encode(hash, 'hex') AS hash
              FROM audit_log WHERE ${where} ORDER BY at DESC, chain DESC, seq DESC LIMIT ${fits + 1}`,
            decodeRecords
          )
          const items = found.slice(0, fits)
          const end = found.length > fits ? items.at(-1) : undefined
          return {
            items: items.map(({ chain: _chain, ...record }) => record),
            next_cursor: end === undefined ? null : written(`${DateTime.toEpochMillis(end.at)}.${end.seq}.${end.chain}`)
          }
        }, storeErrors),

        verify: Effect.fn("AuditTrail.verify")(function* ({ anchors, cursor, lasting, most, namespace }) {
          const from = cursor === null ? null : yield* readLink(cursor)
          const until = (yield* Clock.currentTimeMillis) + Duration.toMillis(lasting)
          let checked = 0
          const broken = (first_broken: Link) => ({ ok: false, checked, first_broken })
          let next = { name: from?.chain ?? "", included: true }
          for (;;) {
            const checkpoints = yield* chain.chains(next.name, next.included, namespace)
            for (const checkpoint of checkpoints) {
              if (!AuditChain.isSigned(signers, checkpoint))
                return broken({ chain: checkpoint.chain, seq: checkpoint.seq })
              let place: AuditChain.Place = yield* start(checkpoint, from)
              for (let ended = false; !ended;) {
                const step: AuditChain.Step = yield* chain.step(checkpoint.chain, place)
                checked += step.checked
                if (step.broken !== null) return broken({ chain: checkpoint.chain, seq: step.broken })
                place = step.place
                ended = step.ended
                if (checked >= most || (yield* Clock.currentTimeMillis) > until) {
                  return {
                    ok: true,
                    checked,
                    first_broken: null,
                    next_cursor: written(`${place.seq}.${checkpoint.chain}`)
                  }
                }
              }
            }
            const last = checkpoints.at(-1)
            if (last === undefined) break
            next = { name: last.chain, included: false }
          }
          if (namespace === null) {
            const orphan = yield* chain.orphan
            if (orphan !== undefined) return broken(orphan)
          }
          for (const anchor of anchors) {
            if (yield* chain.contradicts(anchor)) return broken({ chain: anchor.chain, seq: anchor.seq })
          }
          return { ok: true, checked, first_broken: null }
        }, storeErrors)
      })
    })
  )
}

const decodeRecords = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({ ...AuditRecord.fields, chain: Schema.String, at: Model.DateTimeFromDate }))
)

const written = (text: string) => Buffer.from(text).toString("base64url")

const read = (cursor: string, form: RegExp) => {
  const found = form.exec(Buffer.from(cursor, "base64url").toString())
  return found === null
    ? Effect.fail(new InvalidField({ path: "query.cursor", message: "is no cursor of a next_cursor" }))
    : Effect.succeed(found.slice(1))
}

const readPlace = (cursor: string) =>
  Effect.map(read(cursor, /^(\d{1,15})\.(\d{1,15})\.([\w-]{1,100})$/), ([at, seq, chain = ""]) => ({
    at: Number(at),
    seq: Number(seq),
    chain
  }))

const readLink = (cursor: string) =>
  Effect.map(read(cursor, /^(\d{1,15})\.([\w-]{1,100})$/), ([seq, chain = ""]) => ({ seq: Number(seq), chain }))
