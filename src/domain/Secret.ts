import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import { Instant } from "./Instant.ts"

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })
const strict = { parseOptions: { onExcessProperty: "error", errors: "all" } } as const

/** Name of a secret, as pipelines refer to it: `secret://name`. It ends in a letter, a digit or `_`, as sentences end in a dot. */
export const SecretName = Schema.String.pipe(
  Schema.pattern(/^[A-Za-z](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?$/, {
    message: () =>
      "a name starts with a letter, goes on with letters, digits, _, . and -, ends in none of the last two, and has at most 64 characters"
  })
)

/** Whether a text can be the name of a secret. */
export const isSecretName = Schema.is(SecretName)

const Host = Schema.String.pipe(
  Schema.maxLength(253),
  Schema.pattern(/^(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\*(?:\.[a-z0-9_-]+)+\.(?!\d+$)[a-z0-9_-]+|\[[0-9a-f:.]+\])$/, {
    message: () =>
      "is a host in lower case without scheme and port, such as api.example.com, or all below a domain: *.example.com"
  })
)

const Tool = Schema.String.pipe(
  Schema.pattern(/^(?!core\.)[A-Za-z][A-Za-z0-9_-]{0,63}\.(?:\*|[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$/, {
    message: () =>
      "is a tool of an extension, such as mail.send, or all of one: mail.*; what core.http may send is bound to hosts"
  })
)

/** Where a secret may be used: in calls to these hosts, and in those of these tools. */
export const BoundTo = Schema.Struct({
  hosts: optional(Schema.Array(Host).pipe(Schema.maxItems(50))),
  tools: optional(Schema.Array(Tool).pipe(Schema.maxItems(50)))
}).pipe(
  Schema.filter(
    ({ hosts = [], tools = [] }) =>
      hosts.length + tools.length > 0 ||
      "names at least one host or tool; a secret that is bound to nothing is of no use"
  ),
  Schema.annotations({ identifier: "BoundTo", ...strict })
)
export type BoundTo = typeof BoundTo.Type

/** Body of PUT /secrets/{name}. Both fields, always: who does not know a value cannot bind it to another place. */
export const SecretPut = Schema.Struct({
  value: Schema.NonEmptyString.pipe(Schema.maxLength(8192)),
  bound_to: BoundTo
}).annotations({ identifier: "SecretPut", ...strict })
export type SecretPut = typeof SecretPut.Type

/** A secret as the API shows it: never its value. */
export const SecretInfo = Schema.Struct({
  name: Schema.String,
  bound_to: BoundTo,
  last_used_at: Schema.NullOr(Instant),
  created_at: Instant,
  updated_at: Instant
}).annotations({ identifier: "Secret" })
export type SecretInfo = typeof SecretInfo.Type

/** Where a call goes: the tool's address, and the host where it leaves for one. */
export interface Target {
  readonly tool: string
  /** As in a URL: without a port; in any case of letters. Null for a call that leaves for no host. */
  readonly host: string | null
}

/** Whether a secret may be used in a call. */
export const mayUse = ({ hosts = [], tools = [] }: BoundTo, target: Target): boolean => {
  const host = target.host?.toLowerCase().replace(/\.$/, "")
  const below = (pattern: string) => pattern.startsWith("*.") && host?.endsWith(pattern.slice(1)) === true
  const within = (pattern: string) => pattern.endsWith(".*") && target.tool.startsWith(pattern.slice(0, -1))
  return (
    hosts.some((pattern) => pattern === host || below(pattern)) ||
    tools.some((pattern) => pattern === target.tool || within(pattern))
  )
}

/** The namespace has no secret of the name. */
export class SecretNotFound extends Schema.TaggedError<SecretNotFound>()(
  "SecretNotFound",
  { name: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}
