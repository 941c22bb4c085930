import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import { Decided } from "../domain/Approval.ts"
import { InvalidField } from "../domain/Task.ts"
import { Approvals } from "../layers/Approvals.ts"
import { Reruns } from "../layers/Reruns.ts"
import { Runs } from "../layers/Runs.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import * as IdempotencyKey from "./IdempotencyKey.ts"
import { pageRequest, traceparent } from "./Requests.ts"
import { RunQueued } from "./TasksApi.ts"

export const RunsHandlers = HttpApiBuilder.group(Api, "runs", (handlers) =>
  Effect.map(Effect.all([Runs, Reruns, Approvals, IdempotencyKey.once]), ([runs, reruns, approvals, once]) =>
    handlers
      .handle("list", ({ urlParams: { cursor, limit, ...filter } }) =>
        Effect.gen(function* () {
          return yield* runs.list(yield* CurrentAgent, filter, yield* pageRequest({ cursor, limit }))
        })
      )
      .handle("get", ({ path, urlParams: { values } }) =>
        Effect.flatMap(CurrentAgent, (agent) => runs.get(agent, path.id, values))
      )
      .handle("items", ({ path, urlParams: { cursor, limit = 50 } }) =>
        Effect.gen(function* () {
          const after = cursor === undefined ? -1 : /^\d{1,5}$/.test(cursor) ? Number(cursor) : null
          if (after === null) {
            return yield* new InvalidField({ path: "query.cursor", message: "is no cursor of a list's next_cursor" })
          }
          const { items, next } = yield* runs.items(yield* CurrentAgent, path.id, path.step_id, after, limit)
          return { items, next_cursor: next === null ? null : String(next) }
        })
      )
      .handle("retry", ({ path, payload }) =>
        once(
          Effect.gen(function* () {
            const run_id = yield* reruns.retry(yield* CurrentAgent, path.id, payload, yield* traceparent)
            return yield* IdempotencyKey.answer(RunQueued, 202, { run_id })
          })
        )
      )
      .handle("decide", ({ path, payload }) =>
        once(
          Effect.gen(function* () {
            const decided = yield* approvals.decide(yield* CurrentAgent, path.id, path.step_id, payload)
            return yield* IdempotencyKey.answer(Decided, 200, decided)
          })
        )
      )
      .handle("approvals", ({ urlParams }) =>
        Effect.gen(function* () {
          return yield* approvals.list(yield* CurrentAgent, yield* pageRequest(urlParams))
        })
      )
      .handle("cancel", ({ path }) => Effect.flatMap(CurrentAgent, (agent) => runs.cancel(agent, path.id)))
  )
)
