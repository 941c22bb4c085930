/**
 * The text form of an API key: `ord_<key id>_<secret>_<checksum>`, each part in base62 (`0-9A-Za-z`).
 * The checksum is the CRC-32 (ISO 3309) of everything before it, so that a scanner or a typo is told apart from a key without a look-up.
 */
export interface ApiKey {
  readonly id: string
  readonly text: string
}

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
const idLength = 12
const secretLength = 43
const checksumLength = 6
const form = /^ord_([0-9A-Za-z]{12})_[0-9A-Za-z]{43}_([0-9A-Za-z]{6})$/

const base62 = (value: bigint, length: number): string => {
  let text = ""
  for (let rest = value; text.length < length; rest /= 62n) text = digits.charAt(Number(rest % 62n)) + text
  return text
}

const fromBytes = (bytes: Uint8Array): bigint => bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n)

const crc32 = (text: string): number => {
  let crc = 0xffffffff
  for (let i = 0; i < text.length; i++) {
    crc ^= text.charCodeAt(i)
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  }
  return (crc ^ 0xffffffff) >>> 0
}

/** A key of 41 random bytes: 9 for its id, 32 (256 bits) for its secret. */
export const fromRandom = (random: Uint8Array): ApiKey => {
  const id = base62(fromBytes(random.subarray(0, 9)), idLength)
  const body = `ord_${id}_${base62(fromBytes(random.subarray(9, 41)), secretLength)}`
  return { id, text: `${body}_${base62(BigInt(crc32(body)), checksumLength)}` }
}

/** Reads a key's id; undefined for anything that is not a key or whose checksum is wrong. */
export const parse = (text: string): ApiKey | undefined => {
  const match = form.exec(text)
  const id = match?.[1]
  if (id === undefined) return undefined
  const body = text.slice(0, -checksumLength - 1)
  return base62(BigInt(crc32(body)), checksumLength) === match?.[2] ? { id, text } : undefined
}
