import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import type { JsonValue } from "../../src/domain/Json.ts"
import { SecretInfo } from "../../src/domain/Secret.ts"
import { compileTemplate } from "../../src/domain/Template.ts"
import { Agents } from "../../src/layers/Agents.ts"
import { Secrets } from "../../src/layers/Secrets.ts"
import { answered, ApiServer, apiServer, member, page, refusal, request } from "../support/ApiServer.ts"

const canary = "canary-7f3a91-never-seen"
const put = (name: string, body: unknown, key?: string) =>
  request("PUT", `/secrets/${name}`, key === undefined ? { body } : { body, key })
const stored = (name: string, value = canary, bound_to: object = { hosts: ["api.example.com"] }) =>
  put(name, { value, bound_to })
const resolve = (input: JsonValue, target: { tool?: string; host?: string | null } = {}, namespace = "main") =>
  Effect.flatMap(Secrets, (secrets) =>
    secrets.resolve(namespace, input, { tool: "core.http", host: "api.example.com", ...target })
  )

/** Everything that the tables hold, as text. */
const everything = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const tables = yield* sql<{ name: string }>`
    SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind = 'r'`
  const texts = yield* Effect.forEach(
    tables,
    ({ name }) => sql<{ row: string }>`SELECT t::text AS row FROM ${sql(name)} t`
  )
  return texts.flat().map(({ row }) => row)
})

layer(apiServer())("secrets", (it) => {
  it.effect("go in, are listed newest first without their values, are replaced and removed", () =>
    Effect.gen(function* () {
      const first = answered(yield* stored("first"), 201, SecretInfo)
      assert.deepInclude(first, { name: "first", bound_to: { hosts: ["api.example.com"] }, last_used_at: null })
      yield* TestClock.adjust("1 second")
      yield* stored("second", canary, { tools: ["mail.*"] })
      const again = answered(yield* stored("first", `${canary}-2`, { tools: ["mail.send"] }), 200, SecretInfo)
      assert.deepInclude(again, { created_at: first.created_at, bound_to: { tools: ["mail.send"] } })
      assert.notStrictEqual(again.updated_at, first.updated_at)
      const top = page(yield* request("GET", "/secrets?limit=1"), SecretInfo)
      assert.deepStrictEqual(
        top.items.map(({ name }) => name),
        ["second"]
      )
      const rest = page(yield* request("GET", `/secrets?cursor=${top.next_cursor}`), SecretInfo)
      assert.deepStrictEqual(rest.items, [again])
      assert.isNull(rest.next_cursor)
      assert.strictEqual((yield* request("DELETE", "/secrets/second")).status, 204)
      refusal(yield* request("DELETE", "/secrets/second"), 404, "secret_not_found")
      assert.lengthOf(page(yield* request("GET", "/secrets"), SecretInfo).items, 1)
    })
  )

  it.effect("show their values in no answer, no row and no audit entry", () =>
    Effect.gen(function* () {
      const value = 'canary-55aa-with-"quotes"-and-é'
      const answers = [
        yield* stored("hidden", value),
        yield* stored("hidden", value),
        yield* request("GET", "/secrets"),
        yield* put("hidden", { value, bound_to: { hosts: ["BAD HOST"] } }),
        yield* put("hidden", { value, bound_to: {}, extra: value }),
        yield* put("hidden", { value: [value], bound_to: { tools: ["a.b"] } })
      ]
      for (const { text } of answers) assert.notInclude(text, "canary-55aa")
      assert.strictEqual(yield* resolve("secret://hidden"), value)
      yield* request("DELETE", "/secrets/hidden")
      const rows = yield* everything
      assert.isTrue(rows.some((row) => row.includes("secret.replaced")))
      const hex = Buffer.from("canary-55aa").toString("hex")
      const base64 = Buffer.from("canary-55aa").toString("base64").replace(/=+$/, "").slice(0, -1)
      for (const form of ["canary-55aa", hex, base64]) {
        assert.deepStrictEqual(
          rows.filter((row) => row.includes(form)),
          [],
          form
        )
      }
      const sql = yield* SqlClient.SqlClient
      const entries = yield* sql<{ action: string; before: unknown; after: unknown }>`
        SELECT action, before, after FROM audit_log WHERE subject_kind = 'secret' AND subject_id = 'hidden' ORDER BY seq`
      const bound_to = { hosts: ["api.example.com"] }
      assert.deepStrictEqual(
        entries.map((entry) => ({ ...entry })),
        [
          { action: "secret.created", before: null, after: { bound_to } },
          { action: "secret.replaced", before: { bound_to }, after: { bound_to } },
          { action: "secret.removed", before: { bound_to }, after: null }
        ]
      )
    })
  )

  it.effect("refuse bad input by its place", () =>
    Effect.gen(function* () {
      const bound_to = { hosts: ["a.example.com"] }
      const cases: ReadonlyArray<readonly [unknown, ReadonlyArray<string>]> = [
        [{}, ["/value", "/bound_to"]],
        [{ value: "", bound_to }, ["/value"]],
        [{ value: "x".repeat(8193), bound_to }, ["/value"]],
        [{ value: 1, bound_to }, ["/value"]],
        [{ value: "x", bound_to: {} }, ["/bound_to"]],
        [{ value: "x", bound_to: { hosts: [] } }, ["/bound_to"]],
        [{ value: "x", bound_to: { hosts: ["*"] } }, ["/bound_to/hosts/0"]],
        [{ value: "x", bound_to: { tools: ["core.http"] } }, ["/bound_to/tools/0"]],
        [{ value: "x", bound_to: { host: ["a"] } }, ["/bound_to/host"]],
        [{ value: "x", bound_to, last_used_at: null }, ["/last_used_at"]],
        [{ value: "a\u0000b", bound_to }, ["/value"]],
        [[], [""]],
        [null, [""]]
      ]
      for (const [body, paths] of cases) {
        const { errors = [] } = refusal(yield* put("bad", body), 422)
        assert.deepStrictEqual(errors.map(({ path }) => path).sort(), [...paths].sort(), JSON.stringify(body))
      }
      for (const name of ["1a", "a.", "a%20b", "a".repeat(65), "%C3%A9"]) {
        const { errors } = refusal(yield* put(name, { value: "x", bound_to }), 422)
        assert.deepStrictEqual(
          errors?.map(({ path }) => path),
          ["path.name"]
        )
        refusal(yield* request("DELETE", `/secrets/${name}`), 404, "secret_not_found")
      }
      refusal(yield* put("bad", "{"), 400, "invalid_json")
      refusal(yield* request("GET", "/secrets?cursor=x"), 422)
      refusal(yield* request("GET", "/secrets?limit=0"), 422)
      refusal(yield* request("POST", "/secrets/bad", { body: {} }), 405)
    })
  )

  it.effect("are used where they are bound, and nowhere else; the refusal names the secret", () =>
    Effect.gen(function* () {
      yield* stored("host-bound", "VALUE-H", { hosts: ["api.example.com", "*.example.org"] })
      yield* stored("tool-bound", "VALUE-T", { tools: ["mail.send", "chat.*"] })
      const input = { headers: { authorization: "Bearer secret://host-bound" }, n: 1 }
      assert.deepStrictEqual(yield* resolve(input), { headers: { authorization: "Bearer VALUE-H" }, n: 1 })
      assert.strictEqual(yield* resolve("secret://host-bound", { host: "x.example.org" }), "VALUE-H")
      assert.strictEqual(yield* resolve("secret://tool-bound", { tool: "chat.post", host: null }), "VALUE-T")
      for (const [text, target] of [
        ["secret://host-bound", { host: "evil.com" }],
        ["secret://host-bound", { host: null }],
        ["secret://host-bound", { tool: "api.example.com", host: "evil.com" }],
        ["secret://tool-bound", { tool: "mail.read" }],
        ["secret://tool-bound", { tool: "core.log", host: null }],
        ["x secret://unknown", {}]
      ] as const) {
        const failed = yield* Effect.flip(resolve(text, target))
        assert.strictEqual(failed._tag, "StepFailed")
        assert.deepInclude(failed, { code: "tool_input_invalid", retryable: false })
        assert.include(failed.message, text.split("://")[1] ?? "-")
        assert.notMatch(failed.message, /VALUE/)
      }
      const plain = { text: "secret:/none", deep: [{}] }
      assert.deepStrictEqual(yield* resolve(plain), plain)
    })
  )

  it.effect("are not for text that an event brought in, and bounded in one call", () =>
    Effect.gen(function* () {
      yield* stored("mine", "VALUE-M")
      const secrets = yield* Secrets
      const target = { tool: "core.http", host: "api.example.com" }
      const written = yield* compileTemplate({ key: "secret://mine", text: "${event.payload}" }, "")
      const rendered = { key: "secret://mine", text: "secret://mine and secret://unknown" }
      assert.deepStrictEqual(yield* secrets.reveal("main", rendered, target, written), {
        input: { key: "VALUE-M", text: "secret://mine and secret://unknown" },
        used: new Map([["mine", "VALUE-M"]])
      })
      const many = Array.from({ length: 33 }, (_, i) => `secret://s${i}`)
      assert.match((yield* Effect.flip(resolve(many))).message, /at most 32 secrets/)
      yield* stored("large", "x".repeat(8192))
      assert.match(
        (yield* Effect.flip(resolve(Array.from({ length: 200 }, () => "secret://large")))).message,
        /add more than 1048576 bytes/
      )
    })
  )

  it.effect("remember their last use, at most once a minute", () =>
    Effect.gen(function* () {
      yield* stored("used")
      const last = Effect.map(
        request("GET", "/secrets"),
        (answer) => page(answer, SecretInfo).items.find(({ name }) => name === "used")?.last_used_at
      )
      assert.isNull(yield* last)
      yield* resolve("secret://used")
      const first = yield* last
      assert.isString(first)
      yield* TestClock.adjust("59 seconds")
      yield* resolve("secret://used")
      assert.strictEqual(yield* last, first)
      yield* TestClock.adjust("1 second")
      yield* resolve("secret://used")
      assert.notStrictEqual(yield* last, first)
      yield* Effect.flip(resolve("secret://used", { host: "evil.com" }))
    })
  )

  it.effect("of another namespace are unknown", () =>
    Effect.gen(function* () {
      const { admin } = yield* ApiServer
      const agents = yield* Agents
      const made = yield* agents.create(admin, {
        name: "foreigner",
        namespace: "elsewhere",
        scopes: ["secrets:write"],
        disabled: false,
        max_tasks: 1,
        max_concurrent_runs: null,
        rate_per_minute: null,
        budgets: []
      })
      const { key } = yield* agents.issueKey(admin, made.id, {})
      yield* stored("shared-name", "VALUE-MAIN")
      assert.isEmpty(page(yield* request("GET", "/secrets", { key }), SecretInfo).items)
      refusal(yield* request("DELETE", "/secrets/shared-name", { key }), 404)
      const there = { value: "VALUE-THERE", bound_to: { hosts: ["api.example.com"] } }
      assert.strictEqual((yield* put("shared-name", there, key)).status, 201)
      assert.strictEqual(yield* resolve("secret://shared-name"), "VALUE-MAIN")
      assert.strictEqual(yield* resolve("secret://shared-name", {}, "elsewhere"), "VALUE-THERE")
      assert.strictEqual((yield* Effect.flip(resolve("secret://shared-name", {}, "third")))._tag, "StepFailed")
      // A row that is copied over does not open as another namespace's.
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        UPDATE secret SET (sealed, data_key) = (SELECT sealed, data_key FROM secret
          WHERE namespace = 'main' AND name = 'shared-name') WHERE namespace = 'elsewhere'`
      const failed = yield* Effect.flip(resolve("secret://shared-name", {}, "elsewhere"))
      assert.deepInclude(failed, { code: "internal", retryable: true })
    })
  )

  it.effect("that come at once are stored one after the other", () =>
    Effect.gen(function* () {
      const answers = yield* Effect.all(
        Array.from({ length: 8 }, (_, i) => stored("raced", `value-${i}`)),
        { concurrency: 8 }
      )
      assert.deepStrictEqual(answers.map(({ status }) => status).sort(), [200, 200, 200, 200, 200, 200, 200, 201])
    })
  )

  it.effect("need their scope", () =>
    Effect.gen(function* () {
      const { key } = yield* member("no-secrets", ["tasks:*", "extensions:*"])
      for (const method of ["GET", "PUT", "DELETE"]) {
        const path = method === "GET" ? "/secrets" : "/secrets/first"
        refusal(yield* request(method, path, { key }), 403, "forbidden")
      }
    })
  )
})
