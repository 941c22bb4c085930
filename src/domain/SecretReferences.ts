import { Encoding } from "effect"
import { isArray, isObject, type JsonValue } from "./Json.ts"
import { isSecretName } from "./Secret.ts"
import type { Template } from "./Template.ts"

/**
 * `secret://` and what follows it as far as it can be a name: letters, digits, `_`, `.` and `-`, of which the last two do not
 * end it. More than 64 characters, or a first one that is no letter, make no reference; such a text stands as it is.
 */
const reference = /secret:\/\/([A-Za-z0-9_.-]*[A-Za-z0-9_])/g

/** A reference and its place among the rest of a text. */
const inText = (text: string): ReadonlyArray<string> =>
  text.includes("secret://")
    ? [...text.matchAll(reference)].flatMap(([, name = ""]) => (isSecretName(name) ? [name] : []))
    : []

/** What of a rendered value its pipeline wrote: all of it, nothing, or what the template tells. */
type Written = Template["root"] | "all" | "nothing"

const writtenAt = (written: Written, key: string | number): Written => {
  if (typeof written === "string") return written
  if (written.tag === "constant") return "all"
  if (written.tag === "list") return (typeof key === "number" ? written.items[key] : undefined) ?? "nothing"
  if (written.tag === "record") return written.entries.find(([name]) => name === key)?.[1] ?? "nothing"
  return "nothing"
}

/** Whether the pipeline itself wrote a reference to a secret into a text. */
const wrote = (written: Written, name: string): boolean => {
  if (typeof written === "string") return written === "all"
  if (written.tag === "constant") return true
  return written.tag === "text" && written.parts.some((part) => typeof part === "string" && inText(part).includes(name))
}

const mapped = (value: JsonValue, written: Written, change: (text: string, written: Written) => string): JsonValue => {
  if (typeof value === "string") return change(value, written)
  if (isArray(value)) return value.map((item, at) => mapped(item, writtenAt(written, at), change))
  if (!isObject(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, held]) => [key, mapped(held, writtenAt(written, key), change)] as const)
  )
}

const rootOf = (written: Template | undefined): Written => written?.root ?? "all"

/**
 * How often each secret is referred to in the strings of an input. With the template that the input was rendered from, only
 * what the pipeline itself wrote counts: what came in by an event or a tool's output names no secret.
 */
export const references = (input: JsonValue, written?: Template): ReadonlyMap<string, number> => {
  const found = new Map<string, number>()
  mapped(input, rootOf(written), (text, at) => {
    for (const name of inText(text)) if (wrote(at, name)) found.set(name, (found.get(name) ?? 0) + 1)
    return text
  })
  return found
}

/** The input with the references that `references` finds replaced by values; one without a value stands. */
export const substitute = (input: JsonValue, values: ReadonlyMap<string, string>, written?: Template): JsonValue =>
  mapped(input, rootOf(written), (text, at) =>
    text.includes("secret://")
      ? text.replaceAll(reference, (whole, name: string) => (wrote(at, name) ? (values.get(name) ?? whole) : whole))
      : text
  )

/** Shorter values are not looked for: they would be found in everything. */
const shortestRedacted = 6

/** How a value may stand in a text: as it is, as within JSON, as within a URL, in base64. */
const formsOf = (value: string): ReadonlyArray<string> => [
  value,
  JSON.stringify(value).slice(1, -1),
  encodeURIComponent(value),
  Encoding.encodeBase64(value).replace(/=+$/, "")
]

/** Names of secrets, each with a value that a call was given; a name with more than one may come again. */
export type UsedValues = Iterable<readonly [string, string]>

/** Replaces what was used by marks first and those by names last, so that no name is taken for a value. */
const redactor = (used: UsedValues) => {
  const forms = [...used]
    .filter(([, value]) => value.length >= shortestRedacted)
    .flatMap(([name, value]) => formsOf(value).map((form) => ({ name, form })))
    // The longest first: of two values of which one holds the other, both disappear.
    .sort((a, b) => b.form.length - a.form.length)
  // No value holds U+0000, which no body may bear.
  const markOf = (i: number) => `\u0000${i}\u0000`
  return (text: string): string => {
    const marked = forms.reduce((left, { form }, i) => left.replaceAll(form, markOf(i)), text)
    return marked === text
      ? text
      : forms.reduce((left, { name }, i) => left.replaceAll(markOf(i), `secret://${name}`), marked)
  }
}

/** A text, such as an error's, in which the values of secrets that a call used (by name) stand as `secret://name` again. */
export const redactText = (text: string, used: UsedValues): string => redactor(used)(text)

/** The same for all strings and keys of a value, such as an output: a tool that echoes its input leaks nothing into the record. */
export const redact = (value: JsonValue, used: UsedValues): JsonValue => {
  const numbers = new Set(Array.from(used, ([, one]) => one))
  if (numbers.size === 0) return value
  const text = redactor(used)
  const walk = (held: JsonValue): JsonValue => {
    if (typeof held === "string") return text(held)
    // A value of digits may come back as a number.
    if (typeof held === "number") return numbers.has(String(held)) ? text(String(held)) : held
    if (isArray(held)) return held.map(walk)
    return isObject(held)
      ? Object.fromEntries(Object.entries(held).map(([key, inner]) => [text(key), walk(inner)] as const))
      : held
  }
  return walk(value)
}
