import { Effect, Schema } from "effect"
import { readFileSync } from "node:fs"
import { eventually, query } from "../support/programs.ts"
import { TimedTask, timedTasks, wrongAccounts } from "./Accounts.ts"
import type { Fleet } from "./Fleet.ts"
import type { Ledger } from "./Ledger.ts"
import type { Stock } from "./Load.ts"
import type { Record } from "./Record.ts"

/** The statements of a file, each with the last line of comment before it. */
const statementsOf = (file: string) =>
  readFileSync(new URL(file, import.meta.url), "utf8")
    .split(/;\s*\n/)
    .flatMap((statement) => {
      const name = [...statement.matchAll(/^-- (.*)$/gm)].at(-1)?.[1]
      return name === undefined ? [] : [{ name, statement }]
    })

const statements = [...statementsOf("../support/invariants.sql"), ...statementsOf("checks.sql")]

const streamKey = "ordinaut:events"
const page = 10_000

const Entry = Schema.Struct({ number: Schema.NumberFromString, id: Schema.String, topic: Schema.String })
const Row = Schema.Struct({ id: Schema.String })
const Task = Schema.Struct({ id: Schema.String, title: Schema.NullOr(Schema.String), status: Schema.String })
const Revision = Schema.Struct({
  version: Schema.String,
  definition: Schema.Record({ key: Schema.String, value: Schema.Unknown })
})
const EventRow = Schema.Struct({
  id: Schema.String,
  topic: Schema.String,
  n: Schema.Int,
  heard: Schema.Array(Schema.String)
})

const shown = (rows: ReadonlyArray<unknown>) => `${rows.length} rows, such as ${JSON.stringify(rows.slice(0, 3))}`

const streamed = ({ redis: { client } }: Fleet) =>
  Effect.promise(async () => {
    const found: Array<string> = []
    for (let from = "-"; ; from = `(${found.at(-1)?.split(" ")[0]}`) {
      const entries = await client.xrange(streamKey, from, "+", "COUNT", page)
      for (const [number, fields] of entries)
        found.push(`${number} ${fields[fields.indexOf("id") + 1]} ${fields[fields.indexOf("topic") + 1]}`)
      if (entries.length < page) return found
    }
  })

/** Waits until the stream in Redis is the log, entry by entry; answers how many there are, or what differs. */
const streamIsTheLog = (fleet: Fleet, record: Record) =>
  Effect.gen(function* () {
    const log = yield* query(
      fleet.database,
      Entry,
      `SELECT (first_number + i - 1)::text AS number, entry ->> 'id' AS id, entry ->> 'topic' AS topic
       FROM outbox, jsonb_array_elements(entries) WITH ORDINALITY AS e (entry, i) ORDER BY first_number, i`
    )
    const expected = log.map(({ id, number, topic }) => `${number}-0 ${id} ${topic}`)
    const difference = (stream: ReadonlyArray<string>) => {
      const at = expected.findIndex((entry, i) => stream[i] !== entry)
      if (at < 0 && stream.length === expected.length) return undefined
      return `the stream has ${stream.length} entries of ${expected.length}; at ${at} there is ${stream[at]}, not ${expected[at]}`
    }
    yield* eventually(
      "stream that is the log",
      30,
      Effect.map(streamed(fleet), (stream) => (difference(stream) === undefined ? stream.length : undefined))
    ).pipe(
      Effect.catchAllDefect(() =>
        Effect.map(streamed(fleet), (stream) => record.wrong(difference(stream) ?? "the stream was late"))
      )
    )
    return expected.length
  })

const acknowledged = (fleet: Fleet, ledger: Ledger, record: Record) =>
  Effect.gen(function* () {
    const tasks = new Map(
      (yield* query(
        fleet.database,
        Task,
        "SELECT t.id, v.definition ->> 'title' AS title, t.status FROM task t LEFT JOIN task_revision v ON v.task_id = t.id AND v.version = 1"
      )).map((task) => [task.id, task])
    )
    for (const [id, title] of ledger.created)
      if (tasks.get(id)?.title !== title) record.wrong(`task ${id} (${title}) was acknowledged and is not there`)
    for (const id of ledger.canceled)
      if (tasks.get(id)?.status !== "canceled") record.wrong(`task ${id} was canceled and is ${tasks.get(id)?.status}`)

    const revisions = new Map(
      (yield* query(
        fleet.database,
        Revision,
        "SELECT task_id || ' ' || version AS version, definition FROM task_revision"
      )).map(({ definition, version }) => [version, definition])
    )
    for (const [version, change] of ledger.patched)
      for (const [field, value] of Object.entries(change))
        if (revisions.get(version)?.[field] !== value)
          record.wrong(`the change ${version} of ${field} to ${value} was acknowledged and is not there`)

    const runs = new Set(
      (yield* query(fleet.database, Row, "SELECT id FROM task_run WHERE trigger = 'manual'")).map(({ id }) => id)
    )
    for (const id of ledger.asked) if (!runs.has(id)) record.wrong(`run ${id} was acknowledged and is not there`)
    for (const [key, ids] of [...ledger.eventsByKey, ...ledger.tasksByKey])
      if (ids.size > 1) record.wrong(`the key ${key} was answered with several ids: ${[...ids].join(", ")}`)
  })

const eventsAreHeard = (fleet: Fleet, ledger: Ledger, stock: Stock, record: Record) =>
  Effect.gen(function* () {
    const events = yield* query(
      fleet.database,
      EventRow,
      `SELECT e.id, e.topic, (e.payload ->> 'n')::integer AS n,
         coalesce((SELECT array_agg(r.task_id::text) FROM task_run r WHERE r.event_id = e.id AND r.trigger = 'event'), '{}') AS heard
       FROM event e`
    )
    const known = new Set(events.map(({ id }) => id))
    for (const id of ledger.events.keys()) if (!known.has(id)) record.wrong(`event ${id} was accepted and is not there`)
    for (const { heard, id, n, topic } of events) {
      const expected = stock.listeners.flatMap((task) => (task.hears(topic, n) ? [task.id] : [])).toSorted()
      if (expected.join(" ") !== [...heard].sort().join(" "))
        record.wrong(`event ${id} (${topic}, ${n}) has runs of ${heard.join(", ")}, not of ${expected.join(", ")}`)
    }
    return events.length
  })

/** Looks at all that a round left behind; what is wrong goes to the record. Nothing may be under way any more. */
export const check = (fleet: Fleet, ledger: Ledger, stock: Stock, record: Record) =>
  Effect.gen(function* () {
    const entries = yield* streamIsTheLog(fleet, record)
    for (const { name, statement } of statements) {
      const rows = yield* query(fleet.database, Schema.Unknown, statement)
      if (rows.length > 0) record.wrong(`${name}: ${shown(rows)}`)
    }
    const tasks = yield* query(fleet.database, TimedTask, timedTasks)
    for (const task of tasks) for (const sentence of wrongAccounts(task)) record.wrong(sentence)
    const occurrences = tasks.reduce(
      (sum, { accounts }) => sum + accounts.reduce((more, { count }) => more + (count ?? 0), 0),
      0
    )
    yield* acknowledged(fleet, ledger, record)
    const events = yield* eventsAreHeard(fleet, ledger, stock, record)
    return { entries, tasks: tasks.length, occurrences, events }
  })
