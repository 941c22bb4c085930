import { connect } from "node:net"
import type { Socket } from "node:net"

/** What a connection brought until it was closed, or until the test had seen enough. */
export interface Exchange {
  readonly text: string
  /** Whether the server closed it. */
  readonly closed: boolean
  readonly seconds: number
}

/** Opens a connection, lets `talk` write to it, and reads until the server closes it or `seconds` are over. */
export const exchange = (origin: string, talk: (socket: Socket) => void, seconds = 3) =>
  new Promise<Exchange>((resolve) => {
    const { hostname, port } = new URL(origin)
    const started = performance.now()
    const socket = connect(Number(port), hostname)
    let text = ""
    const end = (closed: boolean) => {
      clearTimeout(timer)
      socket.destroy()
      resolve({ text, closed, seconds: (performance.now() - started) / 1000 })
    }
    const timer = setTimeout(() => end(false), seconds * 1000)
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk))
    socket.on("error", () => undefined).on("close", () => end(true))
    talk(socket)
  })

/** Writes a text and reads the answer. */
export const say = (origin: string, text: string | Uint8Array, seconds?: number) =>
  exchange(origin, (socket) => socket.write(text), seconds)

/** The status of the first answer; 0 for none. */
export const statusOf = ({ text }: Exchange): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0)

/** How many answers came. */
export const answersIn = ({ text }: Exchange): number => [...text.matchAll(/HTTP\/1\.1 \d{3}/g)].length
