import { createServer, connect } from "node:net"
import type { AddressInfo, Socket } from "node:net"
import { Effect } from "effect"

/** A TCP proxy on a free loopback port that a test can make fall silent, or cut. */
export interface Proxy {
  readonly port: number
  /** Connections made before now swallow every byte from here on, in both directions, and stay open. */
  readonly freeze: () => void
  /** All connections are reset. */
  readonly cut: () => void
}

/** Puts a proxy before a server; it is gone when the scope closes. */
export const proxyTo = (host: string, port: number) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const pairs = new Set<{ readonly near: Socket; readonly far: Socket; frozen: boolean }>()
      const server = createServer((near) => {
        const far = connect(port, host)
        const pair = { near, far, frozen: false }
        pairs.add(pair)
        const link = (from: Socket, to: Socket) => {
          from.on("data", (bytes) => {
            if (!pair.frozen) to.write(bytes)
          })
          from.on("error", () => to.destroy())
          from.on("close", () => {
            if (pair.frozen) return
            to.destroy()
            pairs.delete(pair)
          })
        }
        link(near, far)
        link(far, near)
      })
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      const proxy: Proxy = {
        port: (server.address() as AddressInfo).port,
        freeze: () => {
          for (const pair of pairs) pair.frozen = true
        },
        cut: () => {
          for (const { far, near } of pairs) {
            near.resetAndDestroy()
            far.destroy()
          }
        }
      }
      return { proxy, server, pairs }
    }),
    ({ pairs, server }) =>
      Effect.sync(() => {
        for (const { far, near } of pairs) {
          near.destroy()
          far.destroy()
        }
        server.close()
      })
  ).pipe(Effect.map(({ proxy }) => proxy))
