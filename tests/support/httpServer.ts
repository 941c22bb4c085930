import { Effect } from "effect"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { Socket } from "node:net"
import { portOf } from "./ports.ts"

/** A request as a test server saw it, whole. */
export interface Seen {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage["headers"]
  readonly rawHeaders: ReadonlyArray<string>
  readonly body: string
}

/** An HTTP server on a free loopback port. */
export interface HttpServer {
  readonly port: number
  readonly url: string
  readonly seen: Array<Seen>
  /** Connections that it ever accepted, and those that are open. */
  readonly accepted: () => number
  readonly open: () => number
  /** Resolves when no connection is open any more. */
  readonly idle: () => Promise<void>
}

/** Starts a server whose answers a test writes; it is gone, with its connections, when the scope closes. */
export const serve = (answer: (request: Seen, response: ServerResponse) => unknown) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets = new Set<Socket>()
      const seen: Array<Seen> = []
      let accepted = 0
      const waiting = new Set<() => void>()
      const server = createServer((request, response) => {
        const chunks: Array<Uint8Array> = []
        request.on("data", (chunk: Uint8Array) => chunks.push(chunk))
        request.on("error", () => undefined)
        request.on("end", () => {
          const { headers, method = "", rawHeaders, url = "" } = request
          const one = { method, path: url, headers, rawHeaders, body: Buffer.concat(chunks).toString() }
          seen.push(one)
          answer(one, response)
        })
      })
      server.on("connection", (socket) => {
        accepted++
        sockets.add(socket)
        socket.on("error", () => undefined)
        socket.once("close", () => {
          sockets.delete(socket)
          if (sockets.size === 0) for (const told of waiting) told()
        })
      })
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      const port = portOf(server)
      const made: HttpServer = {
        port,
        url: `http://127.0.0.1:${port}`,
        seen,
        accepted: () => accepted,
        open: () => sockets.size,
        idle: () => (sockets.size === 0 ? Promise.resolve() : new Promise((resolve) => waiting.add(resolve)))
      }
      return { made, server, sockets }
    }),
    ({ server, sockets }) =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
        server.close()
      })
  ).pipe(Effect.map(({ made }) => made))

/** A server that answers every request with this status, these headers and this body. */
export const answering = (status: number, headers: Record<string, string>, body: string | Uint8Array) =>
  serve((_, response) => response.writeHead(status, headers).end(body))
