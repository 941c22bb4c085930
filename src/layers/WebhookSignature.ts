import { createHash, createHmac } from "node:crypto"
import { fitsHeader } from "../domain/HeaderFields.ts"

/** An id as a header bears it: itself, or its SHA-256 in hex where it does not fit. */
export const headerId = (id: string): string =>
  fitsHeader(id) ? id : createHash("sha256").update(id, "utf8").digest("hex")

/**
 * Headers that sign a body by the Standard Webhooks scheme (standardwebhooks.com): HMAC-SHA-256 over `id.timestamp.body`.
 * `id` fits a header; `now` is in epoch milliseconds.
 */
export const signatureHeaders = (
  key: Uint8Array,
  id: string,
  now: number,
  body: string
): ReadonlyArray<readonly [string, string]> => {
  const timestamp = String(Math.floor(now / 1000))
  const mac = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`, "utf8").digest("base64")
  return [
    ["webhook-id", id],
    ["webhook-timestamp", timestamp],
    ["webhook-signature", `v1,${mac}`]
  ]
}
