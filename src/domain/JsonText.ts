import { pointer } from "./Json.ts"
import type { Problem } from "./Json.ts"

/** Most keys of all objects in a body, unless it may have more. */
const usualKeys = 10_000

const token = /"(?:[^"\\]|\\.)*"|[{}[\],:]/g

/** A container that is open: the keys of an object so far, or the place in an array. */
interface Open {
  readonly keys: Set<string> | undefined
  at: string | number
  awaitsKey: boolean
}

/**
 * What `JSON.parse` passes over in silence in a text that it can read: a key that stands twice in one object, of which it keeps
 * the last (RFC 8259 §4), and more keys than a body may have.
 */
export const keyProblem = (text: string, mostKeys = usualKeys): Problem | undefined => {
  const open: Array<Open> = []
  let count = 0
  for (const [found] of text.matchAll(token)) {
    const inner = open.at(-1)
    if (found === "{") open.push({ keys: new Set(), at: "", awaitsKey: true })
    else if (found === "[") open.push({ keys: undefined, at: 0, awaitsKey: false })
    else if (found === "}" || found === "]") open.pop()
    else if (inner === undefined) return undefined
    else if (found === ",") {
      if (typeof inner.at === "number") inner.at += 1
      else inner.awaitsKey = true
    } else if (found !== ":" && inner.awaitsKey && inner.keys !== undefined) {
      const key = String(JSON.parse(found))
      inner.at = key
      inner.awaitsKey = false
      count += 1
      if (inner.keys.has(key)) return { path: pointer(open.map(({ at }) => at)), message: "stands there twice" }
      if (count > mostKeys) return { path: "", message: `has more than ${mostKeys} keys` }
      inner.keys.add(key)
    }
  }
  return undefined
}
