import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { AuditRecord, Verdict } from "../../src/domain/AuditEntry.ts"
import { answered, ApiServer, apiServer, member, newTask, page, refusal, request } from "../support/ApiServer.ts"
import { agent } from "../support/fixtures.ts"
import { Agents } from "../../src/layers/Agents.ts"

const list = (query: string, key?: string) =>
  Effect.map(request("GET", `/audit${query}`, key === undefined ? {} : { key }), (answer) => page(answer, AuditRecord))

layer(apiServer())("GET /audit", (it) => {
  it.effect("tells who did what, newest first, narrowed by actor, action, subject and time", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("worker", ["tasks:*"])
      const task = yield* newTask({}, key)
      yield* TestClock.adjust("1 hour")
      const paused = yield* request("POST", `/tasks/${task.id}/pause`, { key, headers: { "x-request-id": "pausing" } })
      assert.strictEqual(paused.status, 200)
      const { items } = yield* list(`?actor=${actor.id}`)
      assert.deepStrictEqual(
        items.map(({ action, seq }) => [seq, action]),
        [
          [2, "task.paused"],
          [1, "task.created"]
        ]
      )
      assert.deepInclude(items[0], {
        actor: actor.id,
        subject_kind: "task",
        subject_id: task.id,
        before: { status: "active" },
        after: { status: "paused", reason: null },
        request_id: "pausing"
      })
      assert.match(items[0]?.hash ?? "", /^[0-9a-f]{64}$/)
      const since = items[0]?.at ?? ""
      const counts = [
        [`?actor=${actor.id}&after=${since}`, 1],
        [`?actor=${actor.id}&before=${since}`, 1],
        [`?subject_kind=task&subject_id=${task.id}`, 2],
        [`?subject_id=${task.id}&action=task.paused`, 1],
        ["?action=task.deleted", 0],
        ["?actor=system&action=agent.created", 1]
      ] as const
      for (const [query, count] of counts) assert.lengthOf((yield* list(query)).items, count, query)
    })
  )

  it.effect("pages without gaps or repeats, also where many entries are of one instant and more come", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("busy", ["tasks:*"])
      for (let i = 0; i < 7; i++) yield* newTask({}, key)
      const { items: whole } = yield* list("?limit=200")
      const seen: Array<unknown> = []
      let cursor: string | null = null
      do {
        const found: Effect.Effect.Success<ReturnType<typeof list>> = yield* list(
          `?limit=3${cursor === null ? "" : `&cursor=${cursor}`}`
        )
        assert.isAtMost(found.items.length, 3)
        seen.push(...found.items)
        cursor = found.next_cursor
        yield* newTask({}, key)
      } while (cursor !== null)
      assert.deepStrictEqual<unknown>(
        seen.filter((one) => whole.some(({ hash }) => hash === (one as AuditRecord).hash)),
        whole
      )
      assert.isAbove(whole.filter((one) => one.actor === actor.id).length, 6)
    })
  )

  it.effect("asks for its scope, refuses what it does not know, and shows one namespace", () =>
    Effect.gen(function* () {
      const { admin } = yield* ApiServer
      const { key } = yield* member("curious", ["tasks:*", "runs:read"])
      refusal(yield* request("GET", "/audit", { key }), 403, "forbidden")
      refusal(yield* request("GET", "/audit/verify", { key }), 403, "forbidden")
      for (const query of [
        "?who=me",
        "?limit=0",
        "?limit=201",
        "?cursor=nonsense",
        "?after=yesterday",
        "?actor=a&actor=b"
      ]) {
        refusal(yield* request("GET", `/audit${query}`), 422)
      }
      refusal(yield* request("GET", "/audit/verify?cursor=nonsense"), 422)
      const agents = yield* Agents
      const made = yield* agents.create(admin, {
        name: "auditor",
        namespace: "elsewhere",
        scopes: ["audit:read"],
        disabled: false,
        max_tasks: 1,
        max_concurrent_runs: null,
        rate_per_minute: null,
        budgets: []
      })
      const elsewhere = (yield* agents.issueKey(admin, made.id, {})).key
      assert.isEmpty((yield* list("", elsewhere)).items)
      yield* agent(admin, "filler", [])
    })
  )

  it.effect("verifies the chains, and names the first broken link", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { actor, key } = yield* member("victim", ["tasks:*"])
      for (let i = 0; i < 4; i++) yield* newTask({}, key)
      const good = answered(yield* request("GET", "/audit/verify"), 200, Verdict)
      assert.deepInclude(good, { ok: true, first_broken: null })
      assert.isAbove(good.checked, 10)
      yield* sql`ALTER TABLE audit_log DISABLE TRIGGER USER`
      yield* sql`UPDATE audit_log SET after = '{}' WHERE chain = ${actor.id} AND seq = 3`
      const bad = answered(yield* request("GET", "/audit/verify"), 200, Verdict)
      assert.deepInclude(bad, { ok: false, first_broken: { chain: String(actor.id), seq: 3 } })
    })
  )
})
