import { timingSafeEqual, createHash } from "node:crypto"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Effect, Option, Redacted } from "effect"
import { Unauthorized } from "../domain/Agent.ts"
import { tzdataVersion } from "../domain/Zone.ts"
import { Health } from "../layers/Health.ts"
import type { HealthState } from "../layers/Health.ts"
import * as Prometheus from "../layers/Prometheus.ts"
import * as Settings from "../layers/Settings.ts"
import { version } from "../layers/Version.ts"
import { securityHeaders } from "./SecurityHeaders.ts"

const worst = (states: ReadonlyArray<HealthState>): HealthState =>
  states.includes("unhealthy") ? "unhealthy" : states.includes("degraded") ? "degraded" : "healthy"

/** Every part of the system; 503 only when the API cannot serve, which is when the database or its schema is not there. */
export const report = (health: typeof Health.Service) =>
  Effect.map(health.parts, (parts) =>
    HttpServerResponse.unsafeJson(
      { state: worst(Object.values(parts).map(({ state }) => state)), version, tzdata: tzdataVersion, parts },
      {
        status:
          worst([parts["database"], parts["migrations"]].flatMap((part) => part?.state ?? [])) === "unhealthy"
            ? 503
            : 200
      }
    )
  )

/** Whether this process should get requests. */
export const readiness = (health: typeof Health.Service) =>
  Effect.map(health.ready, (part) =>
    HttpServerResponse.unsafeJson(part, { status: part.state === "healthy" ? 200 : 503 })
  )

const digest = (text: string) => createHash("sha256").update(text).digest()

/** The metrics of this process, for whoever may have them. */
export const metrics = Effect.map(Settings.metricsToken, (token) =>
  Effect.gen(function* () {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const given = (headers["authorization"] ?? "").replace(/^Bearer /i, "")
    if (Option.isSome(token) && !timingSafeEqual(digest(given), digest(Redacted.value(token.value)))) {
      return yield* new Unauthorized()
    }
    return HttpServerResponse.text(yield* Effect.promise(Prometheus.text), { contentType: Prometheus.contentType })
  })
)

/** What a scheduler or a worker serves: health and metrics. */
export const app = Effect.gen(function* () {
  const health = yield* Health
  return HttpRouter.empty.pipe(
    HttpRouter.get("/health", report(health)),
    HttpRouter.get("/health/ready", readiness(health)),
    HttpRouter.get("/health/live", HttpServerResponse.unsafeJson({ state: "healthy" })),
    HttpRouter.get("/metrics", yield* metrics),
    Effect.catchTags({
      RouteNotFound: () => HttpServerResponse.empty({ status: 404 }),
      Unauthorized: () => HttpServerResponse.empty({ status: 401, headers: { "www-authenticate": "Bearer" } })
    }),
    Effect.map(HttpServerResponse.setHeaders(securityHeaders))
  )
})
