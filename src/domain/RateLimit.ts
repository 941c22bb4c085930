import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"

/** What is counted: requests of an agent, requests of an address, failed authentications. */
export const RateScope = Schema.Literal("agent", "address", "auth_failures")
export type RateScope = typeof RateScope.Type

/** The length of a window, in seconds. */
export const windowSeconds = 60

/** How a counter stands after one more was counted. */
export interface Standing {
  readonly scope: RateScope
  /** How many the window takes. */
  readonly limit: number
  /** How many it has had, this one included. */
  readonly count: number
  /** Seconds until the next window, at least 1. */
  readonly resets_in: number
}

/** Whether one more was one too many. */
export const isExceeded = ({ count, limit }: Standing): boolean => count > limit

/**
 * The headers that tell a client how it stands, in the form of draft-ietf-httpapi-ratelimit-headers-10: one item for each counter,
 * `q` the quota of a window of `w` seconds, `r` what is left of it, `t` the seconds until the next.
 */
export const headersOf = (standings: ReadonlyArray<Standing>): Readonly<Record<string, string>> => ({
  "ratelimit-policy": standings.map(({ limit, scope }) => `"${scope}";q=${limit};w=${windowSeconds}`).join(", "),
  ratelimit: standings
    .map(({ count, limit, resets_in, scope }) => `"${scope}";r=${Math.max(0, limit - count)};t=${resets_in}`)
    .join(", ")
})

/**
 * How long the answer to a failed authentication is held back, in milliseconds: nothing for the first third of the failures that
 * are allowed, then twice as long each time, 2 s at most.
 */
export const delayOf = ({ count, limit }: Standing): number =>
  count <= limit / 3 ? 0 : Math.min(2000, 25 * 2 ** Math.min(10, count - Math.floor(limit / 3)))

/** Over a limit; `retry_after` is in seconds. */
export class RateLimited extends Schema.TaggedError<RateLimited>()(
  "RateLimited",
  { scope: RateScope, retry_after: Schema.Int },
  HttpApiSchema.annotations({ status: 429 })
) {}

/** As many event streams are open as may be: of the agent, or at this process. */
export class TooManyStreams extends Schema.TaggedError<TooManyStreams>()(
  "TooManyStreams",
  { scope: Schema.Literal("agent", "process"), limit: Schema.Int, retry_after: Schema.Int },
  HttpApiSchema.annotations({ status: 429 })
) {}
