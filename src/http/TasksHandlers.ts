import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { DateTime, Effect, Either, Schema } from "effect"
import { InvalidField, Task, TaskCreate } from "../domain/Task.ts"
import { Backfills } from "../layers/Backfills.ts"
import { Occurrences } from "../layers/Occurrences.ts"
import { Tasks } from "../layers/Tasks.ts"
import { TaskStates } from "../layers/TaskStates.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import * as Batch from "./Batch.ts"
import * as IdempotencyKey from "./IdempotencyKey.ts"
import { ifMatch, pageRequest, traceparent } from "./Requests.ts"
import { BackfillForetold, BackfillStarted, RunQueued, TasksMade } from "./TasksApi.ts"

const encode = Schema.encode(Task.json)

/** A task with its version as ETag. */
const answer = (task: Task, status = 200, headers: Readonly<Record<string, string>> = {}) =>
  encode(task).pipe(
    Effect.orDie,
    Effect.map((body) =>
      HttpServerResponse.unsafeJson(body, { status, headers: { etag: `"${task.version}"`, ...headers } })
    )
  )

export const TasksHandlers = HttpApiBuilder.group(Api, "tasks", (handlers) =>
  Effect.gen(function* () {
    const tasks = yield* Tasks
    const states = yield* TaskStates
    const occurrences = yield* Occurrences
    const backfills = yield* Backfills
    const once = yield* IdempotencyKey.once
    return handlers
      .handle("create", ({ payload }) =>
        once(
          Effect.gen(function* () {
            const task = yield* tasks.create(yield* CurrentAgent, payload)
            return yield* answer(task, 201, { location: `/tasks/${task.id}` })
          })
        )
      )
      .handle("createAll", ({ payload }) =>
        once(
          Effect.gen(function* () {
            const actor = yield* CurrentAgent
            const made = yield* Batch.each(TaskCreate, payload.items, (inputs) => tasks.createAll(actor, inputs))
            const items = made.map((one) =>
              Either.isRight(one)
                ? { status: 201, task: one.right, error: null }
                : { status: one.left.status, task: null, error: one.left }
            )
            return yield* IdempotencyKey.answer(TasksMade, 200, { items })
          })
        )
      )
      .handle("list", ({ urlParams: { cursor, limit, ...filter } }) =>
        Effect.gen(function* () {
          return yield* tasks.list(yield* CurrentAgent, filter, yield* pageRequest({ cursor, limit }))
        })
      )
      .handle("get", ({ path }) =>
        Effect.gen(function* () {
          return yield* answer(yield* tasks.get(yield* CurrentAgent, path.id))
        })
      )
      .handle("patch", ({ path, payload }) =>
        Effect.gen(function* () {
          return yield* answer(yield* tasks.patch(yield* CurrentAgent, path.id, payload, yield* ifMatch))
        })
      )
      .handle("put", ({ path, payload }) =>
        Effect.gen(function* () {
          return yield* answer(yield* tasks.patch(yield* CurrentAgent, path.id, payload, yield* ifMatch))
        })
      )
      .handle("versions", ({ path, urlParams: { cursor, limit = 50 } }) =>
        Effect.gen(function* () {
          const before = cursor === undefined ? null : Number(/^\d{1,9}$/.exec(cursor)?.[0] ?? NaN)
          if (Number.isNaN(before)) {
            return yield* new InvalidField({ path: "query.cursor", message: "is no cursor of a list's next_cursor" })
          }
          return yield* tasks.versions(yield* CurrentAgent, path.id, before, limit)
        })
      )
      .handle("occurrences", ({ path, urlParams: { after, count } }) =>
        Effect.gen(function* () {
          const from = after === undefined ? null : DateTime.toEpochMillis(after)
          return { items: yield* occurrences.next(yield* CurrentAgent, path.id, from, count ?? 10) }
        })
      )
      .handle("explain", ({ path, urlParams: { at } }) =>
        Effect.gen(function* () {
          return yield* occurrences.explain(
            yield* CurrentAgent,
            path.id,
            at === undefined ? null : DateTime.toEpochMillis(at)
          )
        })
      )
      .handle("backfill", ({ path, payload }) =>
        once(
          Effect.gen(function* () {
            const { backfill_id, occurrences: all } = yield* backfills.create(yield* CurrentAgent, path.id, payload)
            return backfill_id === null
              ? yield* IdempotencyKey.answer(BackfillForetold, 200, {
                  occurrences: all.map((at) => DateTime.unsafeMake(at))
                })
              : yield* IdempotencyKey.answer(BackfillStarted, 202, { backfill_id, occurrences: all.length })
          })
        )
      )
      .handle("cancelBackfill", ({ path }) => Effect.flatMap(CurrentAgent, (agent) => backfills.cancel(agent, path.id)))
      .handle("remove", ({ path }) =>
        Effect.gen(function* () {
          yield* states.cancel(yield* CurrentAgent, path.id, { reason: null, version: yield* ifMatch })
        })
      )
      .handle("runNow", ({ path, payload }) =>
        once(
          Effect.gen(function* () {
            const agent = yield* CurrentAgent
            const run_id = yield* states.runNow(agent, path.id, payload.params ?? null, yield* traceparent)
            return yield* IdempotencyKey.answer(RunQueued, 202, { run_id })
          })
        )
      )
      .handle("snooze", ({ path, payload }) =>
        Effect.gen(function* () {
          return yield* answer(yield* states.snooze(yield* CurrentAgent, path.id, payload, yield* ifMatch))
        })
      )
      .handle("pause", ({ path, payload }) =>
        Effect.gen(function* () {
          const change = { reason: payload.reason ?? null, version: yield* ifMatch }
          return yield* answer(yield* states.pause(yield* CurrentAgent, path.id, change))
        })
      )
      .handle("resume", ({ path, payload }) =>
        Effect.gen(function* () {
          const change = {
            reason: payload.reason ?? null,
            version: yield* ifMatch,
            onMissed: payload.on_missed ?? null
          }
          return yield* answer(yield* states.resume(yield* CurrentAgent, path.id, change))
        })
      )
      .handle("cancel", ({ path, payload }) =>
        Effect.gen(function* () {
          const change = { reason: payload.reason ?? null, version: yield* ifMatch }
          return yield* answer(yield* states.cancel(yield* CurrentAgent, path.id, change))
        })
      )
  })
)
