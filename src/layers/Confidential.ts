import { Context, Effect, Layer } from "effect"
import type { JsonValue } from "../domain/Json.ts"
import { redact, redactText } from "../domain/SecretReferences.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { ToolCall } from "../domain/ToolCall.ts"
import { Secrets } from "./Secrets.ts"

/** The host of a URL; null for none, and for a text that is none. */
const hostOf = (url: string | null): string | null =>
  url !== null && URL.canParse(url) ? new URL(url).hostname || null : null

/** What comes back of a call, failures too, without the values that were used in it, by name. */
export const concealing = (
  used: ReadonlyMap<string, string>,
  answer: Effect.Effect<JsonValue, StepFailed>
): Effect.Effect<JsonValue, StepFailed> =>
  answer.pipe(
    Effect.map((output) => redact(output, used)),
    Effect.mapError((error) => new StepFailed({ ...error, message: redactText(error.message, used) }))
  )

/** Calls with secrets in them. */
export class Confidential extends Context.Tag("ordinaut/Confidential")<
  Confidential,
  {
    /**
     * Makes a call with the values of its secrets in its input, and takes them out of what comes back, failures too. `url` is where
     * the call goes; null where it goes to no host. Fails with `tool_input_invalid` where a secret is not bound to host or tool.
     */
    readonly call: (
      call: ToolCall,
      url: string | null,
      send: (opened: ToolCall) => Effect.Effect<JsonValue, StepFailed>
    ) => Effect.Effect<JsonValue, StepFailed>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.map(Secrets, (secrets) =>
      Confidential.of({
        call: Effect.fn("Confidential.call")(function* (call, url, send) {
          const target = { tool: call.step.uses, host: hostOf(url) }
          const { input, used } = yield* secrets
            .reveal(call.work.namespace, call.input, target, call.step.input)
            .pipe(Effect.catchTag("StoreUnavailable", () => StepFailed.of("internal", "the database did not answer")))
          return yield* concealing(used, send({ ...call, input }))
        })
      })
    )
  )
}
