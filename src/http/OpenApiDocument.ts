import * as OpenApiJsonSchema from "@effect/platform/OpenApiJsonSchema"
import { Problem } from "./Problem.ts"

interface Operation {
  readonly responses: Readonly<Record<string, { readonly description: string; readonly content?: unknown }>>
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> }
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
  "503": "The database does not answer"
}

const problem = (status: string) => ({ description: descriptions[status] ?? "Error", content: problemContent })

/** An operation as it is served: every error is a problem document, whatever its status, and a body may be refused as a whole. */
const served = (method: string, operation: Operation): Operation => {
  const errors = Object.keys(operation.responses).filter((status) => status >= "400")
  const always = method === "get" || method === "delete" ? ["422"] : ["400", "413", "415", "422"]
  const wanted =
    operation.responses["401"] === undefined && method === "get"
      ? errors.filter((status) => status !== "400")
      : [...errors, ...always]
  const success = Object.entries(operation.responses).filter(([status]) => status < "400")
  return {
    ...operation,
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
        Object.fromEntries(Object.entries(operations).map(([method, operation]) => [method, served(method, operation)]))
      ])
    ),
    components: { ...components, schemas: { ...components.schemas, Problem: OpenApiJsonSchema.make(Problem) } }
  }
}
