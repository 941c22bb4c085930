import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { UsageOfDay } from "../../src/domain/Usage.ts"
import { ApiServer, apiServer, member, page, refusal, request } from "../support/ApiServer.ts"

const rows = [
  ["2026-03-01", "core.http", 3],
  ["2026-03-01", "mail.send", 1],
  ["2026-03-02", "core.http", 2]
] as const

layer(apiServer())("the usage of an agent", (it) => {
  it.effect("is paged by day, the newest first, and tool", () =>
    Effect.gen(function* () {
      const { actor } = yield* member("user", ["tasks:read"])
      const sql = yield* SqlClient.SqlClient
      for (const [day, tool, calls] of rows) {
        yield* sql`INSERT INTO usage_day (agent_id, day, tool, calls, seconds, bytes) VALUES (${actor.id}, ${day}::date, ${tool}, ${calls}, 1.5, 10)`
      }
      const found: Array<unknown> = []
      let cursor = ""
      for (let pages = 0; pages < 4; pages++) {
        const { items, next_cursor } = page(
          yield* request("GET", `/agents/${actor.id}/usage?limit=1${cursor}`),
          UsageOfDay
        )
        found.push(...items.map(({ day, tool }) => `${day} ${tool}`))
        if (next_cursor === null) break
        cursor = `&cursor=${encodeURIComponent(next_cursor)}`
      }
      assert.deepStrictEqual(found, ["2026-03-02 core.http", "2026-03-01 core.http", "2026-03-01 mail.send"])
      const { items } = page(
        yield* request("GET", `/agents/${actor.id}/usage?from=2026-03-01&to=2026-03-01`),
        UsageOfDay
      )
      assert.deepStrictEqual(items[0], { day: "2026-03-01", tool: "core.http", calls: 3, seconds: 1.5, bytes: 10 })
      assert.lengthOf(items, 2)
    })
  )

  it.effect("is everybody's own, and that of others for who may read agents", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("poor", [])
      const other = yield* member("reader", ["agents:read"])
      assert.strictEqual((yield* request("GET", `/agents/${actor.id}/usage`, { key })).status, 200)
      assert.strictEqual((yield* request("GET", `/agents/${actor.id}/usage`, { key: other.key })).status, 200)
      refusal(yield* request("GET", `/agents/${other.actor.id}/usage`, { key }), 403, "forbidden")
      refusal(yield* request("GET", `/agents/${actor.id}/usage`, { key: null }), 401)
      for (const id of ["018f0000-0000-7000-8000-000000000009", "nobody"])
        refusal(yield* request("GET", `/agents/${id}/usage`, { key: other.key }), 404, "agent_not_found")
    })
  )

  it.effect("takes days and cursors that there are", () =>
    Effect.gen(function* () {
      const { admin } = yield* ApiServer
      for (const [name, value] of [
        ["from", "2026-02-30"],
        ["to", "yesterday"],
        ["cursor", "2026-02-30:core.http"],
        ["cursor", "nothing"]
      ]) {
        const { errors } = refusal(yield* request("GET", `/agents/${admin.id}/usage?${name}=${value}`), 422)
        assert.strictEqual(errors?.[0].path, `query.${name}`)
      }
    })
  )

  it.effect("is bound by budgets that name a tool and a limit", () =>
    Effect.gen(function* () {
      const { admin } = yield* ApiServer
      const patch = (budget: object) => request("PATCH", `/agents/${admin.id}`, { body: { budgets: [budget] } })
      for (const [budget, path] of [
        [{ tool: "mail.*" }, "/budgets/0/calls_per_day"],
        [{ tool: "mail send", calls_per_day: 1 }, "/budgets/0/tool"],
        [{ tool: "mail.*", calls_per_day: -1 }, "/budgets/0/calls_per_day"],
        [{ tool: "mail.*", calls_per_day: 0.5 }, "/budgets/0/calls_per_day"],
        [{ tool: "mail.*", calls_a_day: 1 }, "/budgets/0/calls_a_day"]
      ] as const) {
        const { errors } = refusal(yield* patch(budget), 422)
        assert.strictEqual(errors?.[0].path, path)
      }
      assert.strictEqual((yield* patch({ tool: "mail.*", seconds_per_day: 0.5 })).status, 200)
    })
  )
})
