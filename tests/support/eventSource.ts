import { Effect } from "effect"
import type { Scope } from "effect"
import { request } from "node:http"
import type { IncomingMessage } from "node:http"

/** One event, as the HTML standard §9.2.6 dispatches it. */
export interface Sent {
  readonly id: string
  readonly event: string
  readonly data: Record<string, unknown>
}

/** A stream as a client sees it so far. */
export interface Source {
  readonly status: number
  readonly headers: IncomingMessage["headers"]
  readonly events: () => ReadonlyArray<Sent>
  /** The last id that the client took, which need not be of an event. */
  readonly lastEventId: () => string
  readonly comments: () => number
  /** How the answer ended: whole, or cut off; undefined while it goes on. */
  readonly end: () => "ended" | "cut" | undefined
  /** The answer's text, for those that are no stream. */
  readonly text: () => string
  readonly pause: () => void
  readonly resume: () => void
  /** Waits until something holds. */
  readonly until: (what: string, holds: (source: Source) => boolean, seconds?: number) => Effect.Effect<void>
}

/** Reads a stream by the rules of the standard: a block with an id and without data moves the id alone. */
const reader = () => {
  let rest = ""
  let id = ""
  let comments = 0
  const events: Array<Sent> = []
  const take = (block: string) => {
    const fields = new Map<string, string>()
    for (const line of block.split("\n")) {
      if (line.startsWith(":")) comments++
      const [, name = "", value = ""] = /^(\w+): ?(.*)$/.exec(line) ?? []
      if (name !== "") fields.set(name, value)
    }
    id = fields.get("id") ?? id
    const data = fields.get("data")
    if (data !== undefined) events.push({ id, event: fields.get("event") ?? "message", data: JSON.parse(data) })
  }
  return {
    add: (chunk: string) => {
      const blocks = (rest + chunk).split("\n\n")
      rest = blocks.pop() ?? ""
      blocks.forEach(take)
    },
    events: () => events,
    lastEventId: () => id,
    comments: () => comments
  }
}

const answer = (url: string, key: string, headers: Readonly<Record<string, string>>) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    request(url, { headers: { authorization: `Bearer ${key}`, ...headers }, agent: false }, resolve)
      .on("error", reject)
      .end()
  })

/** Opens a stream, which is closed with the scope. Its waits are real ones, whatever a test's clock shows. */
export const open = (
  url: string,
  key: string,
  headers: Readonly<Record<string, string>> = {}
): Effect.Effect<Source, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => answer(url, key, headers)),
    (message) => Effect.sync(() => message.destroy())
  ).pipe(
    Effect.map((message) => {
      const { add, ...read } = reader()
      let end: "ended" | "cut" | undefined
      let text = ""
      message.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk
        add(chunk)
      })
      message.on("error", () => undefined).on("close", () => (end = message.complete ? "ended" : "cut"))
      const source: Source = {
        ...read,
        status: message.statusCode ?? 0,
        headers: message.headers,
        end: () => end,
        text: () => text,
        pause: () => message.pause(),
        resume: () => message.resume(),
        until: (what, holds, seconds = 10) =>
          Effect.promise(async () => {
            for (const start = performance.now(); !holds(source); await new Promise((next) => setTimeout(next, 5))) {
              if (performance.now() - start > seconds * 1000) {
                throw new Error(`within ${seconds} s there was no ${what}; the stream said:\n${text}`)
              }
            }
          })
      }
      return source
    })
  )
