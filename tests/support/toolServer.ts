import { Effect, Schema, type Scope } from "effect"
import type { ServerResponse } from "node:http"
import { JsonValue } from "../../src/domain/Json.ts"
import { type Seen, serve } from "./httpServer.ts"

/** One call as it came in. `at` and `answeredAt` are on this process's monotonic clock, milliseconds. */
export interface ToolRequest {
  readonly tool: string
  readonly run: string
  readonly step: string
  /** Of the element, -1 outside of a for_each. */
  readonly index: number
  readonly attempt: number
  readonly key: string
  readonly lease: number
  readonly input: JsonValue
  readonly at: number
  /** When the answer had left whole. */
  answeredAt: number | null
  /** The output of that answer, where it was one. */
  output: JsonValue | undefined
}

/** A server of tools that takes down every call. */
export interface ToolServer {
  readonly url: string
  /** In the order in which they came. */
  readonly calls: ReadonlyArray<ToolRequest>
}

const Body = Schema.parseJson(
  Schema.Struct({
    tool: Schema.String,
    input: JsonValue,
    run: Schema.Struct({ id: Schema.String, attempt: Schema.Int }),
    step: Schema.String,
    index: Schema.optionalWith(Schema.Int, { default: () => -1 }),
    idempotency_key: Schema.optionalWith(Schema.String, { exact: true }),
    lease: Schema.optionalWith(Schema.Int, { exact: true })
  })
)
const decode = Schema.decodeUnknownSync(Body)

/** `core.http` sends its key and its lease as headers. */
const requestOf = ({ body, headers }: Seen): ToolRequest => {
  const { idempotency_key, index, input, lease, run, step, tool } = decode(body)
  return {
    tool,
    run: run.id,
    step,
    index,
    attempt: run.attempt,
    key: idempotency_key ?? String(headers["idempotency-key"]),
    lease: lease ?? Number(headers["ordinaut-lease"]),
    input,
    at: performance.now(),
    answeredAt: null,
    output: undefined
  }
}

/** Gives a call its output; returns when all of it has left. */
export const give = (call: ToolRequest, response: ServerResponse, output: JsonValue): Promise<void> =>
  new Promise((done) => {
    response.once("close", done)
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(output), () => {
      call.answeredAt = performance.now()
      call.output = output
      done()
    })
  })

/** Starts a server on a free loopback port; `answer` says what becomes of each call. It is gone when the scope closes. */
export const toolServer = (
  answer: (call: ToolRequest, response: ServerResponse) => void
): Effect.Effect<ToolServer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const calls: Array<ToolRequest> = []
    const { url } = yield* serve((seen, response) => {
      const call = requestOf(seen)
      calls.push(call)
      answer(call, response)
    })
    return { url, calls }
  })

/** The calls as a table, to be read where a test fails. */
export const table = (calls: ReadonlyArray<ToolRequest>): string =>
  calls
    .map(({ answeredAt, at, attempt, index, key, lease, run, step }) =>
      [
        at.toFixed(0).padStart(8),
        run.slice(-8),
        (index < 0 ? step : `${step}[${index}]`).padEnd(8),
        `attempt ${attempt}`,
        `lease ${lease}`,
        answeredAt === null ? "no answer" : `answered at ${answeredAt.toFixed(0)}`,
        key
      ].join("  ")
    )
    .join("\n")
