import { Duration, Effect, Schema } from "effect"
import { readAnchor } from "../domain/AuditEntry.ts"
import type { Anchor } from "../domain/AuditEntry.ts"
import { AuditTrail } from "./AuditTrail.ts"

/** The trail does not hold; the message names the first broken link. */
export class AuditBroken extends Schema.TaggedError<AuditBroken>()("AuditBroken", { message: Schema.String }) {}

/** The command was given something that is no anchor. */
export class NoAnchor extends Schema.TaggedError<NoAnchor>()("NoAnchor", { message: Schema.String }) {}

const anchorsOf = (given: ReadonlyArray<string>) =>
  Effect.forEach(
    given.flatMap((text) => text.split(/\s+/)).filter((text) => text !== ""),
    (text): Effect.Effect<Anchor, NoAnchor> => {
      const anchor = readAnchor(text)
      return anchor === undefined
        ? Effect.fail(
            new NoAnchor({ message: `${text} is no anchor: it is <chain>:<seq>:<hash>, as the log tells the heads` })
          )
        : Effect.succeed(anchor)
    }
  )

/**
 * Verifies the whole trail, and that it holds against heads that the log told before, given as `<chain>:<seq>:<hash>`. Says what it
 * found on standard output; fails with `AuditBroken`.
 */
export const whole = (given: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const trail = yield* AuditTrail
    const anchors = yield* anchorsOf(given)
    const verdict = yield* trail.verify({
      namespace: null,
      cursor: null,
      most: Infinity,
      lasting: Duration.infinity,
      anchors
    })
    const { checked, first_broken } = verdict
    if (first_broken !== null) {
      return yield* new AuditBroken({
        message: `The audit trail is broken: the first broken link is entry ${first_broken.seq} of chain ${first_broken.chain}, after ${checked} entries.`
      })
    }
    const against = anchors.length === 0 ? "" : `, and against ${anchors.length} anchors`
    yield* Effect.sync(() => process.stdout.write(`The audit trail holds: ${checked} entries${against}.\n`))
  })
