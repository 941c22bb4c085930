import * as SqlClient from "@effect/sql/SqlClient"
import { assert, describe, it as plain, layer } from "@effect/vitest"
import { Clock, DateTime, Effect, Either } from "effect"
import * as Cursor from "../../src/domain/Cursor.ts"
import * as Decision from "../../src/domain/Decision.ts"
import { dueAt } from "../../src/domain/ScheduleSpec.ts"
import type { MisfirePolicy, Task } from "../../src/domain/Task.ts"
import { OverlapPolicy } from "../../src/domain/Task.ts"
import * as TaskSchedule from "../../src/domain/TaskSchedule.ts"
import type { Timeline } from "../../src/domain/Timeline.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { assertAccounted, randomOf } from "../support/accounts.ts"
import type { Account, Regime } from "../support/accounts.ts"
import { admin } from "../support/fixtures.ts"
import { invariantsHold, watched } from "../support/invariants.ts"
import { chooser, randomSchedule } from "../support/randomSchedules.ts"
import { away, create, tickAt } from "../support/schedules.ts"
import { services, start } from "../support/Services.ts"

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

const misfires = ["fire_once", "fire_all", "skip"] as const

const timed = (fields: TaskSchedule.ScheduleFields): Timeline => {
  const plan = Either.getOrThrow(TaskSchedule.read(fields))
  assert.ok(plan._tag === "Timed")
  return plan.timeline
}

/** One task on its own in memory: the domain's decisions, and the cursor that they move. */
class Simulated {
  readonly regimes: Array<Regime> = []
  readonly accounts: Array<Account> = []
  paused = false
  next: number | null = null
  nextDueAt: number | null = null
  decidedThrough = 0
  private readonly id: string
  private readonly createdAt: number
  private readonly random: () => number
  private readonly rules: Pick<Decision.Rules, "overlapPolicy" | "dedupeWindowSeconds">
  private readonly policy: MisfirePolicy
  private readonly grace: number
  private readonly jitter: number
  private timeline: Timeline = { next: () => null }
  private lastFiredFor: number | null = null
  private runsLeft: number | null
  private since = 0

  constructor(id: string, now: number, random: () => number) {
    const { below, chance, one } = chooser(random)
    this.id = id
    this.random = random
    this.createdAt = now
    this.policy = one(misfires)
    this.grace = one([0, 60, 3600])
    this.jitter = one([0, 0, 30, 7200])
    this.runsLeft = chance(0.1) ? 1 + below(300) : null
    this.rules = {
      overlapPolicy: chance(0.5) ? "allow" : one(OverlapPolicy.literals),
      dedupeWindowSeconds: one([0, 0, 0, 3600, 100_000])
    }
    while (!this.adopt(now, undefined));
  }

  /** Takes a new schedule, as a creation or an edit does; false where it is refused. */
  private adopt(now: number, decidedThrough: number | undefined): boolean {
    const { schedule_expr, schedule_kind, timezone } = randomSchedule(this.random, now, 300 * day)
    const fields = {
      kind: schedule_kind,
      expr: schedule_expr,
      timezone,
      dtstart: null,
      createdAt: this.createdAt,
      startsAt: this.random() < 0.1 ? now + Math.floor(this.random() * 60 * day) : null,
      endsAt: this.random() < 0.1 ? now + Math.floor(this.random() * 300 * day) : null
    }
    const cursor = Cursor.start(this.id, fields, {
      now,
      graceSeconds: this.grace,
      jitterSeconds: this.jitter,
      ...(decidedThrough === undefined ? {} : { decidedThrough })
    })
    if (Either.isLeft(cursor)) return false
    if (decidedThrough !== undefined) this.upToNow(now)
    this.close(now)
    this.timeline = timed({ ...fields, countEnd: cursor.right.countEnd })
    this.since = cursor.right.decidedThrough
    this.moveTo(cursor.right.decidedThrough, cursor.right.next, cursor.right.nextDueAt)
    if (this.runsLeft === 0) this.moveTo(now, null, null)
    return true
  }

  private moveTo(through: number, next: number | null, nextDueAt: number | null) {
    if (through < this.decidedThrough) assert.fail(`${this.id}: the cursor goes back`)
    if (next !== null && next <= through) assert.fail(`${this.id}: the next occurrence is decided already`)
    this.decidedThrough = through
    this.next = next
    this.nextDueAt = nextDueAt
  }

  decide(now: number, cause: "misfire" | "paused" | "edited", policy: MisfirePolicy, grace: number) {
    const decision = Decision.decide(
      {
        timeline: this.timeline,
        from: this.next,
        now,
        policy,
        graceSeconds: grace,
        dueAt: (at, following) => {
          const due = dueAt(this.id, at, following, this.jitter)
          return cause === "edited" && at <= now ? Math.min(due, now) : due
        }
      },
      { ...this.rules, unfinished: this.random() < 0.2, lastFiredFor: this.lastFiredFor, runsLeft: this.runsLeft },
      cause
    )
    for (const { dueAt, scheduledFor } of decision.fires) {
      if (dueAt > now || dueAt < scheduledFor) assert.fail(`${this.id}: fires before its time`)
      this.accounts.push({ what: "fired", from: scheduledFor, to: scheduledFor, count: 1 })
    }
    for (const { count, from, reason, to } of decision.skips) this.accounts.push({ what: reason, from, to, count })
    this.lastFiredFor = decision.fires.at(-1)?.scheduledFor ?? this.lastFiredFor
    if (this.runsLeft !== null) this.runsLeft -= decision.fires.length
    const through = decision.next === null ? now : Math.min(now, decision.next - 1)
    this.moveTo(Math.max(this.decidedThrough, through), decision.next, decision.nextDueAt)
  }

  tick(now: number) {
    this.decide(now, "misfire", this.policy, this.grace)
  }

  resume(now: number) {
    this.paused = false
    this.decide(
      now,
      "paused",
      this.random() < 0.3 ? (misfires[Math.floor(this.random() * 3)] ?? "skip") : this.policy,
      this.grace
    )
  }

  private upToNow(now: number) {
    while (this.next !== null && this.next <= now) {
      if (this.paused) this.decide(now, "edited", "skip", -0.001)
      else this.decide(now, "edited", this.policy, this.grace)
    }
  }

  edit(now: number) {
    this.adopt(now, this.decidedThrough)
  }

  /** Ends the present regime: with the last run of `max_runs`, else with all that is decided. */
  close(now: number) {
    if (this.since === 0) return
    const over = this.runsLeft === 0 ? this.accounts.reduce((last, { to }) => Math.max(last, to), 0) : now
    this.regimes.push({ timeline: this.timeline, after: this.since, through: Math.min(now, over) })
  }
}

describe("a simulated year", () => {
  plain("decides every occurrence of a thousand schedules exactly once, over downtimes, pauses and edits", () => {
    const random = randomOf(20_260_302)
    const { below, chance } = chooser(random)
    const end = start + 365 * day
    const downtimes = Array.from({ length: 25 }, () => {
      const from = start + Math.floor(random() * 365 * day)
      return [from, from + Math.floor(10 ** (random() * 4.5) * minute)] as const
    })
    const up = (at: number): number => {
      const down = downtimes.find(([from, to]) => from <= at && at < to)
      return down === undefined ? at : up(down[1])
    }
    let occurrences = 0
    let fired = 0
    for (let n = 0; n < 1000; n++) {
      const task = new Simulated(`task ${n}`, start + below(30) * day, random)
      const disturbances = Array.from(
        { length: below(8) },
        () => start + 30 * day + Math.floor(random() * 335 * day)
      ).sort()
      for (let at = start; at < end;) {
        const disturbance = disturbances[0] ?? end
        const tick =
          task.paused || task.nextDueAt === null ? Infinity : up(task.nextDueAt + (chance(0.9) ? 0 : below(90_000)))
        at = Math.min(tick, disturbance, end)
        if (at === end) break
        if (at !== disturbance) {
          task.tick(at)
          continue
        }
        disturbances.shift()
        if (task.paused) task.resume(at)
        else if (chance(0.5)) task.paused = true
        else task.edit(at)
        if (task.paused && chance(0.2)) task.edit(at)
      }
      if (task.paused) task.resume(end)
      while (task.nextDueAt !== null && task.nextDueAt <= end) task.tick(end)
      // What is due only after the end by its jitter has its account later.
      task.close(Math.max(task.decidedThrough, start))
      occurrences += assertAccounted(`task ${n}`, task.regimes, task.accounts)
      fired += task.accounts.filter(({ what }) => what === "fired").length
    }
    assert.isAbove(occurrences, 300_000)
    assert.isAbove(fired, 100_000)
  })
})

const worker = "018f0000-0000-7000-8000-000000000001"

layer(services())("some simulated weeks over the store", (it) => {
  it.effect("decide every occurrence of thirty tasks exactly once", () =>
    Effect.gen(function* () {
      yield* watched
      const { actor } = yield* admin
      const sql = yield* SqlClient.SqlClient
      const tasks = yield* Tasks
      const states = yield* TaskStates
      const lease = yield* Lease
      const random = randomOf(7)
      const { below, chance, one } = chooser(random)
      const change = { reason: null, version: null }
      const regimes = new Map<string, ReadonlyArray<Regime>>()
      const fieldsOf = (task: Task): TaskSchedule.ScheduleFields => ({
        kind: task.schedule_kind,
        expr: task.schedule_expr,
        timezone: task.timezone,
        dtstart: null,
        createdAt: DateTime.toEpochMillis(task.created_at),
        startsAt: null,
        endsAt: null
      })
      const begin = (task: Task, after: number) =>
        regimes.set(task.id, [
          ...(regimes.get(task.id) ?? []),
          { timeline: timed(fieldsOf(task)), after, through: Infinity }
        ])
      const endAt = (id: string, through: number) =>
        regimes.set(
          id,
          (regimes.get(id) ?? []).map((regime) => ({ ...regime, through: Math.min(regime.through, through) }))
        )
      const ids: Array<string> = []
      for (let n = 0; n < 30; n++) {
        const made = yield* create(actor, {
          ...randomSchedule(random, start, 20 * day),
          misfire_policy: one(misfires),
          misfire_grace_seconds: one([0, 60, 3600]),
          jitter_seconds: one([0, 30, 7200, 7200]),
          overlap_policy: one(OverlapPolicy.literals),
          dedupe_window_seconds: one([0, 0, 3600])
        })
        ids.push(made.id)
        begin(made, start)
      }
      let at = 0
      for (let tick = 0; tick < 60; tick++) {
        at += Math.floor(10 ** (random() * 3.9) * minute)
        yield* tickAt(at)
        const { leased } = yield* lease.turn(worker, [], 1000)
        const now = yield* Clock.currentTimeMillis
        const ends = leased.map((work) => ({
          work,
          steps: [],
          finished_at: now,
          error: null,
          state: "succeeded" as const,
          outcome: "ended" as const
        }))
        yield* lease.turn(worker, ends, 0)
        // Some time in which nobody ticks: what is done to a task now finds occurrences that are owed.
        if (chance(0.5)) yield* away((at += below(3 * hour)))
        const before = yield* Clock.currentTimeMillis
        for (let n = 0; n < 5; n++) {
          const id = ids[below(30)] ?? ""
          const { status } = yield* tasks.get(actor, id)
          if (status === "canceled") continue
          if (status === "paused")
            yield* states.resume(actor, id, { ...change, onMissed: chance(0.5) ? one(misfires) : null })
          else if (status === "active" && chance(0.4)) yield* states.pause(actor, id, change)
          else if (chance(0.03)) {
            yield* states.cancel(actor, id, change)
            endAt(id, before)
          } else {
            const { schedule_expr, schedule_kind, timezone } = randomSchedule(random, before, 20 * day)
            const edited = yield* Effect.option(
              tasks.patch(actor, id, { schedule_expr, schedule_kind, timezone, dtstart: null }, null)
            )
            if (edited._tag === "Some") {
              endAt(id, before)
              begin(edited.value, before)
            }
          }
        }
      }
      for (const id of ids) {
        const { status } = yield* tasks.get(actor, id)
        if (status === "paused") yield* states.resume(actor, id, { ...change, onMissed: null })
      }
      yield* tickAt(at)
      const rows = yield* sql<{ task_id: string; what: string; from: Date; to: Date; count: number }>`
        SELECT task_id, 'fired' AS what, scheduled_for AS "from", scheduled_for AS "to", 1 AS count FROM due_work WHERE trigger = 'schedule'
        UNION ALL
        SELECT task_id, coalesce(skip_reason, 'fired'), coalesce(skipped_from, scheduled_for), coalesce(skipped_to, scheduled_for),
          coalesce(skipped_count, 1) FROM task_run WHERE trigger = 'schedule'`
      const last = yield* sql<{ id: string; through: Date }>`
        SELECT id, CASE status WHEN 'canceled' THEN 'infinity' ELSE decided_through END AS through FROM task`
      let occurrences = 0
      for (const { id, through } of last) {
        endAt(id, Number(through))
        const own = rows.filter((row) => row.task_id === id)
        const accounts = own.map(({ count, from, to, what }) => ({
          what,
          from: from.getTime(),
          to: to.getTime(),
          count
        }))
        occurrences += assertAccounted(id, regimes.get(id) ?? [], accounts)
      }
      assert.isAbove(occurrences, 600)
      yield* invariantsHold
    })
  )
})
