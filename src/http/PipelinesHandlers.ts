import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { DateTime, Effect, Either } from "effect"
import { dryRun } from "../domain/DryRun.ts"
import { noId } from "../domain/DryRunStep.ts"
import { givenOutputs } from "../domain/GivenOutput.ts"
import { check } from "../domain/PipelineChecks.ts"
import { InvalidField } from "../domain/Task.ts"
import { find } from "../domain/Zone.ts"
import * as Settings from "../layers/Settings.ts"
import { ToolBinding } from "../layers/ToolBinding.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"

/** Not a yield, which the fiber's scheduler answers before it lets go of the process: other requests have their turn. */
const pause = Effect.sleep(0)

export const PipelinesHandlers = HttpApiBuilder.group(Api, "pipelines", (handlers) =>
  Effect.gen(function* () {
    const defaultTimezone = yield* Settings.timezone
    const { bind, judge } = yield* ToolBinding
    return handlers.handle(
      "dryRun",
      ({ payload: { event, payload, timezone = defaultTimezone, tool_outputs, ...rest } }) =>
        Effect.gen(function* () {
          const at = rest.at ?? (yield* DateTime.now)
          const zone = find(timezone)
          if (zone === undefined) {
            const message = `"${timezone}" is no IANA zone name such as Europe/Chisinau`
            return yield* new InvalidField({ path: "/timezone", message })
          }
          const pipeline = yield* check(payload, "/payload")
          const { namespace } = yield* CurrentAgent
          yield* bind(namespace, pipeline, "/payload")
          const given = yield* Either.mapLeft(
            givenOutputs(pipeline, tool_outputs ?? {}, "/tool_outputs"),
            (problem) => new InvalidField(problem)
          )
          const steps = yield* dryRun(pipeline, {
            at: DateTime.toEpochMillis(at),
            zone,
            event:
              event === undefined
                ? null
                : {
                    topic: event.topic,
                    payload: event.payload,
                    id: event.id ?? noId,
                    at: DateTime.formatIso(event.at ?? at)
                  },
            given,
            judge: yield* judge(namespace, pipeline),
            pause
          })
          return { steps }
        })
    )
  })
)
