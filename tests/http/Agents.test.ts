import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { Agent, KeyIssued } from "../../src/domain/Agent.ts"
import { Task } from "../../src/domain/Task.ts"
import { answered, ApiServer, apiServer, member, newTask, page, refusal, request } from "../support/ApiServer.ts"

const make = (body: object, key?: string) => request("POST", "/agents", key === undefined ? { body } : { body, key })
const made = (body: object) => Effect.map(make(body), (answer) => answered(answer, 201, Agent))
const issue = (id: string, body: object = {}) =>
  Effect.map(request("POST", `/agents/${id}/keys`, { body }), (answer) => answered(answer, 201, KeyIssued))
const read = (id: string) => Effect.map(request("GET", `/agents/${id}`), (answer) => answered(answer, 200, Agent))
const statusWith = (key: string) => Effect.map(request("GET", "/tasks", { key }), ({ status }) => status)

/** What another process has changed is seen within this time. */
const seen = TestClock.adjust("5001 millis")

layer(apiServer())("agents", (it) => {
  it.effect("are made with their defaults, listed newest first, changed and removed", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 millis")
      const first = yield* made({ name: "first", scopes: ["tasks:*"] })
      yield* TestClock.adjust("1 millis")
      const second = yield* made({
        name: "second",
        scopes: [],
        max_tasks: 5,
        budgets: [{ tool: "mail.*", calls_per_day: 3 }]
      })
      assert.deepInclude(first, {
        namespace: "main",
        scopes: ["tasks:*"],
        disabled: false,
        max_tasks: 10_000,
        max_concurrent_runs: null,
        rate_per_minute: null,
        budgets: [],
        keys: []
      })
      assert.deepInclude(second, { max_tasks: 5, budgets: [{ tool: "mail.*", calls_per_day: 3 }] })
      const top = page(yield* request("GET", "/agents?limit=1"), Agent)
      assert.deepStrictEqual(top.items, [second])
      const rest = page(yield* request("GET", `/agents?cursor=${top.next_cursor}`), Agent)
      assert.deepStrictEqual(
        rest.items.map(({ name }) => name),
        ["first", "admin"]
      )
      const body = { scopes: ["runs:read"], rate_per_minute: 60 }
      const changed = answered(yield* request("PATCH", `/agents/${first.id}`, { body }), 200, Agent)
      assert.deepStrictEqual(changed, { ...first, ...body })
      assert.strictEqual((yield* request("DELETE", `/agents/${first.id}`)).status, 204)
      refusal(yield* request("GET", `/agents/${first.id}`), 404, "agent_not_found")
      refusal(yield* request("DELETE", `/agents/${first.id}`), 404, "agent_not_found")
      refusal(yield* make({ name: "second", scopes: [] }), 409, "agent_exists")
      yield* made({ name: "first", scopes: [] })
    })
  )

  it.effect("a scope opens its routes, a family all of its own, admin everything", () =>
    Effect.gen(function* () {
      const routes = [
        ["tasks:read", "GET", "/tasks"],
        ["tasks:write", "DELETE", "/tasks/x"],
        ["tasks:run", "POST", "/tasks/x/run_now"],
        ["runs:read", "GET", "/runs"],
        ["events:publish", "POST", "/events"],
        ["events:read", "GET", "/events"],
        ["agents:read", "GET", "/agents"],
        ["agents:admin", "DELETE", "/agents/x"],
        ["system:read", "GET", "/queue"]
      ] as const
      const holders = ["tasks:read", "tasks:*", "runs:*", "events:publish", "agents:*", "system:read", "admin"]
      for (const held of holders) {
        const { key } = yield* member(`holder-${held.replaceAll(":", ".").replace("*", "all")}`, [held])
        for (const [scope, method, path] of routes) {
          const answer = yield* request(method, path, { key })
          const open = held === "admin" || held === scope || held === `${scope.split(":")[0]}:*`
          assert.strictEqual(answer.status !== 403, open, `${held} on ${method} ${path}: ${answer.status}`)
          if (!open) assert.include(answer.body as object, { code: "forbidden", scope })
        }
      }
    })
  )

  it.effect("nobody grants, or takes a key of, more than they hold", () =>
    Effect.gen(function* () {
      const { key } = yield* member("manager", ["agents:*", "tasks:read"])
      const strong = yield* made({ name: "strong", scopes: ["tasks:write"] })
      const strongKey = yield* issue(strong.id)
      for (const scope of ["admin", "tasks:*", "tasks:write", "runs:read"]) {
        refusal(yield* make({ name: "made-by-manager", scopes: [scope] }, key), 403, "forbidden")
      }
      const weak = answered(yield* make({ name: "weak", scopes: ["tasks:read"] }, key), 201, Agent)
      const raise = yield* request("PATCH", `/agents/${weak.id}`, {
        key,
        body: { scopes: ["tasks:read", "tasks:run"] }
      })
      refusal(raise, 403, "forbidden")
      refusal(yield* request("POST", `/agents/${strong.id}/keys`, { key }), 403, "forbidden")
      refusal(yield* request("DELETE", `/agents/${strong.id}/keys/${strongKey.id}`, { key }), 403, "forbidden")
      refusal(yield* make({ name: "elsewhere", namespace: "other", scopes: [] }, key), 403, "forbidden")
      assert.strictEqual((yield* request("POST", `/agents/${weak.id}/keys`, { key })).status, 201)
      assert.strictEqual(yield* statusWith(strongKey.key), 403)
    })
  )

  it.effect("an admin of another namespace sees its own agents and tasks alone", () =>
    Effect.gen(function* () {
      const { id } = yield* made({ name: "boss", namespace: "other", scopes: ["admin"] })
      const { key } = yield* issue(id)
      const task = yield* newTask()
      assert.deepStrictEqual(
        page(yield* request("GET", "/agents", { key }), Agent).items.map(({ id }) => id),
        [id]
      )
      assert.isEmpty(page(yield* request("GET", "/tasks", { key }), Task.json).items)
      refusal(yield* request("GET", `/tasks/${task.id}`, { key }), 404, "task_not_found")
      refusal(yield* make({ name: "spy", namespace: "main", scopes: [] }, key), 403, "forbidden")
    })
  )
})

layer(apiServer())("the last admin", (it) => {
  it.effect("is neither removed nor disabled nor stripped of admin, while one of two is", () =>
    Effect.gen(function* () {
      const { admin } = yield* ApiServer
      const path = `/agents/${admin.id}`
      const patch = (body: object) => request("PATCH", path, { body })
      refusal(yield* request("DELETE", path), 409, "last_admin")
      refusal(yield* patch({ disabled: true }), 409, "last_admin")
      refusal(yield* patch({ scopes: ["tasks:*"] }), 409, "last_admin")
      yield* made({ name: "other", namespace: "elsewhere", scopes: ["admin"] })
      refusal(yield* patch({ disabled: true }), 409, "last_admin")
      const second = yield* member("second", ["admin"])
      assert.strictEqual((yield* patch({ disabled: true })).status, 200)
      refusal(yield* request("DELETE", `/agents/${second.actor.id}`, { key: second.key }), 409, "last_admin")
    })
  )
})

layer(apiServer())("keys", (it) => {
  it.effect("are shown once, listed without their secret, and several live at once", () =>
    Effect.gen(function* () {
      const { id } = yield* made({ name: "rotating", scopes: ["tasks:read"] })
      const old = yield* issue(id, { name: "old" })
      yield* TestClock.adjust("1 millis")
      const fresh = yield* issue(id)
      assert.match(old.key, new RegExp(`^ord_${old.id}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$`))
      assert.strictEqual(yield* statusWith(old.key), 200)
      assert.strictEqual(yield* statusWith(fresh.key), 200)
      const answer = yield* request("GET", `/agents/${id}`)
      assert.notInclude(answer.text, old.key.slice(17, 60))
      const { keys } = answered(answer, 200, Agent)
      assert.deepStrictEqual(
        keys.map(({ id, name }) => [id, name]),
        [
          [old.id, "old"],
          [fresh.id, null]
        ]
      )
      assert.isNotNull(keys[0]?.last_used_at ?? null)
      for (const wrong of [
        "",
        "x",
        "ord_",
        `${old.key}x`,
        old.key.slice(0, -1),
        `${old.key.slice(0, 30)}Z${old.key.slice(31)}`
      ]) {
        refusal(yield* request("GET", "/tasks", { key: wrong }), 401, "unauthorized")
      }
    })
  )

  it.effect("revoked, they are refused within five seconds; the others go on", () =>
    Effect.gen(function* () {
      const { id } = yield* made({ name: "revoking", scopes: ["tasks:read"] })
      const [one, two] = [yield* issue(id), yield* issue(id)]
      assert.strictEqual(yield* statusWith(one.key), 200)
      assert.strictEqual((yield* request("DELETE", `/agents/${id}/keys/${one.id}`)).status, 204)
      refusal(yield* request("DELETE", `/agents/${id}/keys/${one.id}`), 404, "key_not_found")
      yield* seen
      assert.strictEqual(yield* statusWith(one.key), 401)
      assert.strictEqual(yield* statusWith(two.key), 200)
      assert.deepStrictEqual(
        (yield* read(id)).keys.map(({ id }) => id),
        [two.id]
      )
    })
  )

  it.effect("expire at their instant", () =>
    Effect.gen(function* () {
      const { id } = yield* made({ name: "expiring", scopes: ["tasks:read"] })
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      const expires_at = new Date(now + 60_000).toISOString()
      const issued = yield* issue(id, { expires_at })
      assert.strictEqual(issued.expires_at, expires_at)
      yield* TestClock.setTime(now + 59_999)
      assert.strictEqual(yield* statusWith(issued.key), 200)
      yield* TestClock.setTime(now + 60_000)
      assert.strictEqual(yield* statusWith(issued.key), 401)
    })
  )

  it.effect("of a disabled or removed agent are refused within five seconds, and work again once it is enabled", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("disabled", ["tasks:*"])
      const task = yield* newTask({}, key)
      for (const [disabled, status] of [
        [true, 401],
        [false, 200]
      ] as const) {
        yield* request("PATCH", `/agents/${actor.id}`, { body: { disabled } })
        yield* seen
        assert.strictEqual(yield* statusWith(key), status)
      }
      yield* request("DELETE", `/agents/${actor.id}`)
      yield* seen
      assert.strictEqual(yield* statusWith(key), 401)
      assert.strictEqual((yield* request("GET", `/tasks/${task.id}`)).status, 200)
    })
  )

  it.effect("narrowed scopes hold within five seconds", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("narrowed", ["tasks:*"])
      assert.strictEqual(yield* statusWith(key), 200)
      yield* request("PATCH", `/agents/${actor.id}`, { body: { scopes: ["runs:read"] } })
      yield* seen
      assert.strictEqual(yield* statusWith(key), 403)
    })
  )
})
