import { assert, describe, it, layer } from "@effect/vitest"
import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Exit } from "effect"
import { RequestId } from "../../src/layers/Correlation.ts"
import { sharing } from "../../src/layers/SharedCommits.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { admin, task } from "../support/fixtures.ts"
import { services } from "../support/Services.ts"

describe("requests that share commits", () => {
  const numbered = (batches: Array<ReadonlyArray<string>>) =>
    sharing(
      (text: string) => text.slice(0, 1),
      (batch) =>
        Effect.gen(function* () {
          batches.push(batch)
          yield* Effect.sleep(1)
          if (batch.includes("a bad one")) return yield* Effect.fail("refused")
          return batch.map((text) => `${text}!`)
        })
    )

  it.scopedLive("are answered each, in batches of their own kind", () =>
    Effect.gen(function* () {
      const batches: Array<ReadonlyArray<string>> = []
      const shared = yield* numbered(batches)
      const all = Array.from({ length: 300 }, (_, n) => `${n % 2 === 0 ? "a" : "b"}${n}`)
      const answers = yield* Effect.forEach(all, shared, { concurrency: "unbounded" })
      assert.deepStrictEqual(
        answers,
        all.map((text) => `${text}!`)
      )
      assert.isBelow(batches.length, 20)
      assert.isAtMost(Math.max(...batches.map(({ length }) => length)), 100)
      for (const batch of batches) assert.strictEqual(new Set(batch.map((text) => text.slice(0, 1))).size, 1)
    })
  )

  it.scopedLive("do not fail for the sake of another", () =>
    Effect.gen(function* () {
      const shared = yield* numbered([])
      const all = ["a1", "a2", "a3", "a bad one", "a4"]
      const exits = yield* Effect.forEach(all, (text) => Effect.exit(shared(text)), { concurrency: "unbounded" })
      assert.deepStrictEqual(exits, [
        Exit.succeed("a1!"),
        Exit.succeed("a2!"),
        Exit.succeed("a3!"),
        Exit.fail("refused"),
        Exit.succeed("a4!")
      ])
    })
  )
})

layer(services())("tasks that are made at the same time", (it) => {
  const make = (n: number) =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      return yield* (yield* Tasks)
        .create(actor, task({ title: `task ${n}` }))
        .pipe(Effect.provideService(RequestId, `request-${n}`))
    })

  it.effect("share transactions, and each has an audit entry with its own request", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const made = yield* Effect.forEach(
        Array.from({ length: 60 }, (_, n) => n),
        make,
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        made.map(({ title }) => title),
        made.map((_, n) => `task ${n}`)
      )
      const [counted] = yield* sql<{ n: number }>`SELECT count(DISTINCT xmin::text)::integer AS n FROM task`
      assert.isBelow(counted?.n ?? 60, 10)
      const rows = yield* sql<{ request_id: string; title: string }>`
        SELECT request_id, after ->> 'title' AS title FROM audit_log WHERE action = 'task.created'`
      assert.strictEqual(rows.length, 60)
      for (const { request_id, title } of rows) assert.strictEqual(title, request_id.replace("request-", "task "))
    })
  )

  it.effect("are made within the transaction of who has one, and go with it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const rolledBack = Effect.flatMap(make(1000), ({ title }) => Effect.fail(title)).pipe(sql.withTransaction)
      assert.strictEqual(yield* Effect.flip(rolledBack), "task 1000")
      assert.isEmpty(yield* sql`SELECT id FROM task WHERE title = 'task 1000'`)
    })
  )
})
