import { Clock, Context, DateTime, Effect, Either, Layer } from "effect"
import type { Credentials, Extension } from "../domain/Extension.ts"
import type { JsonValue } from "../domain/Json.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { ToolCall } from "../domain/ToolCall.ts"
import { callMillis } from "../domain/ToolTimeout.ts"
import { makeBreakers } from "./Breakers.ts"
import { credentialHeaders } from "./CredentialHeaders.ts"
import { asOutput, parseJson, statusFailure, textOf } from "./HttpAnswers.ts"
import { type Answer, Outgoing } from "./Outgoing.ts"
import { headerId, signatureHeaders } from "./WebhookSignature.ts"

/** Calls the tools of extensions of kind `http`. */
export class HttpExtensions extends Context.Tag("ordinaut/HttpExtensions")<
  HttpExtensions,
  {
    /**
     * Posts the call to `<base_url>/<tool>`, signed, with the extension's credentials, and gives the JSON of the answer; an
     * empty one is null. Fails with `tool_unavailable`, `tool_http_4xx`, `tool_http_5xx`, `target_forbidden` (redirects too),
     * `tool_output_invalid`, and as `Outgoing` does. After five connection errors, 5xx answers or timeouts in a row an
     * extension is left alone for 30 s, in which its calls fail at once with `tool_connection`.
     */
    readonly call: (
      extension: Extension,
      credentials: Credentials,
      call: ToolCall
    ) => Effect.Effect<JsonValue, StepFailed>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const outgoing = yield* Outgoing
      const breakers = makeBreakers()

      const post = (extension: Extension, credentials: Credentials, call: ToolCall) =>
        Effect.gen(function* () {
          const url = yield* toolUrl(extension, call.step.tool)
          const id = headerId(call.idempotencyKey)
          const body = JSON.stringify(bodyOf(call))
          const headers = new Map(yield* credentialHeaders(credentials.auth))
          headers.set("content-type", "application/json")
          headers.set("accept", "application/json")
          const signed =
            credentials.signingSecret === null
              ? []
              : signatureHeaders(credentials.signingSecret, id, yield* Clock.currentTimeMillis, body)
          for (const [name, value] of signed) headers.set(name, value)
          const answer = yield* outgoing.request({
            method: "POST",
            url,
            headers,
            body,
            traceparent: call.work.traceparent,
            timeoutMillis: callMillis(call.step, toolOf(extension, call.step.tool))
          })
          if (answer.status < 200 || answer.status > 299)
            return yield* statusFailure(answer.status, answer.headers, yield* Clock.currentTimeMillis)
          return yield* outputOf(answer)
        })

      return HttpExtensions.of({
        call: Effect.fn("HttpExtensions.call")(function* (extension, credentials, call) {
          const key = `${extension.namespace}/${extension.name}@${extension.version}`
          return yield* breakers.guard(key, post(extension, credentials, call))
        })
      })
    })
  )
}

const toolOf = ({ tools }: Extension, name: string) => tools.find((tool) => tool.name === name)

/** The URL of a tool; the query of the base, where there is one, stays. */
const toolUrl = ({ base_url, name }: Extension, tool: string): Either.Either<URL, StepFailed> => {
  if (base_url === null || !URL.canParse(base_url))
    return Either.left(StepFailed.of("tool_unavailable", `the extension ${name} has no URL`))
  const url = new URL(base_url)
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/${encodeURIComponent(tool)}`
  return Either.right(url)
}

const bodyOf = ({ idempotencyKey, input, item, step, work }: ToolCall): JsonValue => ({
  tool: step.uses,
  input,
  run: { id: work.id, attempt: work.attempt, scheduled_for: DateTime.formatIso(work.scheduled_for) },
  step: step.id,
  ...(item < 0 ? {} : { index: item }),
  idempotency_key: idempotencyKey,
  lease: work.lease_no
})

const outputOf = ({ body, headers, status }: Answer<Uint8Array>): Either.Either<JsonValue, StepFailed> => {
  if (status === 204 || body.length === 0) return Either.right(null)
  return textOf(body, headers.get("content-type") ?? "").pipe(
    Either.flatMap((text) => parseJson(text)),
    Either.flatMap((value) => asOutput(value))
  )
}
