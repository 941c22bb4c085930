import { Either } from "effect"
import {
  compileExpression,
  endOfExpression,
  evaluate,
  type Bindings,
  type Expression,
  type Path,
  type Scope,
  scopeOf
} from "./Expression.ts"
import { ExpressionError } from "./ExpressionError.ts"
import type { Meter } from "./JmesPathMeter.ts"
import { isArray, isObject, type JsonValue, maxDepth, pointer, sizeOf, storable } from "./Json.ts"

/** Bytes of compact JSON that a rendered document may have. */
export const maxRenderedBytes = 1_048_576

/** Expressions in one document; more would take the compiler seconds. */
const maxExpressions = 10_000

/** One `${…}` of a document and the string, by JSON Pointer, that holds it. */
export interface Use {
  readonly place: string
  readonly expression: Expression
}

type Node =
  | { readonly tag: "constant"; readonly value: JsonValue }
  | { readonly tag: "whole"; readonly use: Use }
  | { readonly tag: "text"; readonly parts: ReadonlyArray<string | Use> }
  | { readonly tag: "list"; readonly items: ReadonlyArray<Node> }
  | { readonly tag: "record"; readonly entries: ReadonlyArray<readonly [string, Node]> }

/** A compiled document of templates. `references` are the paths of the context that its `uses` read. */
export interface Template {
  readonly root: Node
  readonly uses: ReadonlyArray<Use>
  readonly references: ReadonlyArray<Path>
}

const templateError = (expression: string, message: string, place: string) =>
  new ExpressionError({ code: "template_error", expression, message, place })

const placed = (error: ExpressionError, place: string) =>
  new ExpressionError({ code: error.code, expression: error.expression, message: error.message, place })

/** Whether a part of the document renders to itself; one with `$${` is constant and yet does not. */
const stands = (node: Node, written: JsonValue | undefined): boolean =>
  node.tag === "constant" && node.value === written

class Compiler {
  readonly errors: Array<ExpressionError> = []
  readonly uses: Array<Use> = []

  /** The recursion is bounded: a document that nests too deep is refused before. */
  node(value: JsonValue, place: string): Node {
    if (typeof value === "string") return this.#text(value, place)
    if (isArray(value)) {
      const items = value.map((item, i) => this.node(item, place + pointer([i])))
      return items.every((item, i) => stands(item, value[i])) ? { tag: "constant", value } : { tag: "list", items }
    }
    if (!isObject(value)) return { tag: "constant", value }
    const entries = Object.entries(value).map(([key, held]) => [key, this.node(held, place + pointer([key]))] as const)
    return entries.every(([key, held]) => stands(held, value[key]))
      ? { tag: "constant", value }
      : { tag: "record", entries }
  }

  #text(text: string, place: string): Node {
    const parts: Array<string | Use> = []
    let literal = ""
    let from = 0
    for (let at = text.indexOf("$"); at !== -1; at = text.indexOf("$", from)) {
      literal += text.slice(from, at)
      if (text.startsWith("$${", at)) {
        literal += "${"
        from = at + 3
      } else if (text.startsWith("${", at)) {
        const end = endOfExpression(text, at + 2)
        if (end === undefined) {
          this.errors.push(templateError(text.slice(at, at + 80), "this template is not closed", place))
          return { tag: "constant", value: text }
        }
        const use = this.#use(text.slice(at + 2, end), place)
        if (literal !== "") parts.push(literal)
        if (use !== undefined) parts.push(use)
        literal = ""
        from = end + 1
      } else {
        literal += "$"
        from = at + 1
      }
    }
    literal += text.slice(from)
    if (parts.length === 0) return { tag: "constant", value: literal }
    if (literal !== "") parts.push(literal)
    const [first] = parts
    return parts.length === 1 && typeof first === "object" ? { tag: "whole", use: first } : { tag: "text", parts }
  }

  #use(text: string, place: string): Use | undefined {
    if (this.uses.length + this.errors.length >= maxExpressions) {
      if (this.errors.length < maxExpressions) {
        this.errors.push(templateError(text, `a document holds at most ${maxExpressions} expressions`, place))
      }
      return undefined
    }
    if (text.trim() === "") {
      this.errors.push(templateError(text, "a template must not be empty", place))
      return undefined
    }
    const compiled = compileExpression(text)
    if (Either.isLeft(compiled)) {
      this.errors.push(placed(compiled.left, place))
      return undefined
    }
    const use = { place, expression: compiled.right }
    this.uses.push(use)
    return use
  }
}

/** Each path once, in the order of the document. */
const distinct = (uses: ReadonlyArray<Use>): ReadonlyArray<Path> => {
  const paths = new Map<string, Path>()
  for (const { expression } of uses) for (const path of expression.references) paths.set(JSON.stringify(path), path)
  return [...paths.values()]
}

/**
 * Compiles every `${…}` in the strings of a document; keys are not rendered. `place` is the JSON Pointer of the document.
 * Fails with all its problems, each with the place of its string.
 */
export const compileTemplate = (
  value: JsonValue,
  place: string
): Either.Either<Template, ReadonlyArray<ExpressionError>> => {
  const problem = storable(value)
  if (problem !== undefined) return Either.left([templateError("", problem.message, place + problem.path)])
  const compiler = new Compiler()
  const root = compiler.node(value, place)
  if (compiler.errors.length > 0) return Either.left(compiler.errors)
  return Either.right({ root, uses: compiler.uses, references: distinct(compiler.uses) })
}

/** A document that stands as it is, `${` included, and reads what `uses` say by other means than templates. */
export const constantTemplate = (value: JsonValue, uses: ReadonlyArray<Use> = []): Template => ({
  root: { tag: "constant", value },
  uses,
  references: distinct(uses)
})

/** How a value stands inside text. */
const asText = (value: JsonValue): string => (typeof value === "string" ? value : JSON.stringify(value))

class Renderer {
  #left = maxRenderedBytes
  readonly #scope: Scope
  readonly #strict: boolean

  constructor(scope: Scope, strict: boolean) {
    this.#scope = scope
    this.#strict = strict
  }

  render(node: Node): Either.Either<JsonValue, ExpressionError> {
    switch (node.tag) {
      case "constant":
        return Either.right(node.value)
      case "whole":
        return this.#value(node.use)
      case "text":
        return this.#text(node.parts)
      case "list":
        return Either.all(node.items.map((item) => this.render(item)))
      case "record":
        return this.#record(node.entries)
    }
  }

  #record(entries: ReadonlyArray<readonly [string, Node]>): Either.Either<JsonValue, ExpressionError> {
    const rendered: Array<readonly [string, JsonValue]> = []
    for (const [key, node] of entries) {
      const value = this.render(node)
      if (Either.isLeft(value)) return value
      rendered.push([key, value.right])
    }
    return Either.right(Object.fromEntries(rendered))
  }

  #text(parts: ReadonlyArray<string | Use>): Either.Either<JsonValue, ExpressionError> {
    let text = ""
    for (const part of parts) {
      if (typeof part === "string") {
        text += part
        continue
      }
      const value = this.#value(part)
      if (Either.isLeft(value)) return value
      text += asText(value.right)
    }
    return Either.right(text)
  }

  /** Measures each value as it comes, so that a small document cannot gather gigabytes before it is refused. */
  #value({ expression, place }: Use): Either.Either<JsonValue, ExpressionError> {
    const value = evaluate(expression, this.#scope, this.#strict)
    if (Either.isLeft(value)) return Either.left(placed(value.left, place))
    const size = sizeOf(value.right, this.#left)
    if (size === undefined) return Either.left(templateError(expression.text, tooLarge, place))
    this.#left -= size
    return value
  }
}

const tooLarge = `what is rendered has more than ${maxRenderedBytes} bytes, or nests deeper than ${maxDepth}`

/** How a document is rendered: `meter` counts its evaluations, where that is not for it alone. */
export interface RenderOptions {
  readonly strict: boolean
  readonly meter?: Meter
}

/**
 * Renders a document. A string that is one template whole keeps the type of its value; text that came out of a template
 * is not rendered again. Fails with `template_missing` (only when `strict`) or `template_error`, and never throws.
 */
export const render = (
  template: Template,
  bindings: Bindings,
  options: RenderOptions
): Either.Either<JsonValue, ExpressionError> => {
  const rendered = new Renderer(scopeOf(bindings, options.meter), options.strict).render(template.root)
  if (Either.isLeft(rendered) || sizeOf(rendered.right, maxRenderedBytes) !== undefined) return rendered
  return Either.left(new ExpressionError({ code: "template_error", expression: "", message: tooLarge }))
}

/** Renders a document that must be text, such as an idempotency key: a value of another type stands as inside text. */
export const renderText = (
  template: Template,
  bindings: Bindings,
  options: RenderOptions
): Either.Either<string, ExpressionError> => Either.map(render(template, bindings, options), (value) => asText(value))
