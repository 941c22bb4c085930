import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import type { RequestOptions } from "@modelcontextprotocol/sdk/shared/protocol.js"
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js"
import { ResultSchema } from "@modelcontextprotocol/sdk/types.js"
import { Effect, Schema, type Scope } from "effect"
import type { Credentials, Extension } from "../domain/Extension.ts"
import { isObject, type JsonObject } from "../domain/Json.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import { credentialHeaders } from "./CredentialHeaders.ts"
import { asOutput } from "./HttpAnswers.ts"
import { mcpFailure, statusOf } from "./McpFailure.ts"
import { currentCall, isForgotten, type McpCall, mcpFetch } from "./McpFetch.ts"
import type { Outgoing } from "./Outgoing.ts"
import { version } from "./Version.ts"

/** The server does not know the session (any more), and has not looked at the request. */
export class SessionForgotten extends Schema.TaggedError<SessionForgotten>()("SessionForgotten", {
  failure: StepFailed
}) {}

/** An open connection to a server of the Model Context Protocol. */
export interface McpConnection {
  /** Sends a request and gives its result, which can be stored. Interruption cancels it, and ends its connection. */
  readonly request: (method: string, params: JsonObject) => Effect.Effect<JsonObject, StepFailed | SessionForgotten>
}

const connectSeconds = 10
const farewellMillis = 1000
/** The longest timer of Node: deadlines are the caller's, by interruption. */
const noTimeout = 2_147_483_647

/** The SDK would compile the schemas that a server names, in this thread; nothing here asks it to validate. */
const noValidator = {
  getValidator: () => () => ({ valid: false as const, data: undefined, errorMessage: "not validated here" })
}

const clientInfo = { name: "ordinaut", version }

/** Declared without `undefined` where the transport's own class has it, which `exactOptionalPropertyTypes` tells apart. */
const asTransport = (transport: StreamableHTTPClientTransport) => transport as Transport

/** Connects to the server of an extension. The session ends, and the server is told, when the scope closes. */
export const connect = (
  outgoing: typeof Outgoing.Service,
  { base_url, name }: Pick<Extension, "base_url" | "name">,
  { auth }: Credentials
): Effect.Effect<McpConnection, StepFailed, Scope.Scope> =>
  Effect.gen(function* () {
    if (base_url === null || !URL.canParse(base_url))
      return yield* StepFailed.of("tool_unavailable", `the extension ${name} has no URL`)
    const url = new URL(base_url)
    const headers = Object.fromEntries(yield* credentialHeaders(auth))
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeMillis()

    /** Runs a piece of the SDK's work as one call, and gives up its requests with it. */
    const within = <A>(
      work: (options: RequestOptions) => Promise<A>
    ): Effect.Effect<A, StepFailed | SessionForgotten> =>
      Effect.tryPromise({
        try: (signal) =>
          new Promise<A>((resolve, reject) => {
            const call: McpCall = { signal, resumable: false, onLost: reject }
            const options = { signal, timeout: noTimeout, onresumptiontoken: () => (call.resumable = true) }
            currentCall.run(call, () => work(options)).then(resolve, reject)
          }),
        catch: (cause) => {
          const failure = mcpFailure(cause, url.origin, now())
          return isForgotten(statusOf(cause)) ? new SessionForgotten({ failure }) : failure
        }
      })

    const transport = new StreamableHTTPClientTransport(url, {
      fetch: mcpFetch(outgoing, now),
      requestInit: { headers }
    })
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => new Client(clientInfo, { jsonSchemaValidator: noValidator })),
      (made) => Effect.promise(() => farewell(made, transport))
    )
    yield* within((options) => client.connect(asTransport(transport), options)).pipe(
      Effect.catchTag("SessionForgotten", ({ failure }) => Effect.fail(failure)),
      Effect.timeoutFail({
        duration: `${connectSeconds} seconds`,
        onTimeout: () => StepFailed.of("timeout", `${url.origin} opened no session within ${connectSeconds} s`)
      })
    )
    return {
      request: (method, params) =>
        within((options) => client.request({ method, params: { ...params } }, ResultSchema, options)).pipe(
          Effect.flatMap((result) => asOutput(result)),
          Effect.filterOrFail(isObject, () => StepFailed.of("tool_output_invalid", "the result is not an object"))
        )
    }
  })

/** Best effort: a server that is gone needs no farewell. */
const farewell = async (client: Client, transport: StreamableHTTPClientTransport): Promise<void> => {
  const call: McpCall = { signal: AbortSignal.timeout(farewellMillis), resumable: true, onLost: () => undefined }
  await currentCall.run(call, () => transport.terminateSession()).catch(() => undefined)
  await client.close()
}
