import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Unauthorized } from "../domain/Agent.ts"
import { Instant } from "../domain/Instant.ts"
import { SystemRead } from "./Auth.ts"

const state = Schema.Literal("healthy", "degraded", "unhealthy")
const Part = Schema.Struct({ state, latency_ms: Schema.Number, detail: Schema.String })

/** Every part of the system. */
export const HealthReport = Schema.Struct({
  state,
  version: Schema.String,
  tzdata: Schema.String,
  parts: Schema.Record({ key: Schema.String, value: Part })
}).annotations({ identifier: "HealthReport" })

const Live = Schema.Struct({
  id: Schema.String,
  program: Schema.String,
  host: Schema.String,
  pid: Schema.Int,
  version: Schema.String,
  started_at: Instant,
  last_seen: Instant,
  running: Schema.Int,
  concurrency: Schema.Int
})

/** How the system is. */
export class SystemApi extends HttpApiGroup.make("system")
  .add(
    HttpApiEndpoint.get("health", "/health")
      .addSuccess(HealthReport)
      .annotate(OpenApi.Summary, "Every part with its latency; 503 when the API cannot serve")
  )
  .add(
    HttpApiEndpoint.get("ready", "/health/ready")
      .addSuccess(Part)
      .annotate(OpenApi.Summary, "Whether this process can serve; 503 when it cannot")
  )
  .add(
    HttpApiEndpoint.get("live", "/health/live")
      .addSuccess(Schema.Struct({ state }))
      .annotate(OpenApi.Summary, "Whether this process answers at all")
  )
  .add(
    HttpApiEndpoint.get("metrics", "/metrics")
      .addSuccess(
        Schema.String.pipe(HttpApiSchema.withEncoding({ kind: "Text", contentType: "text/plain" })).annotations({
          description: "Prometheus text format 0.0.4"
        })
      )
      .addError(Unauthorized)
      .annotate(OpenApi.Summary, "Metrics of this process")
  )
  .add(
    HttpApiEndpoint.get("workers", "/workers")
      .addSuccess(Schema.Struct({ items: Schema.Array(Live) }))
      .middleware(SystemRead)
      .annotate(OpenApi.Summary, "Live workers and schedulers")
  )
  .add(
    HttpApiEndpoint.get("queue", "/queue")
      .addSuccess(
        Schema.Struct({
          by_state: Schema.Record({ key: Schema.String, value: Schema.Int }),
          by_priority: Schema.Record({ key: Schema.String, value: Schema.Int }),
          oldest_ready_seconds: Schema.NullOr(Schema.Number),
          later_next: Schema.NullOr(Instant)
        })
      )
      .middleware(SystemRead)
      .annotate(OpenApi.Summary, "Depth and age of the queue")
  ) {}
