import { Effect, Schema } from "effect"
import { query } from "../support/programs.ts"
import type { Fleet } from "./Fleet.ts"
import type { Record } from "./Record.ts"

const Held = Schema.Struct({ id: Schema.String, lease_no: Schema.Int })
const Left = Schema.Struct({ id: Schema.String, leased: Schema.Boolean })

/** Milliseconds within which the work of a killed worker is to run again. */
const late = 20_000

const Story = Schema.Struct({ crashes: Schema.Int, lease_no: Schema.Int, state: Schema.String, title: Schema.String })

/** What is known of a run that waited too long. */
const storyOf = (database: string, id: string) =>
  Effect.map(
    quietly(
      query(
        database,
        Story,
        `SELECT r.crashes, r.lease_no, r.state, v.definition ->> 'title' AS title FROM (
           SELECT id, task_id, crashes, lease_no, state FROM due_work WHERE id = $1
           UNION ALL SELECT id, task_id, crashes, lease_no, state FROM task_run WHERE id = $1) AS r
         JOIN task_revision v ON v.task_id = r.task_id AND v.version = 1`,
        [id]
      )
    ),
    (rows) => (took: number) =>
      `run ${id} was left for ${(took / 1000).toFixed(1)} s: ${rows?.map((row) => JSON.stringify(row)).join() ?? "unknown"}`
  )

/** While PostgreSQL is away there is nothing to see. */
const quietly = <A>(effect: Effect.Effect<A>): Effect.Effect<A | undefined> =>
  Effect.catchAllCause(effect, () => Effect.succeed(undefined))

/** What a worker process holds; empty where PostgreSQL does not say. */
export const heldBy = (database: string, pid: number) =>
  Effect.map(
    quietly(
      query(
        database,
        Held,
        `SELECT d.id, lease_no FROM due_work d JOIN worker_heartbeat w ON w.id = d.locked_by
         WHERE w.pid = $1 AND state = 'leased'`,
        [pid]
      )
    ),
    (rows) => rows ?? []
  )

/** Watches what a worker held that is dead since `killedAt` (monotonic) until all of it is leased again or over. */
export const watch = (
  { database }: Fleet,
  record: Record,
  held: ReadonlyArray<typeof Held.Type>,
  killedAt: number
): Effect.Effect<void> =>
  Effect.gen(function* () {
    let open = new Set(held.map(({ id }) => id))
    let leased = new Set(open)
    while (open.size > 0) {
      yield* Effect.sleep("200 millis")
      const rows = yield* quietly(
        query(
          database,
          Left,
          `SELECT d.id, d.state = 'leased' AS leased FROM due_work d
           JOIN unnest($1::uuid[], $2::integer[]) AS h (id, lease_no) ON h.id = d.id AND h.lease_no = d.lease_no`,
          [held.map(({ id }) => id), held.map(({ lease_no }) => lease_no)]
        )
      )
      if (rows === undefined) continue
      const took = performance.now() - killedAt
      const stillOpen = new Set(rows.map(({ id }) => id))
      const stillLeased = new Set(rows.flatMap((row) => (row.leased ? [row.id] : [])))
      for (const id of leased) if (!stillLeased.has(id)) record.rescued.push(took)
      for (const id of open) {
        if (stillOpen.has(id)) continue
        record.resumed.push(took)
        if (took > late)
          yield* Effect.flatMap(storyOf(database, id), (story) => Effect.sync(() => record.tell(story(took))))
      }
      leased = stillLeased
      open = stillOpen
    }
  })
