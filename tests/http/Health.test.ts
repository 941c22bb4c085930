import { SqlClient } from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Clock, Context, Effect, Layer, TestClock } from "effect"
import { HealthReport } from "../../src/http/SystemApi.ts"
import { AuditKeeper } from "../../src/layers/AuditKeeper.ts"
import { Draining } from "../../src/layers/Draining.ts"
import { Health } from "../../src/layers/Health.ts"
import { Heartbeats } from "../../src/layers/Heartbeats.ts"
import * as Ids from "../../src/layers/Ids.ts"
import { Pulse } from "../../src/layers/Pulse.ts"
import { answered, apiServer, newTask, request } from "../support/ApiServer.ts"

const report = Effect.map(request("GET", "/health", { key: null }), (answer) => answered(answer, 200, HealthReport))

const beat = (program: "worker" | "scheduler", passedBefore: number | null) =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const id = yield* Ids.next
    const lastPassAt = passedBefore === null ? null : now - passedBefore
    yield* Effect.flatMap(Heartbeats, (heartbeats) =>
      heartbeats.beat({ id, program, startedAt: now, lastPassAt, running: 0, concurrency: 1 })
    )
    return Effect.flatMap(Heartbeats, ({ leave }) => leave(id))
  })

layer(apiServer())("GET /health", (it) => {
  it.effect("tells of every part its state, in a sentence, and how long the look took", () =>
    Effect.gen(function* () {
      const { parts } = yield* report
      assert.deepStrictEqual(Object.keys(parts).sort(), [
        "audit",
        "clock",
        "database",
        "migrations",
        "redis",
        "scheduler",
        "tzdata",
        "workers"
      ])
      for (const [name, { detail, latency_ms }] of Object.entries(parts)) {
        assert.isAtLeast(latency_ms, 0, name)
        assert.match(detail, /\w/, name)
      }
    })
  )

  it.effect("programs that are not there, or whose loops are stuck, are not healthy", () =>
    Effect.gen(function* () {
      const states = Effect.map(report, ({ parts, state }) => [
        state,
        parts["scheduler"]?.state,
        parts["workers"]?.state
      ])
      assert.deepStrictEqual(yield* states, ["degraded", "degraded", "degraded"])
      const left = [yield* beat("scheduler", 2000), yield* beat("worker", 500)]
      assert.deepStrictEqual(yield* states, ["healthy", "healthy", "healthy"])
      assert.include((yield* report).parts["scheduler"]?.detail, "the last tick 2.0 s ago")
      yield* Effect.all(left)
      yield* Effect.asVoid(beat("scheduler", 16_000))
      yield* Effect.asVoid(beat("worker", null))
      assert.deepStrictEqual(yield* states, ["degraded", "degraded", "degraded"])
      // Another one that ticks makes up for it.
      yield* Effect.asVoid(beat("scheduler", 0))
      assert.strictEqual((yield* states)[1], "healthy")
    })
  )

  it.effect("a broken trail is told with its first broken link, and the API serves all the same", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient
      const { check } = yield* AuditKeeper
      yield* newTask()
      assert.include((yield* report).parts["audit"], { state: "healthy", detail: "was not verified yet" })
      yield* check
      assert.include((yield* report).parts["audit"], { state: "healthy", detail: "holds as far as it was verified" })
      yield* sql`ALTER TABLE audit_log DISABLE TRIGGER USER`
      yield* sql`UPDATE audit_log SET action = 'task.forged' WHERE action = 'task.created'`
      yield* check
      const { parts, state } = yield* report
      assert.strictEqual(state, "unhealthy")
      assert.strictEqual(parts["audit"]?.state, "unhealthy")
      assert.match(parts["audit"]?.detail ?? "", /entry \d+ of the chain [0-9a-f-]{36}/)
      assert.strictEqual((yield* request("GET", "/health/ready", { key: null })).status, 200)
    })
  )

  it.effect("a database that lacks migrations is the one thing that a 503 is for", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient
      yield* sql`DELETE FROM schema_migration WHERE version = 8`
      const answer = yield* request("GET", "/health", { key: null })
      assert.strictEqual(answer.status, 503)
      const { parts } = answered(answer, 503, HealthReport)
      assert.include(parts["migrations"], {
        state: "unhealthy",
        detail: "1 migrations are not applied; run npm run migrate"
      })
      assert.strictEqual((yield* request("GET", "/health/ready", { key: null })).status, 503)
      assert.strictEqual((yield* request("GET", "/health/live", { key: null })).status, 200)
    })
  )
})

layer(apiServer())("readiness", (it) => {
  it.scoped("of a scheduler or a worker follows the age of its last pass", () =>
    Effect.gen(function* () {
      const here = yield* Effect.context<Layer.Layer.Context<ReturnType<typeof Health.layerOf>>>()
      for (const loop of ["scheduler", "worker"] as const) {
        const { ready } = Context.get(yield* Layer.build(Health.layerOf(loop)), Health)
        const pulse = Context.get(here, Pulse)
        const state = Effect.map(ready, (part) => part.state)
        assert.strictEqual(yield* state, "unhealthy", "before the first pass")
        yield* pulse.passed(loop)
        assert.strictEqual(yield* state, "healthy")
        yield* TestClock.adjust("15 seconds")
        assert.strictEqual(yield* state, "healthy")
        yield* TestClock.adjust("1 second")
        const stuck = yield* ready
        assert.strictEqual(stuck.state, "unhealthy")
        assert.strictEqual(stuck.detail, `the ${loop} is stuck: its last pass was 16.0 s ago`)
        yield* pulse.passed(loop)
        assert.strictEqual(yield* state, "healthy")
      }
    })
  )

  it.effect("ends where the program is about to stop", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* request("GET", "/health/ready", { key: null })).status, 200)
      yield* Effect.flatMap(Draining, ({ begin }) => begin)
      const answer = yield* request("GET", "/health/ready", { key: null })
      assert.deepInclude(Object(answer.body), { state: "unhealthy", detail: "is about to stop" })
      assert.strictEqual(answer.status, 503)
    })
  )
})
