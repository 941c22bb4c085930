import { JmesPathFault } from "./JmesPathMeter.ts"
import type { Node } from "./JmesPathSyntax.ts"

/** Keys and positions from the data's root down, e.g. `["steps", "summary", "text"]`. */
export type Path = ReadonlyArray<string | number>

/**
 * Where a value may come from: a place in the data, an object or array that the expression builds, or an array of
 * which every element comes from `of`. A computed value, such as a length, comes from nowhere.
 */
type Origin =
  | { readonly tag: "place"; readonly path: Path }
  | { readonly tag: "record"; readonly entries: ReadonlyArray<readonly [string, Origins]> }
  | { readonly tag: "list"; readonly items: ReadonlyArray<Origins> }
  | { readonly tag: "many"; readonly of: Origins }

type Origins = ReadonlyArray<Origin>

/** Origins that one value may have. An `||` doubles them; more than this many hold nobody's intention. */
const maxOrigins = 64

const union = (...all: ReadonlyArray<Origins>): Origins => {
  const places = new Map<string, Origin>()
  const others = new Set<Origin>()
  for (const origin of all.flat()) {
    if (origin.tag === "place") places.set(JSON.stringify(origin.path), origin)
    else others.add(origin)
  }
  if (places.size + others.size > maxOrigins) throw new JmesPathFault("it reads too many places")
  return [...places.values(), ...others]
}

const below = (origins: Origins, step: (origin: Origin) => Origins): Origins =>
  union(...origins.map((origin) => step(origin)))

const place = (path: Path): Origins => [{ tag: "place", path }]

const field = (origins: Origins, name: string): Origins =>
  below(origins, (origin) => {
    if (origin.tag === "place") return place([...origin.path, name])
    return origin.tag === "record" ? (origin.entries.findLast(([key]) => key === name)?.[1] ?? []) : []
  })

const index = (origins: Origins, at: number): Origins =>
  below(origins, (origin) => {
    if (origin.tag === "place") return place([...origin.path, at])
    if (origin.tag === "many") return origin.of
    return origin.tag === "list" ? (origin.items.at(at) ?? []) : []
  })

const elements = (origins: Origins): Origins =>
  below(origins, (origin) => {
    if (origin.tag === "place") return place([...origin.path, 0])
    if (origin.tag === "many") return origin.of
    return origin.tag === "list" ? union(...origin.items) : []
  })

const many = (of: Origins): Origins => [{ tag: "many", of }]

/** Follows a tree once, noting every place that is read for its value and not merely walked through. */
class Tracer {
  readonly #read = new Map<string, Path>()
  readonly #seen = new Set<Origin>()

  get paths(): ReadonlyArray<Path> {
    return [...this.#read.values()]
  }

  use(origins: Origins): Origins {
    for (const origin of origins) {
      // Built values share parts, which a chain of multi-selects would walk thousands of times.
      if (this.#seen.has(origin)) continue
      this.#seen.add(origin)
      if (origin.tag === "place") this.#read.set(JSON.stringify(origin.path), origin.path)
      else if (origin.tag === "record") for (const [, entry] of origin.entries) this.use(entry)
      else if (origin.tag === "list") for (const item of origin.items) this.use(item)
      else this.use(origin.of)
    }
    return []
  }

  trace(node: Node, current: Origins): Origins {
    switch (node.tag) {
      case "current":
        return current
      case "literal":
        return []
      case "field":
        return field(current, node.name)
      case "index":
        return index(current, node.at)
      case "slice":
        return many(elements(current))
      case "chain":
        return this.trace(node.right, this.trace(node.left, current))
      case "each":
        return this.#each(node, current)
      case "flatten":
        return this.#flatten(this.trace(node.of, current))
      case "compare":
        this.use(this.trace(node.left, current))
        return this.use(this.trace(node.right, current))
      case "and":
        this.use(this.trace(node.left, current))
        return this.trace(node.right, current)
      case "or":
        return union(this.trace(node.left, current), this.trace(node.right, current))
      case "not":
        return this.use(this.trace(node.of, current))
      case "list":
        return [{ tag: "list", items: node.items.map((item) => this.trace(item, current)) }]
      case "record":
        return [
          { tag: "record", entries: node.entries.map(([name, item]) => [name, this.trace(item, current)] as const) }
        ]
      case "call":
        return this.#call(node, current)
    }
  }

  #each(node: Extract<Node, { tag: "each" }>, current: Origins): Origins {
    const left = this.trace(node.left, current)
    const items = node.of === "array" ? elements(left) : this.#values(left)
    if (node.where !== undefined) this.use(this.trace(node.where, items))
    return many(this.trace(node.right, items))
  }

  /** The keys of an object of the data are not known, so that `a.*` reads all of `a`. */
  #values(origins: Origins): Origins {
    return below(origins, (origin) => {
      if (origin.tag === "record") return union(...origin.entries.map(([, entry]) => entry))
      return origin.tag === "place" ? this.use([origin]) : []
    })
  }

  /** What a projection gave is taken for arrays, as in `a[*].b[]`; elements of the data (`a[]`) for anything else. */
  #flatten(origins: Origins): Origins {
    return many(
      below(origins, (origin) => (origin.tag === "place" ? elements([origin]) : elements(elements([origin]))))
    )
  }

  #call(node: Extract<Node, { tag: "call" }>, current: Origins): Origins {
    const args = node.args.map((arg) => this.trace(arg, current))
    const [first = []] = args
    const keys = node.by === undefined ? [] : this.trace(node.by, elements(first))
    switch (node.name) {
      case "map":
        return many(keys)
      case "sort_by":
        this.use(keys)
        return first
      case "max_by":
      case "min_by":
        this.use(keys)
        return elements(first)
      case "sort":
      case "reverse":
        return first
      case "not_null":
        return union(...args)
      default:
        for (const arg of args) this.use(arg)
        return []
    }
  }
}

/** The paths that an expression reads, each once, in the order of the text; position 0 stands for all elements of an array. */
export const referencesOf = (root: Node): ReadonlyArray<Path> => {
  const tracer = new Tracer()
  tracer.use(tracer.trace(root, place([])))
  return tracer.paths
}
