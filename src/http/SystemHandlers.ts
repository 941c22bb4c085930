import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Effect } from "effect"
import { Health } from "../layers/Health.ts"
import { Heartbeats } from "../layers/Heartbeats.ts"
import { Queue } from "../layers/Queue.ts"
import { Api } from "./Api.ts"
import * as Ops from "./Ops.ts"

export const SystemHandlers = HttpApiBuilder.group(Api, "system", (handlers) =>
  Effect.gen(function* () {
    const health = yield* Health
    const heartbeats = yield* Heartbeats
    const queue = yield* Queue
    const metrics = yield* Ops.metrics
    return handlers
      .handle("health", () => Ops.report(health))
      .handle("ready", () => Ops.readiness(health))
      .handle("live", () => HttpServerResponse.unsafeJson({ state: "healthy" }))
      .handle("metrics", () => metrics)
      .handle("workers", () => Effect.map(heartbeats.live, (items) => ({ items })))
      .handle("queue", () => queue.depth)
  })
)
