import { Duration, Effect, Option, Schema } from "effect"
import { createRemoteJWKSet, customFetch, errors, jwtVerify } from "jose"
import type { JWTVerifyGetKey } from "jose"
import { IssuerUnavailable } from "../domain/Token.ts"
import { Unauthorized } from "../domain/Agent.ts"
import * as EdgeSettings from "./EdgeSettings.ts"
import * as Settings from "./Settings.ts"
import type { TokenText } from "./TokenText.ts"

/** Signatures with a public key alone: a secret that the verifier shares could forge. */
const algorithms = ["EdDSA", "Ed25519", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"]

/** No token of an outside issuer is taken that is older. */
export const oldest = Duration.hours(24)

/** Leeway of every instant in a token. */
export const leeway = Duration.seconds(30)

const mostBytes = 262_144
const answerWithin = Duration.seconds(5)
const reloadAtMostEvery = Duration.seconds(30)
const keptFor = Duration.minutes(10)

/** Header parameters that bring or name keys, or that ask for what is not understood here. */
const refusedParameters = ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"]

/** The claims of an outside token that are used. `scope` narrows what its agent may do; without it nothing is narrowed. */
const Claims = Schema.Struct({
  sub: Schema.UUID,
  jti: Schema.NonEmptyString.pipe(Schema.maxLength(200)),
  iat: Schema.Int,
  exp: Schema.Int,
  scope: Schema.optionalWith(Schema.String, { exact: true })
})

/** What an outside token says, its signature verified. */
export type OutsideClaims = typeof Claims.Type

const decodeClaims = Schema.decodeUnknownOption(Claims)

/** The key set's text, of bounded size. */
const bounded = async (url: string, init: RequestInit): Promise<Response> => {
  const answer = await fetch(url, init)
  const chunks: Array<Uint8Array> = []
  let size = 0
  for await (const chunk of answer.body ?? []) {
    size += chunk.length
    if (size > mostBytes) throw new Error(`the key set has more than ${mostBytes} bytes`)
    chunks.push(chunk)
  }
  return new Response(Buffer.concat(chunks), { status: answer.status })
}

/** The key set could not be read, which is no fault of the token's. */
class KeysUnreadable extends Error {}

const isTokensFault = (error: unknown): boolean =>
  error instanceof errors.JOSEError &&
  !(error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid) &&
  error.code !== errors.JOSEError.code

const keySet = (url: URL): JWTVerifyGetKey => {
  const keys = createRemoteJWKSet(url, {
    timeoutDuration: Duration.toMillis(answerWithin),
    cooldownDuration: Duration.toMillis(reloadAtMostEvery),
    cacheMaxAge: Duration.toMillis(keptFor),
    [customFetch]: bounded
  })
  return async (header, token) => {
    try {
      return await keys(header, token)
    } catch (cause) {
      throw isTokensFault(cause) ? cause : new KeysUnreadable("the key set could not be read", { cause })
    }
  }
}

/** What judges the tokens of the outside issuer; none where `JWKS_URL` is not set. Fails where the settings go half-way. */
export const make = Effect.gen(function* () {
  const url = yield* EdgeSettings.jwksUrl
  const issuer = yield* EdgeSettings.jwtIssuer
  const audience = yield* EdgeSettings.jwtAudience
  const missing = [
    ...(Option.isNone(url) ? ["JWKS_URL"] : []),
    ...(Option.isNone(issuer) ? ["JWT_ISSUER"] : []),
    ...(Option.isNone(audience) ? ["JWT_AUDIENCE"] : [])
  ]
  if (missing.length === 3) return Option.none()
  if (Option.isNone(url) || Option.isNone(issuer) || Option.isNone(audience)) {
    const [name = ""] = missing
    return yield* Effect.fail(
      Settings.invalid(name, `${name} takes a value too where another of JWKS_URL, JWT_ISSUER and JWT_AUDIENCE is set`)
    )
  }
  const keys = keySet(url.value)
  return Option.some({
    issuer: issuer.value,
    /** Fails alike for every token that is not good. `now` is in epoch milliseconds. */
    claims: Effect.fnUntraced(function* (token: string, { header }: TokenText, now: number) {
      if (refusedParameters.some((name) => Object.hasOwn(header, name))) return yield* new Unauthorized()
      const verified = yield* Effect.tryPromise({
        try: () =>
          jwtVerify(token, keys, {
            algorithms,
            typ: "at+jwt",
            issuer: issuer.value,
            audience: audience.value,
            requiredClaims: ["sub", "exp", "iat", "jti"],
            maxTokenAge: Duration.toSeconds(oldest),
            clockTolerance: Duration.toSeconds(leeway),
            currentDate: new Date(now)
          }),
        catch: (error) =>
          error instanceof KeysUnreadable ? new IssuerUnavailable({ retry_after: 5 }) : new Unauthorized()
      }).pipe(
        Effect.tapErrorTag("IssuerUnavailable", () =>
          Effect.logWarning("The keys of the outside issuer cannot be read.")
        )
      )
      return yield* Option.match(decodeClaims(verified.payload), {
        onNone: () => Effect.fail(new Unauthorized()),
        onSome: (claims) => Effect.succeed({ ...claims, sub: claims.sub.toLowerCase() })
      })
    })
  })
})
