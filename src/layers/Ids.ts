import { randomBytes } from "node:crypto"
import { Clock, Effect } from "effect"
import { uuidV7 } from "../domain/Id.ts"

/** The millisecond and the sequence number of the last id: those of one process are in order, also within a millisecond. */
let last = { millis: 0, sequence: 0 }

/** A new UUIDv7 of this instant, greater than all before it. */
export const next: Effect.Effect<string> = Effect.map(Clock.currentTimeMillis, (now) => {
  const following =
    last.sequence === 4095 ? { millis: last.millis + 1, sequence: 0 } : { ...last, sequence: last.sequence + 1 }
  last = now > last.millis ? { millis: now, sequence: 0 } : following
  return uuidV7(last.millis, randomBytes(10), last.sequence)
})
