import { Context, Duration, Effect, Layer } from "effect"
import * as dns from "node:dns"
import type { Readable } from "node:stream"
import { Agent } from "undici"
import { headerNameProblem, headerValueProblem } from "../domain/HeaderFields.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import { acceptedEncodings, collect, maxAnswerBytes, readable, tooLarge } from "./OutgoingBody.ts"
import { guardedConnector, type Resolve } from "./OutgoingConnector.ts"
import { failureOf } from "./OutgoingFailure.ts"
import * as Settings from "./Settings.ts"
import { makeTargets, type Targets } from "./Targets.ts"

/** A request that leaves. */
export interface OutgoingRequest {
  readonly method: string
  readonly url: URL
  /** Names in lower case; those that rule the connection are refused. */
  readonly headers: ReadonlyMap<string, string>
  readonly body?: string | Uint8Array | undefined
  /** W3C trace context of the caller. */
  readonly traceparent?: string | null
}

/** What came back. Names of headers are in lower case, values of repeated ones joined by `, `. */
export interface Answer<Body> {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: Body
}

/** A body that gives nothing for so long is given up, even where its call may take much longer. */
const silenceMillis = 60_000

/** The one way to call the outside world: guarded against targets that are nobody's business, and bounded in everything. */
export class Outgoing extends Context.Tag("ordinaut/Outgoing")<
  Outgoing,
  {
    /**
     * Sends a request and reads the whole answer, whatever its status; redirects are answers like any other. Fails with
     * `target_forbidden`, `tool_input_invalid` (headers), `tool_connection`, `timeout`, `tool_response_too_large` and
     * `tool_output_invalid` (an encoding that cannot be undone). Interruption ends the connection.
     */
    readonly request: (
      request: OutgoingRequest & { readonly timeoutMillis: number }
    ) => Effect.Effect<Answer<Uint8Array>, StepFailed>
    /**
     * The same for a client that speaks promises and streams: ends by the signal alone, and the body is read as it comes.
     * Rejects, and ends the body, with `StepFailed`, or with the signal's reason.
     */
    readonly open: (request: OutgoingRequest, signal: AbortSignal) => Promise<Answer<Readable>>
  }
>() {
  /** The client with a resolver of its own. */
  static readonly layerWith = (resolve: Resolve) =>
    Layer.scoped(
      this,
      Effect.gen(function* () {
        const targets = makeTargets(yield* Settings.allowedPrivateTargets, yield* Settings.allowedPorts)
        const agent = yield* Effect.acquireRelease(
          Effect.sync(
            () =>
              new Agent({
                connect: guardedConnector(targets, resolve),
                // A target that hangs takes no more sockets than this; its other calls wait within their own deadlines.
                connections: 128,
                pipelining: 1,
                keepAliveTimeout: 4000,
                keepAliveMaxTimeout: 10_000
              })
          ),
          (made) => Effect.promise(() => made.destroy())
        )
        const send = (request: OutgoingRequest, signal: AbortSignal, silence: number) =>
          exchange(agent, targets, request, signal, silence)
        return Outgoing.of({
          open: (request, signal) => send(request, signal, 0),
          request: Effect.fn("Outgoing.request")(function* (request) {
            const { timeoutMillis, url } = request
            const silence = Math.min(silenceMillis, timeoutMillis)
            return yield* Effect.tryPromise({
              try: async (signal) => {
                const answer = await send(request, signal, silence)
                return { ...answer, body: await collect(answer.body) }
              },
              catch: (cause) => failureOf(cause, url.origin)
            }).pipe(
              Effect.timeoutFail({
                duration: Duration.millis(timeoutMillis),
                onTimeout: () =>
                  StepFailed.of("timeout", `${url.origin} gave no whole answer within ${timeoutMillis / 1000} s`)
              })
            )
          })
        })
      })
    )

  /** The client that asks the system's resolver. */
  static readonly layer = this.layerWith((host, done) =>
    dns.lookup(host, { all: true }, (error, found) => done(error, found ?? []))
  )
}

const exchange = async (
  agent: Agent,
  targets: Targets,
  request: OutgoingRequest,
  signal: AbortSignal,
  silence: number
): Promise<Answer<Readable>> => {
  const { body, method, traceparent, url } = request
  const refusal = targets.refusal(url)
  if (refusal !== undefined) throw StepFailed.of("target_forbidden", refusal)
  const sent = new Map(request.headers)
  for (const [name, value] of sent) {
    const problem = headerNameProblem(name) ?? headerValueProblem(value)
    if (problem !== undefined) throw StepFailed.of("tool_input_invalid", `header ${name}: ${problem}`)
  }
  if (!sent.has("accept-encoding")) sent.set("accept-encoding", acceptedEncodings)
  if (!sent.has("user-agent")) sent.set("user-agent", "Ordinaut")
  if (traceparent && !sent.has("traceparent")) sent.set("traceparent", traceparent)
  const answer = await agent.request({
    origin: url.origin,
    path: url.pathname + url.search,
    method,
    headers: [...sent].flat(),
    body: body ?? null,
    signal,
    responseHeaders: "raw",
    // The caller's deadline is over headers and body; a tool may think for hours before it answers.
    headersTimeout: 0,
    bodyTimeout: silence
  })
  const headers = headersOf(answer.headers)
  const empty = method === "HEAD" || answer.statusCode === 204 || answer.statusCode === 304
  if (!empty && Number(headers.get("content-length") ?? 0) > maxAnswerBytes) {
    answer.body.on("error", () => undefined).destroy()
    throw tooLarge()
  }
  return {
    status: answer.statusCode,
    headers,
    body: readable(answer.body, empty ? "" : (headers.get("content-encoding") ?? ""))
  }
}

/** Raw headers come as names and values in turn, which the types of undici do not tell. */
const headersOf = (raw: unknown): ReadonlyMap<string, string> => {
  const headers = new Map<string, string>()
  const flat: ReadonlyArray<unknown> = Array.isArray(raw) ? raw : []
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const [name, value] = [String(flat[i]).toLowerCase(), String(flat[i + 1])]
    const before = headers.get(name)
    headers.set(name, before === undefined ? value : `${before}, ${value}`)
  }
  return headers
}
