import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { DryRunCreate, DryRunResult } from "../../src/http/PipelinesApi.ts"
import { answered, apiServer, member, refusal, request } from "../support/ApiServer.ts"
import { briefing } from "../domain/briefing.ts"

const path = "/pipelines/dry_run"
const call = { uses: "mail.send" }
const payload = { pipeline: [{ ...call, id: "a" }] }
const each = { pipeline: [{ ...call, id: "a", for_each: "${params.list || `[1]`}" }] }

const dry = (body: object, key?: string) =>
  Effect.map(request("POST", path, { body, ...(key === undefined ? {} : { key }) }), (answer) => {
    const { steps } = answered(answer, 200, DryRunResult)
    return Object.fromEntries(steps.map((step) => [step.id, step]))
  })

/** Bodies with one thing wrong in them, and its place. */
const wrong: ReadonlyArray<readonly [body: object, place: string]> = [
  [{}, "/payload"],
  [{ payload: 5 }, "/payload"],
  [{ payload: {} }, "/payload/pipeline"],
  [{ payload: { ...payload, nope: 1 } }, "/payload/nope"],
  [{ payload: { ...payload, params: [] } }, "/payload/params"],
  [{ payload: { ...payload, on_failure: [] } }, "/payload/on_failure"],
  [{ payload: { pipeline: [{ uses: "send" }] } }, "/payload/pipeline/0/uses"],
  [{ payload: { pipeline: [{ uses: "core.nothing" }] } }, "/payload/pipeline/0/uses"],
  [{ payload: { pipeline: [{ ...call, with: "${" }] } }, "/payload/pipeline/0/with"],
  [{ payload: { pipeline: [{ ...call, with: { a: ["${steps.later}"] } }] } }, "/payload/pipeline/0/with/a/0"],
  [{ payload: { pipeline: [{ ...call, if: "n > 5" }] } }, "/payload/pipeline/0/if"],
  [{ payload: { pipeline: [{ ...call, needs: ["b"] }] } }, "/payload/pipeline/0/needs/0"],
  [{ payload: { ...payload, on_failure: [{ ...call, with: "${steps.z}" }] } }, "/payload/on_failure/0/with"],
  ...["x", "", "2026-03-02", "2026-02-30T10:00:00Z", 5, null, {}].map((at) => [{ payload, at }, "/at"] as const),
  ...["", "Mars/Olympus", "+02:00", "x".repeat(101), 5, null].map(
    (zone) => [{ payload, timezone: zone }, "/timezone"] as const
  ),
  ...[5, null, "a.b", []].map((event) => [{ payload, event }, "/event"] as const),
  [{ payload, event: { payload: 1 } }, "/event/topic"],
  [{ payload, event: { topic: "a..b", payload: 1 } }, "/event/topic"],
  [{ payload, event: { topic: "a.b" } }, "/event/payload"],
  [{ payload, event: { topic: "a.b", payload: 1, id: "" } }, "/event/id"],
  [{ payload, event: { topic: "a.b", payload: 1, at: "noon" } }, "/event/at"],
  [{ payload, event: { topic: "a.b", payload: 1, data: 1 } }, "/event/data"],
  ...[5, null, "a", []].map((outputs) => [{ payload, tool_outputs: outputs }, "/tool_outputs"] as const),
  [{ payload, tool_outputs: { b: 1 } }, "/tool_outputs/b"],
  [{ payload: { pipeline: [{ ...call, id: "a", save_as: "b" }] }, tool_outputs: { b: 1 } }, "/tool_outputs/b"],
  [{ payload, tool_outputs: { ["__proto__"]: 1 } }, "/tool_outputs/__proto__"],
  [{ payload, tool_outputs: { "b/c~d": 1 } }, "/tool_outputs/b~1c~0d"],
  [{ payload, tool_outputs: { a: { $error: "failed" } } }, "/tool_outputs/a/$error"],
  [{ payload, tool_outputs: { a: { $error: {} } } }, "/tool_outputs/a/$error/code"],
  [{ payload, tool_outputs: { a: { $error: { code: "nope" } } } }, "/tool_outputs/a/$error/code"],
  [{ payload, tool_outputs: { a: { $error: { code: "failed", message: 1 } } } }, "/tool_outputs/a/$error/message"],
  [
    { payload, tool_outputs: { a: { $error: { code: "failed", retryable: "no" } } } },
    "/tool_outputs/a/$error/retryable"
  ],
  [{ payload, tool_outputs: { a: { $error: { code: "failed", why: 1 } } } }, "/tool_outputs/a/$error/why"],
  [{ payload: each, tool_outputs: { a: { x: 1 } } }, "/tool_outputs/a"],
  [{ payload: each, tool_outputs: { a: [1, { $error: 1 }] } }, "/tool_outputs/a/1/$error"],
  [{ payload, params: {} }, "/params"]
]

layer(apiServer())("POST /pipelines/dry_run", (it) => {
  it.effect("shows the morning briefing from its first step to its last, at the present in the default zone", () =>
    Effect.gen(function* () {
      const steps = yield* dry({ payload: { pipeline: briefing } })
      assert.deepStrictEqual(Object.keys(steps), ["calendar", "weather", "summarize", "notify"])
      assert.deepStrictEqual(steps["calendar"]?.input, {
        start: "2026-03-02T09:00:00.000Z",
        end: "2026-03-03T09:00:00.000Z"
      })
      assert.deepStrictEqual(steps["notify"]?.input, { chat_id: 12345, text: "<simulated steps.summary.text>" })
      const midnight = yield* dry({ payload: { pipeline: [{ id: "a", uses: "x.y", with: "${now.start_of_day}" }] } })
      assert.strictEqual(midnight["a"]?.input, "2026-03-01T22:00:00.000Z")
    })
  )

  it.effect("takes time, zone, event and outputs as they are given", () =>
    Effect.gen(function* () {
      const steps = yield* dry({
        payload: {
          pipeline: [
            { id: "a", uses: "x.y", with: ["${now.start_of_day}", "${event.payload.n}", "${event.at}", "${event.id}"] },
            { id: "b", uses: "x.z", if: "steps.a.ok", with: "${steps.a.text}" }
          ]
        },
        at: "2026-11-24T12:00:00+02:00",
        timezone: "America/New_York",
        event: { topic: "orders.created", payload: { n: 7 }, id: "e1" },
        tool_outputs: { a: { ok: true, text: "yes" } }
      })
      assert.deepStrictEqual(steps["a"]?.input, ["2026-11-24T05:00:00.000Z", 7, "2026-11-24T10:00:00.000Z", "e1"])
      assert.deepInclude(steps["b"], { would_run: true, if: true, input: "yes", simulated: true, error: null })
      assert.deepInclude(steps["a"], { simulated: false, output: { ok: true, text: "yes" } })
    })
  )

  it.effect("answers with the deepest that is rendered, wrapped by its simulated output", () =>
    Effect.gen(function* () {
      const deep = (depth: number): unknown => (depth === 0 ? 1 : [deep(depth - 1)])
      const steps = yield* dry({
        payload: {
          params: { deep: deep(60) },
          pipeline: [{ id: "a", uses: "x.y", with: [[[["${params.deep}"]]]], for_each: "${[`1`]}" }]
        }
      })
      assert.isNull(steps["a"]?.error)
      assert.include(JSON.stringify(steps["a"]?.output), `${"[".repeat(64)}1`)
    })
  )

  it.effect("tells what does not fit the schemas of steps and tools, with the step and the path", () =>
    Effect.gen(function* () {
      const number = { type: "object", properties: { n: { type: "number" } }, required: ["n"] }
      const sum = { type: "object", properties: { sum: { type: "integer" } }, required: ["sum"] }
      const extension = {
        kind: "worker",
        served_by: ["someone"],
        tools: [{ name: "add", input_schema: number, output_schema: sum }]
      }
      assert.strictEqual((yield* request("PUT", "/extensions/adder", { body: extension })).status, 201)
      const add = (id: string, n: unknown, more: object = {}) => ({ id, uses: "adder.add", with: { n }, ...more })
      const pipeline = [
        add("fits", "${params.one}", { on_error: "continue" }),
        add("text", "${params.text}", { on_error: "continue" }),
        add("wrong", "${params.one}", { on_error: "continue" }),
        // What a placeholder stands for is not known.
        add("unknown", "${steps.fits2.anything}", { on_error: "continue" }),
        add("given", "${steps.wrong2.sum}", { on_error: "continue" }),
        add("each", "${item}", { for_each: "${params.list}", on_item_error: "continue" }),
        { id: "own", uses: "core.transform", with: { value: "${params.one}" }, output_schema: { type: "string" } }
      ]
      const before = [
        { id: "fits2", uses: "nobody.knows" },
        { id: "wrong2", uses: "nobody.knows" }
      ]
      const steps = yield* dry({
        payload: { params: { one: 1, text: "x", list: [1, "two"] }, pipeline: [...before, ...pipeline] },
        tool_outputs: { wrong: { sum: 1.5 }, wrong2: { sum: "three" }, fits: { sum: 2 } }
      })
      const told = (id: string) => {
        const error = steps[id]?.error
        return error == null ? null : [error.code, error.step_id, error.message.split(":")[0]]
      }
      assert.deepStrictEqual(
        ["fits", "text", "wrong", "unknown", "given", "each", "own"].map((id) => told(id)),
        [
          null,
          ["tool_input_invalid", "text", "/n"],
          ["tool_output_invalid", "wrong", "/sum"],
          null,
          ["tool_input_invalid", "given", "/n"],
          null,
          ["tool_output_invalid", "own", ""]
        ]
      )
      assert.deepStrictEqual(
        steps["each"]?.items?.map(({ error }) => error?.code ?? null),
        [null, "tool_input_invalid"]
      )
      assert.deepStrictEqual([steps["text"]?.input, steps["text"]?.output], [{ n: "x" }, null])
    })
  )

  it.effect("refuses every field that is wrong, and names its place", () =>
    Effect.gen(function* () {
      const tried = new Set(wrong.map(([, place]) => place.split("/")[1]))
      assert.deepStrictEqual(
        Object.keys(DryRunCreate.fields).filter((field) => !tried.has(field)),
        []
      )
      for (const [body, place] of wrong) {
        const { errors } = refusal(yield* request("POST", path, { body }), 422)
        assert.deepStrictEqual(
          errors?.map((error) => error.path),
          [place],
          JSON.stringify(body)
        )
      }
      const { errors } = refusal(yield* request("POST", path, { body: { payload: {}, at: 1, tool_outputs: 1 } }), 422)
      assert.deepStrictEqual(errors?.map((error) => error.path).sort(), ["/at", "/payload/pipeline", "/tool_outputs"])
    })
  )

  it.effect("finds the same problems as POST /tasks", () =>
    Effect.gen(function* () {
      const bad = {
        pipeline: [
          { id: "a", uses: "core.wait", with: { seconds: "x" }, timeout_seconds: 5 },
          { id: "a", uses: "x.y", if: "", on_error: { goto: "a" } }
        ],
        on_failure: [{ uses: "core.log" }]
      }
      const task = { title: "t", schedule_kind: "cron", schedule_expr: "* * * * *", payload: bad }
      const expected = refusal(yield* request("POST", "/tasks", { body: task }), 422, "invalid_pipeline")
      const found = refusal(yield* request("POST", path, { body: { payload: bad } }), 422, "invalid_pipeline")
      assert.isAbove(found.errors?.length ?? 0, 4)
      assert.deepStrictEqual(found.errors, expected.errors)
    })
  )

  it.effect("needs tasks:read and stores nothing", () =>
    Effect.gen(function* () {
      const reader = yield* member("dry-reader", ["tasks:read"])
      yield* dry({ payload: { pipeline: [{ uses: "core.emit", with: { topic: "dry.run", payload: 1 } }] } }, reader.key)
      const writer = yield* member("dry-writer", ["tasks:write"])
      refusal(yield* request("POST", path, { body: { payload }, key: writer.key }), 403)
      refusal(yield* request("POST", path, { body: { payload }, key: null }), 401)
      for (const list of ["/runs", "/tasks", "/events?topic=dry.run"]) {
        assert.deepInclude((yield* request("GET", list)).body, { items: [] }, list)
      }
    })
  )

  it.effect("is bounded: a body over a mebibyte is refused, and what it makes is cut by typed errors", () =>
    Effect.gen(function* () {
      const big = "x".repeat(900_000)
      const pipeline = Array.from({ length: 60 }, () => ({ ...call, with: "${params.big}", on_error: "continue" }))
      const steps = Object.values(yield* dry({ payload: { params: { big }, pipeline } }))
      assert.isAbove(steps.filter(({ error }) => error === null).length, 5)
      assert.strictEqual(steps.at(-1)?.error?.code, "output_too_large")
      const twice = yield* dry({
        payload: { params: { big }, pipeline: [{ ...call, id: "a", with: "${params.big}${params.big}" }] }
      })
      assert.strictEqual(twice["a"]?.error?.code, "template_error")
      refusal(
        yield* request("POST", path, { body: { payload: { params: { big: big + big }, pipeline: [call] } } }),
        413
      )
    })
  )
})

layer(apiServer([["ORDINAUT_UNKNOWN_TOOLS", "fail"]]))("POST /pipelines/dry_run where no tool is simulated", (it) => {
  it.effect("refuses the tools that nobody brings, as POST /tasks does", () =>
    Effect.gen(function* () {
      const body = { payload: { pipeline: [{ uses: "core.log", with: { message: "a" } }, call], on_failure: [call] } }
      const { errors } = refusal(yield* request("POST", path, { body }), 422, "invalid_pipeline")
      assert.deepStrictEqual(
        errors?.map((error) => error.path),
        ["/payload/pipeline/1/uses", "/payload/on_failure/0/uses"]
      )
      const task = { title: "t", schedule_kind: "cron", schedule_expr: "* * * * *", payload: body.payload }
      assert.deepStrictEqual(refusal(yield* request("POST", "/tasks", { body: task }), 422).errors, errors)
    })
  )
})
