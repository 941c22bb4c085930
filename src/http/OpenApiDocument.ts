import * as OpenApiJsonSchema from "@effect/platform/OpenApiJsonSchema"
import { Problem } from "./Problem.ts"

interface Body {
  readonly required: boolean
  readonly content: Readonly<Record<string, { readonly schema: { readonly $ref?: string } }>>
}

interface Operation {
  readonly security: ReadonlyArray<unknown>
  readonly requestBody?: Body
  readonly responses: Readonly<Record<string, { readonly description: string; readonly content?: unknown }>>
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, { readonly required?: ReadonlyArray<string> }>> }
}

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
  "503": "The database does not answer"
}

const problem = (status: string) => ({ description: descriptions[status] ?? "Error", content: problemContent })

/** A body of which no field is required may be left out. */
const mayBeLeftOut = (body: Body, { schemas }: Document["components"]): Body => {
  const name = body.content["application/json"]?.schema.$ref?.split("/").at(-1) ?? ""
  return { ...body, required: (schemas[name]?.required ?? []).length > 0 }
}

/** An operation as it is served: every error is a problem document, whatever its status, and a body may be refused as a whole. */
const served = (method: string, operation: Operation, components: Document["components"]): Operation => {
  const errors = Object.keys(operation.responses).filter((status) => status >= "400")
  const always = method === "get" || method === "delete" ? ["422"] : ["400", "413", "415", "422"]
  const wanted =
    operation.security.length === 0 && method === "get"
      ? errors.filter((status) => status !== "400")
      : [...errors, ...always]
  const success = Object.entries(operation.responses).filter(([status]) => status < "400")
  return {
    ...operation,
    ...(operation.requestBody === undefined ? {} : { requestBody: mayBeLeftOut(operation.requestBody, components) }),
    responses: Object.fromEntries([
      ...success,
      ...[...new Set(wanted)].sort().map((status) => [status, problem(status)] as const)
    ])
  }
}

/** The derived document, with the errors as `Problem.ts` writes them. */
export const asServed = (document: Record<string, unknown>): Record<string, unknown> => {
  const { components, paths } = document as unknown as Document
  return {
    ...document,
    paths: Object.fromEntries(
      Object.entries(paths).map(([path, operations]) => [
        path,
        Object.fromEntries(
          Object.entries(operations).map(([method, operation]) => [method, served(method, operation, components)])
        )
      ])
    ),
    components: { ...components, schemas: { ...components.schemas, Problem: OpenApiJsonSchema.make(Problem) } }
  }
}
