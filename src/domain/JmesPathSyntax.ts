import { isStorable, type JsonValue, storable } from "./Json.ts"
import { functions, type JmesPathFunction } from "./JmesPathFunctions.ts"
import { JmesPathFault } from "./JmesPathMeter.ts"
import { parse } from "./JmesPathSource.ts"

/** Orderings hold between numbers only; equality between any two values. */
export type Comparison = "EQ" | "NE" | "GT" | "GTE" | "LT" | "LTE"

/** A checked syntax tree. Every node gives a value for the value that it is applied to, `current`. */
export type Node =
  | { readonly tag: "current" }
  | { readonly tag: "literal"; readonly value: JsonValue }
  | { readonly tag: "field"; readonly name: string }
  | { readonly tag: "index"; readonly at: number }
  | { readonly tag: "slice"; readonly start?: number; readonly stop?: number; readonly step: number }
  /** `right` applied to what `left` gives: `a.b`, `a[0]` and, as a pipe, `a | b`. */
  | { readonly tag: "chain"; readonly left: Node; readonly right: Node; readonly pipe: boolean }
  /** A projection: `right` applied to each element, or each value of an object, for which `where` is true. */
  | {
      readonly tag: "each"
      readonly of: "array" | "object"
      readonly left: Node
      readonly right: Node
      readonly where?: Node
    }
  | { readonly tag: "flatten"; readonly of: Node }
  | { readonly tag: "compare"; readonly by: Comparison; readonly left: Node; readonly right: Node }
  | { readonly tag: "and" | "or"; readonly left: Node; readonly right: Node }
  | { readonly tag: "not"; readonly of: Node }
  | { readonly tag: "list"; readonly items: ReadonlyArray<Node> }
  | { readonly tag: "record"; readonly entries: ReadonlyArray<readonly [string, Node]> }
  /** `by` is the expression behind `&` of the functions that take one; it is not among `args`. */
  | {
      readonly tag: "call"
      readonly name: string
      readonly fn: JmesPathFunction
      readonly args: ReadonlyArray<Node>
      readonly by?: Node
    }

/** Static limits of an expression, checked when it is compiled. */
export const limits = { characters: 1000, depth: 32, pipes: 8, multiselect: 10_000 } as const

/** A node as the package makes it; which fields it has depends on `type`. */
interface RawNode {
  readonly type: string
  readonly name?: unknown
  readonly value?: unknown
  readonly children?: ReadonlyArray<unknown>
}

const isRaw = (node: unknown): node is RawNode =>
  typeof node === "object" && node !== null && "type" in node && typeof node.type === "string"

const comparisons: ReadonlySet<unknown> = new Set(["EQ", "NE", "GT", "GTE", "LT", "LTE"])
const isComparison = (name: unknown): name is Comparison => comparisons.has(name)

const incomplete = () => new JmesPathFault("it is not complete")

const textOf = (value: unknown): string => {
  if (typeof value !== "string") throw incomplete()
  const problem = storable(value)
  if (problem !== undefined) throw new JmesPathFault(`a name cannot be used: ${problem.message}`)
  return value
}

const literal = (value: unknown): JsonValue => {
  if (isStorable(value)) return value
  throw new JmesPathFault(`a literal cannot be used: ${storable(value)?.message ?? "it is not JSON"}`)
}

/** Reads the package's tree, counting what the limits count. */
class Reader {
  #pipes = 0
  #width = 1
  #references = 0

  /** `depth` counts from 1; nothing deeper than the limit is entered, so the recursion is bounded. */
  read(node: unknown, depth: number): Node {
    if (depth > limits.depth) throw new JmesPathFault(`it nests deeper than ${limits.depth}`)
    if (!isRaw(node)) throw incomplete()
    const children = node.children ?? []
    const child = (i: number) => this.read(children[i], depth + 1)
    switch (node.type) {
      case "Identity":
      case "Current":
        return { tag: "current" }
      case "Literal":
        return { tag: "literal", value: literal(node.value) }
      case "Field":
        return { tag: "field", name: textOf(node.name) }
      case "Index":
        return { tag: "index", at: Number(node.value) }
      case "Slice":
        return this.#slice(children)
      case "Subexpression":
        return this.#dot(child(0), child(1))
      case "IndexExpression":
        return { tag: "chain", left: child(0), right: child(1), pipe: false }
      case "Pipe":
        if (++this.#pipes > limits.pipes) throw new JmesPathFault(`it has more than ${limits.pipes} pipes`)
        return { tag: "chain", left: child(0), right: child(1), pipe: true }
      case "Projection":
        return { tag: "each", of: "array", left: child(0), right: child(1) }
      case "ValueProjection":
        return { tag: "each", of: "object", left: child(0), right: child(1) }
      case "FilterProjection":
        return { tag: "each", of: "array", left: child(0), right: child(1), where: child(2) }
      case "Flatten":
        return { tag: "flatten", of: child(0) }
      case "Comparator":
        if (!isComparison(node.name)) throw incomplete()
        return { tag: "compare", by: node.name, left: child(0), right: child(1) }
      case "AndExpression":
        return { tag: "and", left: child(0), right: child(1) }
      case "OrExpression":
        return { tag: "or", left: child(0), right: child(1) }
      case "NotExpression":
        return { tag: "not", of: child(0) }
      case "MultiSelectList":
        this.#widen(children.length)
        return { tag: "list", items: children.map((item) => this.read(item, depth + 1)) }
      case "MultiSelectHash":
        this.#widen(children.length)
        return { tag: "record", entries: children.map((entry) => this.#entry(entry, depth)) }
      case "Function":
        return this.#call(textOf(node.name), children, depth)
      default:
        throw new JmesPathFault("& stands only before an argument of map, sort_by, min_by or max_by")
    }
  }

  #widen(width: number): void {
    if (width === 0) throw incomplete()
    this.#width *= width
    if (this.#width > limits.multiselect) {
      throw new JmesPathFault(`its multi-selects multiply to more than ${limits.multiselect} values`)
    }
  }

  #dot(left: Node, right: Node): Node {
    if (left.tag === "not" && leftmost(right).tag === "field") {
      throw new JmesPathFault("! binds closer than a dot here: write !(a.b) for !a.b")
    }
    return { tag: "chain", left, right, pipe: false }
  }

  #slice(parts: ReadonlyArray<unknown>): Node {
    const [start, stop, step = 1] = parts.map((part) => (typeof part === "number" ? part : undefined))
    if (step === 0) throw new JmesPathFault("the step of a slice must not be 0")
    return { tag: "slice", step, ...(start !== undefined && { start }), ...(stop !== undefined && { stop }) }
  }

  #entry(entry: unknown, depth: number): readonly [string, Node] {
    if (!isRaw(entry)) throw incomplete()
    return [textOf(entry.name), this.read(entry.value, depth + 1)]
  }

  #call(name: string, children: ReadonlyArray<unknown>, depth: number): Node {
    const fn = functions.get(name)
    if (fn === undefined) throw new JmesPathFault(`there is no function ${name}()`)
    if (children.length < fn.least || children.length > fn.most) {
      throw new JmesPathFault(
        `${name}() takes ${fn.least}${fn.most > fn.least ? " or more" : ""} argument(s), not ${children.length}`
      )
    }
    const args: Array<Node> = []
    let by: Node | undefined
    for (const [i, argument] of children.entries()) {
      const isReference = isRaw(argument) && argument.type === "ExpressionReference"
      if (isReference !== (i === fn.expressionAt)) {
        throw new JmesPathFault(
          `argument ${i + 1} of ${name}() must ${isReference ? "not " : ""}be an expression behind &`
        )
      }
      if (isReference) by = this.#reference(argument.children?.[0], depth)
      else args.push(this.read(argument, depth + 1))
    }
    return { tag: "call", name, fn, args, ...(by !== undefined && { by }) }
  }

  #reference(body: unknown, depth: number): Node {
    if (++this.#references > 1) throw new JmesPathFault("an expression behind & must not contain another &")
    const node = this.read(body, depth + 2)
    this.#references--
    return node
  }
}

const leftmost = (node: Node): Node => (node.tag === "chain" ? leftmost(node.left) : node)

/** Parses an expression and checks all that can be known without data: syntax, limits, functions and their arity. */
export const read = (text: string): Node => {
  if (text.length > limits.characters) throw new JmesPathFault(`it is longer than ${limits.characters} characters`)
  return new Reader().read(parse(text), 1)
}
