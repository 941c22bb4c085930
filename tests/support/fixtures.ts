import { randomBytes } from "node:crypto"
import { Clock, Effect, Schema, TestClock } from "effect"
import type { Actor } from "../../src/domain/Agent.ts"
import * as ApiKey from "../../src/domain/ApiKey.ts"
import { TaskCreate } from "../../src/domain/Task.ts"
import { Agents } from "../../src/layers/Agents.ts"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { Worker } from "../../src/layers/Worker.ts"

const adminKey = ApiKey.fromRandom(randomBytes(41))

/** The first admin of a database, made when it is first asked for, with its key. */
export const admin = Effect.gen(function* () {
  const agents = yield* Agents
  yield* agents.ensureAdmin(adminKey)
  return { actor: yield* agents.authenticate(adminKey.text), key: adminKey.text }
})

/** Another agent, without a key. */
export const agent = (by: Actor, name: string, scopes: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const agents = yield* Agents
    const made = yield* agents.create(by, {
      name,
      scopes,
      disabled: false,
      max_tasks: 10_000,
      max_concurrent_runs: null,
      rate_per_minute: null,
      budgets: []
    })
    const { key } = yield* agents.issueKey(by, made.id, {})
    return { actor: yield* agents.authenticate(key), key }
  })

const decode = Schema.decodeUnknownSync(TaskCreate)

/** Body of a task with one simulated step; `more` overrides. */
export const task = (more: Record<string, unknown> = {}): TaskCreate =>
  decode({
    title: "a task",
    schedule_kind: "cron",
    schedule_expr: "* * * * *",
    timezone: "UTC",
    payload: { pipeline: [{ id: "only", uses: "mail.send", with: { to: "a" } }] },
    ...more
  })

/** Moves the clock and lets the scheduler decide what is due then. */
export const tickAfter = (millis: number) =>
  Effect.gen(function* () {
    const scheduler = yield* Scheduler
    yield* TestClock.setTime((yield* Clock.currentTimeMillis) + millis)
    return yield* scheduler.tick
  })

/** Turns of the worker until nothing is left to do: what is leased runs to its end and is settled. */
export const work = Effect.gen(function* () {
  const worker = yield* Worker
  for (let idle = 0; idle < 3;) {
    const moved = yield* worker.turn
    idle = moved === 0 && (yield* worker.running) === 0 ? idle + 1 : 0
    yield* Effect.yieldNow()
  }
})
