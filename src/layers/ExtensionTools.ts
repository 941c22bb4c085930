import { Context, Effect, Layer } from "effect"
import type { CheckedStep } from "../domain/CheckedPipeline.ts"
import type { Extension, ToolSpec } from "../domain/Extension.ts"
import { references } from "../domain/SecretReferences.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import { defaultTimeoutSeconds } from "../domain/ToolTimeout.ts"
import type { ToolCall } from "../domain/ToolCall.ts"
import { concealing, Confidential } from "./Confidential.ts"
import { expiring } from "./CoreToolset.ts"
import { Extensions } from "./Extensions.ts"
import { HttpExtensions } from "./HttpExtensions.ts"
import { McpTools } from "./McpTools.ts"
import { simulation } from "./SimulatedTool.ts"
import { plainTool } from "./Tool.ts"
import type { Tool } from "./Tool.ts"

/** The database was away while a step needed it: another attempt may find it. */
const storeAway = StepFailed.of("internal", "the database did not answer")

/** The tools that extensions bring. */
export class ExtensionTools extends Context.Tag("ordinaut/ExtensionTools")<
  ExtensionTools,
  {
    /** The tool of a step, with what its extension says of it; null where no extension has the step's namespace. */
    readonly find: (
      namespace: string,
      step: CheckedStep
    ) => Effect.Effect<{ readonly tool: Tool; readonly spec: ToolSpec | undefined } | null, StepFailed>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const extensions = yield* Extensions
      const confidential = yield* Confidential
      const http = yield* HttpExtensions
      const mcp = yield* McpTools

      const credentialsOf = ({ name, namespace }: Extension) =>
        extensions.credentials(namespace, name).pipe(
          Effect.catchTags({
            StoreUnavailable: () => storeAway,
            Unopenable: ({ message }) => StepFailed.of("tool_unavailable", message)
          }),
          Effect.flatMap((found) =>
            found === null ? StepFailed.of("tool_unavailable", `the extension ${name} is gone`) : Effect.succeed(found)
          )
        )

      /**
       * A call that leaves for the extension's own host, with its credentials and the secrets of the input. A server that echoes
       * what it was sent puts neither into the record.
       */
      const leaving = (extension: Extension, send: typeof http.call) => (call: ToolCall) =>
        confidential
          .call(call, extension.base_url, (opened) =>
            Effect.flatMap(credentialsOf(extension), (credentials) => {
              const used = new Map(
                credentials.auth === null ? [] : [[`${extension.name}.auth`, credentials.auth.secret]]
              )
              return concealing(used, send(extension, credentials, opened))
            })
          )
          .pipe(Effect.map((output) => ({ output, simulated: false, log: undefined })))

      const toolOf = (extension: Extension, spec: ToolSpec | undefined): Tool => {
        const { kind } = extension
        const known = {
          timeoutSeconds: spec?.timeout_seconds ?? defaultTimeoutSeconds,
          idempotent: spec?.idempotent ?? false
        }
        switch (kind) {
          case "http":
            return plainTool(kind, { ...known, outside: true, metered: true, call: leaving(extension, http.call) })
          case "mcp":
            return plainTool(kind, { ...known, outside: true, metered: true, call: leaving(extension, mcp.call) })
          case "worker":
            return plainTool(kind, {
              ...known,
              metered: true,
              waits: () => true,
              begin: (call) =>
                // What the worker will get is looked at now, so that a secret that it may not have fails the step at once.
                Effect.zipRight(
                  confidential.call(call, null, () => Effect.succeed(null)),
                  expiring(call, (expires_at) => ({
                    kind: "tool",
                    tool: call.step.uses,
                    detail: {
                      input: call.input,
                      idempotency_key: call.idempotencyKey,
                      secrets: [...references(call.input, call.step.input).keys()]
                    },
                    expires_at
                  }))
                )
            })
          case "simulated":
            return plainTool(kind, { computes: true, call: simulation(spec) })
        }
      }

      return ExtensionTools.of({
        find: Effect.fnUntraced(function* (namespace, step) {
          const extension = yield* extensions
            .find(namespace, step.namespace)
            .pipe(Effect.catchTag("StoreUnavailable", () => storeAway))
          if (extension === null) return null
          const spec = extension.tools.find(({ name }) => name === step.tool)
          // An MCP server that has not told its tools yet may have every one.
          if (spec === undefined && !(extension.kind === "mcp" && extension.tools.length === 0)) {
            return yield* StepFailed.of("tool_unavailable", `the extension ${extension.name} brings no ${step.uses}`)
          }
          return { tool: toolOf(extension, spec), spec }
        })
      })
    })
  )
}
