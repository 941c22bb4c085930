import { createHash } from "node:crypto"
import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect } from "effect"
import { occurrenceKey } from "../domain/DueWork.ts"
import type { HeardEvent } from "../domain/Event.ts"
import { maxDepth, sizeOf } from "../domain/Json.ts"
import type { JsonObject, JsonValue } from "../domain/Json.ts"
import type { TriggerRule } from "../domain/TriggerSpec.ts"
import { mostWholeBytes, take } from "../domain/TriggerWindow.ts"
import type { Window } from "../domain/TriggerWindow.ts"
import type { Occasion } from "./Occasions.ts"

/** Windows that one statement ends, and about the bytes of what it then carries. */
const atOnce = 100
const mostBytes = 32 * 1_048_576

/** An event for the window of a key of a task. */
export interface Arrival {
  readonly taskId: string
  readonly rule: TriggerRule
  readonly key: string
  readonly event: HeardEvent
}

/** An event as runs see it. */
export const seenEvent = ({ at, id, payload, topic }: HeardEvent): JsonObject => ({
  id,
  topic,
  payload,
  at: new Date(at).toISOString()
})

interface Member {
  readonly id: string
  /** Null where the run gets the id alone. */
  readonly event: JsonValue
}

interface Row {
  readonly task_id: string
  readonly key: string
  readonly size: number
  readonly bytes: string
  readonly hops: number
  readonly first_at: Date
  readonly last_at: Date
  readonly close_at: Date
  readonly last: { readonly id: string } & JsonObject
  readonly traceparent: string | null
}

/** A window in the making: `stored` of its events are in the table, `added` follow them. */
interface Open {
  readonly taskId: string
  readonly key: string
  readonly window: Window
  readonly stored: boolean
  readonly added: ReadonlyArray<Member>
  readonly last: { readonly id: string } & JsonObject
  readonly traceparent: string | null
}

const openOf = (row: Row): Open => ({
  taskId: row.task_id,
  key: row.key,
  window: {
    size: row.size,
    bytes: Number(row.bytes),
    hops: row.hops,
    firstAt: row.first_at.getTime(),
    lastAt: row.last_at.getTime(),
    closeAt: row.close_at.getTime()
  },
  stored: true,
  added: [],
  last: row.last,
  traceparent: row.traceparent
})

/** A key of any length as an index can hold it. */
const nameOf = (key: string) => (key.length <= 200 ? `=${key}` : createHash("sha256").update(key).digest("hex"))

const pair = (taskId: string, key: string) => `${taskId}:${key}`

/** Windows that collect events into one run. Owns `trigger_window` and `trigger_event`, under the row locks of the tasks. */
export const make = (sql: SqlClient.SqlClient) => {
  const read = (keys: ReadonlyArray<{ readonly taskId: string; readonly key: string }>) =>
    sql<Row>`
      SELECT w.* FROM unnest(${keys.map(({ taskId }) => taskId)}::uuid[], ${keys.map(({ key }) => key)}::text[]) AS k (task_id, key)
      JOIN trigger_window w ON w.task_id = k.task_id AND w.key = k.key`

  /** Takes windows out of the store and answers what their runs are given, in the order of the windows. */
  const end = Effect.fnUntraced(function* (windows: ReadonlyArray<Open>, dueAt: (window: Window) => number) {
    const stored = windows.filter((window) => window.stored)
    const members = new Map<string, Array<Member>>()
    if (stored.length > 0) {
      const ids = stored.map(({ taskId }) => taskId)
      const keys = stored.map(({ key }) => key)
      const rows = yield* sql<{ task_id: string; key: string; event_id: string; event: JsonValue }>`
        WITH ended AS (
          DELETE FROM trigger_window w USING unnest(${ids}::uuid[], ${keys}::text[]) AS k (task_id, key)
          WHERE w.task_id = k.task_id AND w.key = k.key),
        emptied AS (
          DELETE FROM trigger_event e USING unnest(${ids}::uuid[], ${keys}::text[]) AS k (task_id, key)
          WHERE e.task_id = k.task_id AND e.key = k.key RETURNING e.*)
        SELECT task_id, key, event_id, event FROM emptied ORDER BY task_id, key, position`
      for (const { event, event_id, key, task_id } of rows) {
        const found = members.get(pair(task_id, key)) ?? []
        found.push({ id: event_id, event })
        members.set(pair(task_id, key), found)
      }
    }
    return windows.map((window): Occasion => {
      const { hops, lastAt } = window.window
      const before = window.stored ? (members.get(pair(window.taskId, window.key)) ?? []) : []
      const events = [...before, ...window.added].map(({ event, id }) => event ?? { id })
      return {
        taskId: window.taskId,
        scheduledFor: lastAt,
        dueAt: dueAt(window.window),
        origin: {
          trigger: "event",
          key: () => occurrenceKey.event(window.last.id),
          event_id: window.last.id,
          seen: window.last,
          hops,
          input: { events, event: window.last },
          ...(window.traceparent === null ? {} : { traceparent: window.traceparent })
        }
      }
    })
  })

  const store = Effect.fnUntraced(function* (windows: ReadonlyArray<Open>) {
    const rows = windows.map(({ key, last, taskId, traceparent, window }) => ({
      task_id: taskId,
      key,
      size: window.size,
      bytes: window.bytes,
      hops: window.hops,
      first_at: new Date(window.firstAt),
      last_at: new Date(window.lastAt),
      close_at: new Date(window.closeAt),
      last,
      traceparent
    }))
    const members = windows.flatMap(({ added, key, taskId, window }) =>
      added.map(({ event, id }, index) => ({
        task_id: taskId,
        key,
        position: window.size - added.length + index,
        event_id: id,
        event
      }))
    )
    yield* sql`
      WITH windows AS (
        INSERT INTO trigger_window (task_id, key, size, bytes, hops, first_at, last_at, close_at, last, traceparent)
        SELECT task_id, key, size, bytes, hops, first_at, last_at, close_at, last, traceparent
        FROM jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) AS w (task_id uuid, key text, size integer, bytes bigint, hops smallint,
          first_at timestamptz(3), last_at timestamptz(3), close_at timestamptz(3), last jsonb, traceparent text)
        ON CONFLICT (task_id, key) DO UPDATE SET size = excluded.size, bytes = excluded.bytes, hops = excluded.hops,
          first_at = excluded.first_at, last_at = excluded.last_at, close_at = excluded.close_at, last = excluded.last,
          traceparent = excluded.traceparent)
      INSERT INTO trigger_event (task_id, key, position, event_id, event)
      SELECT task_id, key, position, event_id, event FROM jsonb_to_recordset(${JSON.stringify(members)}::jsonb)
        AS m (task_id uuid, key text, position integer, event_id uuid, event jsonb)`
  })

  return {
    /** Adds events to their windows, in order. Answers the occasions of the windows that end by it: full, or overdue already. */
    add: Effect.fnUntraced(function* (arrivals: ReadonlyArray<Arrival>) {
      if (arrivals.length === 0) return []
      const named = arrivals.map((arrival) => ({ ...arrival, key: nameOf(arrival.key) }))
      const open = new Map<string, Open>((yield* read(named)).map((row) => [pair(row.task_id, row.key), openOf(row)]))
      const ended: Array<Open> = []
      const full = new Set<Window>()
      for (const { event, key, rule, taskId } of named) {
        const name = pair(taskId, key)
        const before = open.get(name) ?? null
        const seen = { ...seenEvent(event), id: event.id }
        const bytes = sizeOf(seen, 2 * mostWholeBytes, maxDepth + 2) ?? 2 * mostWholeBytes
        const taken = take(rule, before?.window ?? null, { at: event.at, hops: event.hops, bytes })
        if (taken.overdue && before !== null) ended.push(before)
        const joined = taken.overdue ? null : before
        const now: Open = {
          taskId,
          key,
          window: taken.window,
          stored: joined?.stored ?? false,
          added: [...(joined?.added ?? []), { id: event.id, event: taken.whole ? seen : null }],
          last: seen,
          traceparent: event.traceparent
        }
        open.delete(name)
        if (taken.full) {
          ended.push(now)
          full.add(now.window)
        } else open.set(name, now)
      }
      const occasions = yield* end(ended, (window) => (full.has(window) ? window.lastAt : window.closeAt))
      yield* store([...open.values()].filter(({ added }) => added.length > 0))
      return occasions
    }),

    /** The tasks whose windows are over at `now`, the longest overdue first. */
    due: (now: Date) =>
      Effect.map(
        sql<{ task_id: string }>`
          SELECT task_id FROM trigger_window WHERE close_at <= ${now} ORDER BY close_at LIMIT ${atOnce}`,
        (rows) => [...new Set(rows.map(({ task_id }) => task_id))]
      ),

    /** Lets the windows of tasks that cannot be read wait, so that they are not in the way of others. */
    putOff: (taskIds: ReadonlyArray<string>, now: Date) =>
      taskIds.length === 0
        ? Effect.void
        : sql`
            UPDATE trigger_window SET close_at = ${new Date(now.getTime() + 60_000)}
            WHERE task_id = ANY (${taskIds}::uuid[]) AND close_at <= ${now}`,

    /**
     * Ends windows of tasks, at most as many as a statement may carry: those that are over at `now`, or open ones as well. Answers
     * none when none is left.
     */
    endOf: Effect.fnUntraced(function* (taskIds: ReadonlyArray<string>, which: "over" | "all", now: Date) {
      const over = which === "all" ? sql.literal("") : sql`AND close_at <= ${now}`
      const rows = yield* sql<Row>`
        SELECT * FROM (
          SELECT w.*, row_number() OVER oldest AS n, sum(least(w.bytes, ${2 * mostWholeBytes})) OVER oldest AS upto FROM (
            SELECT * FROM trigger_window WHERE task_id = ANY (${taskIds}::uuid[]) ${over} ORDER BY close_at, task_id, key LIMIT ${atOnce}) AS w
          WINDOW oldest AS (ORDER BY w.close_at, w.task_id, w.key)) AS found
        WHERE n = 1 OR upto <= ${mostBytes} ORDER BY n`
      return yield* end(
        rows.map((row) => openOf(row)),
        (window) => Math.max(window.lastAt, Math.min(window.closeAt, now.getTime()))
      )
    })
  }
}
