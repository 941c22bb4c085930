import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, ConfigError, Effect, Layer } from "effect"
import { Draining } from "./Draining.ts"
import { settings } from "./EdgeSettings.ts"
import { Pulse } from "./Pulse.ts"
import * as Telemetry from "./Telemetry.ts"
import { version } from "./Version.ts"

interface Complaint {
  readonly missing: boolean
  readonly sentence: string
}

const complaints = (error: ConfigError.ConfigError): ReadonlyArray<Complaint> => {
  const wrong = (path: ReadonlyArray<string>, message: string) => [{ missing: false, sentence: named(path, message) }]
  return ConfigError.reduceWithContext<undefined, ReadonlyArray<Complaint>>(error, undefined, {
    andCase: (_, left, right) => [...left, ...right],
    orCase: (_, left, right) => [...left, ...right],
    invalidDataCase: (_, path, message) => wrong(path, message),
    missingDataCase: (_, path) => [{ missing: true, sentence: named(path, "is missing") }],
    sourceUnavailableCase: (_, path, message) => wrong(path, message),
    unsupportedCase: (_, path, message) => wrong(path, message)
  })
}

/** One sentence for each variable that is wrong. That others are missing is no fault then: one source lacks what another has. */
const sentences = (error: ConfigError.ConfigError): ReadonlyArray<string> => {
  const all = complaints(error)
  const wrong = all.filter(({ missing }) => !missing)
  return [...new Set((wrong.length > 0 ? wrong : all).map(({ sentence }) => sentence))]
}

const named = (path: ReadonlyArray<string>, message: string): string => {
  const name = path.join("_")
  const known = settings.find((setting) => setting.name === name)
  const said = message.includes(name) ? message : `${name} ${message}`
  return known === undefined || message.includes(" takes ") ? said : `${said}. It is: ${known.meaning}`
}

const say = (text: string) => Effect.sync(() => process.stderr.write(`${text}\n`))

/** What the user can mend is said in a sentence; anything else is a bug, told whole. Both end the program with 1. */
const explained = <A, E, R>(program: Effect.Effect<A, E, R>) =>
  program.pipe(
    Effect.tapErrorCause((cause) => {
      const error = Cause.squash(cause)
      if (Cause.isInterruptedOnly(cause)) return Effect.void
      if (ConfigError.isConfigError(error)) return Effect.forEach(sentences(error), say)
      if (!(error instanceof Error && "_tag" in error) || Cause.isDie(cause)) return say(Cause.pretty(cause))
      return say(
        error._tag === "StoreUnavailable" ? "The database went away while the program started." : error.message
      )
    })
  )

const help = (program: string) =>
  [
    `Ordinaut ${version}: ${program}`,
    "",
    "Environment variables:",
    ...settings.map(
      (setting) => `  ${setting.name.padEnd(30)} ${setting.meaning}\n${" ".repeat(33)}default: ${setting.default}`
    )
  ].join("\n")

/**
 * Runs a program until it is told to stop (SIGINT, SIGTERM) or one of its loops dies of a bug. On the way down it is first
 * unready, then its layers are released in reverse order.
 */
export const run = <E>(name: string, main: Layer.Layer<never, E, Draining | Pulse>): void => {
  if (process.argv.includes("--help")) {
    process.stdout.write(`${help(name)}\n`)
    return
  }
  const program = Effect.gen(function* () {
    const draining = yield* Draining
    const unready = Layer.scopedDiscard(Effect.addFinalizer(() => draining.begin))
    return yield* Effect.raceFirst(Layer.launch(Layer.provideMerge(unready, main)), draining.fatal)
  }).pipe(Effect.provide(Layer.merge(Draining.layer, Pulse.layer)))
  start(name, program)
}

/** Runs a program that ends by itself. */
export const once = <A, E>(name: string, program: Effect.Effect<A, E>): void => {
  if (process.argv.includes("--help")) process.stdout.write(`${help(name)}\n`)
  else start(name, program)
}

const start = <A, E>(name: string, program: Effect.Effect<A, E>) =>
  explained(program.pipe(Effect.provide(Telemetry.layer(name)))).pipe(
    NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true })
  )
