import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Either } from "effect"
import { evaluate, minuteOf, nextMinute, onCondition } from "../domain/ConditionSpec.ts"
import type { OnCondition } from "../domain/ConditionSpec.ts"
import { occurrenceKey } from "../domain/DueWork.ts"
import type { HeardEvent } from "../domain/Event.ts"
import { isId } from "../domain/Id.ts"
import type { JsonObject, JsonValue } from "../domain/Json.ts"
import { find } from "../domain/Zone.ts"
import { breathe } from "./Breath.ts"
import type { Occasion } from "./Occasions.ts"
import { millisOf, withinBounds } from "./TaskRows.ts"
import type { ScheduledTask } from "./TaskRows.ts"
import { seenEvent } from "./TriggerWindows.ts"

/** What of a task a condition depends on. */
type Conditional = Pick<ScheduledTask, "id" | "title" | "labels" | "schedule_kind" | "schedule_expr" | "timezone">

/** Compiled conditions, the latest used ones. */
const plans = new Map<string, ReturnType<typeof onCondition>>()
const mostPlans = 10_000

/** The condition of an expression, compiled once. */
export const planOf = (expr: string) => {
  const found = plans.get(expr) ?? onCondition(expr)
  const oldest = plans.size >= mostPlans ? plans.keys().next().value : undefined
  if (oldest !== undefined) plans.delete(oldest)
  plans.set(expr, found)
  return found
}

/** The topics that a task's condition waits for; none for any other task. */
export const topicsOf = (task: Pick<Conditional, "schedule_kind" | "schedule_expr">): ReadonlyArray<string> =>
  task.schedule_kind === "condition"
    ? Either.match(planOf(task.schedule_expr), { onLeft: () => [], onRight: ({ topics }) => topics })
    : []

/** The last payloads by topic. */
export type Said = ReadonlyMap<string, JsonValue>

/** The value of a task's condition at an instant, or why it has none. */
export const valueOf = (
  plan: OnCondition,
  task: Conditional,
  said: Said,
  at: number
): Either.Either<boolean, string> => {
  const zone = find(task.timezone)
  if (zone === undefined) return Either.left(`there is no zone ${task.timezone}`)
  const events: JsonObject = Object.fromEntries(
    plan.topics.flatMap((topic) => (said.has(topic) ? [[topic, said.get(topic) ?? null]] : []))
  )
  const { id, labels, title } = task
  return Either.mapLeft(evaluate(plan, { events, at, zone, task: { id, title, labels } }), ({ message }) => message)
}

/**
 * The value that later ones are compared with, of a condition that is new, changed or resumed: null while something that it
 * names was never said, so that the first evaluation sets it.
 */
export const baseOf = (task: Conditional, said: Said, at: number): boolean | null => {
  const plan = task.schedule_kind === "condition" ? planOf(task.schedule_expr) : undefined
  if (plan === undefined || Either.isLeft(plan) || !plan.right.topics.every((topic) => said.has(topic))) return null
  return Either.getOrElse(valueOf(plan.right, task, said, at), () => false)
}

/** The value of a condition at an instant, and whether it has become true. */
export interface Judged {
  readonly task: ScheduledTask
  readonly value: boolean | null
  readonly fires: boolean
}

/** Looks at a condition; one that cannot be evaluated is not true. Null for a schedule that cannot be read. */
export const judge = (task: ScheduledTask, said: Said, at: number): Judged | null => {
  const plan = planOf(task.schedule_expr)
  if (Either.isLeft(plan)) return null
  // Another process may have looked at a later instant already: what is seen does not go back.
  const seen = Math.max(at, millisOf(task.decided_through) ?? at)
  if (!withinBounds(task, seen)) return { task, value: task.last_value, fires: false }
  const value = Either.getOrElse(valueOf(plan.right, task, said, seen), () => false)
  return { task, value, fires: value && task.last_value === false }
}

/** The statements on `topic_last` and on what `task` keeps of conditions; within the caller's transaction. */
export const make = (sql: SqlClient.SqlClient) => {
  /** What was said last on the topics of each task. */
  const said = Effect.fnUntraced(function* (tasks: ReadonlyArray<ScheduledTask>) {
    const named = tasks.flatMap((task) => topicsOf(task).map((topic) => ({ namespace: task.namespace, topic })))
    const rows =
      named.length === 0
        ? []
        : yield* sql<{ namespace: string; topic: string; payload: JsonValue }>`
            SELECT l.namespace, l.topic, l.payload FROM (
              SELECT DISTINCT * FROM unnest(${named.map(({ namespace }) => namespace)}::text[], ${named.map(({ topic }) => topic)}::text[])) AS k (namespace, topic)
            JOIN topic_last l ON l.namespace = k.namespace AND l.topic = k.topic`
    const byNamespace = new Map<string, Map<string, JsonValue>>()
    for (const { namespace, payload, topic } of rows) {
      byNamespace.set(namespace, (byNamespace.get(namespace) ?? new Map<string, JsonValue>()).set(topic, payload))
    }
    return (namespace: string): Said => byNamespace.get(namespace) ?? new Map()
  })

  /** Keeps the values that were found, and for those looked at by the minute when that is next. */
  const keep = (judged: ReadonlyArray<Judged>, at: number, nextAt: number | null) =>
    judged.length === 0
      ? Effect.void
      : sql`
          UPDATE task t SET last_value = j.value, next_due_at = coalesce(${nextAt === null ? null : new Date(nextAt)}, t.next_due_at),
            decided_through = greatest(t.decided_through, ${new Date(at)})
          FROM jsonb_to_recordset(${JSON.stringify(judged.map(({ task, value }) => ({ id: task.id, value })))}::jsonb) AS j (id uuid, value boolean)
          WHERE t.id = j.id`

  /**
   * What was said last on topics, while no event of them is under way: in the order of locks before any row of `task`, and to the
   * end of the transaction.
   */
  const held = (namespace: string, topics: ReadonlyArray<string>) =>
    topics.length === 0
      ? Effect.succeed<Said>(new Map())
      : Effect.map(
          sql<{ topic: string; payload: JsonValue }>`
            SELECT topic, payload FROM topic_last WHERE namespace = ${namespace} AND topic = ANY (${[...topics]}::text[])
            ORDER BY topic FOR SHARE`,
          (rows): Said => new Map(rows.map(({ payload, topic }) => [topic, payload]))
        )

  return {
    said,
    held,
    /** As `held`, for the topics of a stored task. */
    heldFor: Effect.fnUntraced(function* (id: string) {
      const [task] = isId(id)
        ? yield* sql<Pick<Conditional, "schedule_kind" | "schedule_expr"> & { readonly namespace: string }>`
            SELECT namespace, schedule_kind, schedule_expr FROM task WHERE id = ${id}`
        : []
      return yield* held(task?.namespace ?? "", task === undefined ? [] : topicsOf(task))
    }),

    /** Sets the base of a condition that goes on, from which it is looked at anew. */
    restart: (task: ScheduledTask, known: Said, at: number) => {
      const everyMinute = Either.match(planOf(task.schedule_expr), {
        onLeft: () => false,
        onRight: (plan) => plan.everyMinute
      })
      return sql`
        UPDATE task SET last_value = ${baseOf(task, known, at)}, next_due_at = ${everyMinute ? new Date(nextMinute(at)) : null},
          decided_through = greatest(decided_through, ${new Date(at)})
        WHERE id = ${task.id}`
    },

    /** Looks at the conditions that an event concerns, which `topic_last` has already. Answers the occasions of those that became true. */
    onEvent: Effect.fnUntraced(function* (tasks: ReadonlyArray<ScheduledTask>, event: HeardEvent) {
      if (tasks.length === 0) return []
      const of = yield* said(tasks)
      const judged: Array<Judged> = []
      for (const [index, task] of tasks.entries()) {
        const found = judge(task, of(task.namespace), event.at)
        if (found !== null) judged.push(found)
        if (index % 20 === 19) yield* breathe
      }
      yield* keep(
        judged.filter(({ task, value }) => value !== task.last_value),
        event.at,
        null
      )
      return judged.flatMap(({ fires, task }): ReadonlyArray<Occasion> =>
        fires
          ? [
              {
                taskId: task.id,
                scheduledFor: event.at,
                dueAt: event.at,
                origin: {
                  trigger: "condition",
                  key: () => occurrenceKey.event(event.id),
                  event_id: event.id,
                  seen: seenEvent(event),
                  hops: event.hops,
                  ...(event.traceparent === null ? {} : { traceparent: event.traceparent })
                }
              }
            ]
          : []
      )
    }),

    /** Keeps what `judge` found at `now`; the conditions are looked at again at the next minute. Answers the occasions. */
    atMinute: Effect.fnUntraced(function* (judged: ReadonlyArray<Judged>, now: number) {
      yield* keep(judged, now, nextMinute(now))
      const minute = minuteOf(now)
      return judged.flatMap(({ fires, task }): ReadonlyArray<Occasion> =>
        fires
          ? [
              {
                taskId: task.id,
                scheduledFor: minute,
                dueAt: minute,
                origin: { trigger: "condition", key: occurrenceKey.condition }
              }
            ]
          : []
      )
    })
  }
}
