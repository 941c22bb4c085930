import { randomBytes } from "node:crypto"
import { Clock, Effect } from "effect"
import { uuidV7 } from "../domain/Id.ts"

/** A new UUIDv7 of this instant. */
export const next: Effect.Effect<string> = Effect.map(Clock.currentTimeMillis, (now) => uuidV7(now, randomBytes(10)))
