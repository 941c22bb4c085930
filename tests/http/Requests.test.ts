import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { apiServer, newTask, refusal, request } from "../support/ApiServer.ts"

layer(apiServer())("a query that is wrong", (it) => {
  it.effect("is 422 and names the parameter", () =>
    Effect.gen(function* () {
      const lists = ["/tasks", "/runs", "/events", "/agents"]
      const everywhere = [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=x",
        "limit=1.5",
        "limit=",
        "limit=1&limit=2",
        "limit=NaN",
        "cursor=",
        "cursor=x",
        "cursor=%00",
        "cursor=1&cursor=2",
        "nope=1",
        "Limit=1"
      ]
      const special = [
        [
          "/tasks",
          "status=",
          "status=x",
          "schedule_kind=x",
          "created_by=x",
          "label=x",
          "label=:x",
          "label=a:b&label=x",
          "label=a:%00",
          "due_before=x",
          "due_before=2026-01-01",
          "q=%00",
          `q=${"x".repeat(201)}`,
          "q=a&q=b"
        ],
        ["/runs", "task_id=x", "state=x", "trigger=x", "scheduled_after=x", "scheduled_before=5"],
        ["/events", "topic=%00", "topic=a&topic=b"]
      ] as const
      const cases = [
        ...lists.flatMap((path) => everywhere.map((query) => [path, query] as const)),
        ...special.flatMap(([path, ...queries]) => queries.map((query) => [path, query] as const))
      ]
      for (const [path, query] of cases) {
        const { errors } = refusal(yield* request("GET", `${path}?${query}`), 422)
        assert.deepStrictEqual(
          errors?.map((error) => error.path),
          [`query.${query.split("=")[0]}`],
          `${path}?${query}`
        )
      }
    })
  )

  it.effect("may hold whatever else a text holds", () =>
    Effect.gen(function* () {
      for (const query of [
        "q=",
        "q=%25_%5C'%22;--",
        "q=%F0%9F%98%80",
        "q=%FF",
        "label=a:",
        "created_by=019CADC6-9A80-7000-8000-000000000000",
        "limit=200"
      ]) {
        assert.strictEqual((yield* request("GET", `/tasks?${query}`)).status, 200, query)
      }
    })
  )
})

layer(apiServer())("a path", (it) => {
  it.effect("with an id of the wrong form is 404", () =>
    Effect.gen(function* () {
      const ids = [
        "x",
        "1",
        "019cadc6-9a80-7000-8000-00000000000",
        "019cadc6-9a80-7000-8000-000000000000",
        "%00",
        "%E0%A4%A",
        "..%2f..",
        "'%20OR%201=1",
        "x".repeat(150),
        "x".repeat(1000),
        "%F0%9F%98%80"
      ]
      for (const id of ids) {
        for (const [method, path] of [
          ["GET", `/tasks/${id}`],
          ["PATCH", `/tasks/${id}`],
          ["DELETE", `/tasks/${id}`],
          ["POST", `/tasks/${id}/pause`],
          ["GET", `/runs/${id}`],
          ["POST", `/runs/${id}/cancel`],
          ["GET", `/events/${id}`],
          ["GET", `/agents/${id}`],
          ["POST", `/agents/${id}/keys`],
          ["DELETE", `/agents/${id}/keys/${id}`]
        ] as const) {
          refusal(yield* request(method, path), 404)
        }
      }
    })
  )

  it.effect("that is no route is 404, a wrong method 405 with Allow", () =>
    Effect.gen(function* () {
      for (const path of ["/", "/nope", "/tasks/x/nope", "/tasks/x/pause/y", "/api/tasks", "/.git/config"]) {
        for (const key of [null, undefined]) {
          refusal(yield* request("GET", path, key === null ? { key } : {}), 404, "route_not_found")
        }
      }
      const wrong = [
        ["PUT", "/tasks", "POST, GET, HEAD"],
        ["DELETE", "/tasks", "POST, GET, HEAD"],
        ["OPTIONS", "/tasks", "POST, GET, HEAD"],
        ["POST", "/tasks/x", "GET, HEAD, PATCH, PUT, DELETE"],
        ["GET", "/tasks/x/pause", "POST"],
        ["POST", "/health", "GET, HEAD"],
        ["POST", "/openapi.json", "GET, HEAD"],
        ["DELETE", "/docs", "GET, HEAD"]
      ] as const
      for (const [method, path, allow] of wrong) {
        const answer = yield* request(method, path)
        refusal(answer, 405, "method_not_allowed")
        assert.strictEqual(answer.headers.get("allow"), allow, `${method} ${path}`)
      }
    })
  )

  it.effect("with a trailing slash answers the same; HEAD answers as GET, without the body", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask()
      for (const path of ["/tasks", `/tasks/${id}`, "/runs", "/health/live", "/openapi.json", "/docs"]) {
        const plain = yield* request("GET", path)
        const slash = yield* request("GET", `${path}/`)
        assert.deepStrictEqual([slash.status, slash.text], [plain.status, plain.text], path)
        const head = yield* request("HEAD", path)
        assert.deepStrictEqual([head.status, head.text], [200, ""], path)
      }
      assert.strictEqual((yield* request("POST", `/tasks/${id}/pause/`)).status, 200)
      refusal(yield* request("PUT", "/tasks/"), 405)
    })
  )

  it.effect("names itself in the problem, with the request's id, which is echoed where it is harmless", () =>
    Effect.gen(function* () {
      const call = (id: string) => request("GET", "/nope?secret=1", { headers: { "x-request-id": id } })
      const answer = yield* call("abc-1.2:3_X")
      const problem = refusal(answer, 404)
      assert.include(problem, { instance: "/nope", request_id: "abc-1.2:3_X", type: "about:blank", title: "Not Found" })
      assert.strictEqual(answer.headers.get("x-request-id"), "abc-1.2:3_X")
      for (const bad of ["", "a b", "x".repeat(129), "<script>", "é"]) {
        const made = yield* call(bad)
        assert.match(made.headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/, bad)
        assert.strictEqual(refusal(made).request_id, made.headers.get("x-request-id"))
      }
    })
  )
})
