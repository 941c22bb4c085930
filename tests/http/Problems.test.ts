import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { TaskCreate } from "../../src/domain/Task.ts"
import { apiServer, newTask, refusal, request, taskBody } from "../support/ApiServer.ts"

type Case = readonly [field: string, values: ReadonlyArray<unknown>, path?: string]

const notInstants = [
  "x",
  "",
  "2026-03-02",
  "2026-03-02T10:00:00",
  "2026-02-30T10:00:00Z",
  "+010000-01-01T00:00:00Z",
  "9999-12-31T23:59:59-00:01",
  "0100-01-01T00:00:00+00:01",
  5,
  {}
]
const outside = (from: number, to: number) => [
  from - 1,
  to + 1,
  from + 0.5,
  -0.5,
  String(from),
  null,
  [],
  {},
  true,
  1e308
]
const orNull = (values: ReadonlyArray<unknown>) => values.filter((value) => value !== null)
const long = (length: number) => "x".repeat(length)
const step = (more: object) => ({ pipeline: [{ uses: "mail.send", ...more }] })

const wrongFields: ReadonlyArray<Case> = [
  ["title", ["", " ", " x", "x\n", long(201), 5, null, [], {}]],
  ["description", [long(2001), 5, null, ["x"]]],
  ["schedule_kind", ["", "CRON", "daily", 5, null, ["cron"]]],
  ["schedule_expr", ["", long(4097), "nonsense", "* * * *", "61 * * * *", "0 0 30 2 *", 5, null, []]],
  ["timezone", ["", "Mars/Olympus", "europe", long(101), "+02:00", "../etc/passwd", 5, null]],
  ["dtstart", ["x", "2026-01-01", "2026-01-01T00:00:00Z", 5, {}]],
  ["payload", [null, 5, "x", [], true]],
  ["payload", [{}, { pipeline: [] }, { pipeline: {} }, { pipeline: null }], "/payload/pipeline"],
  ["payload", [{ pipeline: Array.from({ length: 201 }, () => ({ uses: "a.b" })) }], "/payload/pipeline"],
  [
    "payload",
    [
      { params: [], ...step({}) },
      { params: 1, ...step({}) }
    ],
    "/payload/params"
  ],
  ["payload", [{ strict: "yes", ...step({}) }], "/payload/strict"],
  ["payload", [{ nope: 1, ...step({}) }], "/payload/nope"],
  ["payload", [step({ nope: 1 })], "/payload/pipeline/0/nope"],
  [
    "payload",
    [step({ uses: "" }), step({ uses: "send" }), step({ uses: 5 }), step({ uses: "a.b c" })],
    "/payload/pipeline/0/uses"
  ],
  [
    "payload",
    [step({ id: "1x" }), step({ id: "" }), step({ id: 5 }), step({ id: long(65) })],
    "/payload/pipeline/0/id"
  ],
  ["payload", [step({ save_as: "a b" }), step({ save_as: 1 })], "/payload/pipeline/0/save_as"],
  ["payload", [step({ if: "][" }), step({ if: 5 }), step({ if: "" })], "/payload/pipeline/0/if"],
  ["payload", [step({ timeout_seconds: 0 }), step({ timeout_seconds: 86_401 })], "/payload/pipeline/0/timeout_seconds"],
  ["payload", [step({ retry: { max_attempts: 0 } })], "/payload/pipeline/0/retry/max_attempts"],
  ["payload", [step({ retry: { max_attempts: 2, on: ["nope"] } })], "/payload/pipeline/0/retry/on/0"],
  ["payload", [step({ on_error: "stop" }), step({ on_error: 5 })], "/payload/pipeline/0/on_error"],
  ["payload", [step({ on_error: { goto: 5 } })], "/payload/pipeline/0/on_error/goto"],
  ["payload", [step({ idempotency_key: "" })], "/payload/pipeline/0/idempotency_key"],
  ["priority", outside(1, 9)],
  ["labels", [null, 5, "a:b", ["a"], Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`l${i}`, ""]))]],
  ["labels", [{ a: 1 }, { a: null }, { a: long(201) }], "/labels/a"],
  ["labels", [{ "": "x" }], "/labels/"],
  ["max_retries", outside(0, 25)],
  ["backoff_strategy", ["", "random", 5, null]],
  ["backoff_seconds", [-1, 31_622_401, "1", null, []]],
  ["backoff_max_seconds", [-1, 31_622_401, "1", null, []]],
  ["timeout_seconds", outside(1, 86_400)],
  ["deadline_seconds", orNull(outside(1, 31_622_400))],
  ["start_within_seconds", orNull(outside(1, 31_622_400))],
  ["dedupe_key", ["", " x", long(101), 5, {}]],
  ["dedupe_window_seconds", outside(0, 31_622_400)],
  ["concurrency_key", ["", "x ", long(101), 5, []]],
  ["concurrency_limit", outside(1, 10_000)],
  ["overlap_policy", ["", "drop", 5, null]],
  ["misfire_policy", ["", "fire", 5, null]],
  ["misfire_grace_seconds", outside(0, 86_400)],
  ["jitter_seconds", outside(0, 86_400)],
  ["starts_at", notInstants],
  ["ends_at", notInstants],
  ["max_runs", orNull(outside(1, 1_000_000_000))]
]

/** What a newcomer should not have to read: types as the code writes them. */
const jargon = /readonly|\(Encoded side\)|ReadonlyArray|Schema|\bStruct\b|actual|undefined|=>|\w+ & \w+| \| /

layer(apiServer())("a body that is wrong", (it) => {
  it.effect("is refused with 422 that names the place in plain words, for every field of a task", () =>
    Effect.gen(function* () {
      const known = Object.keys(TaskCreate.fields)
      const tried = new Set(wrongFields.map(([field]) => field))
      assert.deepStrictEqual(
        known.filter((field) => !tried.has(field)),
        []
      )
      const { id } = yield* newTask()
      for (const [field, values, path = `/${field}`] of wrongFields) {
        for (const value of values) {
          for (const [method, target, body] of [
            ["POST", "/tasks", taskBody({ [field]: value })],
            ["PATCH", `/tasks/${id}`, { [field]: value }]
          ] as const) {
            const told = `${method} ${field} ${JSON.stringify(value)?.slice(0, 80)}`
            const answer = yield* request(method, target, { body })
            assert.strictEqual(answer.status, 422, told)
            const { detail, errors = [] } = refusal(answer)
            assert.deepStrictEqual(
              errors.map((error) => error.path),
              [path],
              told
            )
            assert.include(detail, path, told)
            for (const { message } of errors) {
              assert.notMatch(message, jargon, told)
              assert.isBelow(message.length, 600, told)
            }
          }
        }
      }
    })
  )

  it.effect("tells of all fields at once", () =>
    Effect.gen(function* () {
      const { errors } = refusal(yield* request("POST", "/tasks", { body: { title: 5, nope: 1, priority: 0 } }), 422)
      assert.deepStrictEqual(errors?.map(({ message, path }) => `${path} ${message}`).sort(), [
        "/nope is no field of this body",
        "/payload is missing",
        "/priority must be a number between 1 and 9",
        "/schedule_expr is missing",
        "/schedule_kind is missing",
        "/title must be a string"
      ])
    })
  )

  it.effect("is refused where it bears a field that nothing reads, on every route with a body", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask()
      const routes = [
        ["POST", "/events", { topic: "a", payload: 1 }],
        ["POST", "/agents", { name: "a", scopes: [] }],
        ["PATCH", "/agents/x", {}],
        ["POST", "/agents/x/keys", {}],
        ["POST", "/schedules/preview", { schedule_kind: "cron", schedule_expr: "* * * * *" }],
        ["POST", "/pipelines/dry_run", { payload: { pipeline: [{ uses: "a.b" }] } }],
        ["PATCH", `/tasks/${id}`, {}],
        ["PUT", `/tasks/${id}`, {}],
        ["POST", `/tasks/${id}/run_now`, {}],
        ["POST", `/tasks/${id}/snooze`, { delay_seconds: 60 }],
        ["POST", `/tasks/${id}/pause`, {}],
        ["POST", `/tasks/${id}/resume`, {}],
        ["POST", `/tasks/${id}/cancel`, {}]
      ] as const
      for (const [method, path, body] of routes) {
        for (const name of ["typo", "__proto__", "constructor", "a/b~c", ""]) {
          const { errors } = refusal(yield* request(method, path, { body: { ...body, [name]: 1 } }), 422)
          const wanted = `/${name.replace("~", "~0").replace("/", "~1")}`
          assert.deepStrictEqual(errors, [{ path: wanted, message: "is no field of this body" }], `${method} ${path}`)
        }
      }
    })
  )
})
