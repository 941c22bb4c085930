import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { randomBytes } from "node:crypto"
import { readdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import { readCard, urlOf } from "../../src/layers/EmbeddedDbCluster.ts"
import * as HttpServer from "../support/httpServer.ts"
import * as Programs from "../support/programs.ts"

const { eventually, query } = Programs

/** The forms in which a text may be found. */
const forms = (text: string): ReadonlyArray<Buffer> => {
  const bytes = Buffer.from(text)
  return [
    text,
    bytes.toString("hex"),
    bytes.toString("base64").replace(/=+$/, ""),
    bytes.toString("base64url"),
    encodeURIComponent(text),
    JSON.stringify(text).slice(1, -1)
  ].map((form) => Buffer.from(form))
}

const secretPart = (key: string) => key.split("_")[2] ?? ""

const kept = /\/(?:admin\.key|ordinaut\.json)$/

/** Every file below a folder, whole. */
const files = async (folder: string): Promise<ReadonlyArray<readonly [string, Buffer]>> => {
  const found = await readdir(folder, { recursive: true, withFileTypes: true })
  return Promise.all(
    found
      .filter((entry) => entry.isFile())
      .map(async ({ name, parentPath }) => {
        const path = join(parentPath, name)
        return [path, await readFile(path).catch(() => Buffer.alloc(0))] as const
      })
  )
}

const rowsOf = (database: string) =>
  Effect.gen(function* () {
    const tables = yield* query(
      database,
      Schema.Struct({ name: Schema.String }),
      "SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    const texts = yield* Effect.forEach(tables, ({ name }) =>
      query(database, Schema.Struct({ row: Schema.String }), `SELECT t::text AS row FROM ${name} t`)
    )
    return texts.flat().map(({ row }) => row)
  })

const Issued = Schema.Struct({ key: Schema.String })
const Token = Schema.Struct({ access_token: Schema.String })
const Started = Schema.Struct({ run_id: Schema.String })
const Id = Schema.Struct({ id: Schema.String })
const Registered = Schema.Struct({ signing_secret: Schema.String })

describe("secrets", () => {
  it.scopedLive(
    "are in no log, metric, trace, error, row or file, and in no answer but the one that is meant to bear them",
    () =>
      Effect.gen(function* () {
        // A tool that answers with all that it was sent, and a collector of traces.
        const echo = yield* HttpServer.serve((request, response) =>
          response
            .writeHead(request.path.startsWith("/fail") ? 500 : 200, { "content-type": "application/json" })
            .end(JSON.stringify({ headers: request.headers, body: request.body }))
        )
        const collector = yield* HttpServer.answering(200, {}, "{}")
        const folder = yield* Programs.dataFolder
        const adminKey = fromRandom(randomBytes(41)).text
        const master = randomBytes(48)
        const env = {
          ORDINAUT_DATA_DIR: folder,
          ORDINAUT_ADMIN_KEY: adminKey,
          ORDINAUT_SECRET: master.toString("base64"),
          METRICS_TOKEN: "canary-metrics-5b1f9d",
          ORDINAUT_ALLOW_PRIVATE_TARGETS: "127.0.0.1",
          ORDINAUT_ALLOWED_PORTS: "1-65535",
          OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
          LOG_LEVEL: "trace"
        }
        const program = yield* Programs.start("all", env)
        const answers: Array<string> = []
        const ask = (method: string, path: string, body?: unknown, token = adminKey) =>
          Effect.promise(async () => {
            const answer = await fetch(`${program.url}${path}`, {
              method,
              headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
              ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) })
            })
            const text = await answer.text()
            return { status: answer.status, text, headers: JSON.stringify([...answer.headers]) }
          })
        const send = (method: string, path: string, body?: unknown, token?: string) =>
          Effect.tap(ask(method, path, body, token), ({ headers, text }) => void answers.push(headers, text))
        const read = <A, I>(schema: Schema.Schema<A, I>, { text }: { readonly text: string }) =>
          Schema.decodeUnknownSync(Schema.parseJson(schema))(text)

        const canaries = new Map([
          ["the master key", env.ORDINAUT_SECRET],
          ["the admin's key", secretPart(adminKey)],
          ["the token of metrics", env.METRICS_TOKEN],
          ["a secret", 'canary-value-"71c0e4"'],
          ["another secret", "canary-unused-09d2aa"],
          ["an extension's credential", "canary-credential-3f77b0"]
        ])
        const value = canaries.get("a secret") ?? ""
        const bound = { hosts: ["127.0.0.1"] }
        yield* send("PUT", "/secrets/used", { value, bound_to: bound })
        yield* send("PUT", "/secrets/unused", { value: canaries.get("another secret"), bound_to: bound })
        // Refused with the value in it.
        yield* send("PUT", "/secrets/used", { value, bound_to: bound, extra: 1 })
        yield* send("PUT", "/secrets/-bad-", { value, bound_to: bound })
        yield* send("PUT", "/secrets/used", `{"value": ${JSON.stringify(value)}, "bound_to": {`)

        const tools = [{ name: "call" }]
        const auth = { kind: "bearer", secret: canaries.get("an extension's credential") }
        const made = yield* ask("PUT", "/extensions/echo", { kind: "http", base_url: echo.url, tools, auth })
        canaries.set("a signing secret", read(Registered, made).signing_secret)
        yield* send("PUT", "/extensions/echo", { kind: "http", base_url: "ftp://x", tools, auth })

        const agent = read(Id, yield* send("POST", "/agents", { name: "one", scopes: ["tasks:read"] })).id
        const issued = read(Issued, yield* ask("POST", `/agents/${agent}/keys`, { name: "k" })).key
        canaries.set("an agent's key", secretPart(issued))
        const token = read(Token, yield* ask("POST", "/auth/token", {}, issued)).access_token
        canaries.set("a token", token.split(".")[2] ?? "")
        // Good, bad, in the wrong place.
        for (const credentials of [issued, token, `${issued}x`, `${token.slice(0, -2)}`, issued.replace("ord_", "")]) {
          yield* send("GET", "/tasks", undefined, credentials)
          yield* send("POST", "/tasks", {}, credentials)
          yield* send("GET", `/tasks?q=${encodeURIComponent("x")}&access_token=1`, undefined, credentials)
        }

        const step = (id: string, uses: string, input: unknown) => ({ id, uses, with: input, on_error: "continue" })
        const headers = { "x-token": "secret://used" }
        const pipeline = [
          step("echoed", "core.http", { method: "POST", url: `${echo.url}/ok`, headers, body: { a: "secret://used" } }),
          step("failed", "core.http", { method: "POST", url: `${echo.url}/fail`, headers }),
          step("away", "core.http", { method: "GET", url: "http://127.0.0.1:1/", headers }),
          step("elsewhere", "core.http", { method: "GET", url: "http://localhost:1/", headers }),
          step("tool", "echo.call", { text: "secret://used" }),
          step("told", "core.log", { message: "${steps.echoed}" })
        ]
        const task = yield* send("POST", "/tasks", {
          title: "canaries",
          schedule_kind: "once",
          schedule_expr: "2100-01-01T00:00:00Z",
          max_retries: 0,
          payload: { pipeline }
        })
        assert.strictEqual(task.status, 201, task.text)
        const { id } = read(Id, task)
        const { run_id } = read(Started, yield* send("POST", `/tasks/${id}/run_now`))
        const ended = Schema.Struct({ state: Schema.Literal("queued", "running", "waiting", "succeeded", "failed") })
        const run = yield* eventually(
          "end of the run",
          20,
          Effect.map(send("GET", `/runs/${run_id}`), (answer) =>
            ["succeeded", "failed"].includes(read(ended, answer).state) ? answer.text : undefined
          )
        )
        // The tools got them.
        const called = echo.seen.map((request) => JSON.stringify(request.headers) + request.body).join("\n")
        assert.include(called, "canary-value-")
        assert.include(called, canaries.get("an extension's credential") ?? "", run)
        for (const path of [
          "/secrets",
          "/extensions",
          "/agents",
          "/audit",
          "/events",
          "/tools",
          "/runs",
          "/health",
          "/docs"
        ]) {
          yield* send("GET", path)
        }
        yield* send("GET", "/openapi.json")
        yield* send("GET", "/metrics", undefined, env.METRICS_TOKEN)
        yield* send("GET", "/metrics", undefined, `${env.METRICS_TOKEN}x`)
        const sofar = collector.seen.length
        yield* eventually(
          "trace",
          15,
          Effect.sync(() => (collector.seen.length > sofar ? true : undefined))
        )

        const card = yield* Effect.orDie(readCard(join(folder, "postgres")))
        canaries.set("the database's password", card.password)
        const rows = yield* rowsOf(urlOf(card))
        const cmdline = yield* Effect.promise(() => readFile(`/proc/${program.pid}/cmdline`, "utf8").catch(() => ""))
        assert.strictEqual(yield* program.stop("SIGTERM"), 0)
        const places = [
          ["answers", Buffer.from(answers.join("\n"))],
          ["standard output", Buffer.from(program.output())],
          ["standard error", Buffer.from(program.errors())],
          ["traces", Buffer.from(collector.seen.map(({ body }) => body).join("\n"))],
          ["rows", Buffer.from(rows.join("\n"))],
          ["the command line", Buffer.from(cmdline)],
          // But where the admin's key and the database's password are kept, for the eyes of the owner.
          ...(yield* Effect.promise(() => files(folder))).filter(([path]) => !kept.test(path))
        ] as const
        const found = [...canaries].flatMap(([name, canary]) =>
          places.flatMap(([place, held]) =>
            forms(canary).some((form) => held.includes(form)) ? [`${name} in ${place}`] : []
          )
        )
        const raw = places.flatMap(([place, held]) =>
          held.includes(master) ? [`the master key's bytes in ${place}`] : []
        )
        assert.deepStrictEqual([...found, ...raw], [])
        // What is looked through is what there is.
        assert.isAbove(rows.length, 20)
        assert.isAbove(
          places.reduce((sum, [, held]) => sum + held.length, 0),
          10_000_000
        )
        assert.include(program.output(), '"logLevel":"')
        assert.include(collector.seen.map(({ body }) => body).join(), "Confidential.call")
      }),
    90_000
  )

  it.scopedLive(
    "of the database's URL are not told by a program that cannot reach it",
    () =>
      Effect.gen(function* () {
        const program = yield* Programs.run("migrate", {
          DATABASE_URL: "postgres://canary-user:canary-password-88ef@127.0.0.1:1/ordinaut",
          ORDINAUT_SECRET: randomBytes(32).toString("base64"),
          ORDINAUT_ADMIN_KEY: fromRandom(randomBytes(41)).text,
          LOG_LEVEL: "trace"
        })
        yield* eventually(
          "word of the missing database",
          20,
          Effect.sync(() => (/database/i.test(program.output() + program.errors()) ? true : undefined))
        )
        yield* program.stop("SIGTERM")
        assert.notInclude(program.output() + program.errors(), "canary-password")
      }),
    40_000
  )
})
