import type { Held, NewWork, Progress, Renewed } from "../../src/domain/Settlement.ts"
import type { Answer } from "../../src/domain/Wait.ts"
import { archive } from "./TwinTurn.ts"
import { hasElder, liveOf, pair, rowsWhere } from "./TwinTables.ts"
import type { DueRow, Tables } from "./TwinTables.ts"

/** Queues runs; answers the ids of those whose occurrence was not decided before. */
export const enqueue = (tables: Tables, work: ReadonlyArray<NewWork>, now: number): ReadonlyArray<string> => {
  const busy = new Set<string>()
  for (const row of tables.dueWork.values()) if (row.backfill_id === null) busy.add(row.task_id)
  const queued: Array<DueRow> = []
  for (const one of work) {
    const key = pair(one.task_id, one.key)
    if (one.trigger !== "schedule") {
      if (tables.occurrences.has(key)) continue
      tables.occurrences.set(key, { run_id: one.id, input: one.input ?? null })
    }
    if (tables.keys.has(key)) continue
    const waits =
      one.serial && (busy.has(one.task_id) || work.some(({ id, task_id }) => task_id === one.task_id && id < one.id))
    tables.keys.set(key, one.id)
    queued.push(rowOf(one, one.due_at > now ? "later" : waits ? "blocked" : "ready", now))
  }
  for (const row of queued) {
    tables.dueWork.set(row.id, row)
    tables.outbox.push({ run_id: row.id, state: "queued" })
    tables.watch.queued(row)
  }
  return queued.map(({ id }) => id)
}

const rowOf = (one: NewWork, state: DueRow["state"], now: number): DueRow => ({
  id: one.id,
  task_id: one.task_id,
  key: one.key,
  agent_id: one.agent_id,
  namespace: one.namespace,
  task_version: one.task_version,
  trigger: one.trigger,
  state,
  scheduled_for: one.scheduled_for,
  due_at: one.due_at,
  run_at: one.due_at,
  priority: one.priority,
  rank: one.priority,
  lease_no: 0,
  attempt: 1,
  locked_by: null,
  locked_until: null,
  signals: 0,
  cancel_requested_at: null,
  crashes: 0,
  started_at: null,
  attempt_started_at: null,
  leased_at: null,
  spent_ms: 0,
  expires_at: null,
  deadline_at: one.deadline_seconds === null ? null : one.due_at + one.deadline_seconds * 1000,
  start_by: one.start_within_seconds === null ? null : one.due_at + one.start_within_seconds * 1000,
  concurrency_key: one.concurrency_key,
  serial: one.serial,
  held: false,
  snoozed: one.trigger === "schedule" && one.due_at > now,
  event_id: one.event_id ?? null,
  backfill_id: one.backfill_id ?? null,
  hops: one.hops ?? 0,
  traceparent: one.traceparent ?? null,
  created_at: now
})

/** Moves the end of leases; answers those that still hold. */
export const renew = (tables: Tables, worker: string, held: ReadonlyArray<Held>, now: number): ReadonlyArray<Renewed> =>
  held.flatMap(({ id, lease_no }) => {
    const row = tables.dueWork.get(id)
    if (row === undefined || row.lease_no !== lease_no || row.state !== "leased" || row.locked_by !== worker) return []
    row.locked_until = now + tables.leaseMillis
    return [{ id, lease_no, signals: row.signals, cancel_requested: row.cancel_requested_at !== null }]
  })

/** Stores what leases have come to; answers the ids of those that held. */
export const record = (tables: Tables, progress: ReadonlyArray<Progress>): ReadonlySet<string> => {
  const held = new Set<string>()
  for (const { failed, steps, waits, work } of progress) {
    const row = tables.dueWork.get(work.id)
    if (row === undefined || row.lease_no !== work.lease_no || row.state !== "leased") continue
    held.add(row.id)
    tables.watch.recorded(row, steps)
    const live = liveOf(tables, row.id)
    for (const step of steps) live.steps.set(pair(step.step_id, String(step.item)), step)
    if (failed !== null && live.failed === null) live.waits.clear()
    for (const wait of waits) live.waits.set(pair(wait.step_id, String(wait.item)), { ...wait, result: null })
    live.failed ??= failed
  }
  return held
}

/** Gives a run what another had finished of some steps. */
export const takeOver = (tables: Tables, id: string, from: string, steps: ReadonlyArray<string>) => {
  const live = liveOf(tables, id)
  const source = tables.history.find((run) => run.id === from)
  for (const step of source?.steps ?? [])
    if (steps.includes(step.step_id)) live.steps.set(pair(step.step_id, String(step.item)), step)
}

/** Answers waits, each once, and signals their runs. */
export const answer = (tables: Tables, answers: ReadonlyArray<Answer>): ReadonlyArray<string> => {
  const signaled = new Set<string>()
  const answered = answers.flatMap(({ id, result }) => {
    for (const [run, live] of tables.live)
      for (const [key, wait] of live.waits) {
        if (wait.id !== id || wait.result !== null) continue
        live.waits.set(key, { ...wait, result })
        signaled.add(run)
        return [id]
      }
    return []
  })
  signal(tables, [...signaled])
  return answered
}

/** Gives a worker a place to make room for a suspect: half of those that beat, and at least one, have one or are alone at a time. */
export const makeRoom = (tables: Tables, worker: string, now: number, until: number): boolean => {
  const found = rowsWhere(tables, ({ crashes }) => crashes >= 2)
  const holders = new Set(found.flatMap(({ locked_by, state }) => (state === "leased" ? [locked_by] : [])))
  const fleet = new Map(
    [...tables.heartbeats].filter(([, { last_seen, program }]) => program === "worker" && last_seen > now - 10_000)
  )
  const taken = [...fleet].filter(
    ([id, { making_room_until }]) => id !== worker && ((making_room_until ?? 0) > now || holders.has(id))
  )
  const own = fleet.get(worker)
  if (own === undefined || !found.some(({ state }) => state === "ready")) return false
  if (taken.length >= Math.max(1, Math.floor(fleet.size / 2))) return false
  own.making_room_until = until
  return true
}

/** Lets waiting runs gain one priority for every ten minutes; answers how many gained. */
export const age = (tables: Tables, now: number): number => {
  const waitsSince = (row: DueRow) => Math.max(row.due_at, row.created_at)
  const gaining = rowsWhere(
    tables,
    (row) =>
      row.state === "ready" &&
      row.crashes < 2 &&
      row.rank > 1 &&
      waitsSince(row) <= now - (row.priority - row.rank + 1) * 600_000
  )
  for (const row of gaining) row.rank = Math.max(1, row.priority - Math.floor((now - waitsSince(row)) / 600_000))
  return gaining.length
}

/** Ends what can no longer start in time; readies what is due, what has parked long enough, and what waits for a slot or an elder that is gone. Answers how many. */
export const promote = (tables: Tables, now: number): number => {
  const late = rowsWhere(
    tables,
    ({ held, lease_no, start_by, state }) =>
      lease_no === 0 &&
      start_by !== null &&
      start_by < now &&
      !held &&
      (state === "later" || state === "ready" || state === "blocked")
  )
  for (const row of late) archive(tables, row, { state: "skipped", at: now, reason: "expired" })
  const due = rowsWhere(tables, ({ held, run_at, state }) => state === "later" && run_at <= now && !held)
  for (const row of due) row.state = row.serial && hasElder(tables, row) ? "blocked" : "ready"
  const expired = rowsWhere(
    tables,
    ({ expires_at, state }) => state === "parked" && expires_at !== null && expires_at <= now
  )
  for (const row of expired) row.state = "ready"
  let readied = late.length + due.length + expired.length
  const free = new Map<string, number>()
  for (const [key, { in_use, limit }] of tables.slots) free.set(key, limit - in_use)
  for (const row of rowsWhere(tables, ({ state }) => state === "blocked")) {
    if (row.serial && hasElder(tables, row)) continue
    if (row.concurrency_key !== null) {
      const key = pair(row.namespace, row.concurrency_key)
      const left = free.get(key) ?? 0
      if (left <= 0) continue
      free.set(key, left - 1)
    } else if (!row.serial) continue
    row.state = "ready"
    readied++
  }
  return readied
}

/** Ends what is not leased, asks what is. */
export const cancel = (tables: Tables, ids: ReadonlyArray<string>, now: number) => {
  const ended: Array<string> = []
  const asked: Array<string> = []
  for (const id of ids) {
    const row = tables.dueWork.get(id)
    if (row === undefined) continue
    if (row.state === "leased") {
      row.cancel_requested_at ??= now
      row.signals++
      asked.push(id)
    } else {
      archive(tables, row, { state: "canceled", at: now })
      ended.push(id)
    }
  }
  return { ended, asked }
}

export const signal = (tables: Tables, ids: ReadonlyArray<string>) => {
  for (const id of ids) {
    const row = tables.dueWork.get(id)
    if (row === undefined) continue
    row.signals++
    if (row.state === "parked") row.state = "ready"
  }
}

export const snooze = (tables: Tables, id: string, dueAt: number) => {
  const row = tables.dueWork.get(id)
  if (row === undefined || row.lease_no !== 0) return
  const moved = dueAt - row.due_at
  row.state = "later"
  row.due_at = dueAt
  row.run_at = dueAt
  row.snoozed = true
  if (row.deadline_at !== null) row.deadline_at += moved
  if (row.start_by !== null) row.start_by += moved
}

const snoozedOf = (tables: Tables, taskId: string) =>
  rowsWhere(tables, ({ lease_no, snoozed, task_id }) => task_id === taskId && snoozed && lease_no === 0)

export const hold = (tables: Tables, taskId: string) => {
  for (const row of snoozedOf(tables, taskId)) {
    row.held = true
    row.state = "later"
  }
}

export const unhold = (tables: Tables, taskId: string, skipBefore: number | null, now: number) => {
  for (const row of rowsWhere(tables, ({ held, task_id }) => task_id === taskId && held)) {
    if (row.due_at < (skipBefore ?? 0)) archive(tables, row, { state: "skipped", at: now, reason: "paused" })
    else row.held = false
  }
}
