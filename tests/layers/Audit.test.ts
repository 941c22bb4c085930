import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Clock, Effect, TestClock } from "effect"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { SigningKeys } from "../../src/layers/SigningKeys.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { admin, task, tickAfter } from "../support/fixtures.ts"
import { services } from "../support/Services.ts"

const change = { reason: null, version: null }

/** The entries of an actor's chain whose hash is not what their columns and the entry before say. */
const broken = (chain: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ seq: string }>`
      SELECT seq FROM (
        SELECT a.seq, a.hash, audit_hash(coalesce(lag(a.hash) OVER (ORDER BY a.seq), '\\x'), a) AS right_hash
        FROM audit_log a WHERE a.chain = ${chain}) AS chained
      WHERE hash <> right_hash ORDER BY seq`
    return rows.map(({ seq }) => Number(seq))
  })

const actions = (subject: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ action: string }>`SELECT action FROM audit_log WHERE subject_id = ${subject} ORDER BY seq`
    return rows.map(({ action }) => action)
  })

layer(services())("the audit trail", (it) => {
  it.effect("has an entry for every change, in the transaction of the change, and none for what was refused", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const sql = yield* SqlClient.SqlClient
      const tasks = yield* Tasks
      const states = yield* TaskStates
      const { id } = yield* tasks.create(actor, task({ dedupe_key: "one" }))
      yield* tasks.patch(actor, id, { title: "other" }, null)
      yield* states.pause(actor, id, change)
      yield* states.pause(actor, id, change)
      yield* states.resume(actor, id, { ...change, onMissed: null })
      yield* states.runNow(actor, id, null, null)
      yield* states.cancel(actor, id, change)
      assert.deepStrictEqual(yield* actions(id), [
        "task.created",
        "task.changed",
        "task.paused",
        "task.resumed",
        "task.run_now",
        "task.canceled"
      ])
      const count = sql<{ n: number }>`SELECT count(*)::integer AS n FROM audit_log`
      const [before] = yield* count
      yield* tasks.create(actor, task({ dedupe_key: "two" }))
      yield* Effect.flip(tasks.create(actor, task({ dedupe_key: "two" })))
      yield* Effect.flip(states.pause(actor, id, change))
      const [after] = yield* count
      assert.strictEqual(after?.n, (before?.n ?? 0) + 1)
    })
  )

  it.effect("has the system's entries: what a schedule ends, sets aside or has tried again, and new signing keys", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const sql = yield* SqlClient.SqlClient
      const tasks = yield* Tasks
      const scheduler = yield* Scheduler
      const at = new Date((yield* Clock.currentTimeMillis) + 60_000).toISOString()
      const once = yield* Effect.forEach(Array.from({ length: 5 }), () =>
        tasks.create(actor, task({ schedule_kind: "once", schedule_expr: at }))
      )
      const bad = yield* tasks.create(actor, task())
      yield* sql`UPDATE task SET schedule_expr = 'nonsense' WHERE id = ${bad.id}`
      yield* tickAfter(60_000)
      for (const { id } of once) assert.sameMembers(yield* actions(id), ["task.created", "task.completed"])
      assert.sameMembers(yield* actions(bad.id), ["task.created", "task.quarantined"])
      yield* TestClock.adjust("1 hour")
      yield* scheduler.adoptZoneData
      yield* tickAfter(0)
      assert.sameMembers(yield* actions(bad.id), [
        "task.created",
        "task.quarantined",
        "task.quarantine_lifted",
        "task.quarantined"
      ])
      const first = yield* Effect.flatMap(SigningKeys, ({ signer }) => signer)
      yield* TestClock.adjust("31 days")
      yield* Effect.flatMap(SigningKeys, ({ signer }) => signer)
      assert.deepStrictEqual(yield* actions(first.kid), ["signing_key.created", "signing_key.retired"])
      const counts = yield* sql<{ action: string; n: number }>`
        SELECT action, count(*)::integer AS n FROM audit_log WHERE actor = 'system' GROUP BY 1 ORDER BY 1`
      assert.deepInclude(counts, { action: "task.completed", n: 5 })
      assert.deepInclude(counts, { action: "signing_key.created", n: 2 })
      assert.deepStrictEqual(yield* broken("system"), [])
    })
  )

  it.effect("is one chain an actor, whole under concurrent writers, and shows what was tampered with", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const sql = yield* SqlClient.SqlClient
      const tasks = yield* Tasks
      yield* Effect.all(
        Array.from({ length: 20 }, () => tasks.create(actor, task())),
        { concurrency: 8 }
      )
      assert.deepStrictEqual(yield* broken(actor.id), [])
      const refused = yield* Effect.flip(sql`UPDATE audit_log SET action = 'other' WHERE chain = ${actor.id}`)
      assert.strictEqual(refused._tag, "SqlError")
      yield* sql`ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only`
      const tamper = [
        sql`UPDATE audit_log SET actor = 'x' WHERE chain = ${actor.id} AND seq = 3`,
        sql`UPDATE audit_log SET after = '{}' WHERE chain = ${actor.id} AND seq = 5`,
        sql`UPDATE audit_log SET at = at + interval '1 second' WHERE chain = ${actor.id} AND seq = 7`,
        sql`UPDATE audit_log SET request_id = 'x' WHERE chain = ${actor.id} AND seq = 9`
      ]
      yield* Effect.all(tamper)
      assert.deepStrictEqual(yield* broken(actor.id), [3, 5, 7, 9])
    })
  )
})
