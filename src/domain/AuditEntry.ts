import { Schema } from "effect"
import { Instant } from "./Instant.ts"
import { JsonValue } from "./Json.ts"

/** A change worth remembering: who did what to what, as it was and as it is. */
export interface AuditEntry {
  /** Agent id, or `system`. */
  readonly actor: string
  readonly namespace: string
  /** `task.created`, `agent.key_issued`, … */
  readonly action: string
  readonly subject_kind: string
  readonly subject_id: string
  /** What JSON can hold; null where there was, or is, nothing. */
  readonly before: unknown
  readonly after: unknown
  /** Of the request that made the change; undefined for the one under way. */
  readonly request_id?: string | null
}

/** An entry as the API shows it. `seq` is its place in its actor's chain, `hash` the link to the entry before, in hex. */
export const AuditRecord = Schema.Struct({
  seq: Schema.Int,
  at: Instant,
  actor: Schema.String,
  action: Schema.String,
  subject_kind: Schema.String,
  subject_id: Schema.String,
  before: Schema.NullOr(JsonValue),
  after: Schema.NullOr(JsonValue),
  request_id: Schema.NullOr(Schema.String),
  hash: Schema.String
}).annotations({ identifier: "AuditRecord" })
export type AuditRecord = typeof AuditRecord.Type

/** A link of the trail: an entry of a chain. */
export const Link = Schema.Struct({ chain: Schema.String, seq: Schema.Int })
export type Link = typeof Link.Type

/**
 * What a verification found: how many entries it looked at, and the first that is missing or is not what its hash says.
 * `next_cursor` stands there where the bound of one request was reached before the end of the trail.
 */
export const Verdict = Schema.Struct({
  ok: Schema.Boolean,
  checked: Schema.Int,
  first_broken: Schema.NullOr(Link),
  next_cursor: Schema.optionalWith(Schema.String, { exact: true })
}).annotations({ identifier: "AuditVerdict" })
export type Verdict = typeof Verdict.Type

/** The head of a chain as it was told outside of the database: `hash` in hex. */
export interface Anchor extends Link {
  readonly hash: string
}

const form = /^([A-Za-z0-9-]+):(\d{1,15}):([0-9a-f]{64})$/

/** Reads `<chain>:<seq>:<hash>`, as the log tells the heads; undefined for any other text. */
export const readAnchor = (text: string): Anchor | undefined => {
  const [, chain, seq, hash] = form.exec(text) ?? []
  return chain === undefined || hash === undefined ? undefined : { chain, seq: Number(seq), hash }
}
