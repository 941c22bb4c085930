import { DateTime } from "effect"
import type { Machine, VirtualTime } from "./Machine.ts"
import { pair } from "./TwinTables.ts"
import type { StepRecord } from "../../src/domain/Settlement.ts"
import type { DueRow, PastRun, Watch } from "./TwinTables.ts"

/** One call of a tool, as the tool saw it. */
export interface Called {
  readonly number: number
  readonly at: number
  readonly run: string
  readonly step: string
  readonly key: string
  readonly lease: number
  readonly machine: Machine
  end: "going on" | "done" | "failed" | "interrupted"
}

/** What is known of a run from the outside: never read from the tables. */
interface Known {
  readonly row: DueRow
  leases: number
  open: { readonly no: number; readonly worker: string; readonly at: number } | null
  failures: number
  /** What a backoff put the next lease off to. */
  notBefore: number
  crashes: number
  end: string | null
  /** The lease under which the end of a step was stored, and the end. */
  readonly stored: Map<string, { readonly lease: number; readonly state: string }>
}

/** How long after a freeze a process may still do what it was about to. */
const wakingUp = 1000

/**
 * Follows all that happens and objects at once where it must not. It keeps its own books, so that a broken store cannot hide
 * behind its tables.
 */
export class Witness implements Watch {
  readonly violations: Array<string> = []
  readonly trace: Array<string> = []
  readonly calls: Array<Called> = []
  readonly runs = new Map<string, Known>()
  readonly keys = new Map<string, string>()
  readonly workers = new Map<string, Machine>()
  /** The overlap policies of tasks. */
  readonly overlap = new Map<string, string>()
  readonly limits: ReadonlyMap<string, number>
  /** Whether a process was unable to renew for a while, by the world's knowledge. */
  readonly #unwell: (machine: Machine) => boolean
  readonly #time: VirtualTime
  readonly #inUse = new Map<string, number>()
  readonly #going = new Set<Called>()

  constructor(time: VirtualTime, limits: ReadonlyMap<string, number>, unwell: (machine: Machine) => boolean) {
    this.#time = time
    this.limits = limits
    this.#unwell = unwell
  }

  note(what: string) {
    this.trace.push(`${new Date(this.#time.now).toISOString().slice(11, 23)} ${what}`)
  }

  object(what: string) {
    this.violations.push(what)
    this.note(`VIOLATION ${what}`)
  }

  name(worker: string | null) {
    return this.workers.get(worker ?? "")?.name ?? "nobody"
  }

  readonly queued = (row: DueRow) => {
    this.note(`queued ${short(row.id)} ${row.key} of ${short(row.task_id)} ${row.state}`)
    const key = pair(row.task_id, row.key)
    if (this.keys.has(key)) this.object(`I1 ${row.key} is decided a second time`)
    this.keys.set(key, row.id)
    if (this.runs.has(row.id)) this.object(`I5 run ${short(row.id)} is queued twice`)
    if (row.trigger === "schedule" && this.overlap.get(row.task_id) === "skip" && this.#unfinished(row.task_id))
      this.object(`${row.key} of ${short(row.task_id)} overlaps`)
    const fresh = {
      leases: 0,
      open: null,
      failures: 0,
      notBefore: 0,
      crashes: 0,
      started: null,
      end: null,
      stored: new Map()
    }
    this.runs.set(row.id, { row, ...fresh })
  }

  #unfinished(task: string) {
    for (const { end, row } of this.runs.values()) if (row.task_id === task && end === null) return true
    return false
  }

  readonly leased = (row: DueRow) => {
    const known = this.#known(row.id)
    const worker = row.locked_by ?? ""
    this.note(`leased ${short(row.id)} no ${row.lease_no} by ${this.name(worker)}, attempt ${row.attempt}`)
    if (known === undefined) return
    if (known.end !== null) this.object(`I5 run ${short(row.id)} is leased after its end`)
    if (known.open !== null) this.object(`I4 run ${short(row.id)} is leased while lease ${known.open.no} holds`)
    if (row.lease_no !== known.leases + 1) this.object(`I4 lease ${row.lease_no} follows ${known.leases}`)
    if (row.attempt !== known.failures + 1)
      this.object(`I5 run ${short(row.id)}: attempt ${row.attempt} after ${known.failures} failures`)
    if (this.#time.now < row.due_at || (row.started_at ?? 0) < row.due_at)
      this.object(`I3 run ${short(row.id)} starts before it is due`)
    if (this.#time.now < known.notBefore && row.cancel_requested_at === null)
      this.object(`run ${short(row.id)} is leased before its backoff is over`)
    known.leases = row.lease_no
    known.open = { no: row.lease_no, worker, at: this.#time.now }
    this.#take(row, 1)
    const key = row.concurrency_key
    if (key !== null && (this.#inUse.get(key) ?? 0) > (this.limits.get(key) ?? Infinity))
      this.object(`I7 ${this.#inUse.get(key)} runs hold ${key}`)
    this.#nobodyElse(row.id, row.lease_no)
  }

  /** A process in good order does not work on a run any more when its lease is over. */
  #nobodyElse(run: string, lease: number) {
    for (const call of this.#going) {
      if (call.run === run && call.lease < lease && this.#healthy(call.machine))
        this.object(`I4 ${call.machine.name} still works on lease ${call.lease} of ${short(run)}`)
    }
  }

  #suspect(...runs: ReadonlyArray<string>) {
    return runs.some((run) => (this.runs.get(run)?.crashes ?? 0) >= 2)
  }

  #healthy({ since, state }: Machine) {
    return state === "running" && since + wakingUp < this.#time.now
  }

  #take({ concurrency_key: key }: DueRow, n: 1 | -1) {
    if (key !== null) this.#inUse.set(key, (this.#inUse.get(key) ?? 0) + n)
  }

  #known(run: string) {
    const known = this.runs.get(run)
    if (known === undefined) this.object(`run ${short(run)} was never queued`)
    return known
  }

  readonly settled: Watch["settled"] = (row, settlement) => {
    const { outcome, steps } = settlement
    const { lease_no } = settlement.work
    const known = this.#known(row.id)
    this.note(
      `settled ${short(row.id)} no ${lease_no} ${outcome} [${steps.map((s) => `${s.step_id} ${s.state}`).join(", ")}]`
    )
    if (known === undefined) return
    if (known.open?.no !== lease_no)
      this.object(`I4 stale lease ${lease_no} of ${short(row.id)} is settled as ${outcome}`)
    known.open = null
    this.#take(row, -1)
    if (settlement.outcome === "retried") {
      known.failures++
      known.notBefore = settlement.run_at
    }
    this.#store(known, row, lease_no, steps)
  }

  readonly recorded: Watch["recorded"] = (row, steps) => {
    const known = this.#known(row.id)
    this.note(`stored ${short(row.id)} no ${row.lease_no} [${steps.map((s) => `${s.step_id} ${s.state}`).join(", ")}]`)
    if (known === undefined) return
    if (known.open?.no !== row.lease_no)
      this.object(`I4 lease ${row.lease_no} of ${short(row.id)}, which is over, stores steps`)
    this.#store(known, row, row.lease_no, steps)
  }

  /** An answer that is lost makes its worker store a step again, under the same lease; no other may. */
  #store(known: Known, row: DueRow, lease: number, steps: ReadonlyArray<StepRecord>) {
    for (const { state, step_id } of steps) {
      if (state === "running" || state === "waiting" || state === "canceled") continue
      const under = known.stored.get(step_id)
      if (under !== undefined && under.lease !== lease && under.state === "succeeded")
        this.object(`I6 step ${step_id} of ${short(row.id)} is stored twice`)
      known.stored.set(step_id, { lease, state })
    }
  }

  readonly rescued = (row: DueRow, holder: string, crashed: boolean) => {
    const known = this.#known(row.id)
    this.note(`rescued ${short(row.id)} no ${row.lease_no} from ${this.name(holder)}${crashed ? ", a crash" : ""}`)
    if (known === undefined) return
    if (known.open === null) this.object(`I4 run ${short(row.id)} is rescued without a lease`)
    known.open = null
    this.#take(row, -1)
    if (!crashed) return
    known.crashes++
    const machine = this.workers.get(holder)
    if (machine !== undefined && !this.#unwell(machine))
      this.object(`a crash is counted though ${machine.name} was well`)
  }

  /** A process has stopped in good order: it holds no lease that it got since an instant. */
  readonly stopped = (machine: Machine, since: number) => {
    for (const [id, { open }] of this.runs) {
      if (open !== null && open.at >= since && this.workers.get(open.worker) === machine)
        this.object(`${machine.name} has stopped and keeps lease ${open.no} of ${short(id)}`)
    }
  }

  readonly ended = (run: PastRun) => {
    this.note(`ended ${short(run.id)} ${run.state} ${run.error?.code ?? run.skip_reason ?? ""}`)
    if (run.skipped !== null) return
    const known = this.#known(run.id)
    if (known === undefined) return
    if (known.end !== null) this.object(`I5 run ${short(run.id)} ends a second time`)
    if (known.open !== null) this.object(`I4 run ${short(run.id)} ends under lease ${known.open.no}`)
    if (run.crashes !== known.crashes)
      this.object(`run ${short(run.id)} tells ${run.crashes} crashes of ${known.crashes}`)
    known.end = JSON.stringify(run)
    this.#nobodyElse(run.id, run.state === "succeeded" ? run.lease_no : run.lease_no + 1)
  }

  readonly cursor: Watch["cursor"] = (before, after) => {
    const [from, to] = [before.decided_through, after.decided_through].map(DateTime.toEpochMillis)
    if (from !== undefined && to !== undefined && to < from)
      this.object(`I8 the cursor of ${short(after.id)} goes back`)
    if (after.quarantined_at !== null) this.object(`task ${short(after.id)} is set aside: ${after.quarantine_reason}`)
  }

  /** A tool is called. */
  called(call: Omit<Called, "number" | "at" | "end">): Called {
    const made: Called = { ...call, number: this.calls.length, at: this.#time.now, end: "going on" }
    this.note(`${call.machine.name} calls ${call.step} of ${short(call.run)} under lease ${call.lease}`)
    const known = this.#known(call.run)
    const before = this.calls.find(({ run, step }) => run === call.run && step === call.step)
    if (before !== undefined && before.key !== call.key) this.object(`I6 step ${call.step} changes its key`)
    const stored = known?.stored.get(call.step)
    if (stored?.state === "succeeded" && stored.lease <= call.lease)
      this.object(`I6 step ${call.step} of ${short(call.run)} is called though it is stored`)
    for (const earlier of this.calls) {
      if (
        earlier.run === call.run &&
        earlier.step < call.step &&
        earlier.end === "done" &&
        !known?.stored.has(earlier.step)
      )
        this.object(`I6 ${call.step} of ${short(call.run)} is called before ${earlier.step} is stored`)
    }
    if (known?.open?.no !== call.lease && this.#healthy(call.machine))
      this.object(
        `I4 ${call.machine.name} calls ${call.step} of ${short(call.run)} under lease ${call.lease}, which is over`
      )
    for (const other of this.#going) {
      if (other.machine === call.machine && other.run !== call.run && this.#suspect(other.run, call.run))
        this.object(`${call.machine.name} runs a suspect beside another: ${short(other.run)} and ${short(call.run)}`)
    }
    this.calls.push(made)
    this.#going.add(made)
    return made
  }

  returned(call: Called, end: Called["end"]) {
    call.end = end
    this.#going.delete(call)
  }
}

/** The end of an id, enough to tell it from others. */
export const short = (id: string) => id.slice(9, 18)
