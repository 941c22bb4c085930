import { createServer, STATUS_CODES } from "node:http"
import type { Server, ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { Duration } from "effect"
import { securityHeaders } from "./SecurityHeaders.ts"

/** What a client may take of a server, before any route is asked. */
export interface Limits {
  /** A request's headers come within this time, counted from the connection or the end of the request before. */
  readonly headersWithin: Duration.Duration
  /** The whole request, its body with it. */
  readonly requestWithin: Duration.Duration
  /** A connection on which nothing moves is closed: longer than the longest wait of a request for its answer. */
  readonly silentFor: Duration.Duration
  /** How often the times above are looked at. */
  readonly lookEvery: Duration.Duration
  /** Of the request line and all headers. */
  readonly headerBytes: number
  /** Open connections; one more is closed at once. */
  readonly connections: number
}

/** The limits that hold. */
export const limits: Limits = {
  headersWithin: Duration.seconds(10),
  requestWithin: Duration.seconds(30),
  silentFor: Duration.minutes(2),
  lookEvery: Duration.seconds(1),
  headerBytes: 16_384,
  connections: 5000
}

interface Refusal {
  readonly status: number
  readonly code: string
  readonly detail: string
  readonly headers?: Readonly<Record<string, string>>
}

const malformed: Refusal = { status: 400, code: "malformed_request", detail: "this is no HTTP/1.1 request" }

const refusalOf = (code: string | undefined): Refusal => {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return { status: 431, code: "headers_too_large", detail: "the headers are too large" }
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return { status: 413, code: "content_too_large", detail: "the extensions of a chunk are too large" }
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return { status: 408, code: "request_timeout", detail: "the request did not come in time" }
    default:
      return malformed
  }
}

/** A problem document as `Problem.ts` writes them, for what never became a request of a route. */
const documentOf = ({ code, detail, headers, status }: Refusal) => {
  const request_id = crypto.randomUUID()
  const title = STATUS_CODES[status] ?? "Error"
  const body = JSON.stringify({ type: "about:blank", title, status, detail, instance: "", code, request_id })
  return {
    body,
    headers: {
      ...securityHeaders,
      ...headers,
      "content-type": "application/problem+json",
      "content-length": String(Buffer.byteLength(body)),
      "x-request-id": request_id,
      connection: "close"
    }
  }
}

const answer = (response: ServerResponse, refusal: Refusal) => {
  const { body, headers } = documentOf(refusal)
  response.writeHead(refusal.status, headers).end(body)
}

const answerRaw = (socket: Duplex, refusal: Refusal) => {
  const { body, headers } = documentOf(refusal)
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const head = `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\n${lines.join("")}\r\n`
  socket.end(head + body, () => socket.destroy())
}

/**
 * A server that keeps its limits, and answers what never reaches a route by problem documents, too: what is no HTTP, what is too
 * large or too late, and, with 503, what arrives after the API let go of it, where a request would otherwise hang.
 */
export const make = ({
  connections,
  headerBytes,
  headersWithin,
  lookEvery,
  requestWithin,
  silentFor
}: Limits): Server => {
  const server = createServer({
    headersTimeout: Duration.toMillis(headersWithin),
    requestTimeout: Duration.toMillis(requestWithin),
    connectionsCheckingInterval: Duration.toMillis(lookEvery),
    maxHeaderSize: headerBytes,
    insecureHTTPParser: false,
    requireHostHeader: true
  })
  server.maxConnections = connections
  server.timeout = Duration.toMillis(silentFor)
  /** The answers under way: into one that has begun nothing else is written. */
  const answers = new WeakMap<Duplex, ServerResponse>()
  server.on("request", (request, response) => {
    answers.set(request.socket, response)
    if (server.listenerCount("request") > 1) return
    const detail = "this process is about to stop"
    answer(response, { status: 503, code: "stopping", detail, headers: { "retry-after": "1" } })
  })
  server.on("checkExpectation", (_, response) => {
    answer(response, { status: 417, code: "expectation_failed", detail: "Expect takes 100-continue alone" })
  })
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    const under = answers.get(socket)
    const begun = under !== undefined && under.headersSent && !under.writableFinished
    if (error.code === "ECONNRESET" || !socket.writable || begun) socket.destroy()
    else answerRaw(socket, refusalOf(error.code))
  })
  return server
}
