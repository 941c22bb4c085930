/** Ids are UUIDs of version 7 (RFC 9562 §5.7): their order is the order of creation, which keyset paging relies on. */

const pattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** Whether a text has the form of an id; one that has not is answered like an unknown one. */
export const isId = (text: string): boolean => pattern.test(text)

/**
 * A UUIDv7 of an instant (epoch milliseconds), ten random bytes, and a sequence number (0 to 4095) that orders the ids of one
 * millisecond (RFC 9562 §6.2, method 1).
 */
export const uuidV7 = (millis: number, random: Uint8Array, sequence: number): string => {
  const bytes = new Uint8Array(16)
  for (let i = 0, rest = millis; i < 6; i++, rest = Math.floor(rest / 256)) bytes[5 - i] = rest % 256
  bytes.set(random.subarray(0, 10), 6)
  bytes[6] = 0x70 | (sequence >> 8)
  bytes[7] = sequence & 0xff
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-")
}

/** The instant of a UUIDv7, epoch milliseconds. */
export const millisOfId = (id: string): number => Number.parseInt(id.replace("-", "").slice(0, 12), 16)
