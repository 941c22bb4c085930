import * as SqlClient from "@effect/sql/SqlClient"
import { Context, Effect, Layer, TestClock } from "effect"
import type { JsonValue } from "../../src/domain/Json.ts"
import { Events } from "../../src/layers/Events.ts"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { admin } from "./fixtures.ts"
import { invariantsHold, watched } from "./invariants.ts"
import { fromStart } from "./schedules.ts"
import { services, start } from "./Services.ts"

/** Who owns the tasks of a test. */
export class Owner extends Context.Tag("test/listening/Owner")<Owner, Effect.Effect.Success<typeof admin>["actor"]>() {}

/** Every service over a database that refuses what must never happen, and an owner. */
export const listening = (more: ReadonlyArray<readonly [string, string]> = []) =>
  Layer.effect(
    Owner,
    Effect.zipRight(
      watched,
      Effect.map(admin, ({ actor }) => actor)
    )
  ).pipe(Layer.orDie, Layer.provideMerge(services(more)))

/** One world a test: its own tasks, the clock at its start; at the end the invariants hold. */
export const world = <A, E, R>(body: (actor: typeof Owner.Service) => Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    yield* fromStart
    yield* body(yield* Owner)
    yield* invariantsHold
  })

/** Sets the clock to so many seconds after `start`. */
export const second = (seconds: number) => TestClock.setTime(start + Math.round(seconds * 1000))

/** Says something on a topic. */
export const say = (topic: string, payload: JsonValue = {}) =>
  Effect.flatMap(Owner, (actor) =>
    Effect.flatMap(Events, (events) => events.publish(actor, { topic, payload }, null))
  ).pipe(Effect.orDie)

export const tick = Effect.flatMap(Scheduler, (scheduler) => scheduler.tick).pipe(Effect.orDie)

/** The runs of a task in order, as the store has them: the offset of `scheduled_for` and `due_at` from the start in seconds, state, key, payloads of its events. */
export const runsOf = (taskId: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{
      id: string
      key: string
      trigger: string
      at: Date
      due: Date
      state: string
      reason: string | null
      code: string | null
      version: number
      events: ReadonlyArray<{ readonly id: string; readonly payload?: JsonValue }> | null
    }>`
      SELECT r.*, o.input -> 'events' AS events FROM (
        SELECT id, task_id, key, trigger, scheduled_for AS at, due_at AS due, 'queued' AS state, NULL AS reason, NULL AS code, task_version AS version
        FROM due_work
        UNION ALL
        SELECT id, task_id, key, trigger, scheduled_for, due_at, state, skip_reason, error ->> 'code', task_version FROM task_run) AS r
      LEFT JOIN occurrence o ON o.task_id = r.task_id AND o.key = r.key
      WHERE r.task_id = ${taskId} ORDER BY r.id`
    return rows.map(({ at, due, events, ...row }) => ({
      ...row,
      at: (at.getTime() - start) / 1000,
      due: (due.getTime() - start) / 1000,
      payloads: events?.map(({ payload }) => payload ?? null) ?? null
    }))
  }).pipe(Effect.orDie)

/** What `runsOf` says, in words. */
export const inWords = (taskId: string) =>
  Effect.map(runsOf(taskId), (runs) =>
    runs.map(
      ({ at, key, payloads, reason, state }) =>
        `${at} ${key.slice(0, 1)} ${state}${reason === null ? "" : ` ${reason}`}${payloads === null ? "" : ` ${JSON.stringify(payloads)}`}`
    )
  )
