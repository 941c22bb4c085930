import type * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import { DateTime, Effect, Either, Schema } from "effect"
import type { Actor } from "../domain/Agent.ts"
import type { Cursor } from "../domain/Cursor.ts"
import type { Extension } from "../domain/Extension.ts"
import type { InvalidPipeline } from "../domain/PipelineSpec.ts"
import { DuplicateTask, Task, TaskId, TooManyTasks } from "../domain/Task.ts"
import type { TaskCreate, TaskDefinition } from "../domain/Task.ts"
import type { InvalidSchedule } from "../domain/Timeline.ts"
import { appending } from "./Audit.ts"
import * as Conditions from "./Conditions.ts"
import { constraintOf } from "./Db.ts"
import * as Ids from "./Ids.ts"
import { tellTasks } from "./Outbox.ts"
import type * as TaskChecks from "./TaskChecks.ts"
import type { ToolBinding } from "./ToolBinding.ts"
import * as TaskRows from "./TaskRows.ts"

/** Why a task is not made. */
export type NotMade = InvalidSchedule | InvalidPipeline | DuplicateTask | TooManyTasks

/** Tasks of a batch that are checked at the same time: each may hold a connection, and others need some. */
const checkedAtOnce = 3

/** A task to be made, and the request that asks for it. */
export interface Asked {
  readonly input: TaskCreate
  readonly requestId: string | null
}

interface Checked {
  readonly id: TaskId
  readonly requestId: string | null
  readonly definition: TaskDefinition
  readonly bound: ReadonlyArray<string>
  readonly cursor: Cursor
}

interface Parts {
  readonly known: (typeof ToolBinding.Service)["known"]
  readonly checkPayload: ReturnType<typeof TaskChecks.make>["checkPayload"]
  readonly cursorOf: (
    id: string,
    definition: TaskDefinition,
    createdAt: number,
    now: number
  ) => Either.Either<Cursor, InvalidSchedule>
  readonly defaultTimezone: string
}

/** Of two tasks with one dedupe key that come at once the loser tries again, and finds the winner. */
export const againIfTaken = <A, E, R>(change: Effect.Effect<A, E, R>) =>
  Effect.retry(change, {
    times: 2,
    while: (error) => error instanceof SqlError && constraintOf(error) === "task_dedupe"
  })

/**
 * Makes tasks, up to 1,000 at once, since a statement takes at most 65,535 parameters: answers for each the task, or why it is not
 * made. Those that are made are in one transaction.
 */
export const make = (sql: SqlClient.SqlClient, { checkPayload, cursorOf, defaultTimezone, known }: Parts) => {
  const rows = TaskRows.make(sql)
  const conditions = Conditions.make(sql)
  const append = appending(sql)

  const checked = Effect.fnUntraced(function* (
    actor: Actor,
    { input, requestId }: Asked,
    now: number,
    extensions: ReadonlyMap<string, Extension>
  ) {
    const definition: TaskDefinition = { ...input, timezone: input.timezone ?? defaultTimezone }
    const { bound } = yield* checkPayload(actor.namespace, definition.payload, definition.schedule_kind, extensions)
    const id = TaskId.make(yield* Ids.next)
    return { id, requestId, definition, bound, cursor: yield* cursorOf(id, definition, now, now) } satisfies Checked
  })

  /** Leaves out those whose dedupe key is taken, and those that are more than the agent may have. */
  const admitted = Effect.fnUntraced(function* (actor: Actor, all: ReadonlyArray<Either.Either<Checked, NotMade>>) {
    const keys = all.flatMap((one) =>
      Either.isRight(one) && one.right.definition.dedupe_key !== null ? [one.right.definition.dedupe_key] : []
    )
    const taken = new Map<string, string>()
    if (keys.length > 0) {
      const found = yield* sql<{ id: string; dedupe_key: string }>`
        SELECT id, dedupe_key FROM task
        WHERE created_by = ${actor.id} AND dedupe_key = ANY (${keys}::text[]) AND status IN ('active', 'paused')`
      for (const { dedupe_key, id } of found) taken.set(dedupe_key, id)
    }
    const [limit] = yield* sql<{ max_tasks: number; room: number }>`
      SELECT max_tasks, max_tasks - (
        SELECT count(*) FROM task t WHERE t.created_by = a.id AND t.status IN ('active', 'paused'))::integer AS room
      FROM agent a WHERE a.id = ${actor.id}`
    let room = limit?.room ?? 0
    return all.map((one): Either.Either<Checked, NotMade> => {
      if (Either.isLeft(one)) return one
      const { definition, id } = one.right
      const { dedupe_key } = definition
      const other = dedupe_key === null ? undefined : taken.get(dedupe_key)
      if (dedupe_key !== null && other !== undefined) {
        return Either.left(new DuplicateTask({ task_id: TaskId.make(other), dedupe_key }))
      }
      if (room <= 0) return Either.left(new TooManyTasks({ max_tasks: limit?.max_tasks ?? 0 }))
      room--
      if (dedupe_key !== null) taken.set(dedupe_key, id)
      return one
    })
  })

  const insert = Effect.fnUntraced(function* (
    actor: Actor,
    made: ReadonlyArray<Checked>,
    said: Conditions.Said,
    now: number
  ) {
    const at = new Date(now)
    const columns = made.map(({ cursor, definition, id }) => ({
      ...rows.columns(definition, cursor),
      last_value: Conditions.baseOf({ ...definition, id }, said, now),
      id,
      created_by: actor.id,
      namespace: actor.namespace,
      version: 1,
      status: "active",
      created_at: at,
      updated_at: at
    }))
    yield* sql`INSERT INTO task ${sql.insert(columns)}`
    yield* rows.revise(
      made.map(({ bound, definition, id }) => ({ id, version: 1, definition, bound })),
      actor.id,
      at
    )
    yield* rows.limits(
      actor.namespace,
      made.map(({ definition }) => definition.concurrency_key)
    )
    const ids = made.map(({ id }) => id)
    yield* tellTasks(sql, "created", {
      of: sql`(SELECT * FROM task WHERE id = ANY (${ids}::uuid[]) ORDER BY id)`,
      at: sql`${at}::timestamptz`
    })
    const tasks = yield* rows.select(sql`t.id = ANY (${ids}::uuid[]) ORDER BY t.id`, at)
    const requests = new Map<string, string | null>(made.map((one) => [one.id, one.requestId]))
    yield* append(
      tasks.map((task) => ({
        request_id: requests.get(task.id) ?? null,
        actor: actor.id,
        namespace: actor.namespace,
        action: "task.created",
        subject_kind: "task",
        subject_id: task.id,
        before: null,
        after: encodeTask(task)
      }))
    )
    return new Map<string, Task>(tasks.map((task) => [task.id, task]))
  })

  return Effect.fnUntraced(function* (actor: Actor, asked: ReadonlyArray<Asked>) {
    const now = DateTime.toEpochMillis(yield* DateTime.now)
    const extensions = yield* known(
      actor.namespace,
      asked.map(({ input }) => input.payload)
    )
    const all = yield* Effect.forEach(
      asked,
      (one, index) =>
        checked(actor, one, now, extensions).pipe(
          Effect.map((good): Either.Either<Checked, NotMade> => Either.right(good)),
          Effect.catchTags({
            InvalidSchedule: (error) => Effect.succeed(Either.left(error)),
            InvalidPipeline: (error) => Effect.succeed(Either.left(error))
          }),
          // Other requests have their turn meanwhile.
          Effect.zipLeft(index % 20 === 19 ? Effect.yieldNow() : Effect.void)
        ),
      { concurrency: checkedAtOnce }
    )
    const good = all.flatMap((one) => (Either.isRight(one) ? [one.right] : []))
    const topics = [...new Set(good.flatMap(({ definition }) => Conditions.topicsOf(definition)))]
    return yield* Effect.gen(function* () {
      const said = yield* conditions.held(actor.namespace, topics)
      const chosen = yield* admitted(actor, all)
      const made = chosen.flatMap((one) => (Either.isRight(one) ? [one.right] : []))
      const tasks = made.length === 0 ? new Map<string, Task>() : yield* insert(actor, made, said, now)
      return chosen.map((one) =>
        Either.flatMap(one, ({ id }): Either.Either<Task, NotMade> => {
          const task = tasks.get(id)
          // What was inserted in this transaction is there.
          if (task === undefined) throw new Error("a task that was made cannot be read")
          return Either.right(task)
        })
      )
    }).pipe(sql.withTransaction, againIfTaken)
  })
}

const encodeTask = Schema.encodeSync(Task.json)
