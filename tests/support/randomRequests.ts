import { FastCheck } from "effect"
import { fromJsonSchema } from "./fromJsonSchema.ts"
import { mutations, nasty, sounder } from "./hostileJson.ts"
import type { Route } from "./openApi.ts"

/** A request as it is sent; `path` bears its query. */
export interface RandomRequest {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
}

/** Ids that answers told, by the word of a path that they belong to: `tasks`, `runs`, … */
export type Pools = ReadonlyMap<string, ReadonlyArray<string>>

/** Makes a request out of the ids that are known by then. */
type Make = (pools: Pools) => RandomRequest

export const unknownId = "019cadc6-9a80-7000-8000-000000000000"

const segments = FastCheck.oneof(
  { weight: 6, arbitrary: FastCheck.nat(1000).map((at) => ({ at })) },
  { weight: 2, arbitrary: FastCheck.constant({ text: unknownId }) },
  {
    weight: 1,
    arbitrary: FastCheck.constantFrom(
      { text: "%00" },
      { text: "%ff" },
      { text: ".." },
      { text: "%2e%2e%2f" },
      { text: "a%2Fb" },
      { text: "%" },
      { text: "x".repeat(150) },
      { text: "x".repeat(300) },
      { text: "__proto__" },
      { text: unknownId.toUpperCase() },
      { text: `${unknownId}'--` },
      { text: "null" }
    )
  },
  {
    weight: 1,
    arbitrary: FastCheck.string({ minLength: 1, maxLength: 12 }).map((text) => ({ text: encodeURIComponent(text) }))
  }
)

const printable = FastCheck.stringMatching(/^[ -~]{0,20}$/, { size: "small" }).map((text) => text.trim())

const header = FastCheck.oneof(
  FastCheck.constantFrom(
    ["if-match", '"1"'],
    ["if-match", "*"],
    ["if-match", 'W/"2"'],
    ["if-match", '"99999999999"'],
    ["idempotency-key", "one"],
    ["idempotency-key", "k".repeat(256)],
    ["last-event-id", "0"],
    ["last-event-id", "999999999999999999"],
    ["traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
    ["content-type", "text/plain"],
    ["content-type", "application/json; charset=latin1"],
    ["content-encoding", "gzip"],
    ["authorization", "Bearer ord_nothing"],
    ["authorization", "Basic Og=="],
    ["authorization", "Bearer e30.e30.e30"],
    ["accept", "application/xml"],
    ["range", "bytes=0-1"],
    ["x-http-method-override", "DELETE"],
    ["x-forwarded-for", "127.0.0.1"],
    ["origin", "https://evil.example"]
  ),
  FastCheck.tuple(
    FastCheck.constantFrom(
      "if-match",
      "idempotency-key",
      "last-event-id",
      "traceparent",
      "x-request-id",
      "content-type"
    ),
    printable
  )
)

const headers = FastCheck.oneof(
  { weight: 2, arbitrary: FastCheck.constant([]) },
  { weight: 1, arbitrary: FastCheck.array(header, { maxLength: 2 }) }
)

const word = (value: unknown) => (typeof value === "string" ? value : (JSON.stringify(value) ?? ""))

/** Text that a URL can bear: a lone surrogate has no form there. */
const encoded = (text: string) => encodeURIComponent(Buffer.from(text).toString())

const queryOf = (route: Route, schemas: Readonly<Record<string, unknown>>) => {
  const known = route.operation.parameters
    .filter((parameter) => parameter.in === "query")
    .map(({ name, schema }) =>
      FastCheck.oneof({ weight: 4, arbitrary: fromJsonSchema(schema, schemas) }, { weight: 1, arbitrary: nasty }).map(
        (value) => [name, word(value)] as const
      )
    )
  const others = FastCheck.tuple(FastCheck.constantFrom("limit", "x", "__proto__", "cursor", ""), nasty.map(word))
  return FastCheck.tuple(
    FastCheck.tuple(...known.map((pair) => FastCheck.option(pair, { freq: 2 }))),
    FastCheck.array(others, { maxLength: 1 })
  ).map(([given, more]) => [...given.flatMap((pair) => (pair === null ? [] : [pair])), ...more])
}

/** The word of the path that stands before each of its parameters. */
const kinds = (path: string) =>
  path.split("/").flatMap((part, at, all) => (part.startsWith("{") ? [all[at - 1] ?? ""] : []))

const pick = (segment: { readonly at: number } | { readonly text: string }, known: ReadonlyArray<string>) => {
  if ("text" in segment) return segment.text
  return encodeURIComponent(known[segment.at % Math.max(1, known.length)] ?? unknownId)
}

/** Requests of a route: some sound, most not. */
const requestsOf = (route: Route, schemas: Readonly<Record<string, unknown>>): FastCheck.Arbitrary<Make> => {
  const { method, operation, path } = route
  const schema = operation.requestBody?.content["application/json"].schema
  const plain = schema === undefined ? FastCheck.constant(undefined) : fromJsonSchema(schema, schemas)
  const sound = /^\/tasks(?:\/\{id\})?$|preview/.test(path) ? sounder(plain) : plain
  const body =
    schema === undefined
      ? FastCheck.constant(undefined)
      : FastCheck.oneof(
          { weight: 3, arbitrary: sound },
          { weight: 3, arbitrary: mutations(sound) },
          { weight: 1, arbitrary: nasty }
        ).map((value) => JSON.stringify(value) ?? "null")
  const names = kinds(path)
  return FastCheck.tuple(
    body,
    queryOf(route, schemas),
    headers,
    FastCheck.array(segments, { minLength: names.length, maxLength: names.length }),
    FastCheck.nat(80)
  ).map(([text, query, given, parts, odd]) => (pools) => {
    let at = 0
    const target = path.replace(/\{\w+\}/g, () => {
      const kind = names[at] ?? ""
      return pick(parts[at++] ?? { text: "" }, pools.get(kind) ?? [])
    })
    const search = query.map(([name, value]) => `${encoded(name)}=${encoded(value)}`).join("&")
    return {
      // Now and then another method, or a body where none belongs.
      method: odd === 0 ? "HEAD" : odd === 1 ? "OPTIONS" : odd === 2 ? "PUT" : method,
      path: search === "" ? target : `${target}?${search}`,
      headers: { ...(text === undefined ? {} : { "content-type": "application/json" }), ...Object.fromEntries(given) },
      body: text
    }
  })
}

/** What a route without parameters and body answers hardly depends on the request: it gets one of so many turns. */
const turnsOfPlain = 10

const isPlain = ({ operation: { parameters, requestBody } }: Route) =>
  parameters.length === 0 && requestBody === undefined

/** Endless requests of all routes in turn, the same for the same seed. */
export function* randomRequests(
  routes: ReadonlyArray<Route>,
  schemas: Readonly<Record<string, unknown>>,
  seed: number
): Generator<Make> {
  const atOnce = 25
  const arbitraries = routes.map((route) => [requestsOf(route, schemas), isPlain(route)] as const)
  for (let chunk = 0; ; chunk++) {
    const made = arbitraries.map(([arbitrary, plain], at) =>
      plain && chunk % turnsOfPlain > 0
        ? []
        : FastCheck.sample(arbitrary, { seed: seed + chunk * 1000 + at, numRuns: atOnce })
    )
    for (let at = 0; at < atOnce; at++) {
      for (const list of made) {
        const make = list[at]
        if (make !== undefined) yield make
      }
    }
  }
}
