import { storable } from "../domain/Json.ts"
import { keyProblem } from "../domain/JsonText.ts"

/** A token of more characters is none. */
const mostCharacters = 4096

/** The two readable parts of a token; nothing of them is to be believed before its signature was verified. */
export interface TokenText {
  readonly header: Readonly<Record<string, unknown>>
  readonly claims: Readonly<Record<string, unknown>>
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The bytes of a part, of which base64url has exactly one text: a decoder that is lenient would take others for it. */
const bytesOf = (part: string): Buffer | undefined => {
  const bytes = Buffer.from(part, "base64url")
  return bytes.length > 0 && bytes.toString("base64url") === part ? bytes : undefined
}

const objectOf = (part: string): Readonly<Record<string, unknown>> | undefined => {
  const bytes = bytesOf(part)
  if (bytes === undefined) return undefined
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
    const value: unknown = JSON.parse(text)
    // RFC 7519 §4 lets a name stand there twice be refused: two readers could keep different ones.
    return isRecord(value) && storable(value) === undefined && keyProblem(text) === undefined ? value : undefined
  } catch {
    return undefined
  }
}

/** Reads a JWS in compact form (RFC 7515 §7.1) strictly; undefined for anything else. */
export const read = (token: string): TokenText | undefined => {
  if (token.length > mostCharacters) return undefined
  const [head = "", payload = "", signature = "", ...more] = token.split(".")
  if (more.length > 0 || bytesOf(signature) === undefined) return undefined
  const header = objectOf(head)
  const claims = header === undefined ? undefined : objectOf(payload)
  return header === undefined || claims === undefined ? undefined : { header, claims }
}
