import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { Effect, Redacted } from "effect"
import { Unauthorized } from "../domain/Agent.ts"
import { Agents } from "../layers/Agents.ts"
import * as Metrics from "../layers/Metrics.ts"
import { Tokens } from "../layers/Tokens.ts"

/** Whether a bearer token is meant as an API key; anything else is judged as an access token. */
export const isKey = (token: Redacted.Redacted): boolean => Redacted.value(token).startsWith("ord_")

/** Who sends a request, by its bearer token: an API key or an access token. Fails alike for all that are not good. */
export const caller = Effect.map(Effect.all({ agents: Agents, tokens: Tokens }), ({ agents, tokens }) =>
  Effect.fnUntraced(function* (token: Redacted.Redacted) {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const text = Redacted.value(token)
    // The platform cuts off the first seven characters, whatever scheme they name.
    if (text === "" || !/^Bearer /i.test(headers["authorization"] ?? "")) {
      Metrics.authFailures.add(1, { reason: "absent" })
      return yield* new Unauthorized()
    }
    return yield* isKey(token) ? agents.authenticate(text) : tokens.authenticate(text)
  })
)
