import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Duration, Effect } from "effect"
import { AuditTrail } from "../layers/AuditTrail.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"

/** Work of one request: the client goes on with the cursor. */
const bound = { most: 500_000, lasting: Duration.seconds(15), anchors: [] }

export const AuditHandlers = HttpApiBuilder.group(Api, "audit", (handlers) =>
  Effect.map(AuditTrail, (trail) =>
    handlers
      .handle("list", ({ urlParams: { cursor, limit, ...filter } }) =>
        Effect.flatMap(CurrentAgent, (agent) =>
          trail.list(agent, filter, { limit: limit ?? 50, cursor: cursor ?? null })
        )
      )
      .handle("verify", ({ urlParams: { cursor } }) =>
        Effect.flatMap(CurrentAgent, ({ namespace }) => trail.verify({ ...bound, namespace, cursor: cursor ?? null }))
      )
  )
)
