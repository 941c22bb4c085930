import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Task } from "../../src/domain/Task.ts"
import { Agents } from "../../src/layers/Agents.ts"
import { answered, ApiServer, apiServer, newTask, refusal, request, taskBody } from "../support/ApiServer.ts"

const schema = {
  type: "object",
  required: ["to"],
  properties: { to: { type: "string", maxLength: 10 }, n: { type: "integer" } },
  additionalProperties: false
}
const mail = {
  kind: "http",
  base_url: "https://tools.example.com",
  tools: [{ name: "send", input_schema: schema }, { name: "list.all" }]
}

const register = (name: string, body: object = mail) =>
  Effect.map(request("PUT", `/extensions/${name}`, { body }), ({ status }) => assert.isBelow(status, 300))
const remove = (name: string) => request("DELETE", `/extensions/${name}`)
const payload = (...pipeline: ReadonlyArray<object>) => ({ payload: { pipeline } })
const create = (more: Readonly<Record<string, unknown>>, key?: string) =>
  request("POST", "/tasks", { body: taskBody(more), ...(key === undefined ? {} : { key }) })
const places = (more: Readonly<Record<string, unknown>>) =>
  Effect.map(create(more), (answer) => refusal(answer, 422, "invalid_pipeline").errors ?? [])
const boundOf = (id: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ bound_extensions: ReadonlyArray<string> }>`
      SELECT bound_extensions FROM task_revision WHERE task_id = ${id} ORDER BY version`
    return rows.map(({ bound_extensions }) => bound_extensions)
  })

layer(apiServer())("a pipeline", (it) => {
  it.effect("may use what its extensions list, and what no extension owns", () =>
    Effect.gen(function* () {
      yield* register("mail")
      yield* register("files", { kind: "mcp", base_url: "https://mcp.example.com" })
      const { id } = yield* newTask(
        payload(
          { uses: "mail.send", with: { to: "a" } },
          { uses: "mail.list.all", with: { any: "thing" } },
          { uses: "files.whatever" },
          { uses: "unowned.tool", with: { to: 1 } },
          { uses: "core.log", with: { message: "x" } }
        )
      )
      assert.deepStrictEqual(yield* boundOf(id), [["files", "mail"]])
    })
  )

  it.effect("may use no tool that its extension does not list", () =>
    Effect.gen(function* () {
      yield* register("mail")
      const errors = yield* places({
        payload: {
          pipeline: [{ uses: "mail.send", with: { to: "a" } }, { uses: "mail.sent" }],
          on_failure: [{ uses: "core.log", with: { message: "x" } }, { uses: "mail.list" }]
        }
      })
      assert.deepStrictEqual(
        errors.map(({ path }) => path),
        ["/payload/pipeline/1/uses", "/payload/on_failure/1/uses"]
      )
      assert.strictEqual(
        errors[0]?.message,
        "the extension mail brings no mail.sent; it brings mail.send, mail.list.all"
      )
    })
  )

  it.effect("whose inputs hold no template is judged by their schemas when it is made", () =>
    Effect.gen(function* () {
      yield* register("mail")
      const own = { input_schema: { required: ["n"] } }
      const errors = yield* places(
        payload(
          { uses: "mail.send", with: { to: "much too long for it" } },
          { uses: "mail.send" },
          { uses: "mail.send", with: { to: "a", extra: 1 } },
          { uses: "mail.send", with: { to: "$${a}", n: "1" } },
          { uses: "mail.send", with: { to: "a" }, ...own },
          { uses: "core.log", with: { message: 1 }, input_schema: { properties: { message: { type: "string" } } } }
        )
      )
      assert.deepStrictEqual(errors, [
        { path: "/payload/pipeline/0/with/to", message: "must NOT have more than 10 characters" },
        { path: "/payload/pipeline/1/with", message: "must have required property 'to'" },
        { path: "/payload/pipeline/2/with", message: 'must not have the property "extra"' },
        { path: "/payload/pipeline/3/with/n", message: "must be integer" },
        { path: "/payload/pipeline/4/with", message: "must have required property 'n'" },
        { path: "/payload/pipeline/5/with/message", message: "must be string" }
      ])
      for (const step of [
        { uses: "mail.send", with: { to: "${params.whom}", n: "x" } },
        { uses: "mail.send", with: { to: "secret://whom-it-may-concern" } },
        { uses: "mail.send", with: { to: "a", n: 1 }, ...own }
      ]) {
        assert.strictEqual((yield* create(payload(step))).status, 201, JSON.stringify(step))
      }
    })
  )

  it.effect("brings no schema that cannot be used", () =>
    Effect.gen(function* () {
      const errors = yield* places(
        payload(
          { uses: "unowned.tool", input_schema: { type: "strin" } },
          { uses: "unowned.tool", output_schema: { pattern: "(?=x)" } },
          { uses: "unowned.tool", output_schema: { $ref: "https://example.com" } }
        )
      )
      assert.deepStrictEqual(
        errors.map(({ path }) => path),
        [
          "/payload/pipeline/0/input_schema/type",
          "/payload/pipeline/1/output_schema",
          "/payload/pipeline/2/output_schema"
        ]
      )
    })
  )

  it.effect("stays bound through its changes, also while the extension is gone", () =>
    Effect.gen(function* () {
      yield* register("kept")
      yield* register("other")
      const uses = (...names: ReadonlyArray<string>) =>
        payload(...names.map((name) => ({ uses: `${name}.send`, with: { to: "a" } })))
      const { id } = yield* newTask(uses("kept"))
      const patch = (body: object) =>
        Effect.map(request("PATCH", `/tasks/${id}`, { body }), (answer) => answered(answer, 200, Task.json))
      yield* patch({ title: "renamed" })
      yield* patch(uses("kept", "other"))
      yield* remove("kept")
      yield* remove("other")
      yield* patch({ title: "again" })
      yield* patch(uses("kept", "unowned"))
      yield* patch(uses("unowned"))
      assert.deepStrictEqual(yield* boundOf(id), [
        ["kept"],
        ["kept"],
        ["kept", "other"],
        ["kept", "other"],
        ["kept"],
        []
      ])
      yield* register("kept")
      refusal(
        yield* request("PATCH", `/tasks/${id}`, { body: payload({ uses: "kept.nope" }) }),
        422,
        "invalid_pipeline"
      )
    })
  )

  it.effect("knows no extension of another namespace", () =>
    Effect.gen(function* () {
      const { admin } = yield* ApiServer
      const agents = yield* Agents
      yield* register("mail")
      const made = yield* agents.create(admin, {
        name: "foreigner",
        namespace: "elsewhere",
        scopes: ["tasks:*"],
        disabled: false,
        max_tasks: 10,
        max_concurrent_runs: null,
        rate_per_minute: null,
        budgets: []
      })
      const { key } = yield* agents.issueKey(admin, made.id, {})
      const { id } = answered(yield* create(payload({ uses: "mail.unlisted" }), key), 201, Task.json)
      assert.deepStrictEqual(yield* boundOf(id), [[]])
    })
  )
})

layer(apiServer([["ORDINAUT_UNKNOWN_TOOLS", "fail"]]))("where unknown tools fail, a pipeline", (it) => {
  it.effect("may use those of extensions and of core alone", () =>
    Effect.gen(function* () {
      yield* register("mail")
      yield* newTask(payload({ uses: "mail.send", with: { to: "a" } }, { uses: "core.log", with: { message: "x" } }))
      const errors = yield* places(payload({ uses: "unowned.tool" }))
      assert.deepStrictEqual(errors, [
        {
          path: "/payload/pipeline/0/uses",
          message: "no extension brings unowned.tool, and unknown tools are not simulated here"
        }
      ])
    })
  )
})
