import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Effect, Layer, Schedule } from "effect"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { WaitKind } from "../domain/Wait.ts"
import { storeErrors } from "./Db.ts"
import { Draining } from "./Draining.ts"
import { Heartbeats } from "./Heartbeats.ts"
import * as Metrics from "./Metrics.ts"
import * as Retries from "./Retries.ts"

/** What waits and what runs: rows by state, ready rows by priority, the age of the oldest ready one, the next of those for later. */
export interface Depth {
  readonly by_state: Readonly<Record<string, number>>
  readonly by_priority: Readonly<Record<string, number>>
  readonly oldest_ready_seconds: number | null
  readonly later_next: DateTime.Utc | null
}

const states = ["later", "ready", "blocked", "leased", "parked"]
const priorities = Array.from({ length: 9 }, (_, i) => String(i + 1))

/** Reads the depth of the queue and keeps its gauges. */
export class Queue extends Context.Tag("ordinaut/Queue")<
  Queue,
  { readonly depth: Effect.Effect<Depth, StoreUnavailable> }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      return Queue.of({
        depth: Effect.gen(function* () {
          const now = DateTime.toEpochMillis(yield* DateTime.now)
          const rows = yield* sql<{ state: string; priority: number; n: number; oldest: Date; next: Date }>`
            SELECT state, priority, count(*)::integer AS n, min(due_at) AS oldest, min(run_at) AS next FROM due_work GROUP BY 1, 2`
          const [quarantined] = yield* sql<{ n: number }>`
            SELECT count(*)::integer AS n FROM task WHERE quarantined_at IS NOT NULL AND status = 'active'`
          const waits = yield* sql<{ kind: string; n: number }>`
            SELECT kind, count(*)::integer AS n FROM pending_item WHERE result IS NULL GROUP BY 1`
          for (const kind of WaitKind.literals)
            Metrics.waitingRuns.add(waits.find((row) => row.kind === kind)?.n ?? 0, { kind })
          const ready = rows.filter(({ state }) => state === "ready")
          const ages = ready.map(({ oldest }) => Math.max(0, now - oldest.getTime()) / 1000)
          const later = rows.filter(({ state }) => state === "later").map(({ next }) => next.getTime())
          const byState = sums(rows, states, ({ state }) => state)
          for (const state of states) Metrics.dueWork.add(byState[state] ?? 0, { state })
          for (const priority of priorities) {
            const age = ready.find((row) => String(row.priority) === priority)
            Metrics.oldestReady.add(age === undefined ? 0 : Math.max(0, now - age.oldest.getTime()) / 1000, {
              priority
            })
          }
          Metrics.quarantinedTasks.add(quarantined?.n ?? 0, {})
          return {
            by_state: byState,
            by_priority: sums(ready, [], ({ priority }) => String(priority)),
            oldest_ready_seconds: ages.length === 0 ? null : Math.max(...ages),
            later_next: later.length === 0 ? null : DateTime.unsafeMake(Math.min(...later))
          }
        }).pipe(Effect.withSpan("Queue.depth"), storeErrors)
      })
    })
  )

  /** Keeps the gauges of the queue, and of who is alive, fresh. */
  static readonly loop = Layer.scopedDiscard(
    Effect.gen(function* () {
      const queue = yield* Queue
      const heartbeats = yield* Heartbeats
      const draining = yield* Draining
      yield* draining.supervised(
        Effect.zipRight(heartbeats.live, queue.depth).pipe(
          Effect.repeat(Schedule.spaced("5 seconds")),
          Effect.retry(Retries.loop)
        )
      )
    })
  )
}

const sums = <Row extends { readonly n: number }>(
  rows: ReadonlyArray<Row>,
  keys: ReadonlyArray<string>,
  keyOf: (row: Row) => string
): Readonly<Record<string, number>> => {
  const found = new Map(keys.map((key) => [key, 0]))
  for (const row of rows) found.set(keyOf(row), (found.get(keyOf(row)) ?? 0) + row.n)
  return Object.fromEntries(found)
}
