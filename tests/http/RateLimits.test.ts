import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, TestClock } from "effect"
import { AuthFailures } from "../../src/layers/AuthFailures.ts"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import { ApiServer, apiServer, member, refusal, request } from "../support/ApiServer.ts"
import type { Call } from "../support/ApiServer.ts"
import { randomBytes } from "node:crypto"

const times = (count: number, path: string, call: Call = {}) =>
  Effect.all(Array.from({ length: count }, () => request("GET", path, call)))

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/** Another secret under the id of a key, well-formed. */
const guessed = (key: string) => {
  const id = [...key.slice(4, 16)].reduce((sum, digit) => sum * 62n + BigInt(digits.indexOf(digit)), 0n)
  return fromRandom(Buffer.concat([Buffer.from(id.toString(16).padStart(18, "0"), "hex"), randomBytes(32)])).text
}

const nextMinute = TestClock.adjust("1 minute")

const from = (address: string) => ({ "x-forwarded-for": address })

layer(apiServer([["RATE_AGENT", "5"]]))("the rate of an agent", (it) => {
  it.effect("is told with every answer, and what is over it waits for the next minute", () =>
    Effect.gen(function* () {
      const { key } = yield* member("quick", ["tasks:read"])
      yield* TestClock.adjust("18 seconds")
      const [first, ...others] = yield* times(5, "/tasks", { key })
      assert.strictEqual(first?.headers.get("ratelimit-policy"), '"agent";q=5;w=60, "address";q=1000000;w=60')
      assert.match(first?.headers.get("ratelimit") ?? "", /^"agent";r=4;t=42, "address";r=\d+;t=42$/)
      assert.match(others.at(-1)?.headers.get("ratelimit") ?? "", /^"agent";r=0;t=42,/)
      assert.isTrue(others.every(({ status }) => status === 200))
      const over = yield* request("GET", "/tasks", { key })
      refusal(over, 429, "rate_limited")
      assert.strictEqual(over.headers.get("retry-after"), "42")
      assert.match(over.headers.get("ratelimit") ?? "", /^"agent";r=0;t=42,/)
      assert.strictEqual(
        (yield* request("GET", "/tasks", { key: (yield* member("other", ["tasks:read"])).key })).status,
        200
      )
      const { text } = yield* request("GET", "/metrics", { key: null })
      assert.match(text, /^ordinaut_rate_limited_total\{scope="agent"\} 1$/m)
      yield* nextMinute
      assert.strictEqual((yield* request("GET", "/tasks", { key })).status, 200)
    })
  )

  it.effect("is its own where it has one", () =>
    Effect.gen(function* () {
      const { actor, key } = yield* member("slow", ["tasks:read"])
      yield* nextMinute
      yield* request("PATCH", `/agents/${actor.id}`, { body: { rate_per_minute: 2 } })
      yield* TestClock.adjust("10 seconds")
      const answers = yield* times(3, "/tasks", { key })
      assert.deepStrictEqual(
        answers.map(({ status }) => status),
        [200, 200, 429]
      )
    })
  )
})

layer(
  apiServer([
    ["RATE_ADDRESS", "6"],
    ["TRUSTED_PROXIES", "127.0.0.0/8, ::1"]
  ])
)("the rate of an address", (it) => {
  it.effect("holds for every route but the probes, with and without credentials", () =>
    Effect.gen(function* () {
      const call = { headers: from("203.0.113.1") }
      const open = { ...call, key: null }
      const answers = [
        ...(yield* times(2, "/tasks", call)),
        ...(yield* times(1, "/tasks", open)),
        ...(yield* times(1, "/nothing", open)),
        ...(yield* times(2, "/openapi.json", open))
      ]
      assert.deepStrictEqual(
        answers.map(({ status }) => status),
        [200, 200, 401, 404, 200, 200]
      )
      for (const path of ["/tasks", "/openapi.json", "/nothing", "/metrics"]) {
        refusal(yield* request("GET", path, call), 429, "rate_limited")
      }
      assert.strictEqual((yield* request("GET", "/health/live", open)).status, 200)
      assert.strictEqual((yield* request("GET", "/tasks", { headers: from("203.0.113.2") })).status, 200)
      yield* nextMinute
      assert.strictEqual((yield* request("GET", "/tasks", call)).status, 200)
    })
  )

  it.effect("counts the client behind trusted proxies, and no address that it wrote itself", () =>
    Effect.gen(function* () {
      yield* nextMinute
      for (let i = 0; i < 6; i++) {
        const answer = yield* request("GET", "/tasks", { headers: from(`198.51.100.${i}, 203.0.113.9, 127.0.0.7`) })
        assert.strictEqual(answer.status, 200)
      }
      refusal(yield* request("GET", "/tasks", { headers: from("198.51.100.77, 203.0.113.9") }), 429, "rate_limited")
    })
  )
})

layer(apiServer([["RATE_ADDRESS", "3"]]))("an untrusted client", (it) => {
  it.effect("cannot say that it is somebody else", () =>
    Effect.gen(function* () {
      const answers = yield* Effect.forEach([1, 2, 3, 4], (n) =>
        request("GET", "/tasks", { headers: from(`203.0.113.${n}`) })
      )
      assert.deepStrictEqual(
        answers.map(({ status }) => status),
        [200, 200, 200, 429]
      )
    })
  )
})

layer(
  apiServer([
    ["RATE_AUTH_FAILURES", "9"],
    ["TRUSTED_PROXIES", "127.0.0.1"]
  ])
)("failed authentications", (it) => {
  /** Bad credentials from an address; the clock moves on while the answer is held back. */
  const fail = (key: string, address: string) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.fork(request("GET", "/tasks", { key, headers: from(address) }))
      while ((yield* Fiber.poll(fiber))._tag === "None") {
        yield* TestClock.adjust("50 millis")
        yield* Effect.promise(() => new Promise((resume) => setImmediate(resume)))
      }
      return yield* Fiber.join(fiber)
    })

  it.effect("are limited by address, and lock out nobody whose credentials are good", () =>
    Effect.gen(function* () {
      const { adminKey } = yield* ApiServer
      for (let i = 0; i < 9; i++) refusal(yield* fail("bad", "203.0.113.1"), 401, "unauthorized")
      const over = yield* fail("bad", "203.0.113.1")
      refusal(over, 429, "rate_limited")
      assert.match(over.headers.get("retry-after") ?? "", /^\d+$/)
      assert.strictEqual((yield* fail(adminKey, "203.0.113.1")).status, 200)
      assert.strictEqual((yield* fail("bad", "203.0.113.2")).status, 401)
      assert.strictEqual((yield* request("GET", "/tasks", { key: null, headers: from("203.0.113.1") })).status, 401)
    })
  )

  it.effect("are limited by key id, wherever they come from", () =>
    Effect.gen(function* () {
      yield* nextMinute
      const { key } = yield* member("attacked", ["tasks:read"])
      const guess = guessed(key)
      assert.strictEqual(guess.slice(0, 16), key.slice(0, 16))
      for (let i = 0; i < 9; i++) assert.strictEqual((yield* fail(guess, `203.0.113.${i + 10}`)).status, 401)
      refusal(yield* fail(guessed(key), "203.0.113.200"), 429, "rate_limited")
      assert.strictEqual((yield* fail(key, "203.0.113.200")).status, 200)
    })
  )

  it.effect("are held back longer and longer", () =>
    Effect.gen(function* () {
      yield* nextMinute
      const waits: Array<number> = []
      for (let i = 0; i < 9; i++) {
        const before = yield* TestClock.currentTimeMillis
        yield* fail("bad", "203.0.113.99")
        waits.push((yield* TestClock.currentTimeMillis) - before)
      }
      const late = waits.slice(4)
      assert.isAbove(late.at(-1) ?? 0, (late[0] ?? 0) * 4, waits.join(", "))
    })
  )

  it.effect("are one entry a minute in the trail, for each key id and address", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const failures = yield* AuthFailures
      yield* failures.flush
      yield* sql`SELECT 1`
      const before = yield* sql`SELECT seq FROM audit_log WHERE action = 'auth.failed'`
      yield* nextMinute
      for (let i = 0; i < 3; i++) yield* fail("bad", "203.0.113.50")
      yield* fail("bad", "203.0.113.51")
      assert.strictEqual(yield* failures.flush, 2)
      assert.strictEqual(yield* failures.flush, 0)
      const rows = yield* sql<{ subject_id: string; after: { readonly count: number } }>`
        SELECT subject_id, after FROM audit_log WHERE action = 'auth.failed' ORDER BY seq OFFSET ${before.length}`
      assert.deepStrictEqual(
        rows.map(({ after, subject_id }) => [subject_id, after.count]),
        [
          ["203.0.113.50", 3],
          ["203.0.113.51", 1]
        ]
      )
    })
  )
})

layer(apiServer())("a refused authorization", (it) => {
  it.effect("is an entry in the trail of its agent, whoever refused it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { actor, key } = yield* member("denied", ["tasks:read", "agents:admin"])
      const path = "/tasks/019cadc6-9a80-7000-8000-000000000000/run_now"
      const answer = yield* request("POST", path, { key, headers: { "x-request-id": "denied-1" } })
      refusal(answer, 403, "forbidden")
      refusal(yield* request("POST", "/agents", { key, body: { name: "more", scopes: ["admin"] } }), 403, "forbidden")
      const rows = yield* sql`
        SELECT action, subject_id, after, request_id FROM audit_log WHERE actor = ${actor.id} AND action = 'auth.forbidden' ORDER BY seq`
      assert.lengthOf(rows, 2)
      assert.deepStrictEqual(rows[0], {
        action: "auth.forbidden",
        subject_id: "POST /tasks/{id}/run_now",
        after: { path, scope: "tasks:run", address: "127.0.0.1" },
        request_id: "denied-1"
      })
      assert.deepInclude(rows[1], { subject_id: "POST /agents" })
    })
  )
})
