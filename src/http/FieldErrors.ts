/** One thing that a schema found wrong, as Effect's formatter tells it. */
interface Issue {
  readonly _tag: string
  readonly path: ReadonlyArray<PropertyKey>
  readonly message: string
}

/** What is wrong with one value, in plain words; `path` is a JSON Pointer into the body, or `query.<name>`. */
export interface FieldError {
  readonly path: string
  readonly message: string
}

/** A body of nothing but mistakes would else be answered by more than was sent. */
const mostErrors = 100

const pointer = (path: ReadonlyArray<PropertyKey>) =>
  path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("")

/** The formatter knows the expectation only as text: `Expected <type>, actual <value>`. */
const expectation = /^Expected ([^]*?), actual /

const plainTypes: Readonly<Record<string, string>> = {
  string: "a string",
  number: "a number",
  boolean: "true or false",
  JsonNumber: "a number"
}

/** A type as a newcomer would say it; the structure of a type is told by its kind alone. */
const inWords = (type: string): string => {
  if (/^(?:readonly \[|ReadonlyArray<)/.test(type)) return "an array"
  if (/^\{|Encoded side|^[A-Z]\w*$/.test(type)) return plainTypes[type] ?? "an object"
  return plainTypes[type] ?? type
}

/** The expectations of one place as one sentence: of a choice, each alternative brings its own issue. */
const sentence = (issues: ReadonlyArray<Issue>): string => {
  const told = issues.find(({ message }) => !expectation.test(message))
  if (told !== undefined) return told.message.startsWith("Unable to decode") ? "must be a number" : told.message
  const types = [...new Set(issues.map(({ message }) => expectation.exec(message)?.[1] ?? ""))]
  const choices = types.filter((type) => /^"[^"]*"$/.test(type)).map((type) => type.slice(1, -1))
  const others = types.filter((type) => type !== "null" && !/^"[^"]*"$/.test(type)).map(inWords)
  const one = choices.length > 1 ? [`one of ${choices.join(", ")}`] : choices
  const wanted = [...one, ...others]
  // Where a place may be null, that is the least that was meant by what was sent.
  return `must be ${wanted.length === 0 ? "null" : wanted.join(", or ")}`
}

/**
 * The issues of a body or of a query as errors of its fields: one for each place, and none for a place of which a part is told
 * to be wrong. At most 100.
 */
export const fieldErrors = (issues: ReadonlyArray<Issue>, where: "body" | "query"): ReadonlyArray<FieldError> => {
  const places = new Map<string, Array<Issue>>()
  const containers = new Set<string>()
  for (const issue of issues) {
    const path = where === "body" ? pointer(issue.path) : `query.${String(issue.path[0] ?? "")}`
    const known = places.get(path)
    if (known === undefined) places.set(path, [issue])
    else known.push(issue)
    if (where === "body") for (let i = 0; i < issue.path.length; i++) containers.add(pointer(issue.path.slice(0, i)))
  }
  const message = (found: ReadonlyArray<Issue>): string => {
    if (found.some(({ _tag }) => _tag === "Unexpected")) {
      return where === "body" ? "is no field of this body" : "is no parameter of this request"
    }
    const wanted = sentence(found)
    // A parameter is a text, so that one that is none was given several times.
    return where === "query" && wanted === "must be a string" ? "must be given once" : wanted
  }
  return [...places]
    .filter(([path]) => !containers.has(path))
    .slice(0, mostErrors)
    .map(([path, found]) => ({ path, message: message(found) }))
}
