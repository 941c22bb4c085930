import { Schema } from "effect"
import { Instant } from "./Instant.ts"
import { JsonObject } from "./Json.ts"

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

/** Name of an extension, the first word of its tools' addresses: letters, digits, `_` and `-`, at most 64; never `core`. */
export const ExtensionName = Schema.String.pipe(
  Schema.pattern(/^[A-Za-z][A-Za-z0-9_-]{0,63}$/),
  Schema.filter((name) => name !== "core" || "core is the namespace of the built-in tools")
)

/** How the tools of an extension are reached: called over HTTP, leased by external workers, by the Model Context Protocol, or not at all. */
export const ExtensionKind = Schema.Literal("http", "worker", "mcp", "simulated")
export type ExtensionKind = typeof ExtensionKind.Type

/** A tool that an extension brings; its address is `<extension>.<name>`. */
export const ToolSpec = Schema.Struct({
  name: Schema.String.pipe(Schema.pattern(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/)),
  description: optional(Schema.String.pipe(Schema.maxLength(2000))),
  /** JSON Schema 2020-12 of what it takes and gives. */
  input_schema: optional(JsonObject),
  output_schema: optional(JsonObject),
  /** What a call may take where the step does not say; 30 by default. */
  timeout_seconds: optional(Schema.Int.pipe(Schema.between(1, 86_400))),
  /** Whether a repeated call does no harm: the elements of a for_each may then be recorded in batches. */
  idempotent: optional(Schema.Boolean)
}).annotations({ identifier: "ToolSpec" })
export type ToolSpec = typeof ToolSpec.Type

/** Credentials for the calls of an extension; `secret` is the value itself, which never comes out again. */
export const ExtensionAuth = Schema.Struct({
  kind: Schema.Literal("bearer", "basic", "header"),
  secret: Schema.NonEmptyString.pipe(Schema.maxLength(8192)),
  /** The header's name, for kind `header`. */
  header: optional(Schema.String.pipe(Schema.pattern(/^[A-Za-z0-9-]{1,100}$/)))
})
export type ExtensionAuth = typeof ExtensionAuth.Type

/** An extension as a worker calls it: without its credentials. */
export interface Extension {
  readonly namespace: string
  readonly name: string
  readonly kind: ExtensionKind
  /** Set for `http` and `mcp`. */
  readonly base_url: string | null
  readonly tools: ReadonlyArray<ToolSpec>
  /** Names of the agents that may lease its steps, for `worker`. */
  readonly served_by: ReadonlyArray<string>
  /** Grows with every change. */
  readonly version: number
  readonly updated_at: typeof Instant.Type
}

/** What its calls are signed and authorized with, opened. */
export interface Credentials {
  readonly auth: ExtensionAuth | null
  /** Key of the Standard Webhooks signature, bytes. */
  readonly signingSecret: Uint8Array | null
}
