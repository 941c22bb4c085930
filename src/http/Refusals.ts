import { Effect } from "effect"
import { Audit } from "../layers/Audit.ts"
import type { Known } from "./Visit.ts"

/** A request that was refused for want of a right. */
export interface Refused {
  readonly method: string
  /** Template of the route. */
  readonly route: string
  readonly path: string
}

/** Enters a refused authorization (403) into the trail. An outage does not change the answer, and is logged. */
export const recording = Effect.map(
  Audit,
  (audit) =>
    ({ address, caller }: Known, { method, path, route }: Refused, scope: string | null): Effect.Effect<void> =>
      caller === null
        ? Effect.void
        : audit
            .record({
              actor: caller.id,
              namespace: caller.namespace,
              action: "auth.forbidden",
              subject_kind: "route",
              subject_id: `${method} ${route}`,
              before: null,
              after: { path: path.slice(0, 500), scope, address }
            })
            .pipe(Effect.catchAll(() => Effect.logWarning("A refusal could not be entered into the trail.")))
)
