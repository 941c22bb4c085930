import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import { Runs } from "../layers/Runs.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import { pageRequest } from "./Requests.ts"

export const RunsHandlers = HttpApiBuilder.group(Api, "runs", (handlers) =>
  Effect.map(Runs, (runs) =>
    handlers
      .handle("list", ({ urlParams: { cursor, limit, ...filter } }) =>
        Effect.gen(function* () {
          return yield* runs.list(yield* CurrentAgent, filter, yield* pageRequest({ cursor, limit }))
        })
      )
      .handle("get", ({ path }) => Effect.flatMap(CurrentAgent, (agent) => runs.get(agent, path.id)))
      .handle("cancel", ({ path }) => Effect.flatMap(CurrentAgent, (agent) => runs.cancel(agent, path.id)))
  )
)
