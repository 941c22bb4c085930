import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Forbidden } from "../domain/Agent.ts"
import { Revocation, TokenIssued, TokenNotFound, TokenRequest } from "../domain/Token.ts"
import { AnyAgent, KeyHolder } from "./Auth.ts"
import { body } from "./Bounded.ts"

const Key = Schema.Struct({
  kty: Schema.String,
  crv: Schema.String,
  x: Schema.String,
  kid: Schema.String,
  use: Schema.String,
  alg: Schema.String
})

/** Short-lived tokens in the place of API keys. */
export class AuthApi extends HttpApiGroup.make("auth")
  .add(
    HttpApiEndpoint.post("token", "/auth/token")
      .setPayload(body(TokenRequest))
      .addSuccess(TokenIssued)
      .addError(Forbidden)
      .middleware(KeyHolder)
      .annotate(OpenApi.Summary, "An access token for an API key, with its agent's scopes or fewer")
  )
  .add(
    HttpApiEndpoint.post("revoke", "/auth/revoke")
      .setPayload(body(Revocation))
      .addSuccess(Schema.Void, { status: 204 })
      .addError(TokenNotFound)
      .middleware(AnyAgent)
      .annotate(OpenApi.Summary, "End a token before its time, by its jti")
  )
  .add(
    HttpApiEndpoint.get("keys", "/.well-known/jwks.json")
      .addSuccess(Schema.Struct({ keys: Schema.Array(Key) }).annotations({ identifier: "KeySet" }))
      .annotate(OpenApi.Summary, "The public keys of the access tokens, as a JWK Set")
  ) {}
