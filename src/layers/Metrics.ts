import { Metric, MetricBoundaries, MetricLabel } from "effect"

/** What the docs say of a metric. Labels come from closed sets: no id is ever a label. */
export interface Definition {
  readonly name: string
  readonly type: "counter" | "gauge" | "histogram"
  readonly labels: ReadonlyArray<string>
  readonly meaning: string
}

const table: Array<Definition> = []

/** Every metric, in the order of this file. */
export const definitions: ReadonlyArray<Definition> = table

/** A metric whose label values are given at each update: `add` counts, observes or sets. */
interface Labeled<L extends string> {
  readonly add: (value: number, labels: Readonly<Record<L, string>>) => void
}

const labeled = <L extends string>(
  type: Definition["type"],
  metric: (name: string) => {
    readonly unsafeUpdate: (input: number, tags: ReadonlyArray<MetricLabel.MetricLabel>) => void
  },
  name: string,
  labels: ReadonlyArray<L>,
  meaning: string
): Labeled<L> => {
  table.push({ name, type, labels, meaning })
  const made = metric(name)
  // To look a metric up by its labels costs more than to update it.
  const known = new Map<string, ReadonlyArray<MetricLabel.MetricLabel>>()
  return {
    add: (value, values) => {
      const key = labels.map((label) => values[label]).join()
      const tags = known.get(key) ?? labels.map((label) => MetricLabel.make(label, values[label]))
      known.set(key, tags)
      made.unsafeUpdate(value, tags)
    }
  }
}

const counter = <L extends string = never>(name: string, labels: ReadonlyArray<L>, meaning: string) =>
  labeled("counter", (key) => Metric.counter(key, { description: meaning, incremental: true }), name, labels, meaning)

const gauge = <L extends string = never>(name: string, labels: ReadonlyArray<L>, meaning: string) =>
  labeled("gauge", (key) => Metric.gauge(key, { description: meaning }), name, labels, meaning)

/** 1 ms to 4 minutes, each bound twice the last. */
const seconds = MetricBoundaries.exponential({ start: 0.001, factor: 2, count: 20 })
const rows = MetricBoundaries.exponential({ start: 1, factor: 2, count: 12 })

const histogram = <L extends string = never>(
  name: string,
  labels: ReadonlyArray<L>,
  meaning: string,
  boundaries = seconds
) => labeled("histogram", (key) => Metric.histogram(key, boundaries, meaning), name, labels, meaning)

export const scheduleLag = histogram(
  "ordinaut_schedule_lag_seconds",
  ["trigger"],
  "From the due instant of an occurrence to its decision."
)
export const queueWait = histogram(
  "ordinaut_queue_wait_seconds",
  ["trigger"],
  "From the due instant of a run to its first start."
)
export const tickDuration = histogram(
  "ordinaut_tick_duration_seconds",
  [],
  "One pass of a scheduler that found due tasks."
)
export const tickOccurrences = histogram(
  "ordinaut_tick_occurrences",
  [],
  "Occurrences that one pass of a scheduler decided.",
  rows
)
export const occurrences = counter(
  "ordinaut_occurrences_total",
  ["decision"],
  "Decided occurrences: fired, or the reason of the skip."
)
export const rescheduled = counter(
  "ordinaut_rescheduled_tasks_total",
  [],
  "Tasks whose next occurrence new zone data moved."
)
export const runs = counter("ordinaut_runs_total", ["state", "trigger"], "Runs that ended.")
export const runDuration = histogram(
  "ordinaut_run_duration_seconds",
  ["state", "trigger"],
  "From the first start of a run to its end."
)
export const steps = counter("ordinaut_steps_total", ["tool_kind", "outcome"], "Steps that ended.")
export const stepDuration = histogram(
  "ordinaut_step_duration_seconds",
  ["tool_kind", "outcome"],
  "From the start of a step to its end."
)
export const toolCalls = counter(
  "ordinaut_tool_calls_total",
  ["tool_kind", "outcome"],
  "Calls of tools, each retry counted."
)
export const dueWork = gauge("ordinaut_due_work", ["state"], "Unfinished runs, by the state of their row.")
export const oldestReady = gauge(
  "ordinaut_oldest_ready_seconds",
  ["priority"],
  "Age of the oldest run that is ready and waits for a worker."
)
export const leases = counter(
  "ordinaut_leases_total",
  ["end"],
  "Leases, by how they ended: settled, retried, released, parked, lost, rescued."
)
export const turnDuration = histogram(
  "ordinaut_turn_duration_seconds",
  [],
  "One statement of a worker that settles and leases."
)
export const turnRows = histogram("ordinaut_turn_rows", [], "Rows that one turn settled and leased.", rows)
export const workers = gauge("ordinaut_workers", [], "Workers with a fresh heartbeat.")
export const schedulers = gauge("ordinaut_schedulers", [], "Schedulers with a fresh heartbeat.")
export const waitingRuns = gauge(
  "ordinaut_waiting_runs",
  ["kind"],
  "What unfinished runs wait for: external workers (tool), approvals, times and pauses (wait), events, child runs."
)
export const quarantinedTasks = gauge(
  "ordinaut_quarantined_tasks",
  [],
  "Active tasks that the scheduler had to set aside."
)
export const outboxLag = gauge(
  "ordinaut_outbox_lag_seconds",
  [],
  "Age of the oldest state change that is not on the stream yet."
)
export const outboxRows = gauge("ordinaut_outbox_rows", [], "Batches of state changes that are not on the stream yet.")
export const httpRequests = counter("ordinaut_http_requests_total", ["method", "route", "status"], "Answered requests.")
export const httpDuration = histogram(
  "ordinaut_http_request_duration_seconds",
  ["method", "route", "status"],
  "From a request's arrival to its answer."
)
export const openStreams = gauge("ordinaut_open_streams", [], "Event streams (Server-Sent Events) that are open.")
export const authFailures = counter(
  "ordinaut_auth_failures_total",
  ["reason"],
  "Refused credentials: absent, malformed, unknown, expired, disabled, revoked."
)
export const rateLimited = counter(
  "ordinaut_rate_limited_total",
  ["scope"],
  "Requests over a limit: of their agent, of their address, or of failed authentications."
)
export const budgetExceeded = counter(
  "ordinaut_budget_exceeded_total",
  ["reason"],
  "Calls of tools that a budget did not allow, by what was used up: calls, seconds, bytes."
)
export const auditChainOk = gauge(
  "ordinaut_audit_chain_ok",
  [],
  "1 while the audit trail holds as far as it was verified, 0 from the first broken link on."
)
export const ingress = counter(
  "ordinaut_ingress_events_total",
  ["outcome"],
  "Entries of the ingress stream: accepted, or dead letters."
)
export const redisUp = gauge("ordinaut_redis_up", [], "1 while Redis answers.")
export const clockError = gauge(
  "ordinaut_clock_error_seconds",
  [],
  "Error bound of the clock: half the round trip of its last sample."
)
export const tzdataInfo = gauge(
  "ordinaut_tzdata_info",
  ["version"],
  "Always 1; the label is the version of the zone data."
)
export const buildInfo = gauge(
  "ordinaut_build_info",
  ["version", "node"],
  "Always 1; the labels are the versions of the product and of Node."
)
