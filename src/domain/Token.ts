import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import { mayGrant, Scope } from "./Agent.ts"

/** Longest life of an access token, in seconds. */
export const longestLife = 900

/** Body of POST /auth/token. */
export const TokenRequest = Schema.Struct({
  scopes: Schema.optionalWith(Schema.Array(Scope).pipe(Schema.maxItems(50)), { exact: true }),
  ttl_seconds: Schema.optionalWith(Schema.Int.pipe(Schema.between(1, longestLife)), {
    exact: true,
    default: () => longestLife
  })
}).annotations({ identifier: "TokenRequest", parseOptions: { onExcessProperty: "error", errors: "all" } })
export type TokenRequest = typeof TokenRequest.Type

/** The answer of POST /auth/token, as RFC 6749 §5.1 names its fields. */
export const TokenIssued = Schema.Struct({
  access_token: Schema.String,
  token_type: Schema.Literal("Bearer"),
  expires_in: Schema.Int,
  scopes: Schema.Array(Schema.String)
}).annotations({ identifier: "TokenIssued" })
export type TokenIssued = typeof TokenIssued.Type

/** Body of POST /auth/revoke. */
export const Revocation = Schema.Struct({
  jti: Schema.NonEmptyString.pipe(Schema.maxLength(200))
}).annotations({ identifier: "Revocation", parseOptions: { onExcessProperty: "error", errors: "all" } })

/** The id of a token: whose it is, which key bought it and when it ends (epoch seconds) can be read from it, so that nothing is stored of a token. */
export interface TokenId {
  readonly agent_id: string
  readonly key_id: string
  readonly expires: number
}

const form = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9A-Za-z]{12})\.(\d{10})\.[A-Za-z0-9_-]{22}$/

/** The `jti` of a token; `random` is 16 bytes in base64url. */
export const tokenId = ({ agent_id, expires, key_id }: TokenId, random: string): string =>
  `${agent_id}.${key_id}.${expires}.${random}`

/** Reads a `jti` of ours; undefined for any other text. */
export const readTokenId = (jti: string): TokenId | undefined => {
  const [, agent_id, key_id = "", expires] = form.exec(jti) ?? []
  return agent_id === undefined ? undefined : { agent_id, key_id, expires: Number(expires) }
}

/** What two lists of scopes have in common: a token holds what it was given and its agent still has. */
export const common = (one: ReadonlyArray<string>, other: ReadonlyArray<string>): ReadonlyArray<string> => [
  ...new Set([...one.filter((scope) => mayGrant(other, scope)), ...other.filter((scope) => mayGrant(one, scope))])
]

/** An API key is asked for, and a token was given: a token buys no other token. */
export class KeyRequired extends Schema.TaggedError<KeyRequired>()(
  "KeyRequired",
  {},
  HttpApiSchema.annotations({ status: 403 })
) {}

/** No such token, or none of this agent's. */
export class TokenNotFound extends Schema.TaggedError<TokenNotFound>()(
  "TokenNotFound",
  { jti: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

/** The outside issuer's keys cannot be read, so that its tokens cannot be judged; `retry_after` is in seconds. */
export class IssuerUnavailable extends Schema.TaggedError<IssuerUnavailable>()(
  "IssuerUnavailable",
  { retry_after: Schema.Int },
  HttpApiSchema.annotations({ status: 503 })
) {}
