import { Clock, Duration, Effect, Fiber, Layer, Schedule } from "effect"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { Draining } from "./Draining.ts"
import { beatEvery, Heartbeats } from "./Heartbeats.ts"
import { Pulse } from "./Pulse.ts"
import * as Retries from "./Retries.ts"
import * as Settings from "./Settings.ts"
import { Wakeups } from "./Wakeups.ts"
import { Worker } from "./Worker.ts"

/** The loops of a worker: turns, renewal, fence and heartbeat, until the scope closes; then the drain. */
export const loop = Layer.scopedDiscard(
  Effect.gen(function* () {
    const worker = yield* Worker
    const wakeups = yield* Wakeups
    const heartbeats = yield* Heartbeats
    const draining = yield* Draining
    const pulse = yield* Pulse
    const leaseFor = yield* Settings.leaseFor
    const concurrency = yield* Settings.workerConcurrency
    const startedAt = yield* Clock.currentTimeMillis
    const turns = worker.turn.pipe(
      Effect.tap(() => pulse.passed("worker")),
      Effect.flatMap((moved) => (moved > 0 ? Effect.yieldNow() : worker.idle)),
      Effect.forever
    )
    const beat = Effect.gen(function* () {
      yield* heartbeats.beat({
        id: worker.id,
        program: "worker",
        startedAt,
        lastPassAt: yield* worker.lastTurnAt,
        running: yield* worker.running,
        concurrency
      })
    })
    const every = (pass: Effect.Effect<void, StoreUnavailable>, pause: Duration.DurationInput) =>
      draining.supervised(pass.pipe(Effect.repeat(Schedule.spaced(pause)), Effect.retry(Retries.loop)))
    // What stands first ends last: leases are renewed and fenced until the drain is over.
    yield* Effect.addFinalizer(() => Effect.ignore(heartbeats.leave(worker.id)))
    // A lease that ends is a crash if there was no beat for two thirds of it: a short lease needs quicker beats.
    yield* every(beat, Duration.min(beatEvery, Duration.times(leaseFor, 1 / 3)))
    // At a third of the lease, and at once when something is to be canceled: that is read where leases are renewed.
    const renewals = Effect.zipRight(wakeups.wait("cancel", Duration.times(leaseFor, 1 / 3)), worker.renew)
    yield* draining.supervised(renewals.pipe(Effect.forever, Effect.retry(Retries.loop)))
    yield* every(worker.fence, "500 millis")
    // In a fiber of its own: the one that closes the scope may be interrupted already, which would cut the drain short.
    yield* Effect.addFinalizer(() => Effect.flatMap(Effect.forkDaemon(worker.drain), Fiber.await))
    yield* every(worker.rescue, "1 second")
    yield* draining.supervised(turns.pipe(Effect.retry(Retries.loop)))
  })
)
