import { createHash } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Model from "@effect/sql/Model"
import { Context, Effect, Either, Layer, Schema } from "effect"
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
import * as Acceptance from "./Acceptance.ts"
import { AwaitedEvents } from "./AwaitedEvents.ts"
import { storeErrors } from "./Db.ts"
import { Lease } from "./Lease.ts"
import * as Listeners from "./Listeners.ts"
import type { Listener } from "./Listeners.ts"
import { fitting } from "./PageSize.ts"
import * as TaskRows from "./TaskRows.ts"
import { Wakeups } from "./Wakeups.ts"

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

/** Accepts events and fires the tasks that wait for them, in one transaction. Owns `event` and `topic_last`, with `Acceptance`. */
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
     * As `publish`, for many, in order and in one transaction: answers for each what was accepted, or why it is refused, which leaves
     * the others alone.
     */
    readonly publishAll: (
      actor: Actor,
      inputs: ReadonlyArray<EventCreate>,
      traceparent: string | null
    ) => Effect.Effect<ReadonlyArray<Either.Either<EventAccepted, InvalidField>>, StoreUnavailable>
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
      const wakeups = yield* Wakeups
      const acceptAll = Acceptance.make(sql, yield* Lease, yield* AwaitedEvents)
      const { visible } = TaskRows.make(sql)

      const select = (where: ReturnType<SqlClient.SqlClient["and"]>) =>
        sql`
          SELECT e.id, e.topic, e.payload, e.published_by, e.at, e.triggered_runs,
            (o.first_number + e.outbox_position)::text || '-0' AS stream_id
          FROM event e LEFT JOIN outbox o ON o.id = e.outbox_id WHERE ${where}`.pipe(Effect.flatMap(decodeEvents))

      const accept = Effect.fnUntraced(function* (
        source: Acceptance.Source,
        arrivals: ReadonlyArray<Acceptance.Arrival>
      ) {
        const { events, replaces, started } = yield* acceptAll(source, arrivals).pipe(sql.withTransaction)
        if (started) yield* wakeups.signal("work")
        if (replaces) yield* wakeups.signal("cancel")
        yield* wakeups.signal("outbox")
        return events
      })

      const acceptOne = Effect.fnUntraced(function* (source: Acceptance.Source, arrival: Acceptance.Arrival) {
        const [event] = yield* accept(source, [arrival])
        return event ?? (yield* Effect.dieMessage("a batch of one has one answer"))
      })

      const acceptFree = (source: Acceptance.Source, arrival: Acceptance.Arrival) => {
        const refused = reservedProblem(arrival)
        return refused === null ? acceptOne(source, arrival) : Effect.fail(refused)
      }

      return Events.of({
        publish: Effect.fn("Events.publish")(function* ({ id, namespace }, input, traceparent) {
          return yield* acceptFree({ namespace, by: id }, arrivalOf(input, traceparent))
        }, storeErrors),

        publishAll: Effect.fn("Events.publishAll")(function* ({ id, namespace }, inputs, traceparent) {
          const arrivals = inputs.map((input) => arrivalOf(input, traceparent))
          const accepted = yield* accept(
            { namespace, by: id },
            arrivals.filter((arrival) => reservedProblem(arrival) === null)
          )
          let place = 0
          return yield* Effect.forEach(arrivals, (arrival) => {
            const refused = reservedProblem(arrival)
            return Effect.either(refused ?? Effect.orDie(Effect.fromNullable(accepted[place++])))
          })
        }, storeErrors),

        ingest: Effect.fn("Events.ingest")(function* (namespace, input) {
          return yield* acceptFree({ namespace, by: null }, arrivalOf(input, null))
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
          const { event_id } = yield* acceptOne(
            { namespace: run.namespace, by: run.agent_id },
            {
              topic,
              payload,
              dedupe: null,
              // Of a length that an index holds, whatever the template of the key gave.
              emitKey: createHash("sha256").update(key).digest("hex"),
              hops,
              traceparent: run.traceparent ?? null
            }
          )
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

const arrivalOf = ({ dedupe_key, payload, topic }: EventCreate, traceparent: string | null): Acceptance.Arrival => ({
  topic,
  payload,
  dedupe: dedupe_key ?? null,
  emitKey: null,
  hops: 0,
  traceparent
})

const reservedProblem = ({ topic }: Acceptance.Arrival): InvalidField | null =>
  isReserved(topic)
    ? new InvalidField({ path: "/topic", message: "topics below ordinaut are the product's own" })
    : null

const isTopic = Schema.is(Topic)
const { tasks: _, ...seen } = TopicSeen.fields
const decodeSeen = Schema.decodeUnknown(Schema.Array(Schema.Struct({ ...seen, last_at: Model.DateTimeFromDate })))
const decodeEvents = Schema.decodeUnknown(Schema.Array(Schema.Struct({ ...Event.fields, at: Model.DateTimeFromDate })))
