import { isArray, isObject, type JsonArray, type JsonObject, type JsonValue, maxDepth, sizeOf } from "./Json.ts"
import { JmesPathFault, type Meter } from "./JmesPathMeter.ts"

/** What looking through a text costs. */
export const textSteps = (text: string): number => text.length >> 3

/** The keys of an object, at four steps each: listing them takes the engine that much longer than an array. */
export const keysOf = (value: JsonObject, meter: Meter): ReadonlyArray<string> => {
  const keys = Object.keys(value)
  meter.spend(4 * keys.length)
  return keys
}

/** JMESPath truth: all but false, null, and an empty string, array or object. */
export const isTrue = (value: JsonValue, meter: Meter): boolean => {
  if (value === null || value === false || value === "") return false
  if (isArray(value)) return value.length > 0
  return !isObject(value) || keysOf(value, meter).length > 0
}

/** Whether two values are the same JSON value; the order of keys does not matter. */
export const equal = (left: JsonValue, right: JsonValue, meter: Meter): boolean => {
  const open: Array<readonly [JsonValue, JsonValue | undefined]> = [[left, right]]
  for (let pair = open.pop(); pair !== undefined; pair = open.pop()) {
    const [a, b] = pair
    meter.spend(1)
    if (isArray(a)) {
      if (!isArray(b) || a.length !== b.length) return false
      meter.spend(a.length)
      for (const [i, element] of a.entries()) open.push([element, b[i]])
    } else if (isObject(a)) {
      if (!isObject(b)) return false
      const keys = keysOf(a, meter)
      if (keys.length !== keysOf(b, meter).length) return false
      for (const key of keys) open.push([a[key] ?? null, Object.hasOwn(b, key) ? b[key] : undefined])
    } else {
      if (typeof a === "string" && typeof b === "string" && a.length === b.length) meter.spend(textSteps(a))
      if (a !== b) return false
    }
  }
  return true
}

/** Places UTF-16 units in the order of code points: surrogates behind U+E000…U+FFFF. */
const rank = (unit: number): number => {
  if (unit < 0xd800) return unit
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800
}

/** The order of two texts by code point: negative, zero or positive. The same on every machine, unlike `localeCompare`. */
export const compareText = (a: string, b: string): number => {
  if (a === b) return 0
  const shared = Math.min(a.length, b.length)
  for (let i = 0; i < shared; i++) {
    const difference = a.charCodeAt(i) - b.charCodeAt(i)
    if (difference !== 0) return rank(a.charCodeAt(i)) - rank(b.charCodeAt(i))
  }
  return a.length - b.length
}

/**
 * Whether `part` occurs in `text`, in time proportional to both lengths (Knuth, Morris, Pratt 1977). The engine's own
 * search takes the product of the lengths for some texts: half a million characters in a million held it for minutes.
 */
export const contains = (text: string, part: string, meter: Meter): boolean => {
  meter.spend(textSteps(text) + textSteps(part))
  // Up to this length, the product is within a small factor of the sum.
  if (part.length <= 16) return text.includes(part)
  const fallback = new Int32Array(part.length)
  for (let i = 1, k = 0; i < part.length; i++) {
    while (k > 0 && part.charCodeAt(i) !== part.charCodeAt(k)) k = fallback[k - 1] ?? 0
    if (part.charCodeAt(i) === part.charCodeAt(k)) k++
    fallback[i] = k
  }
  for (let i = 0, k = 0; i < text.length; i++) {
    while (k > 0 && text.charCodeAt(i) !== part.charCodeAt(k)) k = fallback[k - 1] ?? 0
    if (text.charCodeAt(i) === part.charCodeAt(k)) k++
    if (k === part.length) return true
  }
  return false
}

/** Code points of a text, elements of an array, keys of an object. */
export const lengthOf = (value: string | JsonArray | JsonObject, meter: Meter): number => {
  if (typeof value !== "string") return isArray(value) ? value.length : keysOf(value, meter).length
  meter.spend(textSteps(value))
  let pairs = 0
  for (let i = 0; i < value.length; i++) if ((value.charCodeAt(i) & 0xfc00) === 0xd800) pairs++
  return value.length - pairs
}

/** The compact JSON of a value. Measured before it is written: a value built from shared parts may print without end. */
export const print = (value: JsonValue, meter: Meter): string => {
  const size = sizeOf(value, printable)
  if (size === undefined)
    throw new JmesPathFault(`its text is longer than ${printable} bytes, or nests deeper than ${maxDepth}`)
  meter.spend(size >> 2)
  return JSON.stringify(value)
}

/** Bytes of JSON that a value may have as text: as much as a whole rendered input. */
const printable = 1_048_576
