import { Effect, Option } from "effect"
import { RateLimited } from "../domain/RateLimit.ts"
import { RateLimits } from "../layers/RateLimits.ts"
import * as Credentials from "./Credentials.ts"

/** Probes are never refused: a flood of requests must not make a healthy process look dead. */
const uncounted = /^\/health(?:\/|$)/

/**
 * What every request goes through first. An address that is known to be over its limit costs no more than this look; a route that
 * asks for credentials counts the request together with them, and every other is counted here.
 */
export const make = Effect.gen(function* () {
  const limits = yield* RateLimits
  const charge = yield* Credentials.charging
  const ofAddress = yield* Credentials.addressCharge
  return Effect.fnUntraced(function* (address: string, path: string, asksWho: boolean) {
    if (uncounted.test(path)) return
    const charged = ofAddress(address)
    const over = yield* limits.exhausted(charged)
    if (Option.isSome(over)) {
      return yield* new RateLimited({ scope: over.value.scope, retry_after: over.value.resets_in })
    }
    if (!asksWho) yield* charge([charged])
  })
})
