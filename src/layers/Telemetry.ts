import * as OtlpSerialization from "@effect/opentelemetry/OtlpSerialization"
import * as OtlpTracer from "@effect/opentelemetry/OtlpTracer"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import { Effect, Layer, Logger, LogLevel, Option } from "effect"
import { tzdataVersion } from "../domain/Zone.ts"
import * as Metrics from "./Metrics.ts"
import * as Settings from "./Settings.ts"
import { version } from "./Version.ts"

const levels = {
  trace: LogLevel.Trace,
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warning: LogLevel.Warning,
  error: LogLevel.Error,
  none: LogLevel.None
}

const logs = Layer.unwrapEffect(
  Effect.gen(function* () {
    const level = levels[yield* Settings.logLevel]
    const format = Option.getOrElse(yield* Settings.logFormat, () =>
      process.stdout.isTTY === true ? "pretty" : "json"
    )
    const logger = format === "pretty" ? Logger.prettyLogger() : Logger.withLeveledConsole(Logger.jsonLogger)
    return Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(level))
  })
)

const traces = (program: string) =>
  Layer.unwrapEffect(
    Effect.map(Settings.otlpEndpoint, (endpoint) =>
      Option.match(endpoint, {
        // Without a collector nothing is computed for it.
        onNone: () => Layer.setTracerEnabled(false),
        onSome: (url) =>
          OtlpTracer.layer({
            url: `${url.replace(/\/+$/, "")}/v1/traces`,
            resource: { serviceName: `ordinaut-${program}`, serviceVersion: version }
          }).pipe(Layer.provide([FetchHttpClient.layer, OtlpSerialization.layerJson]))
      })
    )
  )

const info = Layer.effectDiscard(
  Effect.sync(() => {
    Metrics.tzdataInfo.add(1, { version: tzdataVersion })
    Metrics.buildInfo.add(1, { version, node: process.versions.node })
  })
)

/** Logger, tracer and the metrics that say what runs, for one program (`api`, `scheduler`, `worker`, `all`, `migrate`). */
export const layer = (program: string) => Layer.mergeAll(logs, traces(program), info)
