import { Schema } from "effect"
import { TaskCreate } from "../../src/domain/Task.ts"
import type { Chance } from "./Chance.ts"

/** A schedule with what it means, told by arithmetic on whole seconds and not by the product's own reading. */
export interface Meant {
  readonly fields: Record<string, unknown>
  /** Whether the schedule contains a whole second (epoch milliseconds). */
  readonly contains: (at: number) => boolean
}

/** A task of a world. */
export interface Made {
  readonly create: TaskCreate
  readonly meant: Meant
}

/** How large worlds are: upper bounds, and seconds of storm. */
export interface Size {
  readonly schedulers: number
  readonly workers: number
  readonly tasks: readonly [number, number]
  readonly seconds: readonly [number, number]
}

export const small: Size = { schedulers: 2, workers: 2, tasks: [3, 4], seconds: [5, 12] }
export const large: Size = { schedulers: 3, workers: 4, tasks: [4, 12], seconds: [60, 240] }

const decode = Schema.decodeUnknownSync(TaskCreate)

const every = (chance: Chance): Meant => {
  const n = chance.pick([2, 3, 5, 7, 10, 15])
  return {
    fields: { schedule_kind: "cron", schedule_expr: `*/${n} * * * * *` },
    contains: (at) => ((at / 1000) % 60) % n === 0
  }
}

const listed = (chance: Chance): Meant => {
  const seconds = [chance.int(0, 19), chance.int(20, 39), chance.int(40, 59)]
  return {
    fields: { schedule_kind: "cron", schedule_expr: `${seconds.join(",")} * * * * *` },
    contains: (at) => seconds.includes((at / 1000) % 60)
  }
}

const ruled = (chance: Chance, start: number): Meant => {
  const n = chance.int(3, 12)
  const first = (Math.floor(start / 1000) + 1 + chance.int(0, 4)) * 1000
  const count = chance.maybe(0.5) ? chance.int(1, 6) : Infinity
  return {
    fields: {
      schedule_kind: "rrule",
      schedule_expr: `FREQ=SECONDLY;INTERVAL=${n}${count === Infinity ? "" : `;COUNT=${count}`}`,
      dtstart: new Date(first).toISOString().slice(0, 19)
    },
    contains: (at) => at >= first && (at - first) % (n * 1000) === 0 && (at - first) / (n * 1000) < count
  }
}

const once = (chance: Chance, start: number): Meant => {
  const only = (Math.floor(start / 1000) + chance.int(1, 20)) * 1000
  return {
    fields: { schedule_kind: "once", schedule_expr: new Date(only).toISOString() },
    contains: (at) => at === only
  }
}

const retries = [
  undefined,
  undefined,
  { max_attempts: 3, backoff_strategy: "fixed", backoff_seconds: 0.2 },
  { max_attempts: 2, backoff_strategy: "fixed", backoff_seconds: 1, on: ["timeout", "tool_connection"] }
] as const

const step = (chance: Chance, index: number, deadly: boolean) => {
  const often = ["prompt", "prompt", "prompt", "slow", "slow", "flaky", "naps", "asks"] as const
  const seldom = ["long", "fails", "hangs", "throws"] as const
  const tool = chance.maybe(0.75) ? chance.pick(often) : deadly && chance.maybe(0.2) ? "kills" : chance.pick(seldom)
  const retry = chance.pick(retries)
  return {
    id: `s${index}`,
    uses: `sim.${tool}`,
    ...(tool === "hangs" ? { timeout_seconds: chance.int(1, 4) } : {}),
    ...(retry === undefined ? {} : { retry }),
    ...(chance.maybe(0.15) ? { on_error: "continue" } : {})
  }
}

/** Pipelines are drawn from a stock: reading one takes longer than a run of it. */
const stock = new Map<string, TaskCreate["payload"]>()

const payloadOf = (pipeline: ReadonlyArray<unknown>): TaskCreate["payload"] => {
  const text = JSON.stringify(pipeline)
  const known = stock.get(text)
  if (known !== undefined) return known
  const { payload } = decode({ title: "a", schedule_kind: "cron", schedule_expr: "* * * * *", payload: { pipeline } })
  stock.set(text, payload)
  return payload
}

const blank = decode({
  title: "a task",
  schedule_kind: "cron",
  schedule_expr: "* * * * *",
  timezone: "UTC",
  payload: { pipeline: [{ uses: "sim.prompt" }] }
})

/** Limits of the concurrency keys that tasks may have. */
export const limits: ReadonlyMap<string, number> = new Map([
  ["one", 1],
  ["two", 2]
])

/** A task with a schedule and policies by chance. */
export const makeTask = (chance: Chance, start: number, deadly: boolean): Made => {
  const dice = chance.unit()
  const meant =
    dice < 0.5 ? every(chance) : dice < 0.65 ? listed(chance) : dice < 0.85 ? ruled(chance, start) : once(chance, start)
  const key = chance.maybe(0.4) ? chance.pick(["one", "two"]) : null
  const { dtstart = null, schedule_expr, schedule_kind } = schedule(meant.fields)
  return {
    meant,
    create: {
      ...blank,
      schedule_kind,
      schedule_expr,
      dtstart,
      payload: payloadOf(Array.from({ length: chance.int(1, 3) }, (_, i) => step(chance, i, deadly))),
      priority: chance.int(1, 9),
      overlap_policy: chance.pick(["allow", "allow", "skip", "queue", "cancel_running"]),
      misfire_policy: chance.pick(["fire_once", "fire_all", "skip"]),
      misfire_grace_seconds: chance.pick([0, 1, 3, 60]),
      jitter_seconds: chance.maybe(0.2) ? chance.int(1, 3) : 0,
      max_retries: chance.int(0, 3),
      backoff_strategy: "exponential_jitter",
      backoff_seconds: chance.pick([0, 0.2, 1]),
      backoff_max_seconds: 4,
      timeout_seconds: chance.pick([5, 30, 3600]),
      deadline_seconds: chance.maybe(0.15) ? chance.int(5, 40) : null,
      start_within_seconds: chance.maybe(0.15) ? chance.int(1, 20) : null,
      max_runs: chance.maybe(0.15) ? chance.int(1, 5) : null,
      dedupe_window_seconds: chance.maybe(0.1) ? chance.int(3, 12) : 0,
      concurrency_key: key,
      concurrency_limit: key === null ? 1 : (limits.get(key) ?? 1)
    }
  }
}

const schedule = Schema.decodeUnknownSync(
  Schema.Struct({
    schedule_kind: Schema.Literal("cron", "rrule", "once"),
    schedule_expr: Schema.String,
    dtstart: Schema.optionalWith(Schema.String, { exact: true })
  })
)
