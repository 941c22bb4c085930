import { assert, layer } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Agents } from "../../src/layers/Agents.ts"
import type { Answer } from "../support/ApiServer.ts"
import { ApiServer, apiServer, refusal, request } from "../support/ApiServer.ts"
import { mutations, owner } from "../support/mutations.ts"
import { served } from "../support/openApi.ts"

const unknownId = "019cadc6-9a80-7000-8000-000000000000"

/** What a namespace shares: another agent of it sees these. */
const shared = /^\/(?:agents|extensions|secrets|events)\b/

/** Routes that make what their path names where it is not there. */
const makes = new Set(["PUT /extensions/{name}", "PUT /secrets/{name}"])

/** An answer without what must differ: the ids of the object and of the request. */
const told = ({ status, text }: Answer, id: string) =>
  `${status} ${text.replaceAll(id, "<id>").replace(/"request_id":"[^"]+"/, "")}`

/** A body that is sound without being of use. */
const bodyOf = (path: string) => (path.endsWith("/snooze") ? { delay_seconds: 60 } : {})

const withBody = (body: unknown) => (body === undefined ? {} : { body })

layer(apiServer())("every route with an object in its path", (it) => {
  it.effect(
    "answers for another agent's exactly as for one that is not there",
    () =>
      Effect.gen(function* () {
        const { admin } = yield* ApiServer
        const agents = yield* Agents
        const by = yield* owner("owner")
        const stranger = yield* owner("stranger")
        const far = yield* agents.create(admin, {
          name: "far",
          namespace: "elsewhere",
          scopes: ["admin"],
          disabled: false,
          max_tasks: 10,
          max_concurrent_runs: null,
          rate_per_minute: null,
          budgets: []
        })
        const { key: farKey } = yield* agents.issueKey(admin, far.id, {})
        const routes = (yield* served).routes.filter(({ path }) => path.includes("{"))
        const objects = new Map<string, string>()
        let looked = 0

        const compare = Effect.fnUntraced(function* (name: string, path: string, body: unknown) {
          const [, kind = "", id = ""] = path.split("/")
          const other = /^[0-9a-f-]{36}$/.test(id) ? unknownId : "nowhere"
          const method = name.split(" ")[0] ?? ""
          for (const key of shared.test(path) ? [farKey] : [farKey, stranger.key]) {
            const foreign = yield* request(method, path, { key, ...withBody(body) })
            const unknown = yield* request(method, path.replace(id, other), { key, ...withBody(body) })
            assert.strictEqual(told(foreign, id), told(unknown, other), name)
            // A lease that was never there, and one that is another's, are both lost.
            refusal(foreign, kind === "work" ? 409 : 404)
            looked++
          }
        })

        for (const [n, { method, path }] of routes.entries()) {
          const prepare = mutations[`${method} ${path}`]
          if (prepare === undefined || makes.has(`${method} ${path}`)) continue
          const made = yield* prepare(by, n)
          yield* compare(`${method} ${path}`, made.path, made.body)
          // It was there all the time.
          const own = yield* request(method, made.path, { key: by.key, ...withBody(made.body) })
          assert.isBelow(own.status, 300, `${method} ${path} ${own.text}`)
          const [, kind = "", id = ""] = made.path.split("/")
          objects.set(kind, id)
        }
        yield* request("PUT", "/extensions/mine", { key: by.key, body: { kind: "simulated", tools: [] } })
        objects.set("extensions", "mine")
        const said = yield* request("POST", "/events", { key: by.key, body: { topic: "a", payload: 1 } })
        objects.set("events", Schema.decodeUnknownSync(Schema.Struct({ event_id: Schema.String }))(said.body).event_id)
        const agent = yield* request("POST", "/agents", { key: by.key, body: { name: "kept", scopes: [] } })
        objects.set("agents", Schema.decodeUnknownSync(Schema.Struct({ id: Schema.String }))(agent.body).id)
        for (const { method, path } of routes) {
          if (method !== "GET") continue
          const [, kind = ""] = path.split("/")
          const id = objects.get(kind)
          assert.isDefined(id, `nothing to look at: ${path}`)
          const target = path.replace(/\{\w+\}/, id ?? "").replace("{step_id}", "only")
          yield* compare(`${method} ${path}`, target, undefined)
          if (!target.endsWith("/stream") && !target.includes("/steps/")) {
            assert.strictEqual((yield* request("GET", target, { key: by.key })).status, 200, target)
          }
        }
        assert.isAtLeast(looked, 54)
      }),
    60_000
  )

  it.effect("answers 404 for an id of the wrong form, too", () =>
    Effect.gen(function* () {
      const { routes } = yield* served
      for (const { method, operation, path } of routes) {
        if (!path.includes("{") || makes.has(`${method} ${path}`)) continue
        for (const id of ["nonsense", "0", "%20", "%F0%9F%98%80", `${unknownId}0`]) {
          const answer = yield* request(
            method,
            path.replace(/\{\w+\}/g, id),
            withBody(operation.requestBody && bodyOf(path))
          )
          // A body that lacks a field may be told first.
          assert.include([404, 409, 422], answer.status, `${method} ${path} ${id} ${answer.text}`)
          if (operation.requestBody?.required !== true && !path.startsWith("/work")) refusal(answer, 404)
        }
      }
    })
  )
})
