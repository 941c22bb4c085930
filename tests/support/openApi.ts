import { Effect, Schema } from "effect"
import { answered, request } from "./ApiServer.ts"

const Named = Schema.Struct({ $ref: Schema.optional(Schema.String) })
const Content = Schema.Record({ key: Schema.String, value: Schema.Struct({ schema: Schema.Unknown }) })

/** An operation of the served document, as far as the tests look at it. */
export const Operation = Schema.Struct({
  operationId: Schema.String,
  summary: Schema.NonEmptyString,
  parameters: Schema.Array(
    Schema.Struct({ name: Schema.String, in: Schema.String, required: Schema.Boolean, schema: Schema.Unknown })
  ),
  security: Schema.Array(Schema.Record({ key: Schema.String, value: Schema.Array(Schema.String) })),
  requestBody: Schema.optional(
    Schema.Struct({
      required: Schema.Boolean,
      content: Schema.Struct({
        "application/json": Schema.Struct({
          schema: Named,
          example: Schema.Record({ key: Schema.String, value: Schema.Unknown })
        })
      })
    })
  ),
  responses: Schema.Record({
    key: Schema.String.pipe(Schema.pattern(/^[1-5]\d\d$/)),
    value: Schema.Struct({
      description: Schema.NonEmptyString,
      headers: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.Unknown })),
      content: Schema.optional(Content)
    })
  })
})

const Document = Schema.Struct({
  openapi: Schema.String,
  info: Schema.Struct({ title: Schema.String, version: Schema.String, description: Schema.String }),
  paths: Schema.Record({ key: Schema.String, value: Schema.Record({ key: Schema.String, value: Operation }) }),
  components: Schema.Struct({
    headers: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.Unknown })),
    schemas: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
    securitySchemes: Schema.Record({ key: Schema.String, value: Schema.Unknown })
  })
})

/** One route of the served document. */
export interface Route {
  readonly method: string
  /** Template, such as `/tasks/{id}`. */
  readonly path: string
  readonly operation: typeof Operation.Type
}

/** The served document, as JSON and as the tests read it. */
export const served = Effect.map(request("GET", "/openapi.json", { key: null }), (answer) => {
  answered(answer, 200, Schema.Unknown)
  const document = Schema.decodeUnknownSync(Document)(answer.body)
  const routes = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]): Route => ({ method: method.toUpperCase(), path, operation }))
  )
  return { json: answer.body, document, routes }
})
