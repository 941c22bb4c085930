import { Effect, Layer } from "effect"
import { Extensions } from "./Extensions.ts"
import * as Retries from "./Retries.ts"
import { Secrets } from "./Secrets.ts"

/** One pass over all that is sealed: what an older key of `ORDINAUT_SECRET` sealed is sealed under the first; answers how much. */
export const pass = Effect.gen(function* () {
  const secrets = yield* Secrets
  const extensions = yield* Extensions
  const moved = (yield* secrets.reseal) + (yield* extensions.reseal)
  if (moved > 0)
    yield* Effect.logInfo("Sealed anew under the first key of ORDINAUT_SECRET.").pipe(
      Effect.annotateLogs({ count: moved })
    )
  return moved
})

/** The pass at the start of a program, after which an older key can be left out. */
export const layer = Layer.scopedDiscard(
  pass.pipe(
    Effect.tapError((error) => Effect.logWarning("Sealing anew failed; trying again.", error)),
    Effect.retry(Retries.loop),
    Effect.forkScoped
  )
)
