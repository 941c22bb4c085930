import { isArray, isObject } from "./Json.ts"
import type { JsonValue } from "./Json.ts"

/**
 * The one text of a JSON value: keys in order of their UTF-16 units, no spaces, numbers by value (as RFC 8785 §3.2). Two texts of
 * the same value, however they are laid out, have the same canonical one. The value is one that can be stored, so its depth is bounded.
 */
export const canonical = (value: JsonValue): string => {
  if (isArray(value)) return `[${value.map(canonical).join(",")}]`
  if (!isObject(value)) return JSON.stringify(value)
  const members = Object.entries(value).map(
    ([key, held]) => [key, `${JSON.stringify(key)}:${canonical(held)}`] as const
  )
  return `{${members
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, text]) => text)
    .join(",")}}`
}
