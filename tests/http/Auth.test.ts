import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { allows, permissions } from "../../src/domain/Agent.ts"
import { apiServer, ApiServer, member, refusal, request } from "../support/ApiServer.ts"
import { served } from "../support/openApi.ts"

/** Routes that ask for credentials, whatever their scopes. */
const unscoped = new Set(["POST /auth/token", "POST /auth/revoke"])

const nameOf = ({ method, path }: { readonly method: string; readonly path: string }) => `${method} ${path}`

const garbage = `ord_${"0".repeat(12)}_${"0".repeat(43)}_000000`

/** The status of an answer that may have no end, as a stream's. */
const opened = (method: string, path: string, key: string) =>
  Effect.flatMap(ApiServer, ({ origin }) =>
    Effect.promise(async () => {
      const answer = await fetch(`${origin}${path}`, { method, headers: { authorization: `Bearer ${key}` } })
      await answer.body?.cancel()
      return answer.status
    })
  )

layer(apiServer())("every route of the served document", (it) => {
  it.effect("is open by name, or refuses no token and a bad one with 401, a wrong scope with 403", () =>
    Effect.gen(function* () {
      const { routes } = yield* served
      const open = routes.filter(({ operation }) => operation.security.length === 0)
      assert.deepStrictEqual(open.map(nameOf).sort(), [
        "GET /.well-known/jwks.json",
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics"
      ])
      for (const { path } of [...open, { path: "/openapi.json" }, { path: "/docs" }]) {
        assert.strictEqual((yield* request("GET", path, { key: null })).status, 200, path)
      }
      const guarded = routes.filter(({ operation }) => operation.security.length > 0)
      assert.isAbove(guarded.length, 25)
      const none = yield* member("without-scopes", [])
      const scopes = new Map<(typeof guarded)[number], string>()
      for (const route of guarded) {
        const { method, path } = route
        const target = path.replace(/\{\w+\}/g, "019cadc6-9a80-7000-8000-000000000000")
        const absent = yield* request(method, target, { key: null })
        refusal(absent, 401, "unauthorized")
        assert.strictEqual(absent.headers.get("www-authenticate"), "Bearer")
        const bad = yield* request(method, target, { key: garbage })
        refusal(bad, 401, "unauthorized")
        assert.strictEqual(refusal(bad).detail, refusal(absent).detail)
        if (unscoped.has(nameOf({ method, path }))) continue
        const answer = yield* request(method, target, { key: none.key })
        refusal(answer, 403, "forbidden")
        const { scope } = answer.body as { readonly scope: string }
        assert.include<string>(permissions, scope, `${method} ${path}`)
        scopes.set(route, scope)
      }
      // All scopes but one do not open a route, and that one alone does.
      for (const scope of new Set(scopes.values())) {
        const others = permissions.filter((other) => other !== scope)
        const without = yield* member(`without-${scope.replace(":", ".")}`, others)
        const only = yield* member(`only-${scope.replace(":", ".")}`, [scope])
        for (const [{ method, path }, needed] of scopes) {
          if (needed !== scope) continue
          const target = path.replace(/\{\w+\}/g, "019cadc6-9a80-7000-8000-000000000000")
          assert.strictEqual((yield* request(method, target, { key: without.key })).status, 403, `${method} ${path}`)
          assert.notStrictEqual(yield* opened(method, target, only.key), 403, `${method} ${path}`)
        }
      }
      assert.isFalse(allows(["tasks:read"], "tasks:write"))
    })
  )

  it.effect("credentials are a bearer token, in any case of the word, and nothing else", () =>
    Effect.gen(function* () {
      const { adminKey } = yield* ApiServer
      const status = (authorization: string) =>
        Effect.map(request("GET", "/tasks", { key: null, headers: { authorization } }), ({ status }) => status)
      assert.strictEqual(yield* status(`Bearer ${adminKey}`), 200)
      assert.strictEqual(yield* status(`bearer ${adminKey}`), 200)
      for (const scheme of ["Basic  ", "Beaver ", "", "Digest ", "1234567"]) {
        assert.strictEqual(yield* status(`${scheme}${adminKey}`), 401, scheme)
      }
      assert.strictEqual((yield* request("GET", `/tasks?access_token=${adminKey}`, { key: null })).status, 401)
    })
  )

  it.effect("a refusal comes before the body is looked at", () =>
    Effect.gen(function* () {
      refusal(yield* request("POST", "/tasks", { key: null, body: "{" }), 401, "unauthorized")
      const { key } = yield* member("reader", ["tasks:read"])
      refusal(yield* request("POST", "/tasks", { key, body: "{" }), 403, "forbidden")
    })
  )
})

layer(apiServer([["METRICS_TOKEN", "scraper"]]))("GET /metrics with a token of its own", (it) => {
  it.effect("takes that token alone", () =>
    Effect.gen(function* () {
      refusal(yield* request("GET", "/metrics", { key: null }), 401, "unauthorized")
      refusal(yield* request("GET", "/metrics"), 401, "unauthorized")
      const answer = yield* request("GET", "/metrics", { key: "scraper" })
      assert.strictEqual(answer.status, 200)
      assert.match(answer.text, /^ordinaut_http_requests_total\{.*\} \d+$/m)
    })
  )
})
