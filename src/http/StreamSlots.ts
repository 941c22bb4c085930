import { Effect } from "effect"
import type { Scope } from "effect"
import { TooManyStreams } from "../domain/RateLimit.ts"
import * as EdgeSettings from "../layers/EdgeSettings.ts"
import * as Metrics from "../layers/Metrics.ts"

/** When a client may ask again, in seconds. */
const retryAfter = 5

/** Counts open streams: takes one for an agent until the scope closes, or fails where there are as many as may be. */
export const make = Effect.gen(function* () {
  const mostOfAgent = yield* EdgeSettings.streamsAgent
  const most = yield* EdgeSettings.streamsProcess
  const open = new Map<string, number>()
  let all = 0

  const change = (agent: string, by: 1 | -1) => {
    const count = (open.get(agent) ?? 0) + by
    if (count === 0) open.delete(agent)
    else open.set(agent, count)
    all += by
    Metrics.openStreams.add(all, {})
  }

  return (agent: string): Effect.Effect<void, TooManyStreams, Scope.Scope> =>
    Effect.acquireRelease(
      Effect.suspend(() => {
        if ((open.get(agent) ?? 0) >= mostOfAgent) {
          return new TooManyStreams({ scope: "agent", limit: mostOfAgent, retry_after: retryAfter })
        }
        if (all >= most) return new TooManyStreams({ scope: "process", limit: most, retry_after: retryAfter })
        return Effect.sync(() => change(agent, 1))
      }),
      () => Effect.sync(() => change(agent, -1))
    )
})
