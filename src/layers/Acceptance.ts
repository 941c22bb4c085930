import type * as SqlClient from "@effect/sql/SqlClient"
import { DateTime, Duration, Effect } from "effect"
import type { EventAccepted } from "../domain/Event.ts"
import type { JsonValue } from "../domain/Json.ts"
import { appending } from "./Audit.ts"
import type { AwaitedEvents } from "./AwaitedEvents.ts"
import * as Conditions from "./Conditions.ts"
import * as Ids from "./Ids.ts"
import type { Lease } from "./Lease.ts"
import * as Listeners from "./Listeners.ts"
import type { Spoken } from "./Listeners.ts"
import { acceptEvents } from "./Recording.ts"

/** How long a `dedupe_key` binds the events of one agent and topic. */
const dedupeFor = Duration.hours(24)

/** An event on its way in. */
export interface Arrival {
  readonly topic: string
  readonly payload: JsonValue
  readonly dedupe: string | null
  /** The digest of what names an emitted event. */
  readonly emitKey: string | null
  readonly hops: number
  readonly traceparent: string | null
}

/** Whose events they are; `by` is null where no agent published them. */
export interface Source {
  readonly namespace: string
  readonly by: string | null
}

/** What became of arrivals, in their order, and whether runs were started, replaced, or woken. */
export interface Accepted {
  readonly events: ReadonlyArray<EventAccepted>
  readonly started: boolean
  readonly replaces: boolean
}

interface Known extends Omit<Spoken, "stored" | "owner"> {
  readonly arrival: Arrival
}

/** What makes two arrivals one; null where nothing does. */
const nameOf = ({ dedupe, emitKey, topic }: Arrival): string | null =>
  emitKey !== null ? `emit:${emitKey}` : dedupe !== null ? `event:${topic}:${dedupe}` : null

/** Accepts events of one source, in order, within one transaction. */
export const make = (sql: SqlClient.SqlClient, lease: typeof Lease.Service, awaited: typeof AwaitedEvents.Service) => {
  const listeners = Listeners.make(sql, lease)
  const append = appending(sql)

  /** The first events of those that repeat one, by name. The locks order repeats, so that of two at once the second sees the first. */
  const repeated = Effect.fnUntraced(function* ({ by }: Source, arrivals: ReadonlyArray<Arrival>, now: number) {
    const named = arrivals.flatMap((one) => {
      const name = nameOf(one)
      return name === null ? [] : [{ name, topic: one.topic, dedupe: one.dedupe, emit_key: one.emitKey }]
    })
    if (named.length === 0) return new Map<string, EventAccepted>()
    const names = [...new Set(named.map(({ name }) => name))].sort()
    yield* sql`
      SELECT pg_advisory_xact_lock(hashtextextended(${`ordinaut.accept:${by ?? "ingress"}:`}::text || n.name, 0))
      FROM (SELECT name FROM unnest(${names}::text[]) WITH ORDINALITY AS u (name, place) ORDER BY place) AS n`
    const publisher = by === null ? sql`e.published_by IS NULL` : sql`e.published_by = ${by}`
    const since = new Date(now - Duration.toMillis(dedupeFor))
    const rows = yield* sql<EventAccepted & { readonly name: string }>`
      WITH n AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(${JSON.stringify(named)}::jsonb) AS n (name text, topic text, dedupe text, emit_key text))
      SELECT n.name, f.id AS event_id, f.triggered_runs FROM n CROSS JOIN LATERAL (
        SELECT e.id, e.triggered_runs FROM event e
        WHERE ${publisher} AND e.topic = n.topic AND e.dedupe_key = n.dedupe AND e.at > ${since} ORDER BY e.at DESC LIMIT 1) AS f
      WHERE n.emit_key IS NULL
      UNION ALL
      SELECT n.name, e.id, e.triggered_runs FROM n JOIN event e ON ${publisher} AND e.emit_key = n.emit_key`
    return new Map(rows.map(({ name, ...first }) => [name, first] as const))
  })

  /** Stores events, and the last payload of each topic. */
  const store = ({ by, namespace }: Source, events: ReadonlyArray<Known>) => {
    const rows = events.map(({ arrival, at, payload, ...event }, place) => ({
      ...event,
      told: payload,
      place,
      at: new Date(at),
      dedupe_key: arrival.dedupe,
      emit_key: arrival.emitKey
    }))
    return sql`
      WITH given AS MATERIALIZED (
        -- A payload of null is one: as a column it would be read as none.
        SELECT g.*, coalesce(g.told, 'null') AS payload
        FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS g (id uuid, place integer, topic text, told jsonb, dedupe_key text, emit_key text, hops smallint, at timestamptz(3), traceparent text)),
      said AS (
        INSERT INTO topic_last (namespace, topic, payload, event_id, at)
        SELECT ${namespace}, topic, payload, id, at FROM (
          SELECT DISTINCT ON (topic) * FROM given ORDER BY topic, place DESC) AS latest ORDER BY topic
        ON CONFLICT (namespace, topic) DO UPDATE SET payload = excluded.payload, event_id = excluded.event_id,
          at = greatest(topic_last.at, excluded.at))
      INSERT INTO event (id, namespace, topic, payload, published_by, dedupe_key, emit_key, hops, at, traceparent)
      SELECT id, ${namespace}, topic, payload, ${by}::uuid, dedupe_key, emit_key, hops, at, traceparent FROM given ORDER BY place`
  }

  /** Puts events into the outbox, one batch, and tells each where it is and what it started. */
  const tell = (
    { by, namespace }: Source,
    events: ReadonlyArray<Known>,
    runs: ReadonlyMap<string, Runs>,
    at: DateTime.Utc
  ) => {
    const entries = events.map(({ hops, id, payload, topic }) => ({
      id,
      topic,
      namespace,
      agent_id: by,
      at: DateTime.formatIso(at),
      hops,
      payload
    }))
    const placed = events.map(({ id }, position) => ({ id, position, runs: runs.get(id) ?? [] }))
    return sql`
      WITH told AS (
        INSERT INTO outbox (size, entries, at)
        VALUES (${entries.length}, ${JSON.stringify(entries)}::jsonb, ${DateTime.toDateUtc(at)}) RETURNING id)
      UPDATE event e SET outbox_id = told.id, outbox_position = p.position, triggered_runs = p.runs
      FROM told, jsonb_to_recordset(${JSON.stringify(placed)}::jsonb) AS p (id uuid, position integer, runs jsonb)
      WHERE e.id = ANY (${events.map(({ id }) => id)}::uuid[]) AND e.id = p.id`
  }

  /**
   * Brings events to those who hear them. Conditions look at one event at a time, with what was said on all topics by then; what no
   * condition hears goes together. The rows of the topics are locked in order, before those of the tasks.
   */
  const hear = Effect.fnUntraced(function* (source: Source, events: ReadonlyArray<Known>) {
    const topics = [...new Set(events.map(({ topic }) => topic))]
    if (topics.length > 1) {
      yield* sql`
        SELECT FROM topic_last WHERE namespace = ${source.namespace} AND topic = ANY (${topics}::text[]) ORDER BY topic FOR NO KEY UPDATE`
    }
    const known = yield* listeners.known(sql`namespace = ${source.namespace}`)
    const looked = new Set(known.flatMap((task) => Conditions.topicsOf(task)))
    const groups: Array<Array<Known>> = []
    let open: Array<Known> | null = null
    for (const event of events) {
      if (open === null || looked.has(event.topic)) groups.push((open = []))
      open.push(event)
      if (looked.has(event.topic)) open = null
    }
    const runs = new Map<string, Runs>()
    let started = false
    let replaces = false
    for (const group of groups) {
      yield* store(source, group)
      const outcome = yield* listeners.hear(
        known,
        group.map((event) => ({ ...event, stored: true, owner: null }))
      )
      for (const { event_id, run_id, task_id } of outcome.runs)
        if (event_id !== null) runs.set(event_id, [...(runs.get(event_id) ?? []), { run_id, task_id }])
      started ||= outcome.runs.length > 0
      replaces ||= outcome.replaces
    }
    return { runs, started, replaces }
  })

  return Effect.fnUntraced(function* (source: Source, arrivals: ReadonlyArray<Arrival>) {
    yield* acceptEvents(sql, source.namespace)
    const now = yield* DateTime.now
    const at = DateTime.toEpochMillis(now)
    const first = yield* repeated(source, arrivals, at)
    const events: Array<Known> = []
    const ids = yield* Effect.forEach(arrivals, (arrival) =>
      Effect.gen(function* () {
        const name = nameOf(arrival)
        const before = name === null ? undefined : first.get(name)
        if (before !== undefined) return before.event_id
        const id = yield* Ids.next
        const { hops, payload, topic, traceparent } = arrival
        events.push({ arrival, id, topic, payload, at, hops, traceparent })
        if (name !== null) first.set(name, { event_id: id, triggered_runs: [] })
        return id
      })
    )
    const past = new Map([...first.values()].map((one) => [one.event_id, one.triggered_runs]))
    if (events.length === 0) return answer(ids, past, { started: false, replaces: false })
    const { replaces, runs, started } = yield* hear(source, events)
    const told = yield* awaited.tell(source.namespace, events)
    yield* tell(source, events, runs, now)
    yield* append(
      events.map(({ id, topic }) => ({
        actor: source.by ?? "system",
        namespace: source.namespace,
        action: "event.published",
        subject_kind: "event",
        subject_id: id,
        before: null,
        after: { topic }
      }))
    )
    return answer(ids, new Map([...past, ...runs]), { started: started || told > 0, replaces })
  })
}

type Runs = EventAccepted["triggered_runs"]

const answer = (
  ids: ReadonlyArray<string>,
  runs: ReadonlyMap<string, Runs>,
  more: Omit<Accepted, "events">
): Accepted => ({ ...more, events: ids.map((event_id) => ({ event_id, triggered_runs: runs.get(event_id) ?? [] })) })
