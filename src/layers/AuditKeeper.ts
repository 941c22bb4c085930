import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, DateTime, Duration, Effect, Layer, Schedule } from "effect"
import type { Link, Verdict } from "../domain/AuditEntry.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import * as AuditChain from "./AuditChain.ts"
import { AuditTrail } from "./AuditTrail.ts"
import { storeErrors } from "./Db.ts"
import { Draining } from "./Draining.ts"
import * as Ids from "./Ids.ts"
import { MasterKey } from "./MasterKey.ts"
import * as Metrics from "./Metrics.ts"
import * as Retries from "./Retries.ts"
import * as Settings from "./Settings.ts"

/** Entries that one pass of the periodic check looks at: a share of a processor that nobody notices. */
const checkedAtOnce = 20_000
/** Heads that are told at once, in one line of the log and one entry of the stream. */
const toldAtOnce = 100
/** Rows that one statement deletes. */
const deletedAtOnce = 10_000

const topic = "ordinaut.audit.anchored"

/** Looks after the trail: checks it all the time, tells its heads outside of it, and drops what is past its retention. */
export class AuditKeeper extends Context.Tag("ordinaut/AuditKeeper")<
  AuditKeeper,
  {
    /** Verifies the next part of the trail, from its start again after its end, and sets `ordinaut_audit_chain_ok`. */
    readonly check: Effect.Effect<Verdict, StoreUnavailable>
    /**
     * Tells the heads that moved since they were told last, to the log and to the stream: who cuts or rewrites a chain in the
     * database has these against him. Answers how many.
     */
    readonly anchor: Effect.Effect<number, StoreUnavailable>
    /**
     * Drops entries of whole days past `AUDIT_RETENTION_DAYS`, after a signed checkpoint from which a verification starts. A chain
     * that is broken there is left as it is. Answers how many entries went.
     */
    readonly drop: Effect.Effect<number, StoreUnavailable>
    /** What `check` has found in this process: the first broken link, and whether it has looked at anything yet. */
    readonly found: Effect.Effect<{ readonly checked: boolean; readonly broken: Link | null }>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const trail = yield* AuditTrail
      const [signer] = (yield* MasterKey).derive("audit-checkpoint")
      const days = yield* Settings.auditRetentionDays
      const chain = AuditChain.make(sql)
      let cursor: string | null = null
      let broken: Link | null = null
      let checked = false

      const told = Effect.gen(function* () {
        const heads = yield* sql<{ chain: string; seq: number; hash: string }>`
          UPDATE audit_head h SET anchored_seq = h.seq FROM (
            SELECT chain FROM audit_head WHERE seq > anchored_seq ORDER BY chain LIMIT ${toldAtOnce} FOR UPDATE SKIP LOCKED) AS moved
          WHERE h.chain = moved.chain RETURNING h.chain, h.seq::float8 AS seq, encode(h.hash, 'hex') AS hash`
        if (heads.length === 0) return heads
        const now = yield* DateTime.now
        const id = yield* Ids.next
        const entry = { id, topic, namespace: "main", agent_id: null, at: DateTime.formatIso(now), payload: { heads } }
        yield* sql`
          INSERT INTO outbox (size, entries, at) VALUES (1, ${JSON.stringify([entry])}::jsonb, ${DateTime.toDateUtc(now)})`
        return heads
      }).pipe(sql.withTransaction, storeErrors)

      const anchored: Effect.Effect<number, StoreUnavailable> = Effect.gen(function* () {
        const heads = yield* told
        if (heads.length === 0) return 0
        yield* Effect.annotateLogs(Effect.logInfo("The heads of the audit trail."), {
          heads: heads.map(({ chain: name, hash, seq }) => `${name}:${seq}:${hash}`).join(" ")
        })
        return heads.length === toldAtOnce ? heads.length + (yield* anchored) : heads.length
      })

      /** The last entry before which all are older; as far as the chain holds. */
      const cut = Effect.fnUntraced(function* (checkpoint: AuditChain.Checkpoint, before: Date) {
        const [row] = yield* sql<{ last: number }>`
          SELECT (coalesce((SELECT min(seq) FROM audit_log WHERE chain = ${checkpoint.chain} AND at >= ${before}),
            (SELECT seq + 1 FROM audit_head WHERE chain = ${checkpoint.chain})) - 1)::float8 AS last`
        const last = row?.last ?? 0
        if (last <= checkpoint.seq) return null
        let place: AuditChain.Place = checkpoint
        while (place.seq < last) {
          const step: AuditChain.Step = yield* chain.step(checkpoint.chain, place)
          if (step.broken !== null && step.broken <= last) return null
          if (step.ended || step.broken !== null) break
          place = step.place
        }
        const hash = yield* chain.hashOf(checkpoint.chain, last)
        return hash === undefined ? null : { seq: last, hash }
      })

      const dropOf = Effect.fnUntraced(function* (checkpoint: AuditChain.Checkpoint, before: Date) {
        const place = yield* cut(checkpoint, before)
        if (place === null) return 0
        const mac = AuditChain.sign(signer, checkpoint.chain, place)
        yield* sql`
          UPDATE audit_head SET checkpoint_seq = ${place.seq}, checkpoint_hash = ${Buffer.from(place.hash)}, checkpoint_mac = ${mac}
          WHERE chain = ${checkpoint.chain} AND checkpoint_seq < ${place.seq}`
        let gone = 0
        for (let batch = deletedAtOnce; batch === deletedAtOnce; gone += batch) {
          const rows = yield* sql`
            DELETE FROM audit_log WHERE chain = ${checkpoint.chain} AND seq IN (
              SELECT seq FROM audit_log WHERE chain = ${checkpoint.chain} AND seq <= ${place.seq} ORDER BY seq LIMIT ${deletedAtOnce})
            RETURNING seq`
          batch = rows.length
        }
        return gone
      })

      return AuditKeeper.of({
        check: Effect.gen(function* () {
          const wanted = { namespace: null, most: checkedAtOnce, lasting: Duration.seconds(10), anchors: [] }
          const verdict = yield* trail.verify({ ...wanted, cursor }).pipe(Effect.catchTag("InvalidField", Effect.die))
          if (verdict.first_broken !== null) {
            broken = verdict.first_broken
            yield* Effect.annotateLogs(Effect.logError("The audit trail is broken."), { ...verdict.first_broken })
          } else if (cursor === null && verdict.next_cursor === undefined) broken = null
          checked = true
          cursor = verdict.next_cursor ?? null
          Metrics.auditChainOk.add(broken === null ? 1 : 0, {})
          return verdict
        }).pipe(Effect.withSpan("AuditKeeper.check")),

        found: Effect.sync(() => ({ broken, checked })),

        anchor: Effect.withSpan(anchored, "AuditKeeper.anchor"),

        drop: Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const day = Duration.toMillis(Duration.days(1))
          const before = new Date(Math.floor(now / day) * day - days * day)
          let gone = 0
          let name = ""
          for (;;) {
            const checkpoints = yield* chain.chains(name, false, null)
            for (const checkpoint of checkpoints) gone += yield* dropOf(checkpoint, before)
            const last = checkpoints.at(-1)
            if (last === undefined) return gone
            name = last.chain
          }
        }).pipe(Effect.withSpan("AuditKeeper.drop"), storeErrors)
      })
    })
  )

  /** `check` once a minute, `anchor` every ten minutes and `drop` once a day. */
  static readonly loop = Layer.scopedDiscard(
    Effect.gen(function* () {
      const { anchor, check, drop } = yield* AuditKeeper
      const draining = yield* Draining
      const every = <A, E>(pass: Effect.Effect<A, E>, duration: Duration.DurationInput) =>
        draining.supervised(pass.pipe(Effect.repeat(Schedule.spaced(duration)), Effect.retry(Retries.loop)))
      yield* every(check, "1 minute")
      yield* every(anchor, "10 minutes")
      yield* every(drop, "1 day")
    })
  )
}
