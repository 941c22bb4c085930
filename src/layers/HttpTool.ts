import { Clock, Context, Effect, Either, Layer } from "effect"
import { readCoreHttp } from "../domain/CoreHttp.ts"
import type { JsonValue } from "../domain/Json.ts"
import type { StepFailed } from "../domain/StepFailed.ts"
import type { ToolCall } from "../domain/ToolCall.ts"
import { callMillis } from "../domain/ToolTimeout.ts"
import { asOutput, parseJson, statusFailure, textOf } from "./HttpAnswers.ts"
import { type Answer, Outgoing } from "./Outgoing.ts"
import { headerId } from "./WebhookSignature.ts"

/** `core.http`: a request to a URL. */
export class HttpTool extends Context.Tag("ordinaut/HttpTool")<
  HttpTool,
  {
    /**
     * Sends the request that the call's input describes, which has its secrets in it by now. Gives
     * `{status, headers, body}`. Fails with `tool_input_invalid`, with `tool_http_4xx` and `tool_http_5xx` for statuses that
     * the step does not expect, `target_forbidden` for redirects, `tool_output_invalid` for what cannot be read or stored,
     * and with the failures of `Outgoing`.
     */
    readonly call: (call: ToolCall) => Effect.Effect<JsonValue, StepFailed>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const outgoing = yield* Outgoing
      return HttpTool.of({
        call: Effect.fn("HttpTool.call")(function* ({ idempotencyKey, input, step, work }) {
          const { body, expects, headers, method, url } = yield* readCoreHttp(input)
          const sent = new Map(headers)
          if (!sent.has("idempotency-key")) sent.set("idempotency-key", headerId(idempotencyKey))
          sent.set("ordinaut-lease", String(work.lease_no))
          if (body !== undefined && !sent.has("content-type"))
            sent.set("content-type", typeof body === "string" ? "text/plain; charset=utf-8" : "application/json")
          const answer = yield* outgoing.request({
            method,
            url,
            headers: sent,
            body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
            traceparent: work.traceparent,
            timeoutMillis: callMillis(step)
          })
          if (!expects(answer.status))
            return yield* statusFailure(answer.status, answer.headers, yield* Clock.currentTimeMillis)
          return yield* outputOf(answer)
        })
      })
    })
  )
}

const outputOf = ({ body, headers, status }: Answer<Uint8Array>): Either.Either<JsonValue, StepFailed> =>
  Either.gen(function* () {
    const type = headers.get("content-type") ?? ""
    const text = yield* textOf(body, type)
    return yield* asOutput({ status, headers: Object.fromEntries(headers), body: yield* bodyOf(text, type) })
  })

/** What says that it is JSON must be; other text is JSON where it is an object or an array. */
const bodyOf = (text: string, type: string): Either.Either<unknown, StepFailed> => {
  if (text === "") return Either.right(null)
  if (/^application\/([\w.+-]+\+)?json\s*(;|$)/i.test(type)) return parseJson(text)
  return /^\s*[[{]/.test(text) ? Either.orElse(parseJson(text), () => Either.right(text)) : Either.right(text)
}
