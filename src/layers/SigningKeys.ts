import * as Model from "@effect/sql/Model"
import * as SqlClient from "@effect/sql/SqlClient"
import { Cache, Clock, Context, DateTime, Duration, Effect, Either, Exit, Layer, Schema } from "effect"
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK } from "jose"
import type { CryptoKey, JWK } from "jose"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { longestLife } from "../domain/Token.ts"
import * as Audit from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import { MasterKey } from "./MasterKey.ts"
import * as Sealing from "./Sealing.ts"

/** A key signs for this long; then a new one is made. */
const signsFor = Duration.days(30)
/** A new key signs only after it has been published for this long, so that everybody who reads the JWKS knows it by then. */
const knownAfter = Duration.minutes(1)
/** A retired key verifies until the last token that it signed is over, the leeway and the delay of the caches included. */
const verifiesAfter = Duration.seconds(longestLife + 120)
/** A key made or retired elsewhere is seen here within this time. */
const readFor = Duration.seconds(5)

/** The algorithm of the product's own tokens (RFC 8037 §3.1). */
export const algorithm = "EdDSA"

/** A public key as a JWK Set bears it. */
export interface PublicKey {
  readonly kty: string
  readonly crv: string
  readonly x: string
  readonly kid: string
  readonly use: string
  readonly alg: string
}

/** The keys of the product's own tokens. Owns `signing_key`; private keys are sealed. */
export class SigningKeys extends Context.Tag("ordinaut/SigningKeys")<
  SigningKeys,
  {
    /** The key that signs now. Makes one where there is none, or the newest is older than 30 days. */
    readonly signer: Effect.Effect<{ readonly kid: string; readonly key: CryptoKey }, StoreUnavailable>
    /** The public key of an id; undefined for an unknown one, and for one whose tokens are all over. */
    readonly verifier: (kid: string) => Effect.Effect<CryptoKey | undefined, StoreUnavailable>
    /** The public keys that verify now, as a JWK Set bears them (RFC 7517 §5), newest first. */
    readonly published: Effect.Effect<ReadonlyArray<PublicKey>, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const sealing = Sealing.make((yield* MasterKey).derive("signing-key"))

      const read = Effect.gen(function* () {
        const over = new Date((yield* Clock.currentTimeMillis) - Duration.toMillis(verifiesAfter))
        return yield* decodeRows(
          yield* sql`SELECT kid, public_jwk, private_key AS sealed, data_key, key_id, created_at, retired_at FROM signing_key
            WHERE retired_at IS NULL OR retired_at > ${over} ORDER BY created_at DESC, kid`
        )
      })

      const kept = yield* Cache.makeWith({
        capacity: 1,
        // An outage is not remembered.
        timeToLive: (exit) => (Exit.isSuccess(exit) ? readFor : Duration.zero),
        lookup: (_all: "all") => storeErrors(read)
      })

      /** One process makes the key; the others find it when they get the lock. */
      const make = Effect.gen(function* () {
        yield* sql`SELECT pg_advisory_xact_lock(hashtext('ordinaut.signing_key'))`
        const now = yield* DateTime.now
        if (yield* Effect.map(read, (rows) => !isDue(rows, sealing, DateTime.toEpochMillis(now)))) return
        const pair = yield* Effect.promise(() => generateKeyPair(algorithm, { crv: "Ed25519", extractable: true }))
        const publicJwk = yield* Effect.promise(() => exportJWK(pair.publicKey))
        const privateJwk = yield* Effect.promise(() => exportJWK(pair.privateKey))
        const kid = yield* Effect.promise(() => calculateJwkThumbprint(publicJwk))
        const { data_key, key_id, sealed } = sealing.seal(place(kid), Buffer.from(JSON.stringify(privateJwk)))
        const at = DateTime.toDateUtc(now)
        // A key under another master secret is left to those who can open it, until it is old.
        const retired = yield* sql<{ kid: string }>`
          UPDATE signing_key SET retired_at = ${new Date(at.getTime() + Duration.toMillis(knownAfter))} WHERE retired_at IS NULL
            AND (key_id = ${sealing.keyId} OR created_at <= ${new Date(at.getTime() - Duration.toMillis(signsFor))})
          RETURNING kid`
        yield* sql`
          INSERT INTO signing_key (kid, algorithm, public_jwk, private_key, data_key, key_id, created_at)
          VALUES (${kid}, ${algorithm}, ${JSON.stringify(publicJwk)}::jsonb, ${sealed}, ${data_key}, ${key_id}, ${at})`
        yield* Audit.appending(sql)([
          ...retired.map((row) => entry("signing_key.retired", row.kid)),
          entry("signing_key.created", kid)
        ])
      }).pipe(sql.withTransaction, storeErrors)

      const signer = Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        if (isDue(yield* kept.get("all"), sealing, now)) {
          yield* make
          yield* kept.invalidate("all")
        }
        const mine = usable(yield* kept.get("all"), sealing, now)
        const row = mine.find((one) => isKnown(one, now)) ?? mine.at(-1)
        if (row === undefined) return yield* Effect.dieMessage("a signing key was made and is not there")
        return { kid: row.kid, key: yield* Effect.promise(() => imported(JSON.parse(row.opened))) }
      })

      const publicKeys = yield* Cache.make({
        capacity: 100,
        timeToLive: Duration.hours(1),
        lookup: (jwk: string) => Effect.promise(() => imported(JSON.parse(jwk)))
      })

      return SigningKeys.of({
        signer: Effect.withSpan(signer, "SigningKeys.signer"),
        verifier: Effect.fn("SigningKeys.verifier")(function* (kid) {
          const known = (yield* kept.get("all")).find((row) => row.kid === kid)
          if (known !== undefined) return yield* publicKeys.get(JSON.stringify(known.public_jwk))
          // A first key signs at once; whoever has read the keys before that does not know it yet.
          const row = kidForm.test(kid) ? (yield* read).find((one) => one.kid === kid) : undefined
          return row === undefined ? undefined : yield* publicKeys.get(JSON.stringify(row.public_jwk))
        }, storeErrors),
        published: Effect.map(kept.get("all"), (rows) =>
          rows.map(({ kid, public_jwk }) => ({ ...public_jwk, kid, use: "sig", alg: algorithm }))
        )
      })
    })
  )
}

const entry = (action: string, kid: string) => ({
  actor: "system",
  namespace: "main",
  action,
  subject_kind: "signing_key",
  subject_id: kid,
  before: null,
  after: null
})

/** The thumbprint of a key (RFC 7638) in base64url. */
const kidForm = /^[A-Za-z0-9_-]{43}$/

const place = (kid: string): Sealing.Place => ({ table: "signing_key", namespace: "", name: kid })

const Jwk = Schema.Struct({ kty: Schema.Literal("OKP"), crv: Schema.Literal("Ed25519"), x: Schema.String })
const Row = Schema.Struct({
  kid: Schema.String,
  public_jwk: Jwk,
  sealed: Schema.Uint8ArrayFromSelf,
  data_key: Schema.Uint8ArrayFromSelf,
  key_id: Schema.String,
  created_at: Model.DateTimeFromDate,
  retired_at: Schema.NullOr(Model.DateTimeFromDate)
})
type Row = typeof Row.Type

const decodeRows = Schema.decodeUnknown(Schema.Array(Row))

const isKnown = (row: Row, now: number) => DateTime.toEpochMillis(row.created_at) <= now - Duration.toMillis(knownAfter)

/** The keys that sign or are about to, with their private halves: those that are not retired, and that the master secrets open. */
const usable = (rows: ReadonlyArray<Row>, sealing: Sealing.Sealing, now: number) =>
  rows.flatMap((row) => {
    if (row.retired_at !== null && DateTime.toEpochMillis(row.retired_at) <= now) return []
    const opened = sealing.open(place(row.kid), row)
    return Either.isLeft(opened) ? [] : [{ ...row, opened: Buffer.from(opened.right).toString() }]
  })

/** Whether a new key is to be made: the newest that signs is too old, or there is none. */
const isDue = (rows: ReadonlyArray<Row>, sealing: Sealing.Sealing, now: number): boolean => {
  const [newest] = usable(rows, sealing, now)
  return newest === undefined || DateTime.toEpochMillis(newest.created_at) <= now - Duration.toMillis(signsFor)
}

const imported = async (jwk: JWK): Promise<CryptoKey> => {
  const key = await importJWK(jwk, algorithm)
  if (key instanceof Uint8Array) throw new Error("an Ed25519 key was imported as a secret")
  return key
}
