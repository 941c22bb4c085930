import { DateTime } from "effect"
import { AgentId } from "../../src/domain/Agent.ts"
import { DueWork } from "../../src/domain/DueWork.ts"
import type { JsonValue } from "../../src/domain/Json.ts"
import { RunId } from "../../src/domain/Run.ts"
import type { RunError } from "../../src/domain/Run.ts"
import type { NewWork, Settlement, StepRecord } from "../../src/domain/Settlement.ts"
import { TaskId } from "../../src/domain/Task.ts"
import type { Wait } from "../../src/domain/Wait.ts"
import type { Plan } from "../../src/layers/Plans.ts"
import type { ScheduledTask } from "../../src/layers/TaskRows.ts"

export type RowState = "later" | "ready" | "blocked" | "leased" | "parked"

/** Row of `due_work`; instants are epoch milliseconds. */
export interface DueRow {
  readonly id: string
  readonly task_id: string
  readonly key: string
  readonly agent_id: string
  readonly namespace: string
  readonly task_version: number
  readonly trigger: NewWork["trigger"]
  state: RowState
  readonly scheduled_for: number
  due_at: number
  run_at: number
  readonly priority: number
  rank: number
  lease_no: number
  attempt: number
  locked_by: string | null
  locked_until: number | null
  signals: number
  cancel_requested_at: number | null
  crashes: number
  started_at: number | null
  attempt_started_at: number | null
  leased_at: number | null
  spent_ms: number
  expires_at: number | null
  deadline_at: number | null
  start_by: number | null
  readonly concurrency_key: string | null
  readonly serial: boolean
  held: boolean
  snoozed: boolean
  readonly event_id: string | null
  readonly backfill_id: string | null
  readonly hops: number
  readonly traceparent: string | null
  readonly created_at: number
}

/** An ended try of a run. */
export interface PastAttempt {
  readonly attempt: number
  readonly worker_id: string | null
  readonly started_at: number | null
  readonly finished_at: number
  readonly error: RunError | null
}

/** Row of `task_run`, with its rows of `run_step`; for a series of skipped occurrences `skipped` says which. */
export interface PastRun {
  readonly id: string
  readonly task_id: string
  readonly key: string
  readonly trigger: NewWork["trigger"]
  readonly state: "succeeded" | "failed" | "canceled" | "skipped"
  readonly scheduled_for: number
  readonly due_at: number
  readonly attempt: number
  readonly attempts: ReadonlyArray<PastAttempt>
  readonly lease_no: number
  readonly crashes: number
  readonly started_at: number | null
  readonly finished_at: number
  readonly error: RunError | null
  readonly skip_reason: string | null
  readonly skipped: { readonly from: number; readonly to: number; readonly count: number | null } | null
  readonly steps: ReadonlyArray<StepRecord>
}

/** What `live_step` and `pending_item` hold of one run, by the rest of their keys. */
export interface Live {
  readonly steps: Map<string, StepRecord>
  readonly attempts: Map<number, PastAttempt>
  readonly waits: Map<string, Wait & { readonly id: string }>
  failed: RunError | null
}

/** Told of every change that a statement makes, as it makes it. */
export interface Watch {
  readonly queued: (row: DueRow) => void
  readonly leased: (row: DueRow) => void
  /** A settlement that was written, before its row changes. */
  readonly settled: (row: DueRow, settlement: Settlement) => void
  /** Steps that are stored under a lease that holds. */
  readonly recorded: (row: DueRow, steps: ReadonlyArray<StepRecord>) => void
  readonly rescued: (row: DueRow, holder: string, crashed: boolean) => void
  readonly ended: (run: PastRun) => void
  readonly cursor: (before: ScheduledTask, after: ScheduledTask) => void
}

/** The tables of the store that runs go through. */
export interface Tables {
  readonly tasks: Map<string, ScheduledTask>
  /** By `<task id>:<version>`. */
  readonly plans: Map<string, Plan>
  readonly dueWork: Map<string, DueRow>
  /** The unique index of `due_work` on task and key: the run's id. */
  readonly keys: Map<string, string>
  readonly occurrences: Map<string, { readonly run_id: string; readonly input: JsonValue }>
  readonly live: Map<string, Live>
  readonly history: Array<PastRun>
  readonly slots: Map<string, { limit: number; in_use: number }>
  readonly heartbeats: Map<
    string,
    {
      readonly program: "worker" | "scheduler"
      readonly last_seen: number
      readonly seen_before: number | null
      making_room_until: number | null
    }
  >
  /** Run ids by the state that they came to, in the order in which it was told. */
  readonly outbox: Array<{ readonly run_id: string; readonly state: string }>
  readonly watch: Watch
  readonly leaseMillis: number
  /** Whether the way to the first ready row is found to be long. */
  readonly cluttered: () => boolean
  /** A new id at an instant. */
  readonly newId: (now: number) => string
}

const ignore = () => undefined

/** Nobody is told. */
export const unwatched: Watch = {
  queued: ignore,
  leased: ignore,
  settled: ignore,
  recorded: ignore,
  rescued: ignore,
  ended: ignore,
  cursor: ignore
}

export const emptyTables = (with_: Pick<Tables, "watch" | "leaseMillis" | "cluttered" | "newId">): Tables => ({
  ...with_,
  tasks: new Map(),
  plans: new Map(),
  dueWork: new Map(),
  keys: new Map(),
  occurrences: new Map(),
  live: new Map(),
  history: [],
  slots: new Map(),
  heartbeats: new Map(),
  outbox: []
})

/** What is kept of an unfinished run, made where it is not there yet. */
export const liveOf = (tables: Tables, id: string): Live => {
  const live = tables.live.get(id) ?? { steps: new Map(), attempts: new Map(), waits: new Map(), failed: null }
  tables.live.set(id, live)
  return live
}

/** What two columns make one key of. */
export const pair = (one: string, other: string) => `${one}|${other}`

/** The order in which runs are leased: by rank, age, and id. */
export const inLine = (a: DueRow, b: DueRow) =>
  a.rank - b.rank || a.due_at - b.due_at || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)

/** The rows that a condition picks, in the order of `inLine`. */
export const rowsWhere = (tables: Tables, holds: (row: DueRow) => boolean): Array<DueRow> => {
  const found: Array<DueRow> = []
  for (const row of tables.dueWork.values()) if (holds(row)) found.push(row)
  return found.length > 1 ? found.sort(inLine) : found
}

/** Whether an unfinished run of the same task, backfills aside, came before. */
export const hasElder = (tables: Tables, row: DueRow) => {
  for (const one of tables.dueWork.values()) {
    if (one.task_id === row.task_id && one.id < row.id && one.backfill_id === null) return true
  }
  return false
}

const instant = (at: number) => DateTime.unsafeMake(at)
const instantOrNull = (at: number | null) => (at === null ? null : DateTime.unsafeMake(at))

/** A leased row as its worker gets it. */
export const workOf = (row: DueRow): DueWork =>
  new DueWork(
    {
      id: RunId.make(row.id, true),
      task_id: TaskId.make(row.task_id, true),
      task_version: row.task_version,
      agent_id: AgentId.make(row.agent_id, true),
      namespace: row.namespace,
      trigger: row.trigger,
      key: row.key,
      scheduled_for: instant(row.scheduled_for),
      due_at: instant(row.due_at),
      priority: row.priority,
      lease_no: row.lease_no,
      attempt: row.attempt,
      signals: row.signals,
      crashes: row.crashes,
      cancel_requested_at: instantOrNull(row.cancel_requested_at),
      started_at: instant(row.started_at ?? 0),
      attempt_started_at: instant(row.attempt_started_at ?? 0),
      spent_ms: row.spent_ms,
      deadline_at: instantOrNull(row.deadline_at),
      start_by: instantOrNull(row.start_by),
      event_id: row.event_id,
      parent_run_id: null,
      hops: row.hops,
      traceparent: row.traceparent,
      created_at: instant(row.created_at)
    },
    true
  )
