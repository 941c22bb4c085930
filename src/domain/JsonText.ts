import { pointer } from "./Json.ts"
import type { Problem } from "./Json.ts"

/** Most keys of all objects in a body, unless it may have more. */
const usualKeys = 10_000

/** A container that is open: the keys of an object so far, or the place in an array. */
interface Open {
  keys: Set<string> | undefined
  at: string | number
  awaitsKey: boolean
}

/** Where the string ends that begins at a quote: the place of its other quote. */
const endOfString = (text: string, start: number): number => {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0
    while (text.charCodeAt(end - 1 - slashes) === 0x5c) slashes++
    if (slashes % 2 === 0) return end
  }
  return text.length
}

/**
 * What `JSON.parse` passes over in silence in a text that it can read: a key that stands twice in one object, of which it keeps
 * the last (RFC 8259 §4), and more keys than a body may have.
 */
export const keyProblem = (text: string, mostKeys = usualKeys): Problem | undefined => {
  // One for each level, used again: what a body nests in is bounded, what stands beside each other is not.
  const levels: Array<Open> = []
  let depth = 0
  let inner: Open | undefined
  let count = 0
  const enter = (keys: Set<string> | undefined) => {
    inner = levels[depth] ?? (levels[depth] = { keys, at: 0, awaitsKey: false })
    inner.keys = keys
    inner.at = keys === undefined ? 0 : ""
    inner.awaitsKey = keys !== undefined
    depth += 1
  }
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case "{":
        enter(new Set())
        break
      case "[":
        enter(undefined)
        break
      case "}":
      case "]":
        depth -= 1
        inner = levels[depth - 1]
        break
      case ",":
        if (inner === undefined) break
        if (typeof inner.at === "number") inner.at += 1
        else inner.awaitsKey = true
        break
      case '"': {
        const end = endOfString(text, at)
        if (inner?.awaitsKey === true && inner.keys !== undefined) {
          const key = String(JSON.parse(text.slice(at, end + 1)))
          inner.at = key
          inner.awaitsKey = false
          count += 1
          if (inner.keys.has(key)) {
            return { path: pointer(levels.slice(0, depth).map((level) => level.at)), message: "stands there twice" }
          }
          if (count > mostKeys) return { path: "", message: `has more than ${mostKeys} keys` }
          inner.keys.add(key)
        }
        at = end
      }
    }
  }
  return undefined
}
