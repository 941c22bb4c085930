import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto"

const algorithm = "aes-256-gcm"
const ivLength = 12
const tagLength = 16

/** The public name of a key: what was sealed remembers it, so that a rotation of secrets knows what is still to be done. */
export const nameOf = (key: Uint8Array): string =>
  createHash("sha256").update("ordinaut.key-name").update(key).digest("hex").slice(0, 16)

/** Encrypts under AES-256-GCM (NIST SP 800-38D). `place` says where the text belongs; elsewhere it does not open. */
export const seal = (key: Uint8Array, place: string, text: string): Buffer => {
  const iv = randomBytes(ivLength)
  const cipher = createCipheriv(algorithm, key, iv).setAAD(Buffer.from(place))
  const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()])
  return Buffer.concat([iv, cipher.getAuthTag(), sealed])
}

/** What `seal` was given; undefined where none of the keys opens it at this place. */
export const open = (keys: ReadonlyArray<Uint8Array>, place: string, sealed: Uint8Array): string | undefined => {
  if (sealed.length < ivLength + tagLength) return undefined
  const bytes = Buffer.from(sealed)
  for (const key of keys) {
    const decipher = createDecipheriv(algorithm, key, bytes.subarray(0, ivLength), { authTagLength: tagLength })
    decipher.setAAD(Buffer.from(place)).setAuthTag(bytes.subarray(ivLength, ivLength + tagLength))
    try {
      return Buffer.concat([decipher.update(bytes.subarray(ivLength + tagLength)), decipher.final()]).toString("utf8")
    } catch {
      // Another key may open it.
    }
  }
  return undefined
}
