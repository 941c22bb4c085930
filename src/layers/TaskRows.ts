import * as Model from "@effect/sql/Model"
import type * as SqlClient from "@effect/sql/SqlClient"
import { Array as Arr, DateTime, Effect, Either, ParseResult, Schema, Struct } from "effect"
import type { Actor } from "../domain/Agent.ts"
import type { Cursor } from "../domain/Cursor.ts"
import { isTemplate } from "../domain/ConcurrencyKey.ts"
import { isId } from "../domain/Id.ts"
import { MadeJson } from "../domain/Json.ts"
import { Task, TaskNotFound } from "../domain/Task.ts"
import type { TaskDefinition } from "../domain/Task.ts"
import * as TaskSchedule from "../domain/TaskSchedule.ts"

const { payload: _, last_run: __, ...light } = Task.fields

/** A task without its steps: what its scheduling needs. `dtstart` is the start that holds. */
export const ScheduledTask = Schema.Struct({
  ...light,
  /** What of the payload a concurrency key is rendered from. */
  payload: Schema.optional(
    Schema.Struct({ params: Schema.optional(MadeJson), strict: Schema.optional(Schema.Boolean) })
  ),
  dtstart_given: Schema.Boolean,
  snoozed_run_id: Schema.NullOr(Schema.String),
  quarantined_at: Schema.NullOr(Model.DateTimeFromDate),
  quarantine_reason: Schema.NullOr(Schema.String),
  last_value: Schema.NullOr(Schema.Boolean)
})
export type ScheduledTask = typeof ScheduledTask.Type

/** Epoch milliseconds of an instant that may be missing. */
export const millisOf = (instant: DateTime.Utc | null): number | null =>
  instant === null ? null : DateTime.toEpochMillis(instant)

/** Whether an event at an instant (epoch milliseconds) lies within `starts_at` and `ends_at`. */
export const withinBounds = (task: ScheduledTask, at: number): boolean =>
  at >= (millisOf(task.starts_at) ?? -Infinity) && at <= (millisOf(task.ends_at) ?? Infinity)

const dateOf = (instant: DateTime.Utc | null): Date | null => (instant === null ? null : DateTime.toDateUtc(instant))

/** What the schedule of a stored task is read from. */
export const scheduleFields = (task: ScheduledTask): TaskSchedule.ScheduleFields => ({
  kind: task.schedule_kind,
  expr: task.schedule_expr,
  timezone: task.timezone,
  dtstart: task.dtstart_given ? task.dtstart : null,
  createdAt: DateTime.toEpochMillis(task.created_at),
  startsAt: millisOf(task.starts_at),
  endsAt: millisOf(task.ends_at),
  countEnd: millisOf(task.count_end)
})

/** The fields of a definition as the API writes them; a revision keeps them. */
const Definition = Schema.Struct(Struct.omit(Task.jsonUpdate.fields, "timezone")).pipe(
  Schema.extend(Schema.Struct({ timezone: Schema.String }))
)
const encodeDefinition = Schema.encodeSync(Definition)

/** The statements on `task` and `task_revision` that the services of tasks share. */
export const make = (sql: SqlClient.SqlClient) => {
  /** An agent sees its own tasks; an admin those of the namespace. */
  const visible = (actor: Actor) =>
    actor.scopes.includes("admin") ? sql`t.namespace = ${actor.namespace}` : sql`t.created_by = ${actor.id}`

  const select = (where: ReturnType<typeof visible>, now: Date) =>
    sql`
      SELECT t.*, CASE WHEN t.snoozed_until > ${now} THEN t.snoozed_until END AS snoozed_until,
        coalesce(t.quarantine_reason, t.status_reason) AS status_reason, (
        SELECT jsonb_build_object('id', r.id, 'state', r.state, 'finished_at', r.finished_at)
        FROM task_run r WHERE r.task_id = t.id ORDER BY r.id DESC LIMIT 1) AS last_run
      FROM task t WHERE ${where}`.pipe(
      Effect.flatMap((rows) => {
        const [unreadable, tasks] = Arr.partitionMap(rows, (row) => decodeTask(row))
        return unreadable.length === 0
          ? Effect.succeed(tasks)
          : Effect.as(
              Effect.logError("A task cannot be read and is left out.").pipe(
                Effect.annotateLogs({ count: unreadable.length })
              ),
              tasks
            )
      })
    )

  const notFound = (id: string) => new TaskNotFound({ task_id: id })

  return {
    visible,
    select,
    /** The whole task, if the actor may see it. */
    one: Effect.fnUntraced(function* (actor: Actor, id: string) {
      const now = DateTime.toDateUtc(yield* DateTime.now)
      const [task] = isId(id) ? yield* select(sql`t.id = ${id} AND ${visible(actor)}`, now) : []
      return task === undefined ? yield* notFound(id) : task
    }),
    /** The task under its row lock, which orders all that changes it. */
    locked: Effect.fnUntraced(function* (actor: Actor, id: string) {
      const [task] = isId(id)
        ? yield* sql`SELECT t.* FROM task t WHERE t.id = ${id} AND ${visible(actor)} FOR UPDATE`.pipe(
            Effect.flatMap(decodeScheduled)
          )
        : []
      return task === undefined ? yield* notFound(id) : task
    }),
    columns: (definition: TaskDefinition, cursor: Cursor) => ({
      ...Struct.omit(definition, "payload", "labels", "starts_at", "ends_at", "dtstart"),
      payload: JSON.stringify(definition.payload),
      labels: JSON.stringify(definition.labels),
      starts_at: dateOf(definition.starts_at),
      ends_at: dateOf(definition.ends_at),
      dtstart: cursor.dtstart,
      dtstart_given: definition.dtstart !== null,
      count_end: cursor.countEnd === null ? null : new Date(cursor.countEnd),
      next_run_at: cursor.next === null ? null : new Date(cursor.next),
      next_due_at: cursor.nextDueAt === null ? null : new Date(cursor.nextDueAt),
      decided_through: new Date(cursor.decidedThrough),
      tzdata_version: cursor.tzdataVersion
    }),
    /** Stores revisions; `bound` are the extensions that the steps of one are bound to. */
    revise: (
      revisions: ReadonlyArray<{
        readonly id: string
        readonly version: number
        readonly definition: TaskDefinition
        readonly bound: ReadonlyArray<string>
      }>,
      changed_by: string,
      now: Date
    ) =>
      sql`INSERT INTO task_revision ${sql.insert(
        revisions.map(({ bound, definition, id, version }) => ({
          task_id: id,
          version,
          definition: JSON.stringify(encodeDefinition(definition)),
          bound_extensions: bound,
          changed_by,
          created_at: now
        }))
      )}`,
    /** The smallest limit among the active tasks with a key holds for it, where that is no template; the rows are locked in the order of the keys. */
    limits: Effect.fnUntraced(function* (namespace: string, all: Iterable<string | null>) {
      const keys = [...new Set(all)].flatMap((key) => (key === null || isTemplate(key) ? [] : [key]))
      if (keys.length === 0) return
      yield* sql`
        INSERT INTO concurrency (namespace, key, "limit") SELECT ${namespace}, key, 1 FROM unnest(${keys}::text[]) AS k (key)
        ORDER BY key ON CONFLICT (namespace, key) DO NOTHING`
      yield* sql`SELECT FROM concurrency WHERE namespace = ${namespace} AND key = ANY (${keys}::text[]) ORDER BY key FOR UPDATE`
      // A statement of its own: its snapshot is later than the locks, so that of two changes the second sees the first.
      yield* sql`
        UPDATE concurrency c SET "limit" = t.smallest FROM (
          SELECT concurrency_key AS key, min(concurrency_limit) AS smallest FROM task
          WHERE namespace = ${namespace} AND concurrency_key = ANY (${keys}::text[]) AND status = 'active' GROUP BY 1) AS t
        WHERE c.namespace = ${namespace} AND c.key = t.key`
    })
  }
}

const decodeTask = Schema.decodeUnknownEither(Task)
const decodeOne = Schema.decodeUnknownEither(ScheduledTask)

/** Rows of `task`, each by itself, for one that cannot be read must not stop the others: those, with what is wrong, and the tasks. */
export const decodeEach = (rows: ReadonlyArray<{ readonly id: string }>) =>
  Arr.partitionMap(rows, (row) =>
    Either.mapLeft(decodeOne(row), (error) => ({
      id: row.id,
      reason: ParseResult.ArrayFormatter.formatErrorSync(error)
        .map(({ message, path }) => `${path.join(".")}: ${message}`)
        .join("; ")
    }))
  )

/** Rows of `task` as the scheduler reads them. */
export const decodeScheduled = Schema.decodeUnknown(Schema.Array(ScheduledTask))
