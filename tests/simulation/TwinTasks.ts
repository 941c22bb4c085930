import { DateTime, Either } from "effect"
import { occurrenceKey } from "../../src/domain/DueWork.ts"
import type { DecidedFire } from "../../src/domain/Decision.ts"
import type { MisfirePolicy, TaskStatus } from "../../src/domain/Task.ts"
import { tzdataVersion } from "../../src/domain/Zone.ts"
import type { Decide } from "../../src/layers/DueTasks.ts"
import * as Firing from "../../src/layers/Firing.ts"
import { millisOf } from "../../src/layers/TaskRows.ts"
import type { ScheduledTask } from "../../src/layers/TaskRows.ts"
import { pair } from "./TwinTables.ts"
import type { Tables } from "./TwinTables.ts"
import * as Runs from "./TwinRuns.ts"

const instantOrNull = (at: number | null) => (at === null ? null : DateTime.unsafeMake(at))

const unfinishedOf = (tables: Tables, taskId: string): ReadonlyArray<string> => {
  const found: Array<string> = []
  for (const row of tables.dueWork.values()) if (row.task_id === taskId && row.backfill_id === null) found.push(row.id)
  return found
}

const put = (tables: Tables, before: ScheduledTask, change: Partial<ScheduledTask>) => {
  const after = { ...before, ...change }
  tables.tasks.set(before.id, after)
  tables.watch.cursor(before, after)
}

/** Takes due tasks and writes what becomes of their occurrences, in one step. */
export const fire = (tables: Tables, now: number, limit: number, decide: Decide) => {
  const due = [...tables.tasks.values()]
    .filter((task) => task.status === "active" && task.quarantined_at === null && dueBy(task, now))
    .sort((a, b) => (millisOf(a.next_due_at) ?? 0) - (millisOf(b.next_due_at) ?? 0))
    .slice(0, limit)
  const unfinished = new Map<string, ReadonlyArray<string>>()
  for (const { id, overlap_policy } of due) {
    const ids = overlap_policy === "allow" ? [] : unfinishedOf(tables, id)
    if (ids.length > 0) unfinished.set(id, ids)
  }
  const decided: Array<Firing.Decided> = []
  for (const task of due) {
    const made = decide(task, unfinished.has(task.id))
    if (Either.isRight(made)) decided.push(made.right)
    else put(tables, task, { quarantined_at: DateTime.unsafeMake(now), quarantine_reason: made.left })
  }
  return { taken: due.length, fired: write(tables, decided, unfinished, now) }
}

const dueBy = (task: ScheduledTask, now: number) => {
  const due = millisOf(task.next_due_at)
  return due !== null && due <= now
}

/** The fire statement. Answers how many runs it queued. */
const write = (
  tables: Tables,
  decided: ReadonlyArray<Firing.Decided>,
  cancelable: ReadonlyMap<string, ReadonlyArray<string>>,
  now: number
): number => {
  const replaced = decided.flatMap(({ decision, task }) =>
    decision.cancelUnfinished ? (cancelable.get(task.id) ?? []) : []
  )
  Runs.cancel(tables, replaced, now)
  const work = decided.flatMap((one) => one.decision.fires.map((fired) => workOf(tables, one, fired, now)))
  const queued = Runs.enqueue(tables, work, now)
  for (const { decision, task } of decided) {
    for (const { count, from, reason, to } of decision.skips) {
      const run = {
        id: tables.newId(now),
        task_id: task.id,
        key: occurrenceKey.schedule(to),
        trigger: "schedule",
        state: "skipped",
        scheduled_for: to,
        due_at: to,
        attempt: 1,
        attempts: [],
        lease_no: 0,
        crashes: 0,
        started_at: null,
        finished_at: now,
        error: null,
        skip_reason: reason,
        skipped: { from, to, count },
        steps: []
      } as const
      tables.history.push(run)
      tables.outbox.push({ run_id: run.id, state: "skipped" })
      tables.watch.ended(run)
    }
    moveCursor(tables, task, decision, now)
    if (decision.next === null && task.concurrency_key !== null) setLimit(tables, task.namespace, task.concurrency_key)
  }
  return queued.length
}

const moveCursor = (
  tables: Tables,
  { id }: ScheduledTask,
  { fires, next, nextDueAt }: Firing.Decided["decision"],
  now: number
) => {
  const before = tables.tasks.get(id)
  if (before === undefined) return
  const through = next === null ? now : Math.min(now, next - 1)
  const timed = ["cron", "rrule", "once"].includes(before.schedule_kind)
  put(tables, before, {
    decided_through: DateTime.unsafeMake(Math.max(DateTime.toEpochMillis(before.decided_through), through)),
    next_run_at: instantOrNull(next),
    next_due_at: instantOrNull(nextDueAt),
    fired_count: before.fired_count + fires.length,
    last_fired_for: instantOrNull(fires.at(-1)?.scheduledFor ?? null) ?? before.last_fired_for,
    tzdata_version: tzdataVersion,
    status: next === null && before.status === "active" && timed ? "completed" : before.status
  })
}

const workOf = (tables: Tables, { policy, task }: Firing.Decided, one: DecidedFire, now: number) => ({
  ...Firing.workFor(tables.newId(now), task),
  trigger: "schedule" as const,
  key: occurrenceKey.schedule(one.scheduledFor),
  scheduled_for: one.scheduledFor,
  due_at: one.dueAt,
  priority: one.late && policy === "fire_all" ? 9 : task.priority,
  serial: one.serial
})

/** When the next task or queued run is due. */
export const nextAt = (tables: Tables): number | null => {
  let least = Infinity
  for (const task of tables.tasks.values()) {
    if (task.status === "active" && task.quarantined_at === null)
      least = Math.min(least, millisOf(task.next_due_at) ?? Infinity)
  }
  for (const row of tables.dueWork.values()) {
    if (row.state === "later" && !row.held) least = Math.min(least, row.run_at)
    if (row.state === "parked") least = Math.min(least, row.expires_at ?? Infinity)
  }
  return least === Infinity ? null : least
}

/** Computes anew up to `limit` cursors that other zone data made. */
export const adoptZoneData = (tables: Tables, limit: number) => {
  const stale = [...tables.tasks.values()]
    .filter(
      ({ next_run_at, quarantined_at, status, tzdata_version }) =>
        (status === "active" || status === "paused") &&
        quarantined_at === null &&
        next_run_at !== null &&
        tzdata_version !== tzdataVersion
    )
    .slice(0, limit)
  let moved = 0
  for (const task of stale) {
    const { count_end, next_due_at, next_run_at } = Firing.foresee(task)
    if (next_run_at?.getTime() !== millisOf(task.next_run_at)) moved++
    put(tables, task, {
      next_run_at: instantOrNull(next_run_at?.getTime() ?? null),
      next_due_at: instantOrNull(next_due_at?.getTime() ?? null),
      count_end: instantOrNull(count_end?.getTime() ?? null),
      tzdata_version: tzdataVersion
    })
  }
  return { looked: stale.length, moved }
}

const setStatus = (tables: Tables, task: ScheduledTask, status: TaskStatus) => {
  put(tables, task, { status })
  if (task.concurrency_key !== null) setLimit(tables, task.namespace, task.concurrency_key)
}

/** The smallest limit among the active tasks with a key holds for it. */
export const setLimit = (tables: Tables, namespace: string, key: string) => {
  let least = Infinity
  for (const task of tables.tasks.values()) {
    if (task.namespace === namespace && task.concurrency_key === key && task.status === "active")
      least = Math.min(least, task.concurrency_limit)
  }
  const slots = tables.slots.get(pair(namespace, key))
  const limit = least === Infinity ? (slots?.limit ?? 1) : least
  if (slots === undefined) tables.slots.set(pair(namespace, key), { limit, in_use: 0 })
  else slots.limit = limit
}

/** The changes of a task's state, as its owner asks for them. */
export const pause = (tables: Tables, id: string) => {
  const task = tables.tasks.get(id)
  if (task?.status !== "active") return
  setStatus(tables, task, "paused")
  Runs.hold(tables, id)
}

export const resume = (tables: Tables, id: string, onMissed: MisfirePolicy | null, now: number) => {
  const task = tables.tasks.get(id)
  if (task?.status !== "paused") return
  const policy = onMissed ?? task.misfire_policy
  setStatus(tables, task, "active")
  Runs.unhold(tables, id, policy === "skip" ? now - task.misfire_grace_seconds * 1000 : null, now)
  const ids = unfinishedOf(tables, id)
  const unfinished = new Map(ids.length === 0 ? [] : [[id, ids]])
  const decided = Firing.decide(task, now, ids.length > 0, "paused", policy)
  if (Either.isRight(decided)) write(tables, [decided.right], unfinished, now)
}

export const cancel = (tables: Tables, id: string, now: number) => {
  const task = tables.tasks.get(id)
  if (task === undefined || task.status === "canceled") return
  setStatus(tables, task, "canceled")
  if ((millisOf(task.next_run_at) ?? Infinity) <= now) {
    const owed = Firing.decide(task, now, false, "canceled", "skip", Firing.noGrace)
    write(tables, [Either.getOrElse(owed, () => Firing.forgone(task, now))], new Map(), now)
  }
  put(tables, tables.tasks.get(id) ?? task, { next_run_at: null, next_due_at: null, snoozed_until: null })
  const all = [...tables.dueWork.values()].filter((row) => row.task_id === id).map((row) => row.id)
  Runs.cancel(tables, all, now)
}

export const runNow = (tables: Tables, id: string, now: number) => {
  const task = tables.tasks.get(id)
  if (task === undefined || task.status === "canceled") return
  const last = millisOf(task.last_fired_for)
  if (last !== null && task.dedupe_window_seconds > 0 && Math.abs(now - last) < task.dedupe_window_seconds * 1000)
    return
  const runId = tables.newId(now)
  Runs.enqueue(
    tables,
    [
      {
        ...Firing.workFor(runId, task),
        key: occurrenceKey.manual(runId),
        trigger: "manual",
        scheduled_for: now,
        due_at: now,
        serial: false
      }
    ],
    now
  )
  put(tables, task, { last_fired_for: DateTime.unsafeMake(now) })
}
