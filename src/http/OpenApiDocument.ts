import * as OpenApiJsonSchema from "@effect/platform/OpenApiJsonSchema"
import { completed, ofBodies, ofHeads, ofPaths } from "./OpenApiBounds.ts"
import { examples } from "./OpenApiExamples.ts"
import { Problem } from "./Problem.ts"

type Schema = Readonly<Record<string, unknown>>

interface Body {
  readonly required: boolean
  readonly content: Readonly<
    Record<string, { readonly schema: { readonly $ref?: string }; readonly example?: unknown }>
  >
}

interface Parameter {
  readonly name: string
  readonly in: string
  readonly required: boolean
  readonly schema: Schema
}

interface Response {
  readonly description: string
  readonly headers?: Schema
  readonly content?: Readonly<Record<string, { readonly schema: Schema }>>
}

interface Operation {
  readonly operationId: string
  readonly description?: string
  readonly parameters: ReadonlyArray<Parameter>
  readonly security: ReadonlyArray<unknown>
  readonly requestBody?: Body
  readonly responses: Readonly<Record<string, Response>>
}

interface Document {
  readonly info: Readonly<Record<string, unknown>>
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema & { readonly required?: ReadonlyArray<string> }>>
  }
}

/** What the routes say that the derived document does not hold: the permission of an operation, by its id; null where it is open. */
export type Permissions = ReadonlyMap<string, string | null>

/** Its parts are components of the document. */
const { $defs: _, ...problemSchema }: Schema = { ...OpenApiJsonSchema.make(Problem) }

const problemContent = { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } }

const descriptions: Readonly<Record<string, string>> = {
  "400": "Unreadable JSON, or a malformed header",
  "401": "No credentials, or bad ones",
  "403": "A scope is missing",
  "404": "Unknown, or not visible to this agent",
  "409": "In conflict with the present state",
  "412": "If-Match names another version",
  "413": "The body is too large",
  "415": "The body is not JSON",
  "422": "Well-formed, but invalid; errors names the values",
  "429": "Over a limit; Retry-After says when to try again",
  "500": "A fault of the server's, which its log has under request_id",
  "503": "The database does not answer; Retry-After says when to try again"
}

const text = (description: string) => ({ description, schema: { type: "string", maxLength: ofHeads.characters } })

const headers = {
  RateLimit: text(
    "Where the counters of this client stand: of each the rest `r` and the seconds `t` until the next window"
  ),
  "RateLimit-Policy": text("What the counters allow: of each the quota `q` in a window of `w` seconds"),
  "Retry-After": { description: "Seconds", schema: { type: "integer", format: "int32", minimum: 0, maximum: 86_400 } },
  "Access-Control-Allow-Origin": text(
    "The origin of the request, only where CORS_ORIGINS lists it; else there is none"
  ),
  ETag: text("The version of what is answered, for If-Match"),
  Location: text("The path of what was made")
} as const

const header = (...names: ReadonlyArray<keyof typeof headers>) =>
  Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]))

const ifMatch: Parameter = {
  name: "If-Match",
  in: "header",
  required: false,
  schema: { type: "string", maxLength: 20, description: "only if this is still the version: an ETag, or *" }
}

const problem = (status: string): Response => ({
  description: descriptions[status] ?? "Error",
  content: problemContent
})

/** A body with an example; one of which no field is required may be left out. */
const taken = (operationId: string, { content }: Body, { schemas }: Document["components"]): Body => {
  const json = content["application/json"]
  const name = json?.schema.$ref?.split("/").at(-1) ?? ""
  const example = examples[operationId]
  return {
    required: (schemas[name]?.required ?? []).length > 0,
    content: json === undefined || example === undefined ? content : { "application/json": { ...json, example } }
  }
}

/** Whether what is answered bears the version that its ETag tells. */
const isVersioned = ({ content }: Response, components: Document["components"]) => {
  const schema = content?.["application/json"]?.schema ?? {}
  const [name = ""] = /[^/]+$/.exec(String(schema["$ref"])) ?? []
  return "version" in Object(("$ref" in schema ? components.schemas[name] : schema)?.["properties"])
}

/** The headers of an answer. Probes are not counted; what the server cannot do is not counted either. */
const headersOf = (status: string, counted: boolean, versioned: boolean) => ({
  ...header("Access-Control-Allow-Origin"),
  ...(counted && !status.startsWith("5") ? header("RateLimit", "RateLimit-Policy") : {}),
  ...(status === "429" || status === "503" ? header("Retry-After") : {}),
  ...(versioned ? header("ETag") : {}),
  ...(versioned && status === "201" ? header("Location") : {})
})

const bounded = ({ content, ...response }: Response): Response =>
  content === undefined
    ? response
    : {
        ...response,
        content: Object.fromEntries(
          Object.entries(content).map(([type, { schema }]) => [type, { schema: completed(schema, ofBodies) }])
        )
      }

const whoMay = (permission: string | null | undefined) => {
  if (permission === null || permission === undefined) return "Open to everybody."
  return permission.includes(":") ? `Open to holders of the scope \`${permission}\`.` : `Open to ${permission}.`
}

/** An operation as it is served: every error is a problem document, whatever its status, and a body may be refused as a whole. */
const served = (
  path: string,
  method: string,
  operation: Operation,
  components: Document["components"],
  permissions: Permissions
): Operation => {
  const counted = !path.startsWith("/health")
  const errors = Object.keys(operation.responses).filter((status) => status >= "400")
  const always = method === "get" || method === "delete" ? ["422"] : ["400", "413", "415", "422"]
  const refusals =
    operation.security.length === 0 && method === "get"
      ? errors.filter((status) => status !== "400")
      : [...errors, ...always]
  const wanted = [...refusals, ...(counted ? ["429"] : []), "500"]
  const success = Object.entries(operation.responses).filter(([status]) => status < "400")
  const responses = [
    ...success,
    ...[...new Set(wanted)].sort().map((status) => [status, problem(status)] as const)
  ].map(([status, response]): [string, Response] => {
    return [
      status,
      bounded({ ...response, headers: headersOf(status, counted, counted && isVersioned(response, components)) })
    ]
  })
  const parameters = [...operation.parameters, ...("412" in operation.responses ? [ifMatch] : [])]
  return {
    ...operation,
    description: whoMay(permissions.get(operation.operationId)),
    parameters: parameters.map((parameter) => ({
      ...parameter,
      schema: completed(parameter.schema, parameter.in === "path" ? ofPaths : ofHeads)
    })),
    ...(operation.requestBody === undefined
      ? {}
      : { requestBody: taken(operation.operationId, operation.requestBody, components) }),
    responses: Object.fromEntries(responses)
  }
}

const referred = (value: unknown) =>
  [...JSON.stringify(value).matchAll(/"#\/components\/schemas\/([^"]+)"/g)].flatMap(([, name]) => name ?? [])

/** The schemas that the operations lead to: those of the errors, which problem documents stand for, are left out. */
const used = (paths: unknown, schemas: Document["components"]["schemas"]) => {
  const reached = new Set<string>()
  for (const open = referred(paths); open.length > 0;) {
    const name = open.pop() ?? ""
    if (reached.has(name)) continue
    reached.add(name)
    open.push(...referred(schemas[name] ?? {}))
  }
  return Object.entries(schemas).filter(([name]) => reached.has(name))
}

/** The derived document as the API is: its errors as `Problem.ts` writes them, its headers, its limits and who may what. */
export const asServed = (document: Record<string, unknown>, permissions: Permissions): Record<string, unknown> => {
  const { components, info, paths } = document as unknown as Document
  const operations = Object.fromEntries(
    Object.entries(paths).map(([path, methods]) => [
      path,
      Object.fromEntries(
        Object.entries(methods).map(([method, operation]) => [
          method,
          served(path, method, operation, components, permissions)
        ])
      )
    ])
  )
  const schemas = used(operations, { ...components.schemas, Problem: problemSchema })
  return {
    ...document,
    info: { ...info, contact: { name: "Ordinaut" }, license: { name: "MIT", identifier: "MIT" } },
    servers: [{ url: "/", description: "Where this document comes from, local or production", "x-internal": false }],
    paths: operations,
    components: {
      ...components,
      headers,
      schemas: Object.fromEntries(schemas.map(([name, schema]) => [name, completed(schema, ofBodies)]))
    }
  }
}
