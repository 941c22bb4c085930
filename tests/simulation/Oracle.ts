import { DateTime } from "effect"
import { dueAt } from "../../src/domain/ScheduleSpec.ts"
import type { ScheduledTask } from "../../src/layers/TaskRows.ts"
import type { Made } from "./Scenario.ts"
import type { PastRun, Tables } from "./TwinTables.ts"
import { short } from "./Witness.ts"
import type { Witness } from "./Witness.ts"

/** The task as it was created, and what its schedule means. */
export interface Known extends Made {
  readonly id: string
  readonly createdAt: number
}

/** What must hold when everything is over: objections go to the witness. */
export const judge = (tables: Tables, witness: Witness, known: ReadonlyArray<Known>) => {
  for (const task of known) judgeSchedule(tables, witness, task)
  for (const run of tables.history) if (run.skipped === null) judgeRun(tables, witness, run, known)
  judgeKept(tables, witness)
  for (const row of tables.dueWork.values()) witness.object(`run ${short(row.id)} never ends: ${row.state}`)
  for (const [key, { in_use }] of tables.slots)
    if (in_use !== 0) witness.object(`I7 ${in_use} slots of ${key} are lost`)
}

/** Whole seconds after `from` up to `to`. */
const seconds = function* (from: number, to: number) {
  for (let at = (Math.floor(from / 1000) + 1) * 1000; at <= to; at += 1000) yield at
}

const judgeSchedule = (tables: Tables, witness: Witness, { createdAt, id, meant }: Known) => {
  const task = tables.tasks.get(id)
  if (task === undefined) return witness.object(`task ${short(id)} is gone`)
  const fired = new Map<number, string>()
  for (const { row } of witness.runs.values()) {
    if (row.task_id !== id || row.trigger !== "schedule") continue
    fired.set(row.scheduled_for, row.id)
    if (!meant.contains(row.scheduled_for) || row.scheduled_for < createdAt)
      witness.object(`I3 ${row.key} is no occurrence of ${short(id)}`)
    if (row.created_at < dueOf(task, meant.contains, row.scheduled_for))
      witness.object(`I3 ${row.key} of ${short(id)} is decided before it is due`)
  }
  const skips = tables.history.flatMap(({ skipped, task_id }) => (task_id === id && skipped !== null ? [skipped] : []))
  const skipped = new Set<number>()
  for (const { count, from, to } of skips) {
    let n = 0
    for (const at of seconds(from - 1, to)) {
      if (!meant.contains(at)) continue
      n++
      if (skipped.has(at) || fired.has(at))
        witness.object(`I2 ${new Date(at).toISOString()} of ${short(id)} is decided twice`)
      skipped.add(at)
    }
    if (n !== count) witness.object(`I2 a series of ${short(id)} counts ${count}, there were ${n}`)
  }
  // What max_runs leaves over is no occurrence any more.
  const last = Math.max(0, ...fired.keys(), ...skipped)
  const through = DateTime.toEpochMillis(task.decided_through)
  const until = task.max_runs !== null ? last : through
  for (const at of seconds(createdAt, until)) {
    if (meant.contains(at) && !fired.has(at) && !skipped.has(at))
      witness.object(`I2 ${new Date(at).toISOString()} of ${short(id)} is neither fired nor skipped`)
  }
  if (last > through) witness.object(`I2 ${short(id)} decided more than its cursor says`)
  if (task.fired_count !== fired.size) witness.object(`I2 ${short(id)} counts ${task.fired_count} of ${fired.size}`)
  if (task.max_runs !== null && fired.size > task.max_runs) witness.object(`${short(id)} fires more than max_runs`)
}

const dueOf = (task: ScheduledTask, contains: (at: number) => boolean, at: number) => {
  let following: number | null = null
  for (const next of seconds(at, at + 61_000)) {
    if (!contains(next)) continue
    following = next
    break
  }
  return dueAt(task.id, at, following, task.jitter_seconds)
}

const judgeRun = (tables: Tables, witness: Witness, run: PastRun, known: ReadonlyArray<Known>) => {
  const seen = witness.runs.get(run.id)
  const name = `run ${short(run.id)}`
  if (seen?.end !== JSON.stringify(run)) witness.object(`I5 ${name} changed after its end`)
  const most = (known.find(({ id }) => id === run.task_id)?.create.max_retries ?? 0) + 1
  if (run.attempt > most) witness.object(`I5 ${name} has ${run.attempt} attempts of ${most}`)
  if (run.attempts.some(({ attempt }, i) => attempt !== i + 1))
    witness.object(`I5 ${name}: attempts do not count up by one`)
  if (run.attempts.length !== run.attempt && run.attempts.length !== run.attempt - 1)
    witness.object(`I5 ${name} tells ${run.attempts.length} of ${run.attempt} attempts`)
  if (run.state === "failed") {
    if (run.error === null) witness.object(`${name} fails without an error`)
    else if (run.error.retryable && run.attempt < most)
      witness.object(`${name} gives up at attempt ${run.attempt} of ${most}`)
    if ((run.error?.code === "poison") !== run.crashes >= 3) witness.object(`${name}: poison at ${run.crashes} crashes`)
  }
  const plan = tables.plans.get(`${run.task_id}:1`)
  for (const step of plan?.pipeline.steps ?? []) {
    if (step.tool === "naps" || step.tool === "asks") continue
    const records = run.steps.filter(({ step_id }) => step_id === step.id)
    if (records.length > 1) witness.object(`I6 ${name} records ${step.id} ${records.length} times`)
    if (run.state === "succeeded" && records.length === 0) witness.object(`I6 ${name} has no record of ${step.id}`)
    for (const { output, state } of records) {
      if (state !== "succeeded") continue
      const truth = witness.calls.some(
        (call) =>
          call.run === run.id &&
          call.step === step.id &&
          call.end === "done" &&
          JSON.stringify({ call: call.number }) === JSON.stringify(output)
      )
      if (!truth) witness.object(`I6 ${name} records a call of ${step.id} that never was`)
    }
  }
}

/** Each run is told once as queued, at most once as running, and once with its end, in this order. */
const judgeKept = (tables: Tables, witness: Witness) => {
  const told = new Map<string, Array<string>>()
  for (const { run_id, state } of tables.outbox) {
    const states = told.get(run_id)
    if (states === undefined) told.set(run_id, [state])
    else states.push(state)
  }
  const ids = new Set<string>()
  for (const run of tables.history) {
    if (ids.has(run.id)) witness.object(`I5 run ${short(run.id)} is in the history twice`)
    ids.add(run.id)
    const started = run.started_at === null ? [] : ["running"]
    const wanted = run.skipped === null ? ["queued", ...started, run.state] : [run.state]
    const got = told.get(run.id) ?? []
    if (got.join() !== wanted.join()) witness.object(`I9 run ${short(run.id)} is told as ${got.join()}`)
  }
  for (const [id, { row }] of witness.runs)
    if (!ids.has(id) && !tables.dueWork.has(id)) witness.object(`run ${short(id)}, ${row.key}, is lost`)
}
