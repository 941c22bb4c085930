import * as Model from "@effect/sql/Model"
import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Effect, Layer, Schema, Struct } from "effect"
import type { Either } from "effect"
import type { Actor } from "../domain/Agent.ts"
import * as Cursor from "../domain/Cursor.ts"
import { isId } from "../domain/Id.ts"
import type { Page, PageRequest } from "../domain/Page.ts"
import { pageBy, pageOf } from "../domain/Page.ts"
import type { InvalidPipeline } from "../domain/PipelineSpec.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { DuplicateTask, Revision, Task, TaskCanceled, TaskId, TooManyTasks, VersionMismatch } from "../domain/Task.ts"
import type { TaskCreate, TaskDefinition, TaskNotFound, TaskPatch } from "../domain/Task.ts"
import type { InvalidSchedule } from "../domain/Timeline.ts"
import { Audit } from "./Audit.ts"
import * as Conditions from "./Conditions.ts"
import { RequestId } from "./Correlation.ts"
import { storeErrors } from "./Db.ts"
import { Lease } from "./Lease.ts"
import * as Listeners from "./Listeners.ts"
import { tellTask } from "./Outbox.ts"
import { fitting } from "./PageSize.ts"
import * as NewTasks from "./NewTasks.ts"
import { kept, scheduleOf, upToNow } from "./Rescheduling.ts"
import * as Settings from "./Settings.ts"
import { sharing } from "./SharedCommits.ts"
import * as TaskChecks from "./TaskChecks.ts"
import { narrow } from "./TaskFilter.ts"
import type { TaskFilter } from "./TaskFilter.ts"
import * as TaskRows from "./TaskRows.ts"
import { ToolBinding } from "./ToolBinding.ts"
import { Wakeups } from "./Wakeups.ts"

type Invalid = InvalidSchedule | InvalidPipeline

/** What an agent has defined. Owns `task` and `task_revision`, with `TaskStates`. */
export class Tasks extends Context.Tag("ordinaut/Tasks")<
  Tasks,
  {
    /** Checks the whole definition, then stores it; it fires from then on. */
    readonly create: (
      actor: Actor,
      input: TaskCreate
    ) => Effect.Effect<Task, Invalid | DuplicateTask | TooManyTasks | StoreUnavailable>
    /**
     * As `create`, for many: answers for each the task, or why it is not made. Those that are made are in one transaction. Of two with
     * one dedupe key the first is made.
     */
    readonly createAll: (
      actor: Actor,
      inputs: ReadonlyArray<TaskCreate>
    ) => Effect.Effect<ReadonlyArray<Either.Either<Task, NewTasks.NotMade>>, StoreUnavailable>
    readonly list: (actor: Actor, filter: TaskFilter, page: PageRequest) => Effect.Effect<Page<Task>, StoreUnavailable>
    readonly get: (actor: Actor, id: string) => Effect.Effect<Task, TaskNotFound | StoreUnavailable>
    /** The definitions that a task had, the newest first, at most `limit` older than version `before` (null: the newest). */
    readonly versions: (
      actor: Actor,
      id: string,
      before: number | null,
      limit: number
    ) => Effect.Effect<Page<Revision>, TaskNotFound | StoreUnavailable>
    /**
     * Changes the fields that are given. Where the schedule is touched, what the old one owes is decided first, then the
     * cursor is the first occurrence of the new one. `version` is what `If-Match` asks for.
     */
    readonly patch: (
      actor: Actor,
      id: string,
      patch: TaskPatch,
      version: number | null
    ) => Effect.Effect<
      Task,
      Invalid | TaskNotFound | TaskCanceled | DuplicateTask | TooManyTasks | VersionMismatch | StoreUnavailable
    >
  }
>() {
  static readonly layer = Layer.scoped(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const audit = yield* Audit
      const lease = yield* Lease
      const wakeups = yield* Wakeups
      const defaultTimezone = yield* Settings.timezone
      const minIntervalSeconds = yield* Settings.minIntervalSeconds
      const rows = TaskRows.make(sql)
      const conditions = Conditions.make(sql)
      const listeners = Listeners.make(sql, lease)

      const { bind, known } = yield* ToolBinding
      const { checkPayload, rebound } = TaskChecks.make(sql, bind)

      const cursorOf = (
        id: string,
        definition: TaskDefinition,
        createdAt: number,
        now: number,
        decidedThrough?: number
      ) =>
        Cursor.start(
          id,
          {
            kind: definition.schedule_kind,
            expr: definition.schedule_expr,
            timezone: definition.timezone,
            dtstart: definition.dtstart,
            createdAt,
            startsAt: TaskRows.millisOf(definition.starts_at),
            endsAt: TaskRows.millisOf(definition.ends_at),
            minIntervalSeconds
          },
          {
            now,
            graceSeconds: definition.misfire_grace_seconds,
            jitterSeconds: definition.jitter_seconds,
            ...(decidedThrough === undefined ? {} : { decidedThrough })
          }
        )

      const limited = Effect.fnUntraced(function* (agentId: string) {
        const [over] = yield* sql<{ max_tasks: number }>`
          SELECT max_tasks FROM agent a WHERE a.id = ${agentId}
            AND (SELECT count(*) FROM task t WHERE t.created_by = a.id AND t.status IN ('active', 'paused')) > a.max_tasks`
        if (over !== undefined) return yield* new TooManyTasks({ max_tasks: over.max_tasks })
      })

      const trail = (actor: Actor, action: string, task_id: string, before: unknown, after: unknown) =>
        audit.record({
          actor: actor.id,
          namespace: actor.namespace,
          action,
          subject_kind: "task",
          subject_id: task_id,
          before,
          after
        })

      /** The task that bears a dedupe key already; the unique index decides between two that come at once. */
      const unlessTaken = Effect.fnUntraced(function* (owner: string, key: string | null, but: string) {
        if (key === null) return
        const [other] = yield* sql<{ id: string }>`
          SELECT id FROM task WHERE created_by = ${owner} AND dedupe_key = ${key} AND status IN ('active', 'paused') AND id <> ${but}`
        if (other !== undefined) return yield* new DuplicateTask({ task_id: TaskId.make(other.id), dedupe_key: key })
      })

      const createAll = NewTasks.make(sql, { known, checkPayload, cursorOf, defaultTimezone })
      const create = yield* sharing(
        ({ actor }: NewTasks.Asked & { readonly actor: Actor }) => actor.id,
        (asked) => createAll(asked[0].actor, asked)
      )

      const decideUpToNow = upToNow(sql, lease)

      /** What was said on the topics of the condition that a patched task has, locked before the task is. */
      const patched = (id: string, patch: TaskPatch) =>
        Effect.gen(function* () {
          const [task] = isId(id)
            ? yield* sql<Pick<Task, "namespace" | "schedule_kind" | "schedule_expr">>`
                SELECT namespace, schedule_kind, schedule_expr FROM task WHERE id = ${id}`
            : []
          if (task === undefined) return new Map()
          return yield* conditions.held(task.namespace, Conditions.topicsOf({ ...task, ...patch }))
        })

      return Tasks.of({
        create: Effect.fn("Tasks.create")(function* (actor, input) {
          const made = yield* create({ actor, input, requestId: yield* RequestId })
          yield* Effect.zipRight(wakeups.signal("schedule"), wakeups.signal("outbox"))
          return yield* made
        }, storeErrors),

        createAll: Effect.fn("Tasks.createAll")(function* (actor, inputs) {
          const requestId = yield* RequestId
          const made = yield* createAll(
            actor,
            inputs.map((input) => ({ input, requestId }))
          )
          yield* Effect.zipRight(wakeups.signal("schedule"), wakeups.signal("outbox"))
          return made
        }, storeErrors),

        list: Effect.fn("Tasks.list")(function* (actor, filter, page) {
          const now = DateTime.toDateUtc(yield* DateTime.now)
          const where = narrow(sql, rows.visible(actor), filter, page)
          const limit = yield* fitting(
            sql`SELECT octet_length(t.payload::text) AS size FROM task t WHERE ${where} ORDER BY t.id DESC LIMIT ${page.limit}`
          )
          return pageOf(yield* rows.select(sql`${where} ORDER BY t.id DESC LIMIT ${limit + 1}`, now), limit)
        }, storeErrors),

        get: Effect.fn("Tasks.get")(rows.one, storeErrors),

        versions: Effect.fn("Tasks.versions")(function* (actor, id, before, limit) {
          yield* rows.one(actor, id)
          const older = sql`task_id = ${id} AND version < ${before ?? 2_147_483_647} ORDER BY version DESC`
          const fits = yield* fitting(
            sql`SELECT octet_length(definition::text) AS size FROM task_revision WHERE ${older} LIMIT ${limit}`
          )
          return yield* sql`
            SELECT version, definition, changed_by, created_at FROM task_revision WHERE ${older} LIMIT ${fits + 1}`.pipe(
            Effect.flatMap(decodeRevisions),
            Effect.map((found) => pageBy(found, fits, ({ version }) => String(version)))
          )
        }, storeErrors),

        patch: Effect.fn("Tasks.patch")(function* (actor, id, patch, version) {
          // Before the transaction: a schema may take its time.
          const { schedule_kind, status } = yield* rows.one(actor, id)
          const checked =
            patch.payload === undefined || status === "canceled"
              ? undefined
              : yield* checkPayload(actor.namespace, patch.payload, patch.schedule_kind ?? schedule_kind)
          const task = yield* Effect.gen(function* () {
            const said = yield* patched(id, patch)
            const found = yield* rows.locked(actor, id)
            if (found.status === "canceled") return yield* new TaskCanceled({ task_id: found.id })
            if (version !== null && version !== found.version) {
              return yield* new VersionMismatch({ task_id: found.id, version: found.version })
            }
            const before = yield* rows.one(actor, id)
            const definition: TaskDefinition = {
              ...Struct.pick(before, ...definitionFields),
              dtstart: found.dtstart_given ? found.dtstart : null,
              ...patch
            }
            yield* TaskChecks.checkTrigger(definition.payload, definition.schedule_kind)
            const bound = yield* rebound(id, found.version, checked)
            const now = yield* DateTime.now
            const millis = DateTime.toEpochMillis(now)
            const rescheduled =
              scheduleOf(before, found.dtstart_given) !== scheduleOf(definition, definition.dtstart !== null)
            // What the old trigger collected is run by the old version.
            const locked =
              rescheduled || !same(before.payload.trigger, definition.payload.trigger)
                ? yield* listeners.endWindows(
                    found,
                    DateTime.toDateUtc(now),
                    found.status === "active" ? null : "edited"
                  )
                : found
            // First, since it moves the cursor, which must not go back.
            const decided = rescheduled ? yield* decideUpToNow(locked) : locked
            const cursor = rescheduled
              ? yield* cursorOf(
                  id,
                  definition,
                  DateTime.toEpochMillis(locked.created_at),
                  millis,
                  DateTime.toEpochMillis(decided.decided_through)
                )
              : kept(locked)
            const rebased = rescheduled || before.title !== definition.title || !same(before.labels, definition.labels)
            const exhausted = definition.max_runs !== null && locked.fired_count >= definition.max_runs
            const reopened = rescheduled && locked.status === "completed" && !exhausted
            if (reopened || locked.status !== "completed")
              yield* unlessTaken(locked.created_by, definition.dedupe_key, id)
            yield* sql`UPDATE task SET ${sql.update({
              ...rows.columns(definition, exhausted ? { ...cursor, next: null, nextDueAt: null } : cursor),
              version: locked.version + 1,
              status: reopened ? "active" : exhausted && locked.status === "active" ? "completed" : locked.status,
              updated_at: DateTime.toDateUtc(now),
              ...(rebased ? { last_value: Conditions.baseOf({ ...definition, id: locked.id }, said, millis) } : {}),
              ...(rescheduled ? { quarantined_at: null, quarantine_reason: null } : {})
            })} WHERE id = ${id}`
            if (reopened) yield* limited(locked.created_by)
            yield* rows.revise(
              [{ id, version: locked.version + 1, definition, bound }],
              actor.id,
              DateTime.toDateUtc(now)
            )
            yield* rows.limits(locked.namespace, [locked.concurrency_key, definition.concurrency_key])
            yield* tellTask(sql, "changed", id, DateTime.toDateUtc(now))
            if (exhausted && locked.status === "active") yield* tellTask(sql, "completed", id, DateTime.toDateUtc(now))
            const after = yield* rows.one(actor, id)
            yield* trail(actor, "task.changed", id, encodeTask(before), encodeTask(after))
            return after
          }).pipe(sql.withTransaction, NewTasks.againIfTaken)
          yield* Effect.zipRight(wakeups.signal("schedule"), wakeups.signal("outbox"))
          return task
        }, storeErrors)
      })
    })
  )
}

const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)

const decodeRevisions = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({ ...Revision.fields, created_at: Model.DateTimeFromDate }))
)
const definitionFields = Struct.keys(Task.jsonUpdate.fields)
const encodeTask = Schema.encodeSync(Task.json)
