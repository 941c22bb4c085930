import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Effect } from "effect"
import * as EdgeSettings from "../layers/EdgeSettings.ts"

/** What a page may read of an answer beside its body. */
const exposed = [
  "ETag",
  "Location",
  "Retry-After",
  "X-Request-Id",
  "RateLimit",
  "RateLimit-Policy",
  "Idempotency-Replayed"
].join(", ")

const allowed = {
  "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
  "access-control-allow-headers":
    "Authorization, Content-Type, If-Match, Idempotency-Key, Last-Event-ID, X-Request-Id, traceparent",
  "access-control-max-age": "600"
}

/** How pages of other origins are answered (Fetch standard, CORS protocol). */
export interface Cors {
  /** What an answer bears: nothing but `Vary` for an origin that is not listed, and nothing at all while none is. */
  readonly headers: (request: HttpServerRequest.HttpServerRequest) => Readonly<Record<string, string>>
  /** The answer to a preflight from a listed origin; undefined for every other request. */
  readonly preflight: (
    request: HttpServerRequest.HttpServerRequest
  ) => HttpServerResponse.HttpServerResponse | undefined
}

/** CORS for the origins of `CORS_ORIGINS` alone: off without, and never for `*`. Credentials are bearer tokens, so no cookie is allowed. */
export const make: Effect.Effect<Cors, Effect.Effect.Error<typeof EdgeSettings.corsOrigins>> = Effect.map(
  EdgeSettings.corsOrigins,
  (list) => {
    const origins = new Set(list)
    const listed = ({ headers }: HttpServerRequest.HttpServerRequest) => origins.has(headers["origin"] ?? "")
    return {
      headers: (request) => {
        if (origins.size === 0) return {}
        return listed(request)
          ? {
              vary: "Origin",
              "access-control-allow-origin": request.headers["origin"] ?? "",
              "access-control-expose-headers": exposed
            }
          : { vary: "Origin" }
      },
      preflight: (request) =>
        request.method === "OPTIONS" &&
        listed(request) &&
        request.headers["access-control-request-method"] !== undefined
          ? HttpServerResponse.empty({ status: 204, headers: allowed })
          : undefined
    }
  }
)
