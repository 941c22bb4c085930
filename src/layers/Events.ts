import * as SqlClient from "@effect/sql/SqlClient"
import * as Model from "@effect/sql/Model"
import { Context, DateTime, Duration, Effect, Either, Layer, Schema } from "effect"
import type { Actor } from "../domain/Agent.ts"
import * as Decision from "../domain/Decision.ts"
import { occurrenceKey } from "../domain/DueWork.ts"
import { Event, EventNotFound, isReserved, matches } from "../domain/Event.ts"
import type { EventAccepted, EventCreate } from "../domain/Event.ts"
import { holds } from "../domain/Expression.ts"
import { isId } from "../domain/Id.ts"
import type { Page, PageRequest } from "../domain/Page.ts"
import { pageOf } from "../domain/Page.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { InvalidField } from "../domain/Task.ts"
import * as TaskSchedule from "../domain/TaskSchedule.ts"
import { find } from "../domain/Zone.ts"
import { Audit } from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import * as Firing from "./Firing.ts"
import * as Ids from "./Ids.ts"
import { Lease } from "./Lease.ts"
import { decodeEach, millisOf } from "./TaskRows.ts"
import type { ScheduledTask } from "./TaskRows.ts"
import { Wakeups } from "./Wakeups.ts"

/** How long a `dedupe_key` binds the events of one agent and topic. */
const dedupeFor = Duration.hours(24)

/** Accepts events and fires the tasks that wait for them, in one transaction. Owns `event`. */
export class Events extends Context.Tag("ordinaut/Events")<
  Events,
  {
    /** A repeat of a `dedupe_key` answers the first event. Topics below `ordinaut` are refused. */
    readonly publish: (
      actor: Actor,
      input: EventCreate,
      traceparent: string | null
    ) => Effect.Effect<EventAccepted, InvalidField | StoreUnavailable>
    /**
     * As `publish`, for an event that came by the stream `ordinaut:ingress`; a repeat of the entry answers the first event. Nobody
     * is its publisher.
     */
    readonly ingest: (
      namespace: string,
      input: EventCreate & { readonly dedupe_key: string }
    ) => Effect.Effect<EventAccepted, InvalidField | StoreUnavailable>
    /** Newest first; `topic` narrows to one. */
    readonly list: (
      actor: Actor,
      topic: string | null,
      page: PageRequest
    ) => Effect.Effect<Page<Event>, StoreUnavailable>
    readonly get: (actor: Actor, id: string) => Effect.Effect<Event, EventNotFound | StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      const audit = yield* Audit
      const wakeups = yield* Wakeups
      const fire = Firing.make(sql, lease)

      const select = (where: ReturnType<SqlClient.SqlClient["and"]>) =>
        sql`
          SELECT e.id, e.topic, e.payload, e.published_by, e.at, e.triggered_runs,
            (o.first_number + e.outbox_position)::text || '-0' AS stream_id
          FROM event e LEFT JOIN outbox o ON o.id = e.outbox_id WHERE ${where}`.pipe(Effect.flatMap(decodeEvents))

      /** The lock orders repeats of one key, so that of two at once the second sees the first. */
      const repeated = Effect.fnUntraced(function* (
        by: string | null,
        { dedupe_key, topic }: EventCreate,
        now: number
      ) {
        if (dedupe_key === undefined) return null
        yield* sql`SELECT pg_advisory_xact_lock(hashtextextended(${`ordinaut.event:${by ?? "ingress"}:${topic}:${dedupe_key}`}, 0))`
        const [first] = yield* sql<{ id: string; triggered_runs: EventAccepted["triggered_runs"] }>`
          SELECT id, triggered_runs FROM event WHERE published_by IS NOT DISTINCT FROM ${by} AND topic = ${topic} AND dedupe_key = ${dedupe_key}
            AND at > ${new Date(now - Duration.toMillis(dedupeFor))} ORDER BY at DESC LIMIT 1`
        return first === undefined ? null : { event_id: first.id, triggered_runs: first.triggered_runs }
      })

      /** The tasks that hear an event, locked: a pause or an edit of one, and other events for it, come before this event or after. */
      const listeners = Effect.fnUntraced(function* (namespace: string, event: Happened) {
        const known = yield* sql<Listener>`
          SELECT id, schedule_expr, timezone FROM task
          WHERE namespace = ${namespace} AND schedule_kind = 'event' AND status IN ('active', 'paused')`
        const ids = known.flatMap((task) => (hears(task, event) ? [task.id] : []))
        if (ids.length === 0) return []
        yield* sql`SELECT FROM task WHERE id = ANY (${ids}::uuid[]) ORDER BY id FOR NO KEY UPDATE`
        const rows = yield* sql<{ id: string }>`
          SELECT * FROM task WHERE id = ANY (${ids}::uuid[]) AND schedule_kind = 'event' AND status IN ('active', 'paused') ORDER BY id`
        return decodeEach(rows)[1].filter((task) => hears(task, event))
      })

      const decideFor = Effect.fnUntraced(function* (tasks: ReadonlyArray<ScheduledTask>, event: Happened) {
        const unfinished = yield* Firing.unfinishedRuns(sql, tasks)
        return yield* fire(
          tasks.map((task) => decisionOf(task, event, unfinished.has(task.id))),
          unfinished
        )
      })

      const accept = Effect.fnUntraced(function* (
        namespace: string,
        by: string | null,
        input: EventCreate,
        traceparent: string | null
      ) {
        if (isReserved(input.topic)) {
          return yield* new InvalidField({ path: "/topic", message: "topics below ordinaut are the product's own" })
        }
        const [accepted, replaces] = yield* Effect.gen(function* () {
          const now = yield* DateTime.now
          const at = DateTime.toEpochMillis(now)
          const first = yield* repeated(by, input, at)
          if (first !== null) return [first, false] as const
          const id = yield* Ids.next
          const { payload, topic } = input
          const event = { id, topic, payload, at }
          const tasks = yield* listeners(namespace, event)
          yield* sql`INSERT INTO event ${sql.insert({
            id,
            namespace,
            topic,
            payload: JSON.stringify(payload),
            published_by: by,
            dedupe_key: input.dedupe_key ?? null,
            at: new Date(at),
            traceparent
          })}`
          const triggered_runs = tasks.length === 0 ? [] : yield* decideFor(tasks, { ...event, traceparent })
          const entry = { id, topic, namespace, agent_id: by, at: DateTime.formatIso(now), payload }
          yield* sql`
            WITH told AS (
              INSERT INTO outbox (size, entries, at) VALUES (1, ${JSON.stringify([entry])}::jsonb, ${new Date(at)}) RETURNING id)
            UPDATE event SET outbox_id = told.id, triggered_runs = ${JSON.stringify(triggered_runs)}::jsonb FROM told
            WHERE event.id = ${id}`
          yield* audit.record({
            actor: by ?? "system",
            namespace,
            action: "event.published",
            subject_kind: "event",
            subject_id: id,
            before: null,
            after: { topic }
          })
          const cancels = tasks.some(({ overlap_policy }) => overlap_policy === "cancel_running")
          return [{ event_id: id, triggered_runs }, cancels] as const
        }).pipe(sql.withTransaction)
        if (accepted.triggered_runs.length > 0) yield* wakeups.signal("work")
        if (replaces) yield* wakeups.signal("cancel")
        yield* wakeups.signal("outbox")
        return accepted
      })

      return Events.of({
        publish: Effect.fn("Events.publish")(function* (actor, input, traceparent) {
          return yield* accept(actor.namespace, actor.id, input, traceparent)
        }, storeErrors),

        ingest: Effect.fn("Events.ingest")(function* (namespace, input) {
          return yield* accept(namespace, null, input, null)
        }, storeErrors),

        list: Effect.fn("Events.list")(function* (actor, topic, page) {
          const where = sql.and([
            sql`e.namespace = ${actor.namespace}`,
            ...(topic === null ? [] : [sql`e.topic = ${topic}`]),
            ...(page.before === null ? [] : [sql`e.id < ${page.before}`])
          ])
          return pageOf(yield* select(sql`${where} ORDER BY e.id DESC LIMIT ${page.limit + 1}`), page.limit)
        }, storeErrors),

        get: Effect.fn("Events.get")(function* (actor, id) {
          const [event] = isId(id) ? yield* select(sql`e.namespace = ${actor.namespace} AND e.id = ${id}`) : []
          return event === undefined ? yield* new EventNotFound({ event_id: id }) : event
        }, storeErrors)
      })
    })
  )
}

interface Happened {
  readonly id: string
  readonly topic: string
  readonly payload: EventCreate["payload"]
  /** Epoch milliseconds. */
  readonly at: number
  readonly traceparent?: string | null
}

/** What of a task says which events it hears. */
type Listener = Pick<ScheduledTask, "id" | "schedule_expr" | "timezone">

/** Compiled expressions, the latest used ones: every event asks all of a namespace. */
const plans = new Map<string, ReturnType<typeof TaskSchedule.onEvent>>()
const mostPlans = 10_000

const planOf = (expr: string) => {
  const found = plans.get(expr) ?? TaskSchedule.onEvent(expr)
  const oldest = plans.size >= mostPlans ? plans.keys().next().value : undefined
  if (oldest !== undefined) plans.delete(oldest)
  plans.set(expr, found)
  return found
}

/** Whether a task's pattern and filter take an event. A filter that cannot be evaluated takes none. */
const hears = (task: Listener, event: Happened): boolean => {
  const plan = planOf(task.schedule_expr)
  const zone = find(task.timezone)
  if (Either.isLeft(plan) || zone === undefined || !matches(plan.right.pattern, event.topic)) return false
  if (plan.right.filter === null) return true
  const bindings = {
    params: null,
    steps: null,
    errors: null,
    event: { id: event.id, topic: event.topic, payload: event.payload, at: new Date(event.at).toISOString() },
    run: null,
    task: null,
    now: event.at,
    zone
  }
  return Either.getOrElse(holds(plan.right.filter, bindings), () => false)
}

/** What an event means to a task that hears it: a run, or its recorded skip. */
const decisionOf = (task: ScheduledTask, event: Happened, unfinished: boolean): Firing.Decided => {
  const origin = {
    trigger: "event" as const,
    key: () => occurrenceKey.event(event.id),
    event_id: event.id,
    ...(event.traceparent === undefined || event.traceparent === null ? {} : { traceparent: event.traceparent })
  }
  if (task.status === "paused") {
    const skips = [{ reason: "paused" as const, from: event.at, to: event.at, count: 1 }]
    return { task, origin, decision: { fires: [], skips, cancelUnfinished: false, next: null, nextDueAt: null } }
  }
  const decision = Decision.decide(
    {
      timeline: { next: () => null },
      from: event.at,
      now: event.at,
      policy: "fire_once",
      graceSeconds: 0,
      dueAt: (at) => at
    },
    {
      overlapPolicy: task.overlap_policy,
      unfinished,
      dedupeWindowSeconds: task.dedupe_window_seconds,
      lastFiredFor: millisOf(task.last_fired_for),
      runsLeft: null
    },
    "misfire"
  )
  return { task, origin, decision }
}

const decodeEvents = Schema.decodeUnknown(Schema.Array(Schema.Struct({ ...Event.fields, at: Model.DateTimeFromDate })))
