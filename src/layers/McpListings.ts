import { Clock, Duration, Effect, Layer } from "effect"
import type { Extension } from "../domain/Extension.ts"
import { Draining } from "./Draining.ts"
import { Extensions } from "./Extensions.ts"
import { McpTools } from "./McpTools.ts"
import * as Retries from "./Retries.ts"

/** New registrations are looked for this often. */
const lookEvery = Duration.seconds(2)
/** What a server has told is asked again after this time, by each worker process. */
const askEvery = Duration.minutes(5)
/** Servers that are asked at a time. */
const askedAtOnce = 4

/** Asks MCP servers for their tools as long as the scope is open: a new registration at once, the others now and then. */
export const loop = Layer.scopedDiscard(
  Effect.gen(function* () {
    const extensions = yield* Extensions
    const mcp = yield* McpTools
    const draining = yield* Draining
    /** When each was asked, by name and version; the process's own clock. */
    const asked = new Map<string, number>()

    const ask = (extension: Extension) =>
      Effect.gen(function* () {
        const { name, namespace, version } = extension
        const credentials = yield* extensions.credentials(namespace, name)
        if (credentials === null) return
        const told = yield* Effect.either(mcp.list(extension, credentials))
        yield* told._tag === "Right"
          ? extensions.learned(namespace, name, version, told.right, null)
          : extensions.learned(namespace, name, version, [], told.left.message)
      }).pipe(
        Effect.catchTag("Unopenable", ({ message }) =>
          extensions.learned(extension.namespace, extension.name, extension.version, [], message)
        )
      )

    const pass = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const all = yield* extensions.servers
      const keys = new Set(all.map((one) => keyOf(one)))
      for (const key of asked.keys()) if (!keys.has(key)) asked.delete(key)
      const due = all.filter((one) => (asked.get(keyOf(one)) ?? -Infinity) + Duration.toMillis(askEvery) <= now)
      for (const one of due) asked.set(keyOf(one), now)
      yield* Effect.forEach(due, ask, { concurrency: askedAtOnce, discard: true })
    })
    yield* draining.supervised(pass.pipe(Effect.delay(lookEvery), Effect.forever, Effect.retry(Retries.loop)))
  })
)

const keyOf = ({ name, namespace, version }: Extension) => `${namespace}/${name}/${version}`
