import { createHash } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Model from "@effect/sql/Model"
import { Context, DateTime, Duration, Effect, Layer, Schema } from "effect"
import type { Actor } from "../domain/Agent.ts"
import { Event, EventNotFound, isReserved, mostHops, Topic, TopicSeen } from "../domain/Event.ts"
import type { EventAccepted, EventCreate } from "../domain/Event.ts"
import { isId } from "../domain/Id.ts"
import type { JsonValue } from "../domain/Json.ts"
import type { Page, PageRequest } from "../domain/Page.ts"
import { pageOf } from "../domain/Page.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { InvalidField } from "../domain/Task.ts"
import { Audit } from "./Audit.ts"
import { AwaitedEvents } from "./AwaitedEvents.ts"
import { storeErrors } from "./Db.ts"
import * as Ids from "./Ids.ts"
import { Lease } from "./Lease.ts"
import * as Listeners from "./Listeners.ts"
import type { Listener } from "./Listeners.ts"
import { fitting } from "./PageSize.ts"
import { acceptEvents } from "./Recording.ts"
import * as TaskRows from "./TaskRows.ts"
import { Wakeups } from "./Wakeups.ts"

/** How long a `dedupe_key` binds the events of one agent and topic. */
const dedupeFor = Duration.hours(24)

/** An event that a run emits. */
export interface Emission {
  /** The run that emits it; its `hops` go on. */
  readonly run: {
    readonly id: string
    readonly agent_id: string
    readonly namespace: string
    readonly hops: number
    readonly traceparent?: string | null
  }
  /** The idempotency key of the step: a repeat answers the first event. */
  readonly key: string
  readonly topic: string
  readonly payload: JsonValue
}

/** Accepts events and fires the tasks that wait for them, in one transaction. Owns `event` and `topic_last`. */
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
    /**
     * As `publish`, for the tool `core.emit`: the run's agent publishes, and the runs that the event triggers have one hop more than
     * the run. Fails with `tool_input_invalid` for a topic that is none or is reserved, and with `loop_detected` past 16 hops.
     */
    readonly emit: (emission: Emission) => Effect.Effect<{ readonly event_id: string }, StepFailed | StoreUnavailable>
    /** Newest first; `topic` narrows to one. */
    readonly list: (
      actor: Actor,
      topic: string | null,
      page: PageRequest
    ) => Effect.Effect<Page<Event>, StoreUnavailable>
    readonly get: (actor: Actor, id: string) => Effect.Effect<Event, EventNotFound | StoreUnavailable>
    /** The topics of the namespace by name, those after `after`, at most `limit`, with the tasks that the actor may see and that hear them. */
    readonly topics: (
      actor: Actor,
      after: string | null,
      limit: number
    ) => Effect.Effect<ReadonlyArray<TopicSeen>, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      const audit = yield* Audit
      const wakeups = yield* Wakeups
      const awaited = yield* AwaitedEvents
      const listeners = Listeners.make(sql, lease)
      const { visible } = TaskRows.make(sql)

      const select = (where: ReturnType<SqlClient.SqlClient["and"]>) =>
        sql`
          SELECT e.id, e.topic, e.payload, e.published_by, e.at, e.triggered_runs,
            (o.first_number + e.outbox_position)::text || '-0' AS stream_id
          FROM event e LEFT JOIN outbox o ON o.id = e.outbox_id WHERE ${where}`.pipe(Effect.flatMap(decodeEvents))

      /** The lock orders repeats of one key, so that of two at once the second sees the first. */
      const repeated = Effect.fnUntraced(function* ({ by, dedupe, emitKey, topic }: Arrival, now: number) {
        if (dedupe === null && emitKey === null) return null
        const [lock, where] =
          emitKey === null
            ? [
                `ordinaut.event:${by ?? "ingress"}:${topic}:${dedupe}`,
                sql`topic = ${topic} AND dedupe_key = ${dedupe} AND at > ${new Date(now - Duration.toMillis(dedupeFor))}`
              ]
            : [`ordinaut.emit:${by}:${emitKey}`, sql`emit_key = ${emitKey}`]
        yield* sql`SELECT pg_advisory_xact_lock(hashtextextended(${lock}, 0))`
        const [first] = yield* sql<{ id: string; triggered_runs: EventAccepted["triggered_runs"] }>`
          SELECT id, triggered_runs FROM event WHERE published_by IS NOT DISTINCT FROM ${by} AND ${where} ORDER BY at DESC LIMIT 1`
        return first === undefined ? null : { event_id: first.id, triggered_runs: first.triggered_runs }
      })

      /**
       * Stores an event, and its payload as the last of its topic. The row lock of the topic comes before those of the tasks: events
       * of one topic come one after the other to them, and to the log.
       */
      const store = (arrival: Arrival, id: string, at: Date) => {
        const { by, dedupe, emitKey, hops, namespace, topic, traceparent } = arrival
        const payload = JSON.stringify(arrival.payload)
        return sql`
          WITH said AS (
            INSERT INTO topic_last (namespace, topic, payload, event_id, at) VALUES (${namespace}, ${topic}, ${payload}, ${id}, ${at})
            ON CONFLICT (namespace, topic) DO UPDATE SET payload = excluded.payload, event_id = excluded.event_id,
              at = greatest(topic_last.at, excluded.at))
          INSERT INTO event ${sql.insert({
            id,
            namespace,
            topic,
            payload,
            published_by: by,
            dedupe_key: dedupe,
            emit_key: emitKey,
            hops,
            at,
            traceparent
          })}`
      }

      const accept = Effect.fnUntraced(function* (arrival: Arrival) {
        const { by, hops, namespace, payload, topic, traceparent } = arrival
        const done = yield* Effect.gen(function* () {
          yield* acceptEvents(sql, namespace)
          const now = yield* DateTime.now
          const at = DateTime.toEpochMillis(now)
          const first = yield* repeated(arrival, at)
          if (first !== null) return { ...first, started: false, replaces: false }
          const id = yield* Ids.next
          yield* store(arrival, id, new Date(at))
          const known = yield* listeners.known(sql`namespace = ${namespace}`)
          const event = { id, topic, payload, at, hops, traceparent, stored: true, owner: null }
          const { replaces, runs } = yield* listeners.hear(known, [event])
          const told = yield* awaited.tell(namespace, event)
          const triggered_runs = runs.flatMap(({ event_id, run_id, task_id }) =>
            // A window that was over before runs by now, and not because of this event.
            event_id === id ? [{ run_id, task_id }] : []
          )
          const entry = { id, topic, namespace, agent_id: by, at: DateTime.formatIso(now), hops, payload }
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
          return { event_id: id, triggered_runs, started: runs.length + told > 0, replaces }
        }).pipe(sql.withTransaction)
        if (done.started) yield* wakeups.signal("work")
        if (done.replaces) yield* wakeups.signal("cancel")
        yield* wakeups.signal("outbox")
        return { event_id: done.event_id, triggered_runs: done.triggered_runs }
      })

      const acceptFree = (arrival: Arrival) =>
        isReserved(arrival.topic)
          ? Effect.fail(new InvalidField({ path: "/topic", message: "topics below ordinaut are the product's own" }))
          : accept(arrival)

      return Events.of({
        publish: Effect.fn("Events.publish")(function* ({ id, namespace }, input, traceparent) {
          const { dedupe_key = null, payload, topic } = input
          return yield* acceptFree({ ...fresh, namespace, by: id, topic, payload, dedupe: dedupe_key, traceparent })
        }, storeErrors),

        ingest: Effect.fn("Events.ingest")(function* (namespace, { dedupe_key, payload, topic }) {
          return yield* acceptFree({ ...fresh, namespace, topic, payload, dedupe: dedupe_key })
        }, storeErrors),

        emit: Effect.fn("Events.emit")(function* ({ key, payload, run, topic }) {
          if (!isTopic(topic) || isReserved(topic)) {
            return yield* StepFailed.of(
              "tool_input_invalid",
              isReserved(topic)
                ? "topics below ordinaut are the product's own"
                : "a topic is words of letters, digits, _ and - joined by dots, such as orders.created"
            )
          }
          const hops = run.hops + 1
          if (hops > mostHops) {
            return yield* StepFailed.of(
              "loop_detected",
              `${run.hops} runs and events led to this one, each by the one before it: they go round in a circle`
            )
          }
          const { event_id } = yield* accept({
            ...fresh,
            namespace: run.namespace,
            by: run.agent_id,
            topic,
            payload,
            // Of a length that an index holds, whatever the template of the key gave.
            emitKey: createHash("sha256").update(key).digest("hex"),
            hops,
            traceparent: run.traceparent ?? null
          })
          return { event_id }
        }, storeErrors),

        list: Effect.fn("Events.list")(function* (actor, topic, page) {
          const where = sql.and([
            sql`e.namespace = ${actor.namespace}`,
            ...(topic === null ? [] : [sql`e.topic = ${topic}`]),
            ...(page.before === null ? [] : [sql`e.id < ${page.before}`])
          ])
          const limit = yield* fitting(
            sql`SELECT octet_length(e.payload::text) AS size FROM event e WHERE ${where} ORDER BY e.id DESC LIMIT ${page.limit}`
          )
          return pageOf(yield* select(sql`${where} ORDER BY e.id DESC LIMIT ${limit + 1}`), limit)
        }, storeErrors),

        get: Effect.fn("Events.get")(function* (actor, id) {
          const [event] = isId(id) ? yield* select(sql`e.namespace = ${actor.namespace} AND e.id = ${id}`) : []
          return event === undefined ? yield* new EventNotFound({ event_id: id }) : event
        }, storeErrors),

        topics: Effect.fn("Events.topics")(function* (actor, after, limit) {
          const tasks = yield* sql<Listener & { readonly title: string }>`
            SELECT t.id, t.title, t.schedule_kind, t.schedule_expr FROM task t
            WHERE t.schedule_kind IN ('event', 'condition') AND t.status IN ('active', 'paused') AND ${visible(actor)} ORDER BY t.id`
          const seen = yield* sql`
            SELECT topic, at AS last_at, event_id AS last_event_id FROM topic_last
            WHERE namespace = ${actor.namespace} AND topic COLLATE "C" > ${after ?? ""} ORDER BY topic COLLATE "C" LIMIT ${limit}`.pipe(
            Effect.flatMap(decodeSeen)
          )
          return seen.map((one) => ({
            ...one,
            tasks: tasks.flatMap((task) =>
              Listeners.subscribed(task, one.topic)
                ? [{ id: task.id, title: task.title, schedule_kind: task.schedule_kind }]
                : []
            )
          }))
        }, storeErrors)
      })
    })
  )
}

/** An event on its way in. */
interface Arrival {
  readonly namespace: string
  /** Null for one that no agent published. */
  readonly by: string | null
  readonly topic: string
  readonly payload: JsonValue
  readonly dedupe: string | null
  readonly emitKey: string | null
  readonly hops: number
  readonly traceparent: string | null
}

const fresh = { by: null, dedupe: null, emitKey: null, hops: 0, traceparent: null }

const isTopic = Schema.is(Topic)
const { tasks: _, ...seen } = TopicSeen.fields
const decodeSeen = Schema.decodeUnknown(Schema.Array(Schema.Struct({ ...seen, last_at: Model.DateTimeFromDate })))
const decodeEvents = Schema.decodeUnknown(Schema.Array(Schema.Struct({ ...Event.fields, at: Model.DateTimeFromDate })))
