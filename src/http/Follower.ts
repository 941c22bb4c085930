import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { Clock, Deferred, Duration, Effect, Schedule } from "effect"
import { allows } from "../domain/Agent.ts"
import type { Caller } from "../domain/Agent.ts"
import { Draining } from "../layers/Draining.ts"
import { CurrentAgent } from "./Auth.ts"
import * as Credentials from "./Credentials.ts"

/** How often a stream asks whether its agent may still read. With the time that an answer is kept, it ends within 5 s. */
const lookEvery = Duration.seconds(1)
/** For so long a stream goes on while nobody can say whether its agent may still read. */
const unknownFor = Duration.seconds(30)
/** A client that takes nothing for so long is cut off. */
const stuckFor = Duration.seconds(30)
/** Time in which a stream that was told to end does so. */
const endWithin = Duration.seconds(1)

/** Who follows, as it is by now, and how long. */
export interface Follower {
  readonly viewer: () => Caller
  /** Returns when the stream is to end: the agent may not read any more, or the program stops. */
  readonly ended: Effect.Effect<void>
}

/**
 * Watches over a stream until the request's scope closes: over its agent's right, over its client, which is cut off when it takes
 * nothing, and over the end of the program.
 */
export const watching = Effect.map(Effect.all([Draining, Credentials.standing]), ([draining, standing]) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const { socket } = NodeHttpServerRequest.toServerResponse(request)
    const token = Credentials.bearerOf(request)
    const over = yield* Deferred.make<void>()
    let viewer = yield* CurrentAgent
    let confirmedAt = yield* Clock.currentTimeMillis

    const look = standing(token).pipe(
      Effect.flatMap((found) =>
        Effect.gen(function* () {
          if (!allows(found.scopes, "runs:read")) return yield* Deferred.succeed(over, undefined)
          viewer = found
          confirmedAt = yield* Clock.currentTimeMillis
          return false
        })
      ),
      Effect.catchTags({
        Unauthorized: () => Deferred.succeed(over, undefined),
        StoreUnavailable: () => overUnless(confirmedAt),
        IssuerUnavailable: () => overUnless(confirmedAt)
      })
    )
    const overUnless = (since: number) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        now - since > Duration.toMillis(unknownFor) ? Deferred.succeed(over, undefined) : Effect.succeed(false)
      )

    let waiting = 0
    let tookAt = confirmedAt
    const cutStuck = Effect.map(Clock.currentTimeMillis, (now) => {
      const length = socket?.writableLength ?? 0
      if (length === 0 || length !== waiting) tookAt = now
      else if (now - tookAt > Duration.toMillis(stuckFor)) socket?.destroy()
      waiting = length
    })

    for (const watch of [look, cutStuck]) yield* Effect.forkScoped(Effect.repeat(watch, Schedule.spaced(lookEvery)))
    const ended = Effect.raceFirst(Deferred.await(over), draining.begun)
    yield* Effect.forkScoped(
      ended.pipe(Effect.zipRight(Effect.sleep(endWithin)), Effect.zipRight(Effect.sync(() => socket?.destroy())))
    )
    return { viewer: () => viewer, ended } satisfies Follower
  })
)
