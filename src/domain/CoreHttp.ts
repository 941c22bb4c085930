import { Either } from "effect"
import { headerNameProblem, headerValueProblem } from "./HeaderFields.ts"
import { isArray, isObject, type JsonObject, type JsonValue, pointer, type Problem } from "./Json.ts"
import { StepFailed } from "./StepFailed.ts"

/** Methods of `core.http`. */
export const httpMethods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const

/** A request as `core.http` sends it. */
export interface CoreHttpRequest {
  readonly method: string
  readonly url: URL
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  /** Undefined for none; a text is sent as it stands, all else as JSON. */
  readonly body: JsonValue | undefined
  /** Whether a status is what the step expects. */
  readonly expects: (status: number) => boolean
}

type IsOpen = (value: JsonValue) => boolean
type Check = (value: JsonValue, isOpen: IsOpen) => ReadonlyArray<Problem>

const own = (input: JsonObject, key: string): JsonValue | undefined =>
  Object.hasOwn(input, key) ? input[key] : undefined

const isScalar = (value: JsonValue | undefined): value is string | number | boolean =>
  typeof value === "string" || typeof value === "number" || typeof value === "boolean"

const wrong = (path: string, message: string): ReadonlyArray<Problem> => [{ path, message }]

const isStatus = (value: JsonValue): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 100 && value <= 599

const bodiless: ReadonlySet<string> = new Set(["GET", "HEAD"])

const methodOf = (value: JsonValue | undefined): string => (typeof value === "string" ? value.toUpperCase() : "GET")

const method: Check = (value) =>
  typeof value === "string" && httpMethods.some((one) => one === value.toUpperCase())
    ? []
    : wrong("", `this must be one of ${httpMethods.join(", ")}`)

const url: Check = (value) => {
  if (typeof value !== "string") return wrong("", "this must be a URL")
  if (!URL.canParse(value)) return wrong("", "this must be a whole URL, such as https://example.com/path")
  const { password, protocol, username } = new URL(value)
  if (protocol !== "http:" && protocol !== "https:") return wrong("", "only http and https URLs can be called")
  return username === "" && password === "" ? [] : wrong("", "a URL that is called bears no user name and no password")
}

const headers: Check = (value, isOpen) => {
  if (!isObject(value)) return wrong("", "this must be an object of names and values")
  const seen = new Set<string>()
  return Object.entries(value).flatMap(([name, field]): ReadonlyArray<Problem> => {
    const path = pointer([name])
    const again = seen.has(name.toLowerCase())
    seen.add(name.toLowerCase())
    const problem = again ? "this header is given twice" : headerNameProblem(name)
    if (problem !== undefined) return wrong(path, problem)
    if (isOpen(field)) return []
    if (name.toLowerCase() === "ordinaut-lease") return wrong(path, "this header is set by the client alone")
    if (!isScalar(field)) return wrong(path, "this must be a text, a number, true or false")
    const unfit = headerValueProblem(String(field))
    return unfit === undefined ? [] : wrong(path, unfit)
  })
}

const query: Check = (value, isOpen) => {
  if (!isObject(value)) return wrong("", "this must be an object of names and values")
  return Object.entries(value).flatMap(([name, field]): ReadonlyArray<Problem> => {
    const all = isArray(field) ? field : [field]
    return all.every((one) => isOpen(one) || isScalar(one))
      ? []
      : wrong(pointer([name]), "this must be a text, a number, true or false, or an array of them")
  })
}

const expectStatus: Check = (value, isOpen) => {
  const all = isArray(value) ? value : [value]
  return all.length > 0 && all.every((one) => isOpen(one) || isStatus(one))
    ? []
    : wrong("", "this must be a status from 100 to 599, or an array of them")
}

const fields: ReadonlyMap<string, Check> = new Map([
  ["method", method],
  ["url", url],
  ["headers", headers],
  ["query", query],
  ["body", () => []],
  ["expect_status", expectStatus]
])

/**
 * What is wrong with the input of `core.http`, with JSON Pointers from the input on. `isOpen` says of a value that it is
 * not known yet, as a template is not before the run; such a value passes. Whether the target may be called is not
 * judged here: that is the operator's to say, and may change.
 */
export const coreHttpProblems = (input: JsonObject, isOpen: IsOpen): ReadonlyArray<Problem> => {
  const problems = Object.entries(input).flatMap(([key, value]): ReadonlyArray<Problem> => {
    const check = fields.get(key)
    if (check === undefined) return wrong(pointer([key]), `core.http takes ${[...fields.keys()].join(", ")}`)
    if (isOpen(value)) return []
    return check(value, isOpen).map(({ message, path }) => ({ path: pointer([key]) + path, message }))
  })
  if (!Object.hasOwn(input, "url")) problems.push({ path: "/url", message: "core.http needs this" })
  const given = own(input, "method")
  const known = given === undefined || !isOpen(given)
  if (Object.hasOwn(input, "body") && known && bodiless.has(methodOf(given)))
    problems.push({ path: "/body", message: `a ${methodOf(given)} request has no body; name another method` })
  return problems
}

const expectation = (expected: JsonValue | undefined): CoreHttpRequest["expects"] => {
  if (expected === undefined) return (status) => status >= 200 && status <= 299
  const all = new Set(isArray(expected) ? expected : [expected])
  return (status) => all.has(status)
}

const addressed = (text: string, added: JsonValue | undefined): URL => {
  const target = new URL(text)
  for (const [name, value] of Object.entries(isObject(added) ? added : {})) {
    for (const one of isArray(value) ? value : [value]) target.searchParams.append(name, String(one))
  }
  return target
}

/** Reads the rendered input of `core.http`. Fails with `tool_input_invalid`, which names the first field that is wrong. */
export const readCoreHttp = (input: JsonValue): Either.Either<CoreHttpRequest, StepFailed> => {
  if (!isObject(input)) return Either.left(StepFailed.of("tool_input_invalid", ": this must be an object"))
  const [problem] = coreHttpProblems(input, () => false)
  if (problem !== undefined)
    return Either.left(StepFailed.of("tool_input_invalid", `${problem.path}: ${problem.message}`))
  const given = own(input, "headers")
  return Either.right({
    method: methodOf(own(input, "method")),
    url: addressed(String(own(input, "url")), own(input, "query")),
    headers: new Map(
      Object.entries(isObject(given) ? given : {}).map(([name, value]) => [name.toLowerCase(), String(value)])
    ),
    body: own(input, "body"),
    expects: expectation(own(input, "expect_status"))
  })
}
