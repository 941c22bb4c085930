import { AsyncLocalStorage } from "node:async_hooks"
import type { Readable } from "node:stream"
import { StepFailed } from "../domain/StepFailed.ts"
import { statusFailure } from "./HttpAnswers.ts"
import type { Answer, Outgoing } from "./Outgoing.ts"
import { failureOf } from "./OutgoingFailure.ts"

/** One call of a server under way: its requests are all those that are made within it. */
export interface McpCall {
  /** Ends the requests of the call. */
  readonly signal: AbortSignal
  /** Whether the server numbered its messages, so that the SDK takes up a stream that broke off. */
  resumable: boolean
  /** Told when an answer broke off or ended without being whole; ignored by a call that is over. */
  readonly onLost: (failure: StepFailed) => void
}

/** Which call a request belongs to: the SDK aborts no request by itself, and does not tell that a stream is over. */
export const currentCall = new AsyncLocalStorage<McpCall>()

/** Time that the SDK gets to read the last message of a stream that has ended. */
const readingMillis = 100

const bodiless: ReadonlySet<number> = new Set([204, 205, 304])

/** By the protocol it is 404; servers that are new to a session also say 400. */
const forgotten: ReadonlySet<number | undefined> = new Set([400, 404])

/** Whether a status may mean that a session is gone. */
export const isForgotten = (status: number | undefined): boolean => forgotten.has(status)

/** A `fetch` for the SDK's transport that goes through the guarded client. `now` gives epoch milliseconds. */
export const mcpFetch =
  (outgoing: typeof Outgoing.Service, now: () => number) =>
  async (target: string | URL, init: RequestInit = {}): Promise<Response> => {
    const headers = new Headers(init.headers)
    const method = init.method ?? "GET"
    const resumes = method === "GET"
    // Servers may send messages of their own accord on such a stream; none is wanted, and none needs a connection.
    if (resumes && !headers.has("last-event-id")) return new Response(null, { status: 405 })
    const call = currentCall.getStore()
    const own = call === undefined || call.signal.aborted ? [] : [call.signal]
    const signal = AbortSignal.any([...own, ...(init.signal ? [init.signal] : [])])
    const url = new URL(target)
    const body = typeof init.body === "string" ? init.body : undefined
    try {
      const answer = await outgoing.open({ method, url, headers: new Map(headers), body }, signal)
      return responseOf(answer, resumes, call, url.origin, now())
    } catch (cause) {
      // The SDK would try again, and in the end say nothing.
      if (resumes) call?.onLost(failureOf(cause, url.origin))
      throw cause
    }
  }

const responseOf = (
  { body, headers, status }: Answer<Readable>,
  resumes: boolean,
  call: McpCall | undefined,
  origin: string,
  now: number
): Response => {
  const init = { status, headers: [...headers] }
  if (status >= 300 && (resumes || (status !== 405 && !isForgotten(status)))) {
    body.on("error", () => undefined).destroy()
    throw statusFailure(status, headers, now)
  }
  if (bodiless.has(status)) {
    body.resume()
    return new Response(null, init)
  }
  let broken: unknown
  body.once("error", (cause) => (broken = cause))
  body.once("close", () => {
    const lost = () => call?.onLost(failureOf(broken, origin))
    // What is wrong with an answer itself will not be better when it is asked for again.
    if (broken instanceof StepFailed || call?.resumable === false) setTimeout(lost, readingMillis).unref()
  })
  return new Response(ReadableStream.from(body), init)
}
