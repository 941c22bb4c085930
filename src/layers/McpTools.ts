import { Context, DateTime, Duration, Effect, Equal, Hash, Layer, RcMap, Schema } from "effect"
import { type Credentials, type Extension, ToolSpec } from "../domain/Extension.ts"
import { isArray, isObject, type JsonObject, type JsonValue } from "../domain/Json.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { ToolCall } from "../domain/ToolCall.ts"
import { callMillis } from "../domain/ToolTimeout.ts"
import { connect, type McpConnection } from "./McpConnection.ts"
import { words } from "./McpFailure.ts"
import { Outgoing } from "./Outgoing.ts"

/** Lists and calls the tools of servers of the Model Context Protocol, over streamable HTTP. */
export class McpTools extends Context.Tag("ordinaut/McpTools")<
  McpTools,
  {
    /**
     * The tools that a server has, asked anew; those whose names cannot stand in an address are left out. At most 1,000,
     * within 30 s.
     */
    readonly list: (
      extension: Extension,
      credentials: Credentials
    ) => Effect.Effect<ReadonlyArray<ToolSpec>, StepFailed>
    /**
     * Calls a tool. Gives its structured content where it has one, else `{content}`. A result that says of itself that it
     * is an error fails with `failed`; parameters that the server refuses with `tool_input_invalid`, a tool that it does not
     * have with `tool_unavailable`, what breaks with `tool_connection`; and as `Outgoing` does.
     */
    readonly call: (
      extension: Extension,
      credentials: Credentials,
      call: ToolCall
    ) => Effect.Effect<JsonValue, StepFailed>
  }
>() {
  static readonly layer = Layer.scoped(
    this,
    Effect.gen(function* () {
      const outgoing = yield* Outgoing
      const connections = yield* RcMap.make({
        lookup: ({ credentials, extension }: ConnectionKey) => connect(outgoing, extension, credentials),
        idleTimeToLive: Duration.minutes(1)
      })

      /** Over the kept connection, which is made anew for the next call when it was of no use to this one. */
      const once = (key: ConnectionKey, params: JsonObject) => {
        const forget = RcMap.invalidate(connections, key)
        const request = (connection: McpConnection) =>
          Effect.tapError(connection.request("tools/call", params), (error) =>
            error._tag === "SessionForgotten" || broken.has(error.code) ? forget : Effect.void
          )
        return RcMap.get(connections, key).pipe(
          Effect.tapError(() => forget),
          Effect.flatMap(request),
          Effect.scoped
        )
      }

      return McpTools.of({
        list: Effect.fn("McpTools.list")(
          function* (extension, credentials) {
            return yield* listed(yield* connect(outgoing, extension, credentials))
          },
          Effect.scoped,
          Effect.catchTag("SessionForgotten", ({ failure }) => failure),
          Effect.timeoutFail({
            duration: Duration.seconds(listSeconds),
            onTimeout: () => StepFailed.of("timeout", `the server did not list its tools within ${listSeconds} s`)
          })
        ),
        call: Effect.fn("McpTools.call")(function* (extension, credentials, call) {
          const { input, step, work } = call
          if (!isObject(input)) return yield* StepFailed.of("tool_input_invalid", ": this must be an object")
          const key = new ConnectionKey(extension, credentials)
          const millis = callMillis(
            step,
            extension.tools.find(({ name }) => name === step.tool)
          )
          const params = {
            name: step.tool,
            arguments: input,
            _meta: {
              "ordinaut/idempotency_key": call.idempotencyKey,
              "ordinaut/lease": work.lease_no,
              ...(work.traceparent === null ? {} : { traceparent: work.traceparent })
            }
          }
          // A server that was started again has forgotten its sessions, and says so before it does anything.
          const result = yield* once(key, params).pipe(
            Effect.catchTag("SessionForgotten", () => once(key, params)),
            Effect.catchTag("SessionForgotten", ({ failure }) => failure),
            Effect.timeoutFail({
              duration: Duration.millis(millis),
              onTimeout: () => StepFailed.of("timeout", `${step.uses} gave no answer within ${millis / 1000} s`)
            })
          )
          return yield* outputOf(result)
        })
      })
    })
  )
}

const listSeconds = 30
const maxTools = 1000
const maxPages = 100

/** Failures after which a connection is not trusted any more. */
const broken: ReadonlySet<StepFailed["code"]> = new Set<StepFailed["code"]>([
  "tool_connection",
  "tool_http_4xx",
  "tool_http_5xx",
  "tool_output_invalid",
  "timeout"
])

/** Connections are equal where they are of the same version of the same extension; one that was made anew counts from one again. */
class ConnectionKey implements Equal.Equal {
  readonly extension: Extension
  readonly credentials: Credentials
  readonly #id: string

  constructor(extension: Extension, credentials: Credentials) {
    this.extension = extension
    this.credentials = credentials
    const { base_url, name, namespace, updated_at, version } = extension
    this.#id = [namespace, name, version, DateTime.formatIso(updated_at), base_url].join(" ")
  }

  [Equal.symbol](that: unknown): boolean {
    return that instanceof ConnectionKey && that.#id === this.#id
  }

  [Hash.symbol](): number {
    return Hash.string(this.#id)
  }
}

const field = (value: JsonObject, key: string): JsonValue | undefined =>
  Object.hasOwn(value, key) ? value[key] : undefined

const outputOf = (result: JsonObject): Effect.Effect<JsonValue, StepFailed> => {
  const content = field(result, "content") ?? []
  if (field(result, "isError") === true) return Effect.fail(StepFailed.of("failed", words(textOf(content))))
  return Effect.succeed(field(result, "structuredContent") ?? { content })
}

const textOf = (content: JsonValue): string => {
  const texts = (isArray(content) ? content : []).flatMap((part) => {
    const text = isObject(part) ? field(part, "text") : undefined
    return typeof text === "string" ? [text] : []
  })
  return texts.length === 0 ? "the tool says that it failed" : texts.join("\n")
}

const listed = (connection: McpConnection) =>
  Effect.gen(function* () {
    const tools: Array<ToolSpec> = []
    let cursor: JsonValue | undefined
    for (let page = 0; page < maxPages; page++) {
      const result: JsonObject = yield* connection.request("tools/list", cursor === undefined ? {} : { cursor })
      const found = field(result, "tools")
      if (!isArray(found)) return yield* StepFailed.of("tool_output_invalid", "the server lists no tools")
      tools.push(...found.flatMap((tool) => specOf(tool)))
      if (tools.length > maxTools) break
      cursor = field(result, "nextCursor")
      if (typeof cursor !== "string") return tools
    }
    return yield* StepFailed.of(
      "tool_output_invalid",
      `the server lists more than ${maxTools} tools, or has no last page`
    )
  })

const isSpec = Schema.is(ToolSpec)

const specOf = (tool: JsonValue): ReadonlyArray<ToolSpec> => {
  if (!isObject(tool)) return []
  const description = field(tool, "description")
  const annotations = field(tool, "annotations")
  const says = (hint: string) => isObject(annotations) && field(annotations, hint) === true
  const [input, output] = [field(tool, "inputSchema"), field(tool, "outputSchema")]
  const spec = {
    name: field(tool, "name"),
    ...(typeof description === "string" ? { description: words(description, 2000) } : {}),
    ...(isObject(input) ? { input_schema: input } : {}),
    ...(isObject(output) ? { output_schema: output } : {}),
    idempotent: says("idempotentHint") || says("readOnlyHint")
  }
  return isSpec(spec) ? [spec] : []
}
