import { DateTime } from "effect"
import type { DueWork } from "../../src/domain/DueWork.ts"
import type { Line } from "../../src/domain/Line.ts"
import type { RunError } from "../../src/domain/Run.ts"
import type { Settlement, StepRecord, TurnResult } from "../../src/domain/Settlement.ts"
import { candidates } from "./TwinLine.ts"
import { inLine, liveOf, pair, rowsWhere, workOf } from "./TwinTables.ts"
import type { DueRow, PastAttempt, PastRun, Tables } from "./TwinTables.ts"

interface EndedBy {
  readonly state: PastRun["state"]
  readonly at: number
  readonly error?: RunError | null
  readonly reason?: string | null
  readonly lastAttempt?: PastAttempt | null
  readonly crash?: 0 | 1
  readonly steps?: ReadonlyArray<StepRecord>
}

/** Deletes a row, writes its run to the history, and tells. */
export const archive = (tables: Tables, row: DueRow, end: EndedBy) => {
  const live = tables.live.get(row.id)
  tables.dueWork.delete(row.id)
  tables.keys.delete(pair(row.task_id, row.key))
  tables.live.delete(row.id)
  const steps = new Map(live?.steps)
  for (const step of end.steps ?? []) steps.set(stepKey(step), step)
  const attempts = [...(live?.attempts.values() ?? [])].sort((a, b) => a.attempt - b.attempt)
  const run: PastRun = {
    id: row.id,
    task_id: row.task_id,
    key: row.key,
    trigger: row.trigger,
    state: end.state,
    scheduled_for: row.scheduled_for,
    due_at: row.due_at,
    attempt: row.attempt,
    attempts: end.lastAttempt == null ? attempts : [...attempts, end.lastAttempt],
    lease_no: row.lease_no,
    crashes: row.crashes + (end.crash ?? 0),
    started_at: row.started_at,
    finished_at: end.at,
    error: end.error ?? null,
    skip_reason: end.reason ?? null,
    skipped: null,
    steps: [...steps.values()].map((step) =>
      step.state === "running" || step.state === "waiting" ? { ...step, state: "canceled" } : step
    )
  }
  tables.history.push(run)
  tables.outbox.push({ run_id: row.id, state: end.state })
  tables.watch.ended(run)
}

const stepKey = (step: StepRecord) => pair(step.step_id, String(step.item))

/** Slots that rows free, by namespace and key. */
export class Freed {
  readonly counts = new Map<string, number>()

  add(row: DueRow) {
    if (row.concurrency_key === null) return
    const key = pair(row.namespace, row.concurrency_key)
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1)
  }

  of(key: string) {
    return this.counts.get(key) ?? 0
  }

  settle(tables: Tables) {
    for (const [key, n] of this.counts) {
      const slots = tables.slots.get(key)
      if (slots !== undefined) slots.in_use -= n
    }
  }
}

interface TurnInput {
  readonly worker: string
  readonly settled: ReadonlyArray<Settlement>
  readonly capacity: number
  readonly suspects: boolean
  readonly line: Line
  readonly now: number
}

/** The turn: as the statement does, all its parts see the rows as they were before it. */
export const turn = (tables: Tables, { capacity, line, now, settled, suspects, worker }: TurnInput): TurnResult => {
  const found = candidates(tables, capacity, suspects, line)
  const blocked = rowsWhere(tables, ({ serial, state }) => state === "blocked" && !serial)
  const freed = new Freed()
  const lost: Array<string> = []
  for (const settlement of settled) {
    const row = tables.dueWork.get(settlement.work.id)
    if (row === undefined || row.lease_no !== settlement.work.lease_no || row.state !== "leased") {
      lost.push(settlement.work.id)
      continue
    }
    freed.add(row)
    settle(tables, row, settlement, worker, now)
  }
  const leased: Array<DueWork> = []
  const taken = new Map<string, number>()
  let slotless = 0
  for (const row of [...found].sort(inLine)) {
    const key = row.concurrency_key === null ? null : pair(row.namespace, row.concurrency_key)
    const slots = key === null ? undefined : tables.slots.get(key)
    if (key !== null && slots !== undefined) {
      const place = (taken.get(key) ?? 0) + 1
      if (place > slots.limit - slots.in_use + freed.of(key)) {
        row.state = "blocked"
        slotless++
        continue
      }
      taken.set(key, place)
    }
    leased.push(lease(tables, row, worker, now))
  }
  for (const [key, n] of freed.counts) {
    const waiting = blocked.filter((row) => pair(row.namespace, row.concurrency_key ?? "") === key)
    for (const row of waiting.slice(0, n)) row.state = "ready"
  }
  freed.settle(tables)
  for (const [key, n] of taken) {
    const slots = tables.slots.get(key)
    if (slots !== undefined) slots.in_use += n
  }
  return { leased, lost, blocked: slotless }
}

const lease = (tables: Tables, row: DueRow, worker: string, now: number): DueWork => {
  row.state = "leased"
  row.lease_no++
  row.locked_by = worker
  row.locked_until = now + tables.leaseMillis
  row.leased_at = now
  row.started_at ??= Math.max(now, row.due_at)
  row.attempt_started_at ??= Math.max(now, row.run_at)
  tables.watch.leased(row)
  if (row.lease_no === 1) tables.outbox.push({ run_id: row.id, state: "running" })
  return workOf(row)
}

const settle = (tables: Tables, row: DueRow, settlement: Settlement, worker: string, now: number) => {
  const { finished_at, outcome, steps, work } = settlement
  tables.watch.settled(row, settlement)
  const error = outcome === "ended" || outcome === "retried" ? settlement.error : null
  const attempt: PastAttempt = {
    attempt: work.attempt,
    worker_id: worker,
    started_at: DateTime.toEpochMillis(work.attempt_started_at),
    finished_at,
    error
  }
  if (outcome === "ended") {
    archive(tables, row, {
      state: settlement.state,
      at: finished_at,
      error,
      reason: settlement.skip_reason ?? null,
      lastAttempt: attempt,
      steps
    })
    return
  }
  const runAt = outcome === "retried" ? settlement.run_at : null
  const parks = outcome === "parked" && row.signals === settlement.signals
  row.spent_ms = outcome === "retried" ? 0 : row.spent_ms + now - (row.leased_at ?? now)
  row.state =
    row.cancel_requested_at !== null ? "ready" : parks ? "parked" : runAt !== null && runAt > now ? "later" : "ready"
  row.expires_at = outcome === "parked" ? settlement.expires_at : null
  row.run_at = runAt ?? row.run_at
  row.locked_by = null
  row.locked_until = null
  const live = liveOf(tables, row.id)
  for (const step of steps) live.steps.set(stepKey(step), step)
  if (outcome !== "retried") return
  row.attempt++
  row.attempt_started_at = null
  live.attempts.set(attempt.attempt, attempt)
}

const poison: RunError = {
  code: "poison",
  message: "the worker process died 3 times while it ran this",
  step_id: null,
  retryable: false
}

/** Takes back the leases whose time is over. Answers how many. */
export const rescue = (tables: Tables, now: number): number => {
  const freed = new Freed()
  const expired = rowsWhere(
    tables,
    ({ locked_until, state }) => state === "leased" && locked_until !== null && locked_until < now
  )
  for (const row of expired) {
    const holder = row.locked_by ?? ""
    const crashed = fellSilent(tables, holder, row.locked_until ?? 0, now)
    freed.add(row)
    tables.watch.rescued(row, holder, crashed)
    if (crashed && row.crashes + 1 >= 3) {
      const lastAttempt = {
        attempt: row.attempt,
        worker_id: holder,
        started_at: row.attempt_started_at,
        finished_at: now,
        error: poison
      }
      archive(tables, row, { state: "failed", at: now, error: poison, lastAttempt, crash: 1 })
      continue
    }
    if (crashed) row.crashes++
    row.state = "ready"
    row.locked_by = null
    row.locked_until = null
  }
  freed.settle(tables)
  return expired.length
}

/** Whether a process stopped beating while the store answered others. */
const fellSilent = ({ heartbeats, leaseMillis }: Tables, holder: string, lockedUntil: number, now: number) => {
  const own = heartbeats.get(holder)
  if (own !== undefined && own.last_seen > now - (leaseMillis * 2) / 3) return false
  const within = (at: number | null) => at !== null && at >= lockedUntil - leaseMillis / 3 && at <= lockedUntil
  for (const [id, { last_seen, seen_before }] of heartbeats)
    if (id !== holder && (within(last_seen) || within(seen_before))) return true
  return false
}
