import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { ExtensionInfo, ExtensionRegistered, signingBytes, ToolInfo } from "../../src/domain/Registration.ts"
import { coreToolNames } from "../../src/domain/CoreInputs.ts"
import { Agents } from "../../src/layers/Agents.ts"
import { Extensions } from "../../src/layers/Extensions.ts"
import { JsonSchemas } from "../../src/layers/JsonSchemas.ts"
import { answered, ApiServer, apiServer, member, page, refusal, request } from "../support/ApiServer.ts"

const send = {
  name: "send",
  description: "Sends a mail",
  input_schema: { type: "object", required: ["to"], properties: { to: { type: "string" } } },
  timeout_seconds: 20
}
const http = { kind: "http", base_url: "https://tools.example.com/v1", tools: [send] }

const put = (name: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
  request("PUT", `/extensions/${name}`, { body, headers })
const registered = (name: string, body: unknown = http) =>
  Effect.map(put(name, body), (answer) => answered(answer, 201, ExtensionRegistered))
const changed = (name: string, body: unknown) =>
  Effect.map(put(name, body), (answer) => answered(answer, 200, ExtensionRegistered))
const credentials = (name: string) => Effect.flatMap(Extensions, (extensions) => extensions.credentials("main", name))
const find = (name: string, namespace = "main") =>
  Effect.flatMap(Extensions, (extensions) => extensions.find(namespace, name))

/** An agent of another namespace with a key. */
const foreigner = (name: string, scopes: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { admin } = yield* ApiServer
    const agents = yield* Agents
    const made = yield* agents.create(admin, {
      name,
      namespace: name,
      scopes,
      disabled: false,
      max_tasks: 1,
      max_concurrent_runs: null,
      rate_per_minute: null,
      budgets: []
    })
    return (yield* agents.issueKey(admin, made.id, {})).key
  })

layer(apiServer())("extensions", (it) => {
  it.effect("are registered, read, listed newest first, changed and removed", () =>
    Effect.gen(function* () {
      const answer = yield* put("mail", http)
      assert.strictEqual(answer.headers.get("location"), "/extensions/mail")
      assert.strictEqual(answer.headers.get("etag"), '"1"')
      const { signing_secret, ...made } = answered(answer, 201, ExtensionRegistered)
      assert.deepInclude(made, {
        name: "mail",
        kind: "http",
        base_url: "https://tools.example.com/v1",
        tools: [send],
        auth: null,
        served_by: [],
        state: "ready",
        last_error: null,
        version: 1
      })
      assert.strictEqual(signingBytes(signing_secret ?? "")?.length, 32)
      const read = yield* request("GET", "/extensions/mail")
      assert.strictEqual(read.headers.get("etag"), '"1"')
      assert.deepStrictEqual(answered(read, 200, ExtensionInfo), made)
      yield* TestClock.adjust("1 second")
      yield* registered("jobs", { kind: "worker", tools: [{ name: "crunch" }], served_by: ["cruncher"] })
      const second = yield* changed("mail", { ...http, base_url: "https://tools.example.com/v2/", tools: [] })
      assert.deepInclude(second, {
        version: 2,
        base_url: "https://tools.example.com/v2",
        tools: [],
        created_at: made.created_at
      })
      assert.notProperty(second, "signing_secret")
      const top = page(yield* request("GET", "/extensions?limit=1"), ExtensionInfo)
      assert.deepStrictEqual(
        top.items.map(({ name }) => name),
        ["jobs"]
      )
      const rest = page(yield* request("GET", `/extensions?cursor=${top.next_cursor}`), ExtensionInfo)
      assert.deepStrictEqual(rest.items, [second])
      assert.strictEqual((yield* request("DELETE", "/extensions/jobs")).status, 204)
      for (const method of ["GET", "DELETE"])
        refusal(yield* request(method, "/extensions/jobs"), 404, "extension_not_found")
    })
  )

  it.effect("change only as their ETag says", () =>
    Effect.gen(function* () {
      yield* registered("tagged")
      const at = (tag: string) => ({ "if-match": tag })
      assert.strictEqual((yield* put("tagged", http, at('"1"'))).status, 200)
      const stale = yield* put("tagged", http, at('"1"'))
      assert.strictEqual(refusal(stale, 412, "version_mismatch").status, 412)
      assert.strictEqual((stale.body as { readonly version: number }).version, 2)
      refusal(yield* put("absent", http, at('"1"')), 412, "version_mismatch")
      refusal(yield* put("tagged", http, at("2")), 400, "invalid_header")
      refusal(yield* request("DELETE", "/extensions/tagged", { headers: at('"1"') }), 412, "version_mismatch")
      assert.strictEqual((yield* put("tagged", http, at("*"))).status, 200)
      assert.strictEqual((yield* request("DELETE", "/extensions/tagged", { headers: at('"3"') })).status, 204)
      refusal(yield* request("DELETE", "/extensions/tagged", { headers: at('"3"') }), 404)
    })
  )

  it.effect(
    "refuse bad input by its place",
    () =>
      Effect.gen(function* () {
        const tool = (more: object) => ({ ...http, tools: [{ name: "t", ...more }] })
        const auth = (more: object) => ({ ...http, auth: { kind: "bearer", secret: "s", ...more } })
        const url = (base_url: unknown) => ({ ...http, base_url })
        const worker = { kind: "worker", tools: [{ name: "t" }] }
        const cases: ReadonlyArray<readonly [unknown, ReadonlyArray<string>]> = [
          [{}, ["/kind"]],
          [{ kind: "grpc" }, ["/kind"]],
          [{ kind: "http" }, ["/base_url", "/tools"]],
          [{ kind: "mcp" }, ["/base_url"]],
          [{ kind: "worker" }, ["/tools"]],
          [{ kind: "simulated" }, ["/tools"]],
          [{ ...worker, base_url: "https://a.example.com", auth: null }, ["/auth", "/base_url"]],
          [{ ...worker, signing_secret: `whsec_${btoa("x".repeat(24))}` }, ["/signing_secret"]],
          [{ ...http, served_by: ["a"] }, ["/served_by"]],
          [{ ...worker, served_by: ["a b"] }, ["/served_by/0"]],
          ...[
            "ftp://a.example.com",
            "tools.example.com",
            "https://",
            "https://u:p@a.example.com",
            "https://@a.example.com",
            "https://a.example.com?x=1",
            "https://a.example.com/#",
            " https://a.example.com",
            "https://a.example.com/a b",
            "https://a.example.com/\\..",
            "javascript:alert(1)",
            `https://a.example.com/${"x".repeat(2048)}`,
            1,
            null
          ].map((text) => [url(text), ["/base_url"]] as const),
          [tool({ name: "a b" }), ["/tools/0/name"]],
          [{ ...http, tools: [{ name: "t" }, { name: "u" }, { name: "t" }] }, ["/tools/2/name"]],
          [{ ...http, tools: Array.from({ length: 201 }, (_, i) => ({ name: `t${i}` })) }, ["/tools"]],
          [tool({ timeout_seconds: 0 }), ["/tools/0/timeout_seconds"]],
          [tool({ timeout: 1 }), ["/tools/0/timeout"]],
          [tool({ input_schema: { type: "strin" } }), ["/tools/0/input_schema/type"]],
          [tool({ output_schema: { $ref: "https://example.com/s" } }), ["/tools/0/output_schema"]],
          [tool({ input_schema: { $ref: "#" } }), ["/tools/0/input_schema"]],
          [tool({ input_schema: { pattern: "(?=x)" } }), ["/tools/0/input_schema"]],
          [tool({ input_schema: { enum: ["x".repeat(70_000)] } }), ["/tools/0/input_schema"]],
          [tool({ input_schema: [] }), ["/tools/0/input_schema"]],
          [auth({ kind: "digest" }), ["/auth/kind"]],
          [auth({ secret: "" }), ["/auth/secret"]],
          [auth({ secret: "a\nb: c" }), ["/auth/secret"]],
          [auth({ kind: "basic", secret: "nocolon" }), ["/auth/secret"]],
          [auth({ kind: "header" }), ["/auth/header"]],
          [auth({ kind: "header", header: "Host" }), ["/auth/header"]],
          [auth({ kind: "header", header: "a b" }), ["/auth/header"]],
          [auth({ header: "x-key" }), ["/auth/header"]],
          [auth({ token: "x" }), ["/auth/token"]],
          ...[
            "secret",
            "whsec_",
            `whsec_${btoa("short")}`,
            `whsec_${btoa("x".repeat(65))}`,
            `whsec_${"!".repeat(40)}`
          ].map((text) => [{ ...http, signing_secret: text }, ["/signing_secret"]] as const),
          [{ ...http, signing_secret: null }, ["/signing_secret"]],
          [{ ...http, version: 3 }, ["/version"]],
          [[], [""]]
        ]
        for (const [body, paths] of cases) {
          const { errors = [] } = refusal(yield* put("bad", body), 422)
          assert.deepStrictEqual(
            errors.map(({ path }) => path).sort(),
            [...paths].sort(),
            JSON.stringify(body).slice(0, 300)
          )
        }
        for (const name of ["core", "1a", "a.b", "a%20b", "a".repeat(65)]) {
          const { errors } = refusal(yield* put(name, http), 422)
          assert.deepStrictEqual(
            errors?.map(({ path }) => path),
            ["path.name"]
          )
          for (const method of ["GET", "DELETE"]) refusal(yield* request(method, `/extensions/${name}`), 404)
        }
        refusal(yield* put("bad", "{"), 400, "invalid_json")
        for (const path of ["/extensions", "/tools"])
          for (const query of ["cursor=x", "limit=0", "q=1"]) refusal(yield* request("GET", `${path}?${query}`), 422)
        refusal(yield* request("GET", "/extensions/bad"), 404)
      }),
    60_000
  )

  it.effect("keep credentials that are left out, drop those that are null, and tell none", () =>
    Effect.gen(function* () {
      const canary = "canary-c0ffee-credentials"
      const signing = `whsec_${Buffer.from(canary.padEnd(32, "x")).toString("base64")}`
      const body = { ...http, auth: { kind: "header", header: "X-Api-Key", secret: canary }, signing_secret: signing }
      const made = yield* registered("sealed", body)
      assert.deepStrictEqual(made.auth, { kind: "header", header: "X-Api-Key" })
      assert.notProperty(made, "signing_secret")
      const opened = yield* credentials("sealed")
      assert.deepStrictEqual(opened?.auth, { kind: "header", header: "X-Api-Key", secret: canary })
      assert.deepStrictEqual(Buffer.from(opened?.signingSecret ?? []), Buffer.from(canary.padEnd(32, "x")))
      const kept = yield* changed("sealed", http)
      assert.deepStrictEqual(kept.auth, { kind: "header", header: "X-Api-Key" })
      assert.deepStrictEqual(yield* credentials("sealed"), opened)
      const replaced = yield* changed("sealed", { ...http, auth: { kind: "basic", secret: `user:${canary}` } })
      assert.deepStrictEqual(replaced.auth, { kind: "basic" })
      assert.deepStrictEqual((yield* credentials("sealed"))?.auth, { kind: "basic", secret: `user:${canary}` })
      const answers = [
        yield* put("sealed", body),
        yield* request("GET", "/extensions/sealed"),
        yield* request("GET", "/extensions"),
        yield* request("GET", "/tools"),
        yield* put("sealed", { ...body, auth: { kind: canary, secret: canary } })
      ]
      for (const { text } of answers) {
        assert.notInclude(text, "whsec_")
        assert.notInclude(text, canary)
      }
      const removed = yield* changed("sealed", { ...http, auth: null })
      assert.isNull(removed.auth)
      assert.isNull((yield* credentials("sealed"))?.auth)
      assert.isNotNull((yield* credentials("sealed"))?.signingSecret)
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql<{ text: string }>`
        SELECT t::text AS text FROM extension t UNION ALL SELECT a::text FROM audit_log a`
      assert.isTrue(rows.some(({ text }) => text.includes("extension.changed")))
      for (const form of [
        canary,
        Buffer.from(canary).toString("hex"),
        "whsec_",
        Buffer.from(canary).toString("base64").slice(0, 20)
      ]) {
        assert.isEmpty(
          rows.filter(({ text }) => text.includes(form)),
          form
        )
      }
    })
  )

  it.effect("send kept credentials to no other origin", () =>
    Effect.gen(function* () {
      yield* registered("moved", { ...http, auth: { kind: "bearer", secret: "token" } })
      for (const base_url of [
        "https://evil.example.com/v1",
        "http://tools.example.com/v1",
        "https://tools.example.com:8443/v1"
      ]) {
        const { errors } = refusal(yield* put("moved", { ...http, base_url }), 422)
        assert.deepStrictEqual(
          errors?.map(({ path }) => path),
          ["/auth"]
        )
      }
      yield* changed("moved", { ...http, base_url: "https://tools.example.com/v9" })
      assert.deepStrictEqual((yield* credentials("moved"))?.auth, { kind: "bearer", secret: "token" })
      yield* changed("moved", { ...http, base_url: "https://other.example.com", auth: null })
      yield* changed("moved", { ...http, base_url: "https://other.example.com", auth: { kind: "bearer", secret: "o" } })
      const simulated = yield* changed("moved", { kind: "simulated", tools: [] })
      assert.isNull(simulated.auth)
      assert.deepStrictEqual(yield* credentials("moved"), { auth: null, signingSecret: null })
      const again = yield* changed("moved", http)
      assert.isString(again.signing_secret)
    })
  )

  it.effect("whose credentials do not open say so, and take new ones", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* registered("tampered", { ...http, auth: { kind: "bearer", secret: "token" } })
      yield* sql`UPDATE extension SET sealed = set_byte(sealed, 20, (get_byte(sealed, 20) + 1) % 256) WHERE name = 'tampered'`
      yield* TestClock.adjust("2 seconds")
      const failed = yield* Effect.flip(credentials("tampered"))
      assert.deepInclude(failed, { _tag: "Unopenable", reason: "tampered" })
      refusal(yield* put("tampered", http), 409, "credentials_unreadable")
      const signing_secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`
      yield* changed("tampered", { ...http, auth: { kind: "bearer", secret: "new" }, signing_secret })
      assert.deepStrictEqual((yield* credentials("tampered"))?.auth, { kind: "bearer", secret: "new" })
      yield* sql`UPDATE extension SET key_id = 'another key' WHERE name = 'tampered'`
      yield* TestClock.adjust("2 seconds")
      assert.deepInclude(yield* Effect.flip(credentials("tampered")), { reason: "unknown_key" })
    })
  )

  it.effect("are found as they were at most a second ago", () =>
    Effect.gen(function* () {
      assert.isNull(yield* find("cached"))
      yield* registered("cached")
      assert.deepInclude(yield* find("cached"), { namespace: "main", name: "cached", kind: "http", version: 1 })
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE extension SET version = 7 WHERE name = 'cached'`
      assert.strictEqual((yield* find("cached"))?.version, 1)
      yield* TestClock.adjust("1001 millis")
      assert.strictEqual((yield* find("cached"))?.version, 7)
      yield* request("DELETE", "/extensions/cached")
      assert.isNull(yield* find("cached"))
      assert.isNull(yield* credentials("cached"))
      assert.isNull(yield* find("core"))
      assert.isNull(yield* find("a/b"))
    })
  )

  it.effect("of kind mcp take the tools that their server lists, as far as they can be used", () =>
    Effect.gen(function* () {
      const extensions = yield* Extensions
      const mcp = { kind: "mcp", base_url: "https://mcp.example.com/mcp" }
      const read = Effect.map(request("GET", "/extensions/files"), (answer) => answered(answer, 200, ExtensionInfo))
      assert.deepInclude(yield* registered("files", mcp), { tools: [], state: "unlisted" })
      yield* extensions.learned("main", "files", 1, [], "the server does not answer")
      assert.deepInclude(yield* read, { tools: [], state: "failing", last_error: "the server does not answer" })
      const good = {
        name: "read",
        input_schema: { $schema: "http://json-schema.org/draft-07/schema#", type: "object" }
      }
      const bad = { name: "write", input_schema: { $ref: "https://example.com/s" } }
      yield* extensions.learned("main", "files", 1, [good, bad], null)
      const listed = yield* read
      assert.deepInclude(listed, { tools: [good], state: "ready", version: 1 })
      assert.match(listed.last_error ?? "", /^left out: write\/input_schema: refers to https:\/\/example.com\/s/)
      assert.deepStrictEqual((yield* find("files"))?.tools, [good])
      yield* extensions.learned("main", "files", 1, [], "gone")
      assert.deepInclude(yield* read, { tools: [good], state: "failing", last_error: "gone" })
      // The same again is no change, and what is told of an older registration is not taken.
      const sql = yield* SqlClient.SqlClient
      const entries = Effect.map(
        sql<{ n: number }>`SELECT count(*)::integer AS n FROM audit_log WHERE subject_id = 'files'`,
        ([row]) => row?.n
      )
      const before = yield* entries
      yield* extensions.learned("main", "files", 1, [], "gone")
      assert.strictEqual(yield* entries, before)
      yield* changed("files", { ...mcp, tools: [{ name: "pinned" }] })
      yield* extensions.learned("main", "files", 1, [good], null)
      assert.deepInclude(yield* read, { tools: [{ name: "pinned" }], state: "ready", version: 2 })
      yield* extensions.learned("main", "files", 2, [good], null)
      assert.deepInclude(yield* read, { tools: [{ name: "pinned" }], state: "ready", last_error: null })
      yield* extensions.learned("main", "absent", 1, [good], null)
      const many = Array.from({ length: 203 }, (_, i) => ({ name: `t${i}` }))
      yield* changed("files", mcp)
      yield* extensions.learned("main", "files", 3, many, null)
      const most = yield* read
      assert.lengthOf(most.tools, 200)
      assert.strictEqual(
        most.last_error,
        "left out: t200: is one too many; t201: is one too many; t202: is one too many"
      )
    })
  )

  it.effect("of another namespace are unknown, their tools too", () =>
    Effect.gen(function* () {
      const key = yield* foreigner("elsewhere", ["extensions:*"])
      yield* registered("private")
      refusal(yield* request("GET", "/extensions/private", { key }), 404, "extension_not_found")
      refusal(yield* request("DELETE", "/extensions/private", { key }), 404, "extension_not_found")
      assert.isEmpty(page(yield* request("GET", "/extensions", { key }), ExtensionInfo).items)
      const tools = page(yield* request("GET", "/tools?limit=200", { key }), ToolInfo).items
      assert.isTrue(tools.every(({ extension }) => extension === "core"))
      assert.isNull(yield* find("private", "elsewhere"))
      const theirs = yield* request("PUT", "/extensions/private", { key, body: { kind: "simulated", tools: [] } })
      assert.strictEqual(theirs.status, 201)
      assert.strictEqual((yield* find("private"))?.kind, "http")
      assert.strictEqual((yield* find("private", "elsewhere"))?.kind, "simulated")
    })
  )

  it.effect("leave an entry of each change, with no secret in it", () =>
    Effect.gen(function* () {
      yield* registered("audited", { ...http, auth: { kind: "bearer", secret: "canary" } })
      yield* changed("audited", http)
      refusal(yield* put("audited", http, { "if-match": '"1"' }), 412)
      yield* request("DELETE", "/extensions/audited")
      const sql = yield* SqlClient.SqlClient
      const entries = yield* sql<{ action: string; before: object | null; after: object | null }>`
        SELECT action, before, after FROM audit_log WHERE subject_kind = 'extension' AND subject_id = 'audited' ORDER BY seq`
      assert.deepStrictEqual(
        entries.map(({ action }) => action),
        ["extension.registered", "extension.changed", "extension.removed"]
      )
      assert.deepInclude(entries[1]?.before, { version: 1, auth: { kind: "bearer" } })
      assert.deepInclude(entries[1]?.after, { version: 2, auth: { kind: "bearer" } })
      assert.isNull(entries[2]?.after)
    })
  )

  it.effect("need their scopes", () =>
    Effect.gen(function* () {
      const { key } = yield* member("reader-of-extensions", ["extensions:read"])
      assert.strictEqual((yield* request("GET", "/tools", { key })).status, 200)
      assert.strictEqual((yield* request("GET", "/extensions", { key })).status, 200)
      for (const method of ["PUT", "DELETE"])
        refusal(yield* request(method, "/extensions/mail", { key }), 403, "forbidden")
    })
  )

  it.effect("that come at once are registered one after the other", () =>
    Effect.gen(function* () {
      const answers = yield* Effect.all(
        Array.from({ length: 6 }, () => put("raced", http)),
        { concurrency: 6 }
      )
      assert.deepStrictEqual(answers.map(({ headers, status }) => `${status} ${headers.get("etag")}`).sort(), [
        '200 "2"',
        '200 "3"',
        '200 "4"',
        '200 "5"',
        '200 "6"',
        '201 "1"'
      ])
      assert.lengthOf(
        answers.filter(({ text }) => text.includes("whsec_")),
        1
      )
    })
  )
})

layer(apiServer())("GET /tools", (it) => {
  it.effect("lists every tool by address, those of core first known, page by page", () =>
    Effect.gen(function* () {
      const core = page(yield* request("GET", "/tools?limit=200"), ToolInfo)
      assert.deepStrictEqual(
        core.items.map(({ address }) => address).sort(),
        coreToolNames.map((name) => `core.${name}`).sort()
      )
      const schemas = yield* JsonSchemas
      for (const { address, description, input_schema, kind } of core.items) {
        assert.strictEqual(kind, "core")
        assert.isNotEmpty(description, address)
        assert.isNotNull(input_schema, address)
        yield* schemas.check(input_schema ?? {})
      }
      const many = Array.from({ length: 60 }, (_, i) => ({ name: `t${i}` }))
      yield* registered("mail", { ...http, tools: [send, ...many] })
      yield* registered("Batch", { kind: "simulated", tools: [{ name: "run.all", idempotent: true }] })
      const seen: Array<typeof ToolInfo.Encoded> = []
      for (let cursor: string | null = ""; cursor !== null;) {
        const query: string = cursor === "" ? "" : `&cursor=${cursor}`
        const next: { readonly items: ReadonlyArray<typeof ToolInfo.Encoded>; readonly next_cursor: string | null } =
          page(yield* request("GET", `/tools?limit=7${query}`), ToolInfo)
        seen.push(...next.items)
        cursor = next.next_cursor
      }
      const addresses = seen.map(({ address }) => address)
      assert.lengthOf(addresses, core.items.length + 62)
      assert.deepStrictEqual(addresses, [...new Set(addresses)].sort())
      assert.deepInclude(seen, {
        address: "mail.send",
        extension: "mail",
        kind: "http",
        description: "Sends a mail",
        input_schema: send.input_schema,
        output_schema: null,
        timeout_seconds: 20,
        idempotent: false
      })
      assert.deepInclude(seen, {
        address: "Batch.run.all",
        extension: "Batch",
        kind: "simulated",
        description: "",
        input_schema: null,
        output_schema: null,
        timeout_seconds: 30,
        idempotent: true
      })
    })
  )
})
