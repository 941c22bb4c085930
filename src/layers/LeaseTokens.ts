import { createHmac, timingSafeEqual } from "node:crypto"

/** A lease of an item of work, as its token names it. */
export interface TokenOf {
  readonly id: string
  readonly lease: number
  readonly runId: string
}

const form = /^([0-9a-f-]{36}):(\d{1,10}):([0-9a-f-]{36}):([A-Za-z0-9_-]{43})$/

const mac = (key: Uint8Array, holder: string, text: string): Buffer =>
  createHmac("sha256", key).update(`${holder} ${text}`).digest()

/**
 * Tokens of leases, signed, so that who held an item of a run that is over by now can be told so: of the item itself nothing is left.
 * The first key signs and all are taken.
 */
export const make = (keys: readonly [Uint8Array, ...ReadonlyArray<Uint8Array>]) => ({
  of: (holder: string, { id, lease, runId }: TokenOf): string => {
    const text = `${id}:${lease}:${runId}`
    return `${text}:${mac(keys[0], holder, text).toString("base64url")}`
  },
  /** What the token says; null for one that this holder was never given. */
  read: (holder: string, token: string): TokenOf | null => {
    const [, id, lease, runId, signature] = form.exec(token) ?? []
    if (id === undefined || runId === undefined || signature === undefined) return null
    const given = Buffer.from(signature, "base64url")
    const text = `${id}:${lease}:${runId}`
    const valid = keys.some((key) => {
      const wanted = mac(key, holder, text)
      return given.length === wanted.length && timingSafeEqual(given, wanted)
    })
    return valid ? { id, lease: Number(lease), runId } : null
  }
})
