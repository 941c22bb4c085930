import { createHmac, timingSafeEqual } from "node:crypto"
import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Schema } from "effect"
import type { Anchor } from "../domain/AuditEntry.ts"

/** Entries that one statement verifies. */
const batch = 5000

/** A place in a chain up to which it is known to hold. */
export interface Place {
  readonly seq: number
  readonly hash: Uint8Array
}

/** What one statement found: the place that was reached, and the first broken entry or the end of the chain. */
export interface Step {
  readonly checked: number
  readonly place: Place
  readonly broken: number | null
  readonly ended: boolean
}

/** The start of a chain that was never cut. */
const empty = new Uint8Array()

const Checkpoint = Schema.Struct({
  chain: Schema.String,
  seq: Schema.Number,
  hash: Schema.Uint8ArrayFromSelf,
  mac: Schema.Uint8ArrayFromSelf
})

/** Where the verification of a chain begins: what lies before was dropped, and the signature says that we dropped it. */
export type Checkpoint = typeof Checkpoint.Type

const decodeCheckpoints = Schema.decodeUnknown(Schema.Array(Checkpoint))

const decodeParts = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      head_seq: Schema.NullOr(Schema.Number),
      head_hash: Schema.NullOr(Schema.Uint8ArrayFromSelf),
      n: Schema.Int,
      last: Schema.NullOr(Schema.Number),
      last_hash: Schema.NullOr(Schema.Uint8ArrayFromSelf),
      broken: Schema.NullOr(Schema.Number)
    })
  )
)

const equal = (one: Uint8Array, other: Uint8Array) => Buffer.compare(one, other) === 0

/** Signature of a checkpoint: HMAC-SHA-256 over chain, number and hash. */
export const sign = (key: Uint8Array, chain: string, { hash, seq }: Place): Buffer =>
  createHmac("sha256", key)
    .update(JSON.stringify([chain, seq, Buffer.from(hash).toString("hex")]))
    .digest()

/** Whether a checkpoint is ours; a chain that was never cut has none. */
export const isSigned = (keys: ReadonlyArray<Uint8Array>, { chain, hash, mac, seq }: Checkpoint): boolean =>
  seq === 0
    ? hash.length === 0
    : mac.length === 32 && keys.some((key) => timingSafeEqual(sign(key, chain, { seq, hash }), mac))

/** The statements that walk the chains of `audit_log`. */
export const make = (sql: SqlClient.SqlClient) => ({
  /** Up to 500 chains in order of their names, after one or from one on; of one namespace, or of all (null). */
  chains: (name: string, included: boolean, namespace: string | null) =>
    Effect.flatMap(
      sql`
        SELECT h.chain, h.checkpoint_seq::float8 AS seq, h.checkpoint_hash AS hash, h.checkpoint_mac AS mac FROM audit_head h
        LEFT JOIN agent a ON a.id::text = h.chain
        WHERE (h.chain > ${name} OR (${included} AND h.chain = ${name})) AND (${namespace}::text IS NULL OR h.chain = 'system' OR coalesce(a.namespace, 'main') = ${namespace})
        ORDER BY h.chain LIMIT 500`,
      decodeCheckpoints
    ),

  /** The next entries of a chain, each against the one before it, and against the head where they reach it: one snapshot. */
  step: Effect.fnUntraced(function* (chain: string, from: Place) {
    const [part] = yield* Effect.flatMap(
      sql`
        WITH head AS (SELECT seq, hash FROM audit_head WHERE chain = ${chain}),
        part AS (
          SELECT seq, hash, coalesce(lag(seq) OVER entries, ${from.seq}::bigint) + 1 AS expected,
            hash = audit_hash(coalesce(lag(hash) OVER entries, ${Buffer.from(from.hash)}::bytea), a) AS holds
          FROM audit_log a WHERE chain = ${chain} AND seq > ${from.seq} AND seq <= ${from.seq + batch} WINDOW entries AS (ORDER BY seq))
        SELECT (SELECT seq::float8 FROM head) AS head_seq, (SELECT hash FROM head) AS head_hash, count(*)::integer AS n,
          max(seq)::float8 AS last, (array_agg(hash ORDER BY seq DESC))[1] AS last_hash,
          (min(expected) FILTER (WHERE NOT holds OR seq <> expected))::float8 AS broken
        FROM part`,
      decodeParts
    )
    const { broken = null, head_hash = null, head_seq = null, last = null, last_hash = null, n = 0 } = part ?? {}
    const place = last === null ? from : { seq: last, hash: last_hash ?? empty }
    const step = { checked: n, place, ended: false }
    if (broken !== null) return { ...step, broken }
    if (head_seq === null || head_hash === null || place.seq > head_seq) {
      return { ...step, broken: (head_seq ?? from.seq) + 1 }
    }
    if (place.seq === head_seq) return { ...step, broken: equal(place.hash, head_hash) ? null : place.seq, ended: true }
    return { ...step, broken: n === 0 ? place.seq + 1 : null }
  }),

  /** An entry's hash; undefined where it is not there. */
  hashOf: Effect.fnUntraced(function* (chain: string, seq: number) {
    const [row] = yield* sql<{ hash: Uint8Array }>`SELECT hash FROM audit_log WHERE chain = ${chain} AND seq = ${seq}`
    return row?.hash
  }),

  /** The first entry of a chain that has no head. */
  orphan: Effect.map(
    sql<{ chain: string; seq: number }>`
      WITH RECURSIVE chains AS (
        (SELECT chain FROM audit_log ORDER BY chain LIMIT 1)
        UNION ALL
        SELECT (SELECT l.chain FROM audit_log l WHERE l.chain > c.chain ORDER BY l.chain LIMIT 1) FROM chains c WHERE c.chain IS NOT NULL)
      SELECT c.chain, (SELECT min(l.seq)::float8 FROM audit_log l WHERE l.chain = c.chain) AS seq
      FROM chains c WHERE c.chain IS NOT NULL AND NOT EXISTS (SELECT FROM audit_head h WHERE h.chain = c.chain) LIMIT 1`,
    ([row]) => row
  ),

  /** Whether an anchor is not what the trail says: its entry is another one, or is gone though nothing was dropped there. */
  contradicts: Effect.fnUntraced(function* ({ chain, hash, seq }: Anchor) {
    const [row] = yield* sql<{ found: string | null; checkpoint: number }>`
      SELECT encode(coalesce(
          (SELECT l.hash FROM audit_log l WHERE l.chain = ${chain} AND l.seq = ${seq}),
          (SELECT h.checkpoint_hash FROM audit_head h WHERE h.chain = ${chain} AND h.checkpoint_seq = ${seq})), 'hex') AS found,
        coalesce((SELECT h.checkpoint_seq FROM audit_head h WHERE h.chain = ${chain}), 0)::float8 AS checkpoint`
    if (row === undefined) return true
    return row.found === null ? seq >= row.checkpoint : row.found !== hash
  })
})
