import { Clock, Context, Effect, Layer } from "effect"

/** A loop without which a program is of no use. */
export type Loop = "scheduler" | "worker"

/** When the loops of this process came through last: one that is stuck, or fails each time, falls silent. */
export class Pulse extends Context.Tag("ordinaut/Pulse")<
  Pulse,
  {
    readonly passed: (loop: Loop) => Effect.Effect<void>
    /** Epoch milliseconds of the last pass that came through; null before the first. */
    readonly lastAt: (loop: Loop) => Effect.Effect<number | null>
  }
>() {
  static readonly layer = Layer.sync(this, () => {
    const last = new Map<Loop, number>()
    return Pulse.of({
      passed: (loop) => Effect.map(Clock.currentTimeMillis, (now) => void last.set(loop, now)),
      lastAt: (loop) => Effect.sync(() => last.get(loop) ?? null)
    })
  })
}
