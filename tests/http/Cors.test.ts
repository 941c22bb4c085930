import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { apiServer, refusal, request } from "../support/ApiServer.ts"

const page = "https://app.example"

const preflight = (origin: string) => ({
  key: null,
  headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization" }
})

const corsHeaders = (headers: Headers) =>
  [...headers.keys()].filter((name) => name.startsWith("access-control-") || name === "vary")

layer(apiServer([["CORS_ORIGINS", `${page}, http://localhost:5173`]]))("CORS with listed origins", (it) => {
  it.effect("lets their pages call and read, errors too, and answers their preflights", () =>
    Effect.gen(function* () {
      for (const origin of [page, "http://localhost:5173"]) {
        const asked = yield* request("OPTIONS", "/tasks", preflight(origin))
        assert.strictEqual(asked.status, 204)
        assert.strictEqual(asked.headers.get("access-control-allow-origin"), origin)
        assert.include(asked.headers.get("access-control-allow-methods") ?? "", "POST")
        assert.include(asked.headers.get("access-control-allow-headers") ?? "", "Idempotency-Key")
        assert.isNull(asked.headers.get("access-control-allow-credentials"))
        for (const call of [{}, { key: null }]) {
          const { headers } = yield* request("GET", "/tasks", { ...call, headers: { origin } })
          assert.strictEqual(headers.get("access-control-allow-origin"), origin)
          assert.include(headers.get("access-control-expose-headers") ?? "", "ETag")
          assert.strictEqual(headers.get("vary"), "Origin")
        }
      }
    })
  )

  it.effect("says nothing to any other", () =>
    Effect.gen(function* () {
      for (const origin of [
        "https://evil.example",
        "https://app.example.evil.example",
        "http://app.example",
        "null",
        `${page}:444`
      ]) {
        const asked = yield* request("OPTIONS", "/tasks", preflight(origin))
        refusal(asked, 405, "method_not_allowed")
        assert.deepStrictEqual(corsHeaders(asked.headers), ["vary"])
        const { headers } = yield* request("GET", "/tasks", { headers: { origin } })
        assert.deepStrictEqual(corsHeaders(headers), ["vary"])
      }
      assert.deepStrictEqual(corsHeaders((yield* request("GET", "/tasks")).headers), ["vary"])
    })
  )
})

layer(apiServer())("CORS without listed origins", (it) => {
  it.effect("is off", () =>
    Effect.gen(function* () {
      refusal(yield* request("OPTIONS", "/tasks", preflight(page)), 405, "method_not_allowed")
      const { headers } = yield* request("GET", "/tasks", { headers: { origin: page } })
      assert.deepStrictEqual(corsHeaders(headers), [])
    })
  )
})
