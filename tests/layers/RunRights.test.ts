import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import type { Actor, AgentPatch } from "../../src/domain/Agent.ts"
import { Agents } from "../../src/layers/Agents.ts"
import { Approvals } from "../../src/layers/Approvals.ts"
import { Events } from "../../src/layers/Events.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { admin, agent, task, tickAfter, work } from "../support/fixtures.ts"
import { services } from "../support/Services.ts"

const idle = { schedule_expr: "0 0 1 1 *", max_retries: 0 }
const simple = { pipeline: [{ id: "only", uses: "core.transform", with: { value: 1 } }] }

const owner = (name: string, scopes: ReadonlyArray<string> = ["tasks:*", "runs:read"]) =>
  Effect.gen(function* () {
    const { actor: by } = yield* admin
    const { actor } = yield* agent(by, name, scopes)
    const patch = (change: AgentPatch) => Effect.flatMap(Agents, (agents) => agents.patch(by, actor.id, change))
    return { actor, by, patch }
  })

const started = (actor: Actor, payload: unknown) =>
  Effect.gen(function* () {
    const { id } = yield* (yield* Tasks).create(actor, task({ ...idle, payload }))
    return yield* (yield* TaskStates).runNow(actor, id, null, null)
  })

const readAs = (by: Actor, id: string) => Effect.flatMap(Runs, (runs) => runs.get(by, id))

layer(services())("the rights of a run", (it) => {
  it.effect("are none once its owner is disabled: it fails, and what comes after the owner is back runs", () =>
    Effect.gen(function* () {
      const { actor, by, patch } = yield* owner("disabled")
      const { id: taskId } = yield* (yield* Tasks).create(actor, task({ payload: simple }))
      yield* tickAfter(60_000)
      yield* patch({ disabled: true })
      yield* TestClock.adjust("5 seconds")
      yield* work
      yield* patch({ disabled: false })
      yield* TestClock.adjust("5 seconds")
      yield* tickAfter(60_000)
      yield* work
      const found = yield* (yield* Runs).list(by, { task_id: taskId }, { limit: 10, before: null })
      assert.deepStrictEqual(
        found.items.map(({ error, started_at, state }) => [state, error?.code ?? null, started_at === null]),
        [
          ["succeeded", null, false],
          ["failed", "forbidden", false]
        ]
      )
      assert.deepStrictEqual(found.items[1]?.error, {
        code: "forbidden",
        message: "the owner of the task is disabled",
        step_id: null,
        retryable: false
      })
      const whole = yield* readAs(by, found.items[1]?.id ?? "")
      assert.deepStrictEqual(
        whole.steps.map(({ state }) => state),
        ["pending"]
      )
    })
  )

  it.effect("are none once its owner is removed", () =>
    Effect.gen(function* () {
      const { actor, by } = yield* owner("removed")
      const id = yield* started(actor, { ...simple, on_failure: [{ ...simple.pipeline[0], id: "after" }] })
      yield* (yield* Agents).remove(by, actor.id)
      yield* TestClock.adjust("5 seconds")
      yield* work
      const found = yield* readAs(by, id)
      assert.strictEqual(found.error?.message, "the owner of the task is removed")
      assert.deepStrictEqual(
        found.steps.map(({ id: step, state }) => `${step} ${state}`),
        ["only pending"]
      )
    })
  )

  it.effect("are looked at again when it wakes up", () =>
    Effect.gen(function* () {
      const { actor, by, patch } = yield* owner("sleeper")
      const id = yield* started(actor, {
        pipeline: [{ id: "ask", uses: "core.approval", with: { message: "?" } }, simple.pipeline[0]]
      })
      yield* work
      yield* patch({ disabled: true })
      yield* TestClock.adjust("5 seconds")
      yield* (yield* Approvals).decide(by, id, "ask", { decision: "approved" })
      yield* work
      const found = yield* readAs(by, id)
      assert.strictEqual(found.error?.code, "forbidden")
    })
  )

  it.effect("bound what its steps do by themselves", () =>
    Effect.gen(function* () {
      const { actor, patch } = yield* owner("speaker", ["tasks:write", "tasks:run", "runs:read"])
      const other = yield* (yield* Tasks).create(actor, task({ ...idle, payload: simple }))
      const emits = { pipeline: [{ id: "tell", uses: "core.emit", with: { topic: "rights.told", payload: 1 } }] }
      const starts = (wait: boolean) => ({
        pipeline: [{ id: "start", uses: "core.run_task", with: { task_id: other.id, wait } }]
      })
      const codes = (...payloads: ReadonlyArray<unknown>) =>
        Effect.gen(function* () {
          const ids = yield* Effect.forEach(payloads, (payload) => started(actor, payload))
          yield* work
          const found = yield* Effect.forEach(ids, (id) => readAs(actor, id))
          return found.map(({ error, state }) => error?.message ?? state)
        })
      const lacks = (scope: string) => `the owner of the task lacks the scope ${scope}`

      assert.deepStrictEqual(yield* codes(emits, starts(false), starts(true)), [
        lacks("events:publish"),
        "succeeded",
        "succeeded"
      ])
      const { actor: by } = yield* admin
      const told = yield* (yield* Events).list(by, "rights.told", { limit: 1, before: null })
      assert.lengthOf(told.items, 0)

      yield* patch({ scopes: ["tasks:write", "events:publish", "runs:read"] })
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* codes(emits, starts(false), starts(true)), [
        "succeeded",
        lacks("tasks:run"),
        lacks("tasks:run")
      ])
    })
  )
})
