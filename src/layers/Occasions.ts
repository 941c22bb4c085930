import type * as SqlClient from "@effect/sql/SqlClient"
import { DateTime, Effect } from "effect"
import * as Decision from "../domain/Decision.ts"
import { mostHops } from "../domain/Event.ts"
import type { SkipReason } from "../domain/Run.ts"
import * as Firing from "./Firing.ts"
import type { Lease } from "./Lease.ts"
import * as Skips from "./Skips.ts"
import { decodeEach, millisOf } from "./TaskRows.ts"
import type { ScheduledTask } from "./TaskRows.ts"

/** What an event, a window of events, or a condition that became true asks of a task. Instants are epoch milliseconds. */
export interface Occasion {
  readonly taskId: string
  readonly scheduledFor: number
  readonly dueAt: number
  readonly origin: Firing.Origin
  /** Recorded as skipped for this reason, whatever the task's rules say. */
  readonly skip?: SkipReason
}

/** What became of occasions: the queued runs, each with the event that it goes back to, and whether one replaces others. */
export interface Outcome {
  readonly runs: ReadonlyArray<{ readonly run_id: string; readonly task_id: string; readonly event_id: string | null }>
  readonly replaces: boolean
}

/** What an occasion means to its task: a run, or its recorded skip. */
const decisionOf = (task: ScheduledTask, occasion: Occasion, unfinished: boolean): Firing.Decided => {
  const { dueAt, origin, scheduledFor, skip } = occasion
  if (skip !== undefined) {
    const skips = [{ reason: skip, from: scheduledFor, to: scheduledFor, count: 1 }]
    return { task, origin, decision: { fires: [], skips, cancelUnfinished: false, next: null, nextDueAt: null } }
  }
  const decision = Decision.decide(
    {
      timeline: { next: () => null },
      from: scheduledFor,
      now: scheduledFor,
      policy: "fire_once",
      graceSeconds: 0,
      dueAt: (at) => at
    },
    {
      overlapPolicy: task.overlap_policy,
      unfinished,
      dedupeWindowSeconds: task.dedupe_window_seconds,
      lastFiredFor: millisOf(task.last_fired_for),
      runsLeft: task.max_runs === null ? null : Math.max(0, task.max_runs - task.fired_count)
    },
    "misfire"
  )
  return { task, origin, decision: { ...decision, fires: decision.fires.map((fire) => ({ ...fire, dueAt })) } }
}

/** Decides occasions, in order for each task, within the caller's transaction, which holds the row locks of the tasks. */
export const make = (sql: SqlClient.SqlClient, lease: typeof Lease.Service) => {
  const fire = Firing.make(sql, lease)
  const { refused } = Skips.make(sql)

  const again = (tasks: ReadonlyArray<ScheduledTask>) =>
    Effect.map(
      sql<{ id: string }>`SELECT * FROM task WHERE id = ANY (${tasks.map(({ id }) => id)}::uuid[]) ORDER BY id`,
      (rows) => decodeEach(rows)[1]
    )

  return Effect.fnUntraced(function* (tasks: ReadonlyArray<ScheduledTask>, occasions: ReadonlyArray<Occasion>) {
    const now = DateTime.toDateUtc(yield* DateTime.now)
    const byId = new Map<string, ScheduledTask>(tasks.map((task) => [task.id, task]))
    const queues = new Map<string, Array<Occasion>>()
    const loops: Array<Skips.Refused> = []
    for (const occasion of occasions) {
      const task = byId.get(occasion.taskId)
      if (task === undefined) continue
      if ((occasion.origin.hops ?? 0) > mostHops) loops.push({ ...occasion, task })
      else queues.set(task.id, [...(queues.get(task.id) ?? []), occasion])
    }
    yield* refused(loops, now)
    const runs: Array<Outcome["runs"][number]> = []
    let replaces = false
    // One occasion of each task at a time: what becomes of one is what the next is decided by.
    for (let round = 0; [...queues.values()].some((queue) => queue.length > round); round++) {
      const asked = tasks.filter(({ id }) => queues.get(id)?.[round] !== undefined)
      const known = round === 0 ? asked : yield* again(asked)
      const careful = known.filter(({ overlap_policy }) => overlap_policy !== "allow")
      const unfinished = yield* Firing.unfinishedRuns(sql, careful)
      const decided = known.flatMap((task) => {
        const occasion = queues.get(task.id)?.[round]
        return occasion === undefined ? [] : [decisionOf(task, occasion, unfinished.has(task.id))]
      })
      replaces ||= decided.some(({ decision }) => decision.cancelUnfinished)
      for (const run of yield* fire(decided, unfinished)) {
        runs.push({ ...run, event_id: queues.get(run.task_id)?.[round]?.origin.event_id ?? null })
      }
    }
    return { runs, replaces } satisfies Outcome
  })
}
