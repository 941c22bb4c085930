import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Encoding, Either, Schema } from "effect"
import { AgentName } from "./Agent.ts"
import { ExtensionAuth, ExtensionKind, ToolSpec } from "./Extension.ts"
import { Instant } from "./Instant.ts"
import { JsonObject } from "./Json.ts"

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

/** Tools that an extension may bring. */
export const maxTools = 200

const baseUrlProblem = (text: string): string | undefined => {
  if (!URL.canParse(text) || !/^https?:\/\/[^\s\\]+$/i.test(text))
    return "is no URL such as https://tools.example.com/v1"
  const { password, username } = new URL(text)
  if (username !== "" || password !== "" || /^[^/]*\/\/[^/]*@/.test(text))
    return "bears no user; credentials go into auth"
  return /[?#]/.test(text) ? "bears no query and no fragment" : undefined
}

const BaseUrl = Schema.String.pipe(
  Schema.maxLength(2048),
  Schema.filter((text) => baseUrlProblem(text) ?? true),
  Schema.annotations({ jsonSchema: { type: "string", format: "uri", maxLength: 2048 } })
)

const prefix = "whsec_"

/** The bytes of a signing secret as Standard Webhooks write it, `whsec_` and base64; undefined for any other text. */
export const signingBytes = (text: string): Uint8Array | undefined => {
  if (!text.startsWith(prefix) || text === prefix) return undefined
  const bytes = Either.getOrUndefined(Encoding.decodeBase64(text.slice(prefix.length)))
  return bytes !== undefined && bytes.length >= 24 && bytes.length <= 64 ? bytes : undefined
}

/** The text of a signing secret. */
export const signingText = (bytes: Uint8Array): string => prefix + Encoding.encodeBase64(bytes)

const SigningSecret = Schema.String.pipe(
  Schema.filter((text) => signingBytes(text) !== undefined || "is whsec_ and 24 to 64 bytes in base64")
)

/** Headers that frame a request or name its host: no credentials. */
const framing = new Set([
  ..."host connection content-length content-type transfer-encoding upgrade te trailer keep-alive expect".split(" "),
  ..."proxy-authorization proxy-connection webhook-id webhook-timestamp webhook-signature".split(" ")
])

const authProblems = ({ header, kind, secret }: ExtensionAuth): ReadonlyArray<readonly [string, string]> => {
  if (kind === "basic" && !secret.includes(":")) return [["secret", "is user:password for kind basic"]]
  if (kind !== "basic" && !/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(secret))
    return [["secret", "is printable ASCII, as a header's value is"]]
  if (kind !== "header") return header === undefined ? [] : [["header", "is for kind header alone"]]
  if (header === undefined) return [["header", "is needed for kind header"]]
  return framing.has(header.toLowerCase()) ? [["header", "is not a header that may be set"]] : []
}

const body = Schema.Struct({
  kind: ExtensionKind,
  base_url: optional(BaseUrl),
  tools: optional(Schema.Array(ToolSpec).pipe(Schema.maxItems(maxTools))),
  /** Left out: those that are stored stay. Null: none. */
  auth: optional(Schema.NullOr(ExtensionAuth)),
  /** Left out: the one that is stored stays, and where there is none, one is made. */
  signing_secret: optional(SigningSecret),
  served_by: optional(Schema.Array(AgentName).pipe(Schema.maxItems(100)))
})

const called = (kind: ExtensionKind) => kind === "http" || kind === "mcp"

/** What of the fields fits its kind not, by path. */
const misfits = ({ auth, base_url, kind, served_by, signing_secret, tools }: typeof body.Type) => {
  const found: Array<readonly [ReadonlyArray<PropertyKey>, string]> = []
  const refuse = (path: ReadonlyArray<PropertyKey>, message: string) => found.push([path, message])
  if (called(kind) && base_url === undefined) refuse(["base_url"], `is needed for kind ${kind}`)
  if (!called(kind) && base_url !== undefined) refuse(["base_url"], "is for kind http and mcp alone")
  if (!called(kind) && auth !== undefined) refuse(["auth"], "is for kind http and mcp alone")
  if (kind !== "mcp" && tools === undefined) refuse(["tools"], `is needed for kind ${kind}`)
  if (kind !== "http" && signing_secret !== undefined) refuse(["signing_secret"], "is for kind http alone")
  if (kind !== "worker" && served_by !== undefined) refuse(["served_by"], "is for kind worker alone")
  if (auth !== undefined && auth !== null)
    for (const [field, message] of authProblems(auth)) refuse(["auth", field], message)
  const names = new Set<string>()
  for (const [at, { name }] of (tools ?? []).entries()) {
    if (names.has(name)) refuse(["tools", at, "name"], `stands for another tool already`)
    names.add(name)
  }
  return found.map(([path, message]) => ({ path, message }))
}

/** Body of PUT /extensions/{name}. */
export const ExtensionPut = body.pipe(
  Schema.filter(misfits),
  Schema.annotations({
    identifier: "ExtensionPut",
    parseOptions: { onExcessProperty: "error", errors: "all" }
  })
)
export type ExtensionPut = typeof ExtensionPut.Type

/** `unlisted`: an MCP server that has not told its tools yet. `failing`: it does not tell them; `last_error` says why. */
export const ExtensionState = Schema.Literal("ready", "unlisted", "failing")

/** Of its credentials, only how they are sent. */
export const AuthInfo = Schema.Struct({ kind: ExtensionAuth.fields.kind, header: ExtensionAuth.fields.header })

/** An extension as the API shows it. */
export const ExtensionInfo = Schema.Struct({
  name: Schema.String,
  kind: ExtensionKind,
  base_url: Schema.NullOr(Schema.String),
  tools: Schema.Array(ToolSpec),
  auth: Schema.NullOr(AuthInfo),
  served_by: Schema.Array(Schema.String),
  state: ExtensionState,
  last_error: Schema.NullOr(Schema.String),
  version: Schema.Int,
  created_at: Instant,
  updated_at: Instant
}).annotations({ identifier: "Extension" })
export type ExtensionInfo = typeof ExtensionInfo.Type

/** The answer to a registration; it bears `signing_secret` where this one made it, and never again. */
export const ExtensionRegistered = Schema.Struct({
  ...ExtensionInfo.fields,
  signing_secret: optional(Schema.String)
}).annotations({ identifier: "ExtensionRegistered" })
export type ExtensionRegistered = typeof ExtensionRegistered.Type

/** A tool that pipelines may use, as GET /tools lists it. */
export const ToolInfo = Schema.Struct({
  /** What a step `uses`. */
  address: Schema.String,
  extension: Schema.String,
  kind: Schema.Literal("core", ...ExtensionKind.literals),
  description: Schema.String,
  input_schema: Schema.NullOr(JsonObject),
  output_schema: Schema.NullOr(JsonObject),
  timeout_seconds: Schema.Int,
  idempotent: Schema.Boolean
}).annotations({ identifier: "Tool" })
export type ToolInfo = typeof ToolInfo.Type

/** The namespace has no extension of the name. */
export class ExtensionNotFound extends Schema.TaggedError<ExtensionNotFound>()(
  "ExtensionNotFound",
  { name: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

/** `If-Match` names another version than the extension has; 0 where there is none. */
export class ExtensionVersionMismatch extends Schema.TaggedError<ExtensionVersionMismatch>()(
  "ExtensionVersionMismatch",
  { name: Schema.String, version: Schema.Int },
  HttpApiSchema.annotations({ status: 412 })
) {}

/** The stored credentials, which were to stay, cannot be opened any more. */
export class CredentialsUnreadable extends Schema.TaggedError<CredentialsUnreadable>()(
  "CredentialsUnreadable",
  { name: Schema.String, reason: Schema.String },
  HttpApiSchema.annotations({ status: 409 })
) {}
