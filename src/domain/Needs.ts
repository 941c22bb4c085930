import type { Step } from "./PipelineSpec.ts"
import type { Problem } from "./Json.ts"

/** Which steps must have ended before each one starts, by position. */
export interface Order {
  /** Direct needs of each step; null where the steps run one after the other. */
  readonly needs: ReadonlyArray<ReadonlyArray<number>> | null
  /** Whether step `earlier` has always ended, or been skipped, when step `later` starts. */
  readonly precedes: (earlier: number, later: number) => boolean
  readonly problems: ReadonlyArray<Problem>
}

const inOrder: Order = { needs: null, precedes: (earlier, later) => earlier < later, problems: [] }

/** All that each step needs, directly or not; null where the needs go round in a circle. */
const ancestors = (needs: ReadonlyArray<ReadonlyArray<number>>): ReadonlyArray<ReadonlySet<number>> | null => {
  const found: Array<Set<number> | undefined> = []
  // Kahn's order: whatever is never free of open needs is on a circle, or behind one.
  const open = needs.map((of) => new Set(of))
  let left = needs.length
  for (let moved = true; moved;) {
    moved = false
    for (const [step, waiting] of open.entries()) {
      if (found[step] !== undefined || waiting.size > 0) continue
      const all = new Set<number>()
      for (const need of needs[step] ?? []) {
        all.add(need)
        for (const further of found[need] ?? []) all.add(further)
      }
      found[step] = all
      for (const other of open) other.delete(step)
      left--
      moved = true
    }
  }
  return left === 0 ? found.map((all) => all ?? new Set()) : null
}

/** One circle in words: `a → b → a`. */
const circle = (needs: ReadonlyArray<ReadonlyArray<number>>, ids: ReadonlyArray<string>): string => {
  const left = new Set(needs.keys())
  for (let moved = true; moved;) {
    moved = false
    for (const step of left) {
      if ((needs[step] ?? []).some((need) => left.has(need))) continue
      left.delete(step)
      moved = true
    }
  }
  const path: Array<number> = []
  let at = left.values().next().value
  while (at !== undefined && !path.includes(at)) {
    path.push(at)
    at = (needs[at] ?? []).find((need) => left.has(need))
  }
  const round = at === undefined ? path : [...path.slice(path.indexOf(at)), at]
  return round.map((step) => ids[step] ?? "").join(" → ")
}

/**
 * The order of some steps: as their `needs` say, or one after the other where none states any. Problems bear the place
 * under `prefix`, the JSON Pointer of the list.
 */
export const orderOf = (steps: ReadonlyArray<Step>, ids: ReadonlyArray<string>, prefix: string): Order => {
  if (steps.every(({ needs }) => needs === undefined)) return inOrder
  const problems: Array<Problem> = []
  const needs = steps.map((step, index) => {
    if (step.needs === undefined) {
      problems.push({
        path: `${prefix}/${index}/needs`,
        message: "another step states its needs, so every step must: [] starts at once"
      })
      return []
    }
    if (typeof step.on_error === "object") {
      problems.push({ path: `${prefix}/${index}/on_error`, message: "goto is for steps without needs" })
    }
    return [...new Set(step.needs)].flatMap((id) => {
      const need = ids.indexOf(id)
      const message =
        need < 0 ? `no step has the id ${id}` : need === index ? `${id} is this step itself, which it cannot need` : ""
      if (message === "") return [need]
      problems.push({ path: `${prefix}/${index}/needs/${step.needs?.indexOf(id) ?? 0}`, message })
      return []
    })
  })
  const all = ancestors(needs)
  if (all === null) problems.push({ path: prefix, message: `the needs go round in a circle: ${circle(needs, ids)}` })
  return { needs, precedes: (earlier, later) => all?.[later]?.has(earlier) ?? true, problems }
}
