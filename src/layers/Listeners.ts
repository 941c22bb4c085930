import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { Effect, Either, Schema } from "effect"
import { occurrenceKey } from "../domain/DueWork.ts"
import { matches } from "../domain/Event.ts"
import type { HeardEvent } from "../domain/Event.ts"
import { holds } from "../domain/Expression.ts"
import type { Bindings } from "../domain/Expression.ts"
import { isObject } from "../domain/Json.ts"
import * as TaskSchedule from "../domain/TaskSchedule.ts"
import { renderText } from "../domain/Template.ts"
import * as TriggerSpec from "../domain/TriggerSpec.ts"
import { find } from "../domain/Zone.ts"
import type { Zone } from "../domain/Zone.ts"
import * as Breath from "./Breath.ts"
import * as Conditions from "./Conditions.ts"
import type { Lease } from "./Lease.ts"
import * as Occasions from "./Occasions.ts"
import type { Occasion } from "./Occasions.ts"
import { decodeEach, withinBounds } from "./TaskRows.ts"
import type { ScheduledTask } from "./TaskRows.ts"
import * as TriggerWindows from "./TriggerWindows.ts"

/** What of a task says which events it hears. */
export type Listener = Pick<
  ScheduledTask,
  "id" | "created_by" | "status" | "schedule_kind" | "schedule_expr" | "timezone"
>

/** An event on its way to the tasks that hear it. */
export interface Spoken extends HeardEvent {
  /** Whether runs find it in `event`; else they are given it. */
  readonly stored: boolean
  /** Whose tasks alone hear it; null for all. */
  readonly owner: string | null
}

/** Compiled patterns and filters, the latest used ones: every event asks all of a namespace. */
const plans = new Map<string, ReturnType<typeof TaskSchedule.onEvent>>()
const mostPlans = 10_000

const planOf = (expr: string) => {
  const found = plans.get(expr) ?? TaskSchedule.onEvent(expr)
  const oldest = plans.size >= mostPlans ? plans.keys().next().value : undefined
  if (oldest !== undefined) plans.delete(oldest)
  plans.set(expr, found)
  return found
}

const bindingsOf = (event: HeardEvent, zone: Zone): Bindings => ({
  params: null,
  steps: null,
  errors: null,
  event: TriggerWindows.seenEvent(event),
  run: null,
  task: null,
  now: event.at,
  zone
})

/** Whether a task is concerned by events of a topic. */
export const subscribed = (task: Pick<Listener, "schedule_kind" | "schedule_expr">, topic: string): boolean =>
  task.schedule_kind === "condition"
    ? Conditions.topicsOf(task).includes(topic)
    : Either.match(planOf(task.schedule_expr), {
        onLeft: () => false,
        onRight: ({ pattern }) => matches(pattern, topic)
      })

/**
 * Whether a state change tells of a run of the task itself that has not ended: with these, every run would start three, and a
 * circle of 16 hops would have millions.
 */
const isOwnBeginning = (task: Listener, { owner, payload, topic }: Spoken): boolean =>
  owner !== null &&
  (topic === "ordinaut.run.queued" || topic === "ordinaut.run.running") &&
  isObject(payload) &&
  payload["task_id"] === task.id

/** Whether a task takes an event. A filter that cannot be evaluated takes none; while paused nothing is looked at by a condition. */
const hears = (task: Listener, event: Spoken): boolean => {
  if ((event.owner !== null && task.created_by !== event.owner) || !subscribed(task, event.topic)) return false
  if (isOwnBeginning(task, event)) return false
  if (task.schedule_kind === "condition") return task.status === "active"
  const plan = planOf(task.schedule_expr)
  const zone = find(task.timezone)
  if (Either.isLeft(plan) || zone === undefined) return false
  if (plan.right.filter === null) return true
  return Either.getOrElse(holds(plan.right.filter, bindingsOf(event, zone)), () => false)
}

const decodeTrigger = Schema.decodeUnknownEither(
  Schema.Struct({ payload: Schema.Struct({ trigger: Schema.optional(TriggerSpec.TriggerSpec) }) })
)

/** By what a task collects events; null where each is a run. */
const ruleOf = (row: unknown): TriggerSpec.TriggerRule | null =>
  Either.match(decodeTrigger(row), {
    onLeft: () => null,
    onRight: ({ payload: { trigger } }) =>
      trigger === undefined ? null : Either.getOrElse(TriggerSpec.read(trigger), () => null)
  })

/** What an event asks of a task that makes a run of each: recorded as skipped while the task is paused. */
const alone = (task: ScheduledTask, event: Spoken): Occasion => ({
  taskId: task.id,
  scheduledFor: event.at,
  dueAt: event.at,
  origin: {
    trigger: "event",
    key: () => occurrenceKey.event(event.id),
    event_id: event.id,
    seen: TriggerWindows.seenEvent(event),
    hops: event.hops,
    ...(event.traceparent === null ? {} : { traceparent: event.traceparent }),
    ...(event.stored ? {} : { input: { event: TriggerWindows.seenEvent(event) } })
  },
  ...(task.status === "paused" ? { skip: "paused" as const } : {})
})

const arrivalOf = (task: ScheduledTask, rule: TriggerSpec.TriggerRule, event: Spoken): TriggerWindows.Arrival => {
  const zone = find(task.timezone)
  const rendered =
    rule.key === null || zone === undefined
      ? Either.right("")
      : renderText(rule.key, bindingsOf(event, zone), { strict: false })
  // An event must not be lost to its key: one that cannot be rendered stands as null does.
  return { taskId: task.id, rule, key: Either.getOrElse(rendered, () => "null"), event }
}

/** Brings events to the tasks that hear them, within the caller's transaction. */
export const make = (sql: SqlClient.SqlClient, lease: typeof Lease.Service) => {
  const conditions = Conditions.make(sql)
  const windows = TriggerWindows.make(sql)
  const decide = Occasions.make(sql, lease)

  /** Locked: a pause or an edit of one, and other events for it, come before these events or after. */
  const locked = Effect.fnUntraced(function* (ids: ReadonlyArray<string>) {
    if (ids.length === 0) return []
    yield* sql`SELECT FROM task WHERE id = ANY (${ids}::uuid[]) ORDER BY id FOR NO KEY UPDATE`
    // A statement of its own: its snapshot is later than the locks.
    return yield* sql<{ id: string }>`
      SELECT * FROM task WHERE id = ANY (${ids}::uuid[]) AND schedule_kind IN ('event', 'condition') AND status IN ('active', 'paused')
      ORDER BY id`
  })

  return {
    /** The tasks that may hear something, by what narrows them further. */
    known: (narrow: Statement.Fragment) => sql<Listener>`
      SELECT id, created_by, status, schedule_kind, schedule_expr, timezone FROM task
      WHERE schedule_kind IN ('event', 'condition') AND status IN ('active', 'paused') AND ${narrow}`,

    /**
     * Decides what events mean to the tasks that hear them: runs, recorded skips, open windows, values of conditions. The events
     * come in order; of those that conditions hear there is one, and `topic_last` has it.
     */
    hear: Effect.fnUntraced(function* (known: ReadonlyArray<Listener>, events: ReadonlyArray<Spoken>) {
      const concerned = yield* Breath.filter(known, (task) => events.some((event) => hears(task, event)))
      const rows = yield* locked(concerned.map(({ id }) => id))
      const [, tasks] = decodeEach(rows)
      const rules = new Map(rows.map((row) => [row.id, ruleOf(row)]))
      const occasions: Array<Occasion> = []
      const arrivals: Array<TriggerWindows.Arrival> = []
      for (const event of events) {
        const hearing = yield* Breath.filter(tasks, (task) => hears(task, event) && withinBounds(task, event.at))
        occasions.push(
          ...(yield* conditions.onEvent(
            hearing.filter(({ schedule_kind }) => schedule_kind === "condition"),
            event
          ))
        )
        for (const task of hearing) {
          if (task.schedule_kind === "condition") continue
          const rule = rules.get(task.id) ?? null
          if (rule === null || task.status === "paused") occasions.push(alone(task, event))
          else arrivals.push(arrivalOf(task, rule, event))
        }
      }
      occasions.push(...(yield* windows.add(arrivals)))
      return yield* decide(tasks, occasions)
    }),

    /** Ends the windows that are over at `now`, as many as one statement may carry. Answers how many ended, and what became of them. */
    closeWindows: Effect.fnUntraced(function* (now: Date) {
      const due = yield* windows.due(now)
      const none = { ended: 0, runs: [], replaces: false }
      if (due.length === 0) return none
      // What another process works on is left to it, or to the next tick.
      const rows = yield* sql<{ id: string }>`
        SELECT * FROM task WHERE id = ANY (${due}::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED`
      if (rows.length === 0) return none
      const [unreadable, tasks] = decodeEach(rows)
      yield* windows.putOff(
        unreadable.map(({ id }) => id),
        now
      )
      const byId = new Map<string, ScheduledTask>(tasks.map((task) => [task.id, task]))
      const occasions = yield* windows.endOf([...byId.keys()], "over", now)
      const outcome = yield* decide(
        tasks,
        occasions.map((occasion) => {
          const status = byId.get(occasion.taskId)?.status
          return status === "active" ? occasion : { ...occasion, skip: status === "paused" ? "paused" : "canceled" }
        })
      )
      return { ended: occasions.length, ...outcome }
    }),

    /**
     * Ends all open windows of a task at once, under its row lock: runs by the task as it is, or skips for a reason. Answers the task
     * as it is then.
     */
    endWindows: Effect.fnUntraced(function* (task: ScheduledTask, now: Date, skip: Occasion["skip"] | null) {
      let occasions = yield* windows.endOf([task.id], "all", now)
      if (occasions.length === 0) return task
      while (occasions.length > 0) {
        yield* decide([task], skip == null ? occasions : occasions.map((occasion) => ({ ...occasion, skip })))
        occasions = yield* windows.endOf([task.id], "all", now)
      }
      const [after = task] = decodeEach(yield* sql<{ id: string }>`SELECT * FROM task WHERE id = ${task.id}`)[1]
      return after
    })
  }
}
