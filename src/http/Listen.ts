import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Effect, Layer, Option } from "effect"
import * as EdgeSettings from "../layers/EdgeSettings.ts"
import * as Settings from "../layers/Settings.ts"
import * as NodeServer from "./NodeServer.ts"
import * as Ops from "./Ops.ts"

const listening = (host: string, port: number, connections = NodeServer.limits.connections) =>
  NodeHttpServer.layer(() => NodeServer.make({ ...NodeServer.limits, connections }), { host, port })

/** A server on `HOST` and `PORT`, or on the loopback unless `HOST` says otherwise. */
export const api = (fallbackHost: string) =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const host = Option.getOrElse(yield* Settings.host, () => fallbackHost)
      return listening(host, yield* Settings.port, yield* EdgeSettings.maxConnections)
    })
  )

/** Health and metrics of a scheduler or worker, on `OPS_PORT`; a default port that is taken gives way to a free one. */
export const ops = (fallbackPort: number) =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const host = Option.getOrElse(yield* Settings.host, () => "0.0.0.0")
      const port = yield* Settings.opsPort
      const app = HttpServer.serve(yield* Ops.app)
      const on = (wanted: number) => HttpServer.withLogAddress(app).pipe(Layer.provide(listening(host, wanted)))
      return Option.match(port, {
        onSome: (wanted) => on(wanted),
        onNone: () => on(fallbackPort).pipe(Layer.catchAll(() => on(0)))
      })
    })
  )
