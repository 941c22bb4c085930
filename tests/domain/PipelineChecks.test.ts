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
})
