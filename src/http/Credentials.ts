import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Duration, Effect, Redacted } from "effect"
import { Unauthorized } from "../domain/Agent.ts"
import * as ApiKey from "../domain/ApiKey.ts"
import { delayOf, headersOf, isExceeded, RateLimited } from "../domain/RateLimit.ts"
import type { Standing } from "../domain/RateLimit.ts"
import { Agents } from "../layers/Agents.ts"
import { AuthFailures } from "../layers/AuthFailures.ts"
import * as EdgeSettings from "../layers/EdgeSettings.ts"
import * as Metrics from "../layers/Metrics.ts"
import { RateLimits } from "../layers/RateLimits.ts"
import type { Charge } from "../layers/RateLimits.ts"
import { Tokens } from "../layers/Tokens.ts"
import { network } from "./ClientAddress.ts"
import { Visit } from "./Visit.ts"

const keyPrefix = "ord_"

/** Whether a bearer token is meant as an API key; anything else is judged as an access token. */
export const isKey = (token: Redacted.Redacted): boolean => Redacted.value(token).startsWith(keyPrefix)

/** The text of a request's bearer token; empty where it has none. */
export const bearerOf = ({ headers }: HttpServerRequest.HttpServerRequest): string =>
  /^Bearer +(.*)$/i.exec(headers["authorization"] ?? "")?.[1] ?? ""

/** Whom a bearer token names by now. Nothing is charged: for who looks again while an answer goes on. */
export const standing = Effect.map(
  Effect.all([Agents, Tokens]),
  ([agents, tokens]) =>
    (text: string) =>
      text.startsWith(keyPrefix) ? agents.authenticate(text) : tokens.authenticate(text)
)

/** Fails where a counter has passed its limit. */
const within = (standings: ReadonlyArray<Standing>) => {
  const over = standings.find(isExceeded)
  return over === undefined
    ? Effect.void
    : Effect.fail(new RateLimited({ scope: over.scope, retry_after: over.resets_in }))
}

/** Counts a request, tells the client how it stands, and fails where that is over a limit. */
export const charging = Effect.map(RateLimits, (limits) =>
  Effect.fnUntraced(function* (charges: ReadonlyArray<Charge>) {
    const standings = yield* limits.charge(charges)
    yield* HttpApp.appendPreResponseHandler((_, response) =>
      Effect.succeed(HttpServerResponse.setHeaders(response, headersOf(standings)))
    )
    yield* within(standings)
  })
)

/** What a request from an address is charged, wherever it goes. */
export const addressCharge = Effect.map(EdgeSettings.rateAddress, (limit) => (address: string): Charge => ({
  scope: "address",
  id: network(address),
  limit
}))

/**
 * Who sends a request, by its bearer token: an API key or an access token. Fails alike for all that are not good, and for those
 * alone with `RateLimited` where there were too many from their address, or for their key: good ones pass whatever others tried.
 */
export const caller = Effect.gen(function* () {
  const standingOf = yield* standing
  const failures = yield* AuthFailures
  const limits = yield* RateLimits
  const charge = yield* charging
  const ofAddress = yield* addressCharge
  const rateAgent = yield* EdgeSettings.rateAgent
  const limit = yield* EdgeSettings.rateAuthFailures

  const refused = Effect.fnUntraced(function* (text: string, address: string) {
    const key = ApiKey.parse(text)
    yield* failures.count(key?.id ?? null, address)
    const standings = yield* limits.charge([
      { scope: "auth_failures", id: `address:${network(address)}`, limit },
      ...(key === undefined ? [] : [{ scope: "auth_failures" as const, id: `key:${key.id}`, limit }])
    ])
    yield* within(standings)
    const delay = Math.max(...standings.map(delayOf))
    if (delay > 0) yield* Effect.sleep(Duration.millis(delay))
    return yield* new Unauthorized()
  })

  return Effect.fnUntraced(function* (token: Redacted.Redacted) {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const visit = yield* Visit
    const text = Redacted.value(token)
    // The platform cuts off the first seven characters, whatever scheme they name.
    if (text === "" || !/^Bearer /i.test(headers["authorization"] ?? "")) {
      Metrics.authFailures.add(1, { reason: "absent" })
      yield* charge([ofAddress(visit.address)])
      return yield* new Unauthorized()
    }
    const found = yield* standingOf(text).pipe(
      Effect.catchTag("Unauthorized", () =>
        Effect.zipRight(charge([ofAddress(visit.address)]), refused(text, visit.address))
      )
    )
    visit.caller = found
    yield* charge([
      { scope: "agent", id: found.id, limit: found.rate_per_minute ?? rateAgent },
      ofAddress(visit.address)
    ])
    return found
  })
})
