import { assert, describe, it } from "@effect/vitest"
import { call, one, paths, valid } from "./pipelines.ts"

const reading = (text: string) => ({ pipeline: [{ ...call, with: `\${${text}}` }] })

const core = (tool: string, input?: unknown) => ({
  pipeline: [{ uses: `core.${tool}`, ...(input !== undefined && { with: input }) }]
})

describe("check", () => {
  it("makes the ids that are left out and finds every step by both names", () => {
    const { steps } = valid({
      pipeline: [
        call,
        { ...call, save_as: "b" },
        { ...call, with: ["${steps.step_1}", "${steps.step_2}", "${steps.b.x}"] }
      ]
    })
    assert.deepStrictEqual(
      steps.map(({ id, index }) => [index, id]),
      [
        [0, "step_1"],
        [1, "step_2"],
        [2, "step_3"]
      ]
    )
  })

  it("refuses names that are taken, made ones included", () => {
    one(
      {
        pipeline: [
          { ...call, id: "a" },
          { ...call, id: "a" }
        ]
      },
      "/payload/pipeline/1/id",
      "step 1"
    )
    one(
      {
        pipeline: [
          { ...call, id: "a" },
          { ...call, save_as: "a" }
        ]
      },
      "/payload/pipeline/1/save_as",
      "name space"
    )
    one(
      {
        pipeline: [
          { ...call, save_as: "a" },
          { ...call, save_as: "a" }
        ]
      },
      "/payload/pipeline/1/save_as",
      "taken"
    )
    one({ pipeline: [{ ...call, id: "step_2" }, call] }, "/payload/pipeline/1", "step_2")
    valid({ pipeline: [{ ...call, id: "a", save_as: "a" }] })
  })

  it("refuses references to steps that are unknown, later, or the step itself", () => {
    const at = "/payload/pipeline/0/with/a"
    const pipeline = (text: string) => ({
      pipeline: [
        { ...call, id: "x", with: { a: text } },
        { ...call, id: "y" }
      ]
    })
    one(pipeline("${steps.nope.a}"), at, "no step has the id or save_as nope")
    one(pipeline("${steps.y.a || 'x'}"), at, "later step")
    one(pipeline("${steps.x}"), at, "own output")
    one(pipeline("${errors.y}"), at, "later step")
    one(pipeline("${steps[0]}"), at, "an object")
    one(
      {
        pipeline: [
          { ...call, if: "steps.y.a" },
          { ...call, id: "y" }
        ]
      },
      "/payload/pipeline/0/if",
      "later step"
    )
    one({ pipeline: [{ ...call, idempotency_key: "k-${steps.z}" }] }, "/payload/pipeline/0/idempotency_key", "no step")
    one(
      {
        pipeline: [
          { ...call, id: "a", save_as: "b" },
          { ...call, if: "errors.b" }
        ]
      },
      "/payload/pipeline/1/if",
      "by the id"
    )
    one({ pipeline: [{ ...call, if: "steps.*.a || [steps.q][0]" }] }, "/payload/pipeline/0/if", "no step")
    valid({
      pipeline: [
        { ...call, id: "a", on_error: "continue" },
        { ...call, if: "errors.a && steps", with: "${values(steps)}" }
      ]
    })
  })

  it("refuses names that no context has", () => {
    const at = "/payload/pipeline/0/with"
    one(reading("step.a"), at, "there is no step")
    one(reading("item.a"), at, "for_each")
    one(reading("params.a == true"), at, "`true`")
    one(reading("run.name"), at, "scheduled_for")
    one(reading("task.name || 'x'"), at, "labels")
    one(reading("event.data"), at, "payload")
    one(reading("now.year"), at, "now is a time")
    one(reading("[0]"), at, "not an array")
    for (const text of [
      "params.any.thing",
      "run.id",
      "run.scheduled_for",
      "task.labels.x",
      "event.payload.a.b",
      "event",
      "@"
    ])
      valid(reading(text))
  })

  it("finds all problems of a pipeline at once", () => {
    assert.deepStrictEqual(
      paths({
        pipeline: [
          { ...call, id: "a", with: { x: "${", y: ["${steps.b}"] }, if: "n > 1" },
          { uses: "core.nothing", id: "b", idempotency_key: "${}", on_error: { goto: "a" } }
        ]
      }),
      [
        "/payload/pipeline/0/with/x",
        "/payload/pipeline/0/if",
        "/payload/pipeline/1/uses",
        "/payload/pipeline/1/idempotency_key",
        "/payload/pipeline/1/on_error/goto"
      ]
    )
  })

  it("tells at most a hundred of them", () => {
    assert.strictEqual(paths({ pipeline: Array.from({ length: 200 }, () => ({ ...call, if: "" })) }).length, 100)
  })

  it("lets a failure jump to later steps only", () => {
    const { steps } = valid({
      pipeline: [{ ...call, on_error: { goto: "end" } }, call, { ...call, id: "end", on_error: "continue" }]
    })
    assert.deepStrictEqual(
      steps.map((step) => step.onError),
      [{ goto: 2 }, "fail", "continue"]
    )
    one({ pipeline: [{ ...call, id: "a", on_error: { goto: "a" } }] }, "/payload/pipeline/0/on_error/goto", "later")
    one(
      {
        pipeline: [
          { ...call, on_error: { goto: "b" } },
          { ...call, save_as: "b" }
        ]
      },
      "/payload/pipeline/0/on_error/goto",
      "not the id"
    )
  })

  it("fills in the backoff", () => {
    const { steps } = valid({
      pipeline: [call, { ...call, retry: { max_attempts: 4, backoff_seconds: 0.5, on: ["timeout"] } }]
    })
    assert.deepStrictEqual(
      steps.map((step) => step.retry),
      [
        undefined,
        {
          policy: {
            max_attempts: 4,
            backoff_strategy: "exponential_jitter",
            backoff_seconds: 0.5,
            backoff_max_seconds: 3600
          },
          on: new Set(["timeout"] as const)
        }
      ]
    )
  })

  it("knows the tools of core and the shape of their input", () => {
    const at = "/payload/pipeline/0"
    one(core("nope"), `${at}/uses`, "core.transform")
    one(core("transform"), `${at}/with`, "value or expression")
    one(core("transform", { value: 1, expression: "params" }), `${at}/with`, "one of the two")
    one(core("transform", "${params}"), `${at}/with`, "an object")
    one(core("transform", { expression: "params." }), `${at}/with/expression`, "not complete")
    one(core("transform", { expression: "steps.x" }), `${at}/with/expression`, "no step")
    one(core("transform", { expression: 1 }), `${at}/with/expression`, "JMESPath")
    one(core("log", {}), `${at}/with/message`, "needs this")
    one(core("log", { message: "a", level: "loud" }), `${at}/with/level`, "debug, info, warn, error")
    one(core("log", { message: "a", levels: "info" }), `${at}/with/levels`, "takes message, level, data")
    one(core("fail", { message: "a", retryable: "yes" }), `${at}/with/retryable`, "true or false")
    for (const [tool, input] of [
      ["transform", { value: null }],
      ["transform", { expression: "params.items[?a == '${b}']" }],
      ["log", { message: "at ${now}", level: "${params.level}", data: {} }],
      ["log", "${params}"],
      ["fail", { message: "no", retryable: true }]
    ] as const) {
      valid(core(tool, input))
    }
  })

  it("knows what the tools that wait and call take", () => {
    const at = "/payload/pipeline/0"
    one(core("wait", {}), `${at}/with`, "seconds or until")
    one(core("wait", { seconds: -1 }), `${at}/with/seconds`, "from 0 to")
    one(core("wait", { seconds: 366 * 86_400 + 1 }), `${at}/with/seconds`, "from 0 to")
    one(core("wait", { until: "tomorrow" }), `${at}/with/until`, "RFC 3339")
    one(core("approval", { approvers: ["a"] }), `${at}/with/message`, "needs this")
    one(core("approval", { message: "?", approvers: "a" }), `${at}/with/approvers`, "array of agent names")
    one(core("approval", { message: "?", on_expire: "approve" }), `${at}/with/on_expire`, "fail, reject")
    one(core("wait_event", { topic: "a..b" }), `${at}/with/topic`, "topic")
    one(core("wait_event", { topic: "a.*", if: "event." }), `${at}/with/if`, "JMESPath")
    one(core("emit", { topic: "ordinaut.run.failed", payload: 1 }), `${at}/with/topic`, "not below ordinaut")
    one(core("emit", { topic: "a.*", payload: 1 }), `${at}/with/topic`, "topic")
    one(core("run_task", { task_id: "mine" }), `${at}/with/task_id`, "id of a task")
    one(core("http", { url: "ftp://a" }), `${at}/with/url`, "only http and https")
    one(core("http", { url: "https://a", method: "TRACE" }), `${at}/with/method`, "GET")
    one(core("http", { url: "https://a", headers: { a: [1] } }), `${at}/with/headers/a`, "a text")
    one(core("http", { url: "https://a", expect_status: [] }), `${at}/with/expect_status`, "a status")
    for (const [tool, input] of [
      ["wait", { seconds: "${params.pause}" }],
      ["wait", { until: "${now+1d}" }],
      [
        "approval",
        { message: "?", data: {}, approvers: ["a", "${params.boss}"], on_expire: "reject", fail_on_reject: true }
      ],
      ["wait_event", { topic: "orders.*", if: "event.payload.id == `1`" }],
      ["emit", { topic: "orders.${params.kind}", payload: null }],
      ["run_task", { task_id: "018f0000-0000-7000-9000-000000000001", params: {}, wait: true }],
      [
        "http",
        {
          url: "https://a/${params.x}",
          method: "POST",
          headers: { a: "${params.b}" },
          query: { q: [1, "${params.q}"] },
          body: 1,
          expect_status: [200, 404]
        }
      ]
    ] as const) {
      valid(core(tool, input))
    }
  })

  it("gives a timeout to what runs and an expiry to what waits", () => {
    const approval = { uses: "core.approval", with: { message: "?" } }
    one({ pipeline: [{ ...approval, timeout_seconds: 5 }] }, "/payload/pipeline/0/timeout_seconds", "expires_seconds")
    one(
      { pipeline: [{ uses: "core.wait", with: { seconds: 1 }, timeout_seconds: 5 }] },
      "/payload/pipeline/0/timeout_seconds",
      "its own time"
    )
    one(
      { pipeline: [{ uses: "core.log", with: { message: "a" }, expires_seconds: 5 }] },
      "/payload/pipeline/0/expires_seconds",
      "does not wait"
    )
    valid({
      pipeline: [
        { ...approval, expires_seconds: 0.5 },
        { ...call, expires_seconds: 5, timeout_seconds: 5 }
      ]
    })
  })

  it("orders steps by their needs", () => {
    const at = "/payload/pipeline"
    const { main } = valid({
      pipeline: [
        { ...call, id: "c", needs: ["a", "b", "a"], with: "${steps.a} ${steps.b.x}" },
        { ...call, id: "a", needs: [] },
        { ...call, id: "b", needs: ["a"] },
        { ...call, id: "d", needs: ["c"], with: "${steps.a}" }
      ]
    })
    assert.deepStrictEqual(main.needs, [[1, 2], [], [1], [0]])
    const two = (first: object, second: object) => ({
      pipeline: [
        { ...call, id: "a", ...first },
        { ...call, id: "b", ...second }
      ]
    })
    one(two({ needs: [] }, {}), `${at}/1/needs`, "every step must")
    one(two({ needs: ["x"] }, { needs: [] }), `${at}/0/needs/0`, "no step has the id x")
    one(two({ needs: ["a"] }, { needs: [] }), `${at}/0/needs/0`, "this step itself")
    one(two({ needs: ["b"] }, { needs: ["a"] }), at, "circle: a → b → a")
    one(two({ needs: [] }, { needs: [], with: "${steps.a}" }), `${at}/1/with`, "does not need")
    one(two({ needs: [], on_error: { goto: "b" } }, { needs: ["a"] }), `${at}/0/on_error`, "without needs")
    valid(two({ needs: ["b"], if: "steps.b" }, { needs: [] }))
  })

  it("lets a step run over an array, with item and index in its input", () => {
    const { steps } = valid({
      pipeline: [
        call,
        {
          ...call,
          for_each: "${steps.step_1.list}",
          max_parallel: 3,
          with: { a: "${item.id}", b: "${index}" },
          idempotency_key: "${item}"
        },
        { ...call, for_each: "${params.all}", on_item_error: "continue", with: "${steps.step_2[0]}" }
      ]
    })
    assert.deepStrictEqual(
      steps.map(({ forEach }) => forEach && [forEach.maxParallel, forEach.onItemError]),
      [undefined, [3, "fail"], [10, "continue"]]
    )
    const at = "/payload/pipeline/0"
    one({ pipeline: [{ ...call, for_each: "list" }] }, `${at}/for_each`, "a template")
    one({ pipeline: [{ ...call, for_each: "${item}" }] }, `${at}/for_each`, "for_each")
    one({ pipeline: [{ ...call, for_each: "${params.a}", if: "item" }] }, `${at}/if`, "for_each")
    one({ pipeline: [{ ...call, for_each: "${params.a}", with: "${index.a}" }] }, `${at}/with`, "a number")
    one({ pipeline: [{ ...call, max_parallel: 2 }] }, `${at}/max_parallel`, "goes with for_each")
    one({ pipeline: [{ ...call, on_item_error: "continue" }] }, `${at}/on_item_error`, "goes with for_each")
  })

  it("lets what runs after a failure read all steps of the pipeline", () => {
    const { failure, main, steps } = valid({
      pipeline: [{ ...call, id: "a" }],
      on_failure: [
        { ...call, with: "${errors.a.message}", on_error: { goto: "end" } },
        { ...call, id: "end", if: "steps.a && steps.step_2" }
      ]
    })
    assert.deepStrictEqual([main.steps.length, failure.steps.length, steps.length], [1, 2, 3])
    assert.deepStrictEqual(failure.steps[0]?.onError, { goto: 1 })
    assert.deepStrictEqual(
      steps.map(({ id, index }) => [id, index]),
      [
        ["a", 0],
        ["step_2", 1],
        ["end", 2]
      ]
    )
    one(
      { pipeline: [{ ...call, with: "${steps.b}" }], on_failure: [{ ...call, id: "b" }] },
      "/payload/pipeline/0/with",
      "later step"
    )
    one(
      { pipeline: [{ ...call, on_error: { goto: "b" } }], on_failure: [{ ...call, id: "b" }] },
      "/payload/pipeline/0/on_error/goto",
      "not a later step"
    )
    one({ pipeline: [call], on_failure: [{ ...call, id: "step_1" }] }, "/payload/on_failure/0/id", "taken")
  })
})
