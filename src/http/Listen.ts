import { createServer } from "node:http"
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Duration, Effect, Layer, Option } from "effect"
import * as Settings from "../layers/Settings.ts"
import * as Ops from "./Ops.ts"

/** Headers within this time; a whole request within `requestWithin`. */
const headersWithin = Duration.seconds(10)
const requestWithin = Duration.seconds(30)

/** A server that answers 503 to what arrives after the API let go of it, where a request would otherwise hang. */
const makeServer = () => {
  const server = createServer({
    headersTimeout: Duration.toMillis(headersWithin),
    requestTimeout: Duration.toMillis(requestWithin),
    maxHeaderSize: 16_384,
    connectionsCheckingInterval: 5000
  })
  server.on("request", (_, response) => {
    if (server.listenerCount("request") === 1) {
      response.writeHead(503, { connection: "close", "retry-after": "1" }).end()
    }
  })
  return server
}

const listening = (host: string, port: number) => NodeHttpServer.layer(makeServer, { host, port })

/** A server on `HOST` and `PORT`, or on the loopback unless `HOST` says otherwise. */
export const api = (fallbackHost: string) =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const host = Option.getOrElse(yield* Settings.host, () => fallbackHost)
      return listening(host, yield* Settings.port)
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
