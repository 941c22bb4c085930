import { Effect, Schema } from "effect"
import type { Fleet } from "./Fleet.ts"
import type { Record } from "./Record.ts"

/** An answer of the API; its body is JSON, or null. */
export interface Answer {
  readonly status: number
  readonly body: unknown
}

/** Requests to an API that may be away. */
export interface Client {
  /** One request; undefined where no answer came, so that nobody knows whether it was done. */
  readonly send: (method: string, path: string, body?: unknown) => Effect.Effect<Answer | undefined>
  /** Repeats a request that may be repeated until it is answered by other than 503; a minute at most. */
  readonly insist: (method: string, path: string, body?: unknown) => Effect.Effect<Answer | undefined>
}

const decodeJson = Schema.decodeUnknownSync(Schema.parseJson())

/** A server error other than 503 is a violation. */
export const makeClient = ({ api, key }: Pick<Fleet, "api" | "key">, record: Record): Client => {
  const send: Client["send"] = (method, path, body) =>
    Effect.promise(async (): Promise<Answer | undefined> => {
      const url = api()
      if (url === undefined) return undefined
      try {
        const answer = await fetch(`${url}${path}`, {
          method,
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          signal: AbortSignal.timeout(8000)
        })
        const text = await answer.text()
        if (answer.status >= 500 && answer.status !== 503)
          record.wrong(`${method} ${path} answers ${answer.status}: ${text}`)
        record.answer(`${answer.status}`)
        return { status: answer.status, body: text === "" ? null : decodeJson(text) }
      } catch {
        record.answer("no answer")
        return undefined
      }
    })
  return {
    send,
    insist: (method, path, body) =>
      send(method, path, body).pipe(
        Effect.tap((answer) =>
          answer === undefined || answer.status === 503 ? Effect.sleep("200 millis") : Effect.void
        ),
        Effect.repeat({ until: (answer) => answer !== undefined && answer.status !== 503 }),
        Effect.timeoutTo({ duration: "60 seconds", onSuccess: (answer) => answer, onTimeout: () => undefined }),
        Effect.tap((answer) =>
          Effect.sync(() => {
            if (answer === undefined) record.wrong(`${method} ${path} got no answer within a minute`)
          })
        )
      )
  }
}
