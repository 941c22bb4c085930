import { randomBytes } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import { Cache, Clock, Context, Data, Duration, Effect, Exit, Layer, Option, Schema } from "effect"
import { errors, jwtVerify, SignJWT } from "jose"
import { AgentId, Forbidden, mayGrant, Unauthorized } from "../domain/Agent.ts"
import type { Actor, Caller } from "../domain/Agent.ts"
import { isId } from "../domain/Id.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { common, KeyRequired, longestLife, readTokenId, tokenId, TokenNotFound } from "../domain/Token.ts"
import type { IssuerUnavailable, TokenIssued, TokenRequest } from "../domain/Token.ts"
import { Audit } from "./Audit.ts"
import { synchronized } from "./Clock.ts"
import { storeErrors } from "./Db.ts"
import * as Metrics from "./Metrics.ts"
import * as OutsideIssuer from "./OutsideIssuer.ts"
import { algorithm, SigningKeys } from "./SigningKeys.ts"
import * as TokenText from "./TokenText.ts"

/** `iss` and `aud` of the product's own tokens. */
const ourselves = "ordinaut"

/** Of a JWT access token (RFC 9068 §2.1). */
const typ = "at+jwt"

/** A revocation, a disabled agent or a narrowed scope takes effect in every process within 5 s: this, and the time of the look. */
const standingFor = Duration.seconds(4)

/** The access tokens that API keys buy. Owns `revoked_token`. */
export class Tokens extends Context.Tag("ordinaut/Tokens")<
  Tokens,
  {
    /** A token with the caller's scopes, or with those that are asked for; it ends with the key that bought it. */
    readonly issue: (
      caller: Caller,
      request: TokenRequest
    ) => Effect.Effect<TokenIssued, Forbidden | KeyRequired | StoreUnavailable>
    /** Whose token it is. Fails alike for whatever is wrong with it, its id or its key revoked, or its agent disabled. */
    readonly authenticate: (token: string) => Effect.Effect<Caller, Unauthorized | IssuerUnavailable | StoreUnavailable>
    /** Ends a token of the actor's own, or for an admin one of the namespace; one that ended already is no matter. */
    readonly revoke: (actor: Actor, jti: string) => Effect.Effect<void, TokenNotFound | StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const audit = yield* Audit
      const keys = yield* SigningKeys
      const outside = yield* OutsideIssuer.make

      const standings = yield* Cache.makeWith({
        capacity: 10_000,
        // An outage is not remembered.
        timeToLive: (exit) => (Exit.isSuccess(exit) ? standingFor : Duration.zero),
        lookup: ({ agent, revocation }: Standing) => {
          const key = keyOf(revocation)
          return sql`
            SELECT a.id, a.name, a.namespace, a.scopes, a.rate_per_minute, a.disabled,
              EXISTS (SELECT FROM revoked_token r WHERE r.jti = ${revocation})
                OR ${key}::text IS NOT NULL AND NOT EXISTS (
                  SELECT FROM api_key k WHERE k.id = ${key} AND k.agent_id = a.id AND k.revoked_at IS NULL) AS revoked
            FROM agent a WHERE a.id = ${agent} AND a.deleted_at IS NULL`.pipe(
            Effect.flatMap(decodeStandings),
            Effect.map(([found]) => found),
            storeErrors
          )
        }
      })

      /** Whom verified claims name, with what the token and its agent both may. */
      const callerOf = Effect.fnUntraced(function* (standing: Standing, exp: number, scope: string | undefined) {
        const found = yield* standings.get(standing)
        if (found === undefined) return yield* refused("unknown")
        if (found.revoked) return yield* refused("revoked")
        if (found.disabled) return yield* refused("disabled")
        const { id, name, namespace, rate_per_minute } = found
        const scopes =
          scope === undefined
            ? found.scopes
            : common(
                scope.split(" ").filter((each) => each !== ""),
                found.scopes
              )
        return {
          id,
          name,
          namespace,
          scopes,
          rate_per_minute,
          expires_at: exp * 1000,
          key_id: keyOf(standing.revocation)
        }
      })

      const own = Effect.fnUntraced(function* (token: string, header: TokenText.TokenText["header"], now: number) {
        const { alg, kid, typ: type, ...others } = header
        if (Object.keys(others).length > 0 || alg !== algorithm || type !== typ || typeof kid !== "string") {
          return yield* refused("malformed")
        }
        const key = yield* keys.verifier(kid)
        if (key === undefined) return yield* refused("unknown")
        const { payload } = yield* Effect.tryPromise({
          try: () =>
            jwtVerify(token, key, {
              algorithms: [algorithm],
              typ,
              issuer: ourselves,
              audience: ourselves,
              requiredClaims: ["sub", "exp", "iat", "jti"],
              maxTokenAge: longestLife,
              clockTolerance: Duration.toSeconds(OutsideIssuer.leeway),
              currentDate: new Date(now)
            }),
          catch: (error) => refused(error instanceof errors.JWTExpired ? "expired" : "unknown")
        })
        const claims = yield* Option.match(decodeClaims(payload), {
          onNone: () => Effect.fail(refused("malformed")),
          onSome: (found) => Effect.succeed(found)
        })
        const named = readTokenId(claims.jti)
        if (named?.agent_id !== claims.sub || named.expires !== claims.exp || claims.exp - claims.iat > longestLife) {
          return yield* refused("malformed")
        }
        const standing = new Standing({ agent: claims.sub, revocation: claims.jti })
        return yield* callerOf(standing, claims.exp, claims.scope)
      })

      const mayRevoke = (actor: Actor, agent: string) => {
        if (agent === actor.id) return Effect.succeed(true)
        if (!actor.scopes.includes("admin") || !isId(agent)) return Effect.succeed(false)
        return Effect.map(
          sql`SELECT id FROM agent WHERE id = ${agent} AND (namespace = ${actor.namespace} OR ${actor.namespace} = 'main')`,
          (rows) => rows.length > 0
        )
      }

      return Tokens.of({
        issue: Effect.fn("Tokens.issue")(function* (caller, request) {
          if (caller.key_id === null) return yield* new KeyRequired()
          const scopes = request.scopes ?? caller.scopes
          const lacking = scopes.find((scope) => !mayGrant(caller.scopes, scope))
          if (lacking !== undefined) return yield* new Forbidden({ scope: lacking })
          const iat = Math.floor((yield* Clock.currentTimeMillis) / 1000)
          const last = caller.expires_at === null ? Infinity : Math.floor(caller.expires_at / 1000)
          const expires = Math.min(iat + request.ttl_seconds, last)
          const jti = tokenId(
            { agent_id: caller.id, key_id: caller.key_id, expires },
            randomBytes(16).toString("base64url")
          )
          const { key, kid } = yield* keys.signer
          const access_token = yield* Effect.promise(() =>
            new SignJWT({
              iss: ourselves,
              aud: ourselves,
              sub: caller.id,
              exp: expires,
              iat,
              jti,
              scope: scopes.join(" ")
            })
              .setProtectedHeader({ alg: algorithm, typ, kid })
              .sign(key)
          )
          yield* audit.record({
            actor: caller.id,
            namespace: caller.namespace,
            action: "token.issued",
            subject_kind: "token",
            subject_id: jti,
            before: null,
            after: { scopes }
          })
          return { access_token, token_type: "Bearer" as const, expires_in: expires - iat, scopes }
        }, storeErrors),

        authenticate: Effect.fn("Tokens.authenticate")(function* (token) {
          const text = TokenText.read(token)
          if (text === undefined) return yield* refused("malformed")
          yield* synchronized
          const now = yield* Clock.currentTimeMillis
          if (Option.isNone(outside) || text.claims["iss"] !== outside.value.issuer)
            return yield* own(token, text.header, now)
          const claims = yield* Effect.tapErrorTag(outside.value.claims(token, text, now), "Unauthorized", () =>
            Effect.sync(() => void refused("unknown"))
          )
          const standing = new Standing({ agent: claims.sub, revocation: outsideId(claims.sub, claims.jti) })
          return yield* callerOf(standing, claims.exp, claims.scope)
        }, storeErrors),

        revoke: Effect.fn("Tokens.revoke")(function* (actor, jti) {
          const now = yield* Clock.currentTimeMillis
          const named = readTokenId(jti)
          // An outside token says in its claims alone whose it is: an agent ends those of its own.
          const target =
            named === undefined && Option.isSome(outside)
              ? {
                  agent: String(actor.id),
                  id: outsideId(actor.id, jti),
                  until: now + Duration.toMillis(OutsideIssuer.oldest)
                }
              : { agent: named?.agent_id ?? "", id: jti, until: (named?.expires ?? Infinity) * 1000 }
          const late = target.until > now + Duration.toMillis(OutsideIssuer.oldest)
          if (late || !(yield* mayRevoke(actor, target.agent))) return yield* new TokenNotFound({ jti })
          const until = target.until + Duration.toMillis(OutsideIssuer.leeway)
          if (until <= now) return
          yield* Effect.gen(function* () {
            const fresh = yield* sql`
              INSERT INTO revoked_token (jti, agent_id, expires_at, revoked_at)
              VALUES (${target.id}, ${target.agent}, ${new Date(until)}, ${new Date(now)}) ON CONFLICT DO NOTHING RETURNING jti`
            if (fresh.length === 0) return
            yield* audit.record({
              actor: actor.id,
              namespace: actor.namespace,
              action: "token.revoked",
              subject_kind: "token",
              subject_id: jti,
              before: null,
              after: { agent_id: target.agent }
            })
          }).pipe(sql.withTransaction)
          yield* standings.invalidate(new Standing({ agent: target.agent, revocation: target.id }))
        }, storeErrors)
      })
    })
  )
}

/** Whether a token's agent may still act, and whether the token was revoked under this id, or with the key that bought it. */
class Standing extends Data.Class<{ readonly agent: string; readonly revocation: string }> {}

/** The key that bought a token of ours; null for one of an outside issuer. */
const keyOf = (revocation: string) => readTokenId(revocation)?.key_id ?? null

/** Ids of an outside issuer are unique for each of its subjects at best. */
const outsideId = (sub: string, jti: string) => `${sub}/${jti}`

const Claims = Schema.Struct({
  iss: Schema.Literal(ourselves),
  aud: Schema.Literal(ourselves),
  sub: Schema.UUID,
  exp: Schema.Int,
  iat: Schema.Int,
  jti: Schema.String,
  scope: Schema.String
})
const decodeClaims = Schema.decodeUnknownOption(Claims, { onExcessProperty: "error" })

const decodeStandings = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      id: AgentId,
      name: Schema.String,
      namespace: Schema.String,
      scopes: Schema.Array(Schema.String),
      rate_per_minute: Schema.NullOr(Schema.Int),
      disabled: Schema.Boolean,
      revoked: Schema.Boolean
    })
  )
)

const refused = (reason: "malformed" | "unknown" | "disabled" | "expired" | "revoked") => {
  Metrics.authFailures.add(1, { reason })
  return new Unauthorized()
}
