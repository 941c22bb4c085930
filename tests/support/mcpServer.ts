import { Server } from "@modelcontextprotocol/sdk/server/index.js"
import { type EventStore, StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js"
import {
  CallToolRequestSchema,
  ErrorCode,
  ListToolsRequestSchema,
  McpError,
  type CallToolResult,
  type JSONRPCMessage,
  type ListToolsResult
} from "@modelcontextprotocol/sdk/types.js"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http"
import type { Socket } from "node:net"
import { portOf } from "./ports.ts"

/** A server of the Model Context Protocol on a free loopback port, that a test can watch and start again. */
export interface McpTestServer {
  readonly url: string
  /** Headers of all requests, with their method. */
  readonly seen: Array<{ readonly method: string; readonly headers: IncomingHttpHeaders }>
  readonly sessions: () => number
  /** Sessions that were ever opened, and those that clients ended. */
  readonly opened: () => number
  readonly ended: () => number
  /** Forgets its sessions; a restart also cuts its connections. */
  readonly forget: Effect.Effect<void>
  readonly restart: Effect.Effect<void>
  /** Resolves when the tool `hang` was called, and when that call was canceled and its connection was closed. */
  readonly hanging: Promise<void>
  readonly canceled: Promise<void>
  readonly dropped: Promise<void>
}

/** Pages of `tools/list`; whatever they are, the tools of `call` can be called. */
export type Pages = (cursor: string | undefined) => ListToolsResult

const signal = () => {
  let fire = () => {}
  const fired = new Promise<void>((resolve) => (fire = resolve))
  return { fire: () => fire(), fired }
}

/** Starts it; `json` answers with JSON in place of streams. It is gone when the scope closes. */
export const mcpServer = (pages: Pages, json = false) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets = new Set<Socket>()
      const sessions = new Map<string, StreamableHTTPServerTransport>()
      const seen: Array<{ readonly method: string; readonly headers: IncomingHttpHeaders }> = []
      const [hanging, canceled, dropped] = [signal(), signal(), signal()]
      let [opened, ended] = [0, 0]
      let current: ServerResponse | undefined

      const call = async (
        name: string,
        args: Record<string, unknown> | undefined,
        meta: unknown,
        extra: Pick<Parameters<Parameters<Server["setRequestHandler"]>[1]>[1], "signal" | "closeSSEStream">
      ): Promise<CallToolResult> => {
        if (name === "echo") return { content: [], structuredContent: { args, meta } }
        if (name === "text") return { content: [{ type: "text", text: "hello" }] }
        if (name === "fail") return { content: [{ type: "text", text: "no such file" }], isError: true }
        if (name === "large") return { content: [{ type: "text", text: "x".repeat(2_000_000) }] }
        if (name === "nul") return { content: [{ type: "text", text: "\u0000" }] }
        if (name === "proto")
          return { content: [], structuredContent: JSON.parse(`{"a":{"__proto__":{"polluted":1}}}`) }
        if (name === "invalid") throw new McpError(ErrorCode.InvalidParams, "no such \u0000 parameter")
        if (name === "internal") throw new Error("a bug")
        if (name === "cut") {
          current?.socket?.resetAndDestroy()
          return { content: [] }
        }
        if (name === "later") {
          extra.closeSSEStream?.()
          await new Promise((resolve) => setTimeout(resolve, 20))
          return { content: [], structuredContent: { resumed: extra.closeSSEStream !== undefined } }
        }
        if (name === "hang") {
          current?.on("close", dropped.fire)
          extra.signal.addEventListener("abort", canceled.fire)
          hanging.fire()
          return new Promise(() => undefined)
        }
        throw new McpError(ErrorCode.MethodNotFound, `no tool ${name}`)
      }

      const open = async () => {
        const server = new Server({ name: "test", version: "1" }, { capabilities: { tools: {} } })
        server.setRequestHandler(ListToolsRequestSchema, ({ params }) => pages(params?.cursor))
        server.setRequestHandler(CallToolRequestSchema, ({ params }, extra) =>
          call(params.name, params.arguments, params._meta, extra)
        )
        const transport = new StreamableHTTPServerTransport({
          enableJsonResponse: json,
          eventStore: remembering(),
          retryInterval: 10,
          sessionIdGenerator: () => randomUUID(),
          onsessioninitialized: (id) => {
            opened++
            sessions.set(id, transport)
          },
          onsessionclosed: (id) => {
            ended++
            sessions.delete(id)
          }
        })
        await server.connect(asTransport(transport))
        return transport
      }

      const http = createServer((request, response) => {
        seen.push({ method: request.method ?? "", headers: request.headers })
        const id = request.headers["mcp-session-id"]
        const known = typeof id === "string" ? sessions.get(id) : undefined
        if (id !== undefined && known === undefined) return void response.writeHead(404).end("no such session")
        if (request.method === "POST") current = response
        void Promise.resolve(known ?? open()).then((transport) => transport.handleRequest(request, response))
      })
      http.on("connection", (socket) => {
        sockets.add(socket)
        socket.on("error", () => undefined)
        socket.once("close", () => sockets.delete(socket))
      })
      await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve))
      const cut = () => {
        for (const socket of sockets) socket.destroy()
      }
      const made: McpTestServer = {
        url: `http://127.0.0.1:${portOf(http)}/mcp`,
        seen,
        sessions: () => sessions.size,
        opened: () => opened,
        ended: () => ended,
        forget: Effect.sync(() => sessions.clear()),
        restart: Effect.sync(() => {
          sessions.clear()
          cut()
        }),
        hanging: hanging.fired,
        canceled: canceled.fired,
        dropped: dropped.fired
      }
      return { made, http, cut }
    }),
    ({ cut, http }) =>
      Effect.sync(() => {
        cut()
        http.close()
      })
  ).pipe(Effect.map(({ made }) => made))

/** Keeps what was sent, so that a client may take up a stream that broke off. */
const remembering = (): EventStore => {
  const events: Array<{ readonly stream: string; readonly message: JSONRPCMessage }> = []
  return {
    storeEvent: (stream, message) => Promise.resolve(String(events.push({ stream, message }) - 1)),
    replayEventsAfter: async (id, { send }) => {
      const { stream } = events[Number(id)] ?? { stream: "" }
      for (const [index, event] of events.entries()) {
        if (index > Number(id) && event.stream === stream && "jsonrpc" in event.message)
          await send(String(index), event.message)
      }
      return stream
    }
  }
}

/** Declared without `undefined` where the transport's own class has it, which `exactOptionalPropertyTypes` tells apart. */
const asTransport = (transport: StreamableHTTPServerTransport) => transport as Parameters<Server["connect"]>[0]
