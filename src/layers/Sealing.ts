import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto"
import { Either, Schema } from "effect"

/** What is stored of a sealed value: the value under its data key, and the data key under the master key named `key_id`. */
export interface Sealed {
  readonly sealed: Uint8Array
  readonly data_key: Uint8Array
  readonly key_id: string
}

/** The row that a value belongs to: what is copied to another one does not open there. */
export interface Place {
  readonly table: string
  readonly namespace: string
  readonly name: string
}

/** A sealed value that does not open: no key of `ORDINAUT_SECRET` is the one that sealed it, or the row was tampered with. */
export class Unopenable extends Schema.TaggedError<Unopenable>()("Unopenable", {
  subject: Schema.String,
  reason: Schema.Literal("unknown_key", "tampered")
}) {
  override get message(): string {
    return this.reason === "unknown_key"
      ? `${this.subject} was sealed with a key that ORDINAUT_SECRET no longer holds`
      : `${this.subject} is not as it was sealed`
  }
}

const cipher = "aes-256-gcm"
const nonceBytes = 12
const tagBytes = 16

const encrypt = (key: Uint8Array, about: Uint8Array, value: Uint8Array): Uint8Array => {
  const nonce = randomBytes(nonceBytes)
  const sealing = createCipheriv(cipher, key, nonce).setAAD(about)
  return Buffer.concat([nonce, sealing.update(value), sealing.final(), sealing.getAuthTag()])
}

const decrypt = (key: Uint8Array, about: Uint8Array, sealed: Uint8Array): Either.Either<Uint8Array, "tampered"> =>
  Either.try({
    try: () => {
      const opening = createDecipheriv(cipher, key, sealed.subarray(0, nonceBytes), { authTagLength: tagBytes })
      opening.setAAD(about).setAuthTag(sealed.subarray(-tagBytes))
      return Buffer.concat([opening.update(sealed.subarray(nonceBytes, -tagBytes)), opening.final()])
    },
    catch: () => "tampered" as const
  })

/** Names a key without telling anything of it. */
const idOf = (key: Uint8Array): string => createHash("sha256").update(key).digest("hex").slice(0, 16)

const aboutOf = ({ name, namespace, table }: Place, what: "value" | "data key") =>
  Buffer.from(JSON.stringify([table, namespace, name, what]))

/**
 * Envelope encryption, AES-256-GCM (NIST SP 800-38D) with random nonces: a new data key for each value, sealed by a master
 * key. Of the master keys the first seals and all open, so that they rotate.
 */
export const make = (keys: readonly [Uint8Array, ...ReadonlyArray<Uint8Array>]) => {
  const [first] = keys
  const byId = new Map(keys.map((key) => [idOf(key), key]))
  const keyId = idOf(first)

  const wrap = (place: Place, dataKey: Uint8Array) => ({
    data_key: encrypt(first, aboutOf(place, "data key"), dataKey),
    key_id: keyId
  })

  const unopenable = (place: Place, reason: Unopenable["reason"]) =>
    new Unopenable({ subject: `${place.table} ${place.name}`, reason })

  const dataKeyOf = (
    place: Place,
    { data_key, key_id }: Omit<Sealed, "sealed">
  ): Either.Either<Uint8Array, Unopenable> => {
    const key = byId.get(key_id)
    return key === undefined
      ? Either.left(unopenable(place, "unknown_key"))
      : Either.mapLeft(decrypt(key, aboutOf(place, "data key"), data_key), (reason) => unopenable(place, reason))
  }

  return {
    /** The id of the key that seals, and those of the others that open. */
    keyId,
    olderIds: [...byId.keys()].filter((id) => id !== keyId),
    seal: (place: Place, value: Uint8Array): Sealed => {
      const dataKey = randomBytes(32)
      return { sealed: encrypt(dataKey, aboutOf(place, "value"), value), ...wrap(place, dataKey) }
    },
    open: (place: Place, stored: Sealed): Either.Either<Uint8Array, Unopenable> =>
      Either.flatMap(dataKeyOf(place, stored), (dataKey) =>
        Either.mapLeft(decrypt(dataKey, aboutOf(place, "value"), stored.sealed), (reason) => unopenable(place, reason))
      ),
    /** The data key under the first master key; the value itself stays sealed. */
    rewrap: (place: Place, stored: Omit<Sealed, "sealed">): Either.Either<Omit<Sealed, "sealed">, Unopenable> =>
      Either.map(dataKeyOf(place, stored), (dataKey) => wrap(place, dataKey))
  }
}

/** See `make`. */
export type Sealing = ReturnType<typeof make>
