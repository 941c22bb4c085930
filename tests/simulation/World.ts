import type { Fiber } from "effect"
import { FiberId, GlobalValue } from "effect"
import { millisOf } from "../../src/layers/TaskRows.ts"
import { seeded } from "./Chance.ts"
import type { Chance } from "./Chance.ts"
import { wayToStore } from "./Faults.ts"
import type { Weather } from "./Faults.ts"
import { VirtualTime } from "./Machine.ts"
import type { Machine } from "./Machine.ts"
import { act, answerSome } from "./Owner.ts"
import { judge } from "./Oracle.ts"
import type { Known } from "./Oracle.ts"
import * as Processes from "./Processes.ts"
import { limits, makeTask } from "./Scenario.ts"
import type { Size } from "./Scenario.ts"
import { addTask, idsOf, owners } from "./TwinSetup.ts"
import { emptyTables } from "./TwinTables.ts"
import * as Tasks from "./TwinTasks.ts"
import { short, Witness } from "./Witness.ts"

/** What became of a world. */
export interface Outcome {
  readonly seed: number
  readonly violations: ReadonlyArray<string>
  readonly trace: ReadonlyArray<string>
  readonly runs: number
  readonly faults: number
  /** Virtual seconds that passed in it. */
  readonly seconds: number
}

interface Process {
  readonly program: "worker" | "scheduler"
  readonly name: string
  machine: Machine
  fiber: Fiber.RuntimeFiber<void>
  starts: number
}

/** A Monday morning. */
const morning = Date.UTC(2026, 2, 2, 9, 0, 0)
/** After a storm a run may wait this long for leases that expire, backoffs, suspects, and slow tools; milliseconds. */
const longestWait = 180_000

/** Runs the world of a seed to its end, and judges it. Takes no time but that of the processor. */
export const run = (seed: number, size: Size): Outcome => {
  const real = performance.now
  const others = new Set(fibers.roots)
  const world = new World(seed, size)
  // The product reads the monotonic clock of its process, which here is the world's.
  performance.now = () => world.time.now - morning
  try {
    return world.run()
  } finally {
    performance.now = real
    for (const fiber of fibers.roots) if (!others.has(fiber)) fibers.roots.delete(fiber)
  }
}

/**
 * What the runtime keeps of fibers until they end. Those of a dead process never do: each world would stay in memory, and more and more
 * time go into looking through them all.
 */
const fibers = GlobalValue.globalValue(Symbol.for("effect/FiberScope/Global"), () => ({ roots: new Set<unknown>() }))

class World {
  readonly seed: number
  readonly chance: Chance
  readonly time: VirtualTime
  readonly size: Size
  readonly #witness: Witness
  readonly #weather: Weather
  readonly #fleet: Processes.Fleet
  readonly #processes: Array<Process> = []
  readonly #known: ReadonlyArray<Known>
  #faults = 0

  constructor(seed: number, size: Size) {
    const chance = seeded(seed)
    const deadly = chance.maybe(0.5)
    const leaseSeconds = chance.pick([6, 6, 9, 15])
    const start = morning + chance.int(0, 120_000)
    this.seed = seed
    this.size = size
    this.chance = chance
    this.time = new VirtualTime(start, chance)
    this.#weather = { stormy: true, downUntil: 0, cutOff: new Map(), stuck: new Map(), waiting: new Set(), deadly }
    this.#witness = new Witness(this.time, limits, (machine) => this.#unwell(machine, leaseSeconds))
    const tables = emptyTables({
      watch: this.#witness,
      leaseMillis: leaseSeconds * 1000,
      cluttered: () => chance.maybe(0.1),
      newId: idsOf(chance.bytes(10))
    })
    this.#fleet = {
      tables,
      witness: this.#witness,
      chance,
      kill: (machine) => this.#kill(machine),
      wakeups: new Map(),
      settings: new Map([
        ["LEASE_SECONDS", String(leaseSeconds)],
        ["WORKER_CONCURRENCY", String(chance.pick([1, 3, 50]))],
        ["SHUTDOWN_GRACE_SECONDS", String(chance.int(0, 5))]
      ])
    }
    this.#known = Array.from({ length: chance.int(...size.tasks) }, () => {
      const made = makeTask(chance, start, deadly)
      const { id } = addTask(tables, made.create, start, chance.maybe(0.5) ? owners[0] : owners[chance.int(1, 2)])
      this.#witness.overlap.set(id, made.create.overlap_policy)
      return { ...made, id, createdAt: start }
    })
    for (let i = chance.int(1, size.schedulers); i > 0; i--) this.#add("scheduler", `s${i}`)
    for (let i = chance.int(1, size.workers); i > 0; i--) this.#add("worker", `w${i}`)
  }

  run(): Outcome {
    const start = this.time.now
    this.#answers()
    try {
      this.#storm(this.time.now + this.chance.int(...this.size.seconds) * 1000)
      this.#calm()
      judge(this.#fleet.tables, this.#witness, this.#known)
    } catch (thrown) {
      this.#witness.object(thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown))
    }
    const { trace, violations } = this.#witness
    const seconds = (this.time.now - start) / 1000
    return { seed: this.seed, violations, trace, runs: this.#witness.runs.size, faults: this.#faults, seconds }
  }

  #add(program: Process["program"], name: string) {
    const machine = this.time.machine(`${name}.1`)
    this.#processes.push({ program, name, machine, fiber: this.#launch(program, machine), starts: 1 })
  }

  #launch(program: Process["program"], machine: Machine) {
    const way = wayToStore(this.time, this.chance, this.#weather, machine, (one) => this.#kill(one))
    return Processes.start(this.#fleet, program, machine, way)
  }

  #restart(process: Process) {
    process.starts++
    process.machine = this.time.machine(`${process.name}.${process.starts}`)
    this.#witness.note(`${process.machine.name} starts`)
    process.fiber = this.#launch(process.program, process.machine)
  }

  #kill(machine: Machine) {
    if (machine.state === "dead") return
    this.#faults++
    this.#witness.note(`${machine.name} is killed`)
    machine.kill()
    const process = this.#processes.find((one) => one.machine === machine)
    if (process !== undefined) this.time.plan(this.chance.int(0, 6000), () => this.#restart(process))
  }

  /** A process that was dead, frozen or cut off within the last lease may have been unable to renew. */
  #unwell(machine: Machine, leaseSeconds: number) {
    const lately = this.time.now - 2 * leaseSeconds * 1000
    return (
      machine.state !== "running" ||
      machine.since > lately ||
      (this.#weather.cutOff.get(machine) ?? 0) > lately ||
      (this.#weather.stuck.get(machine) ?? 0) > lately ||
      this.#weather.downUntil > lately
    )
  }

  #answers() {
    answerSome(this.#fleet.tables, this.#witness, this.chance)
    this.time.plan(this.chance.int(100, 3000), () => this.#answers())
  }

  #storm(end: number) {
    const next = () => {
      if (this.time.now >= end) return
      this.#mishap()
      this.time.plan(this.chance.int(200, 3500), next)
    }
    this.time.plan(this.chance.int(0, 3000), next)
    this.time.runUntil(end)
  }

  #mishap() {
    const { chance, time } = this
    const process = this.#processes[chance.int(0, this.#processes.length - 1)]
    const task = this.#known[chance.int(0, this.#known.length - 1)]
    if (process === undefined || task === undefined) return
    const { machine } = process
    const dice = chance.unit()
    this.#faults++
    if (dice < 0.15) {
      if (this.#weather.deadly) this.#kill(machine)
    } else if (dice < 0.3) {
      if (machine.state !== "running") return
      this.#witness.note(`${machine.name} freezes`)
      machine.freeze()
      time.plan(chance.maybe(0.5) ? chance.int(10, 3000) : chance.int(5000, 25_000), () => this.#thaw(machine))
    } else if (dice < 0.4) {
      const until = time.now + chance.int(1000, 20_000)
      this.#witness.note(`${machine.name} is cut off until ${new Date(until).toISOString().slice(11, 23)}`)
      this.#weather.cutOff.set(machine, until)
    } else if (dice < 0.47) {
      this.#weather.downUntil = time.now + chance.int(200, 9000)
      this.#witness.note(`the store is away until ${new Date(this.#weather.downUntil).toISOString().slice(11, 23)}`)
    } else if (dice < 0.6) this.#deploy(process)
    else act(this.#fleet.tables, this.#witness, chance, task.id, time.now)
  }

  #thaw(machine: Machine) {
    if (machine.state === "frozen") this.#witness.note(`${machine.name} thaws`)
    machine.thaw()
  }

  /** SIGTERM, and a new process as soon as the old one has ended. */
  #deploy(process: Process, stopped: () => void = () => undefined) {
    const { fiber, machine } = process
    if (machine.state !== "running" || this.#stopping.has(machine)) return
    this.#stopping.add(machine)
    this.#witness.note(`${machine.name} is asked to stop`)
    fiber.addObserver(() => {
      if (machine.state === "dead") return
      this.#witness.note(`${machine.name} has stopped`)
      stopped()
      machine.kill()
      this.time.plan(this.chance.int(0, 1000), () => this.#restart(process))
    })
    fiber.unsafeInterruptAsFork(FiberId.none)
  }
  readonly #stopping = new Set<Machine>()

  /** In calm weather a worker that is asked to stop hands all back that it holds. */
  #stopOne(calmSince: number) {
    const process = this.#processes.find(({ machine, program }) => program === "worker" && machine.state === "running")
    if (process === undefined) return
    const { machine } = process
    let stopped = false
    this.#deploy(process, () => {
      stopped = true
    })
    if (!this.time.runUntil(this.time.now + 8000, () => machine.state === "dead"))
      this.#witness.object(`${machine.name} does not stop`)
    // A tool may have killed it meanwhile.
    if (stopped) this.#witness.stopped(machine, calmSince)
    this.time.runUntil(this.time.now + 2000)
  }

  /** No more faults: what is due must be decided within seconds, and when nothing new comes every run must end. */
  #calm() {
    const { tables } = this.#fleet
    this.#witness.note("calm")
    this.#weather.stormy = false
    for (const giveUp of this.#weather.waiting) giveUp()
    for (const { machine } of this.#processes) this.#thaw(machine)
    this.time.runUntil(this.time.now + 20_000, () =>
      this.#processes.every(({ machine }) => machine.state === "running")
    )
    const calmSince = this.time.now
    this.time.runUntil(calmSince + 4000)
    if (this.chance.maybe(0.3)) this.#stopOne(calmSince)
    for (const { id, next_due_at, quarantined_at, status } of tables.tasks.values()) {
      const due = millisOf(next_due_at)
      if (status === "active" && quarantined_at === null && due !== null && due < this.time.now - 2500)
        this.#witness.object(`I2 ${short(id)} is due since ${new Date(due).toISOString()}`)
      Tasks.pause(tables, id)
    }
    for (let ended = -1; tables.dueWork.size > 0 && tables.history.length > ended;) {
      ended = tables.history.length
      this.time.runUntil(this.time.now + longestWait, () => tables.dueWork.size === 0)
    }
  }
}
