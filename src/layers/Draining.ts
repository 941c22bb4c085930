import { Cause, Context, Deferred, Effect, Layer } from "effect"
import type { Scope } from "effect"

/**
 * Holds the loops of a program and its end: a loop that dies of a bug ends the program, which otherwise would go on without it,
 * silently; and readiness knows when the program is about to stop.
 */
export class Draining extends Context.Tag("ordinaut/Draining")<
  Draining,
  {
    /** Forks a loop into the scope; its death by a bug is the program's. */
    readonly supervised: <A, E>(loop: Effect.Effect<A, E>) => Effect.Effect<void, never, Scope.Scope>
    /** Fails when a loop died; never returns. What a program waits for. */
    readonly fatal: Effect.Effect<never>
    readonly isDraining: Effect.Effect<boolean>
    readonly begin: Effect.Effect<void>
    /** Returns when the program is about to stop: what would go on for ever ends then. */
    readonly begun: Effect.Effect<void>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const dead = yield* Deferred.make<never>()
      const begun = yield* Deferred.make<void>()
      return Draining.of({
        supervised: (loop) =>
          loop.pipe(
            Effect.onError((cause) =>
              Cause.isInterruptedOnly(cause) ? Effect.void : Deferred.failCause(dead, Cause.die(Cause.squash(cause)))
            ),
            Effect.forkScoped,
            Effect.asVoid
          ),
        fatal: Deferred.await(dead),
        isDraining: Deferred.isDone(begun),
        begin: Effect.asVoid(Deferred.succeed(begun, undefined)),
        begun: Deferred.await(begun)
      })
    })
  )
}
