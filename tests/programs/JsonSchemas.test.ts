import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Programs from "../support/programs.ts"

const Answer = Schema.Struct({ status: Schema.optional(Schema.Int), code: Schema.optional(Schema.String) })

it.scopedLive(
  "a built program judges the schemas of users in threads of its own, and stays responsive",
  () =>
    Effect.gen(function* () {
      const folder = yield* Programs.dataFolder
      const { stop, url } = yield* Programs.start("all", { ORDINAUT_DATA_DIR: folder })
      const key = yield* Effect.promise(async () => (await readFile(join(folder, "admin.key"), "utf8")).trim())
      const put = (name: string, schema: object) =>
        Programs.request({ url, key }, "PUT", `/extensions/${name}`, Answer, {
          kind: "simulated",
          tools: [{ name: "t", input_schema: schema }]
        })
      assert.strictEqual((yield* put("good", { type: "object", required: ["a"] })).status, 201)
      assert.strictEqual((yield* put("bad", { type: "strin" })).status, 422)

      // 2^26 ways to judge one value: the thread is ended, and whoever asks meanwhile is answered.
      const names = Array.from({ length: 27 }, (_, i) => `a${i}`)
      const ways = names.map((name, i) => {
        const before = { $ref: `#/$defs/a${i - 1}` }
        return [name, i === 0 ? { const: 1 } : { anyOf: [before, before] }] as const
      })
      const slow = { $defs: Object.fromEntries(ways), properties: { x: { $ref: "#/$defs/a26" } } }
      assert.strictEqual((yield* put("slow", slow)).status, 201)
      const create = (uses: string, input: object) =>
        Programs.request({ url, key }, "POST", "/tasks", Answer, {
          title: "a task",
          schedule_kind: "cron",
          schedule_expr: "0 0 1 1 *",
          payload: { pipeline: [{ uses, with: input }] }
        })
      const held = yield* Effect.fork(create("slow.t", { x: 2 }))
      yield* Effect.sleep("300 millis")
      const began = performance.now()
      const live = yield* Programs.request({ url, key }, "GET", "/health/live", Schema.Unknown)
      assert.strictEqual(live.status, 200)
      assert.isBelow(performance.now() - began, 1000)
      const refused = yield* held
      assert.deepInclude(refused.body, { status: 422, code: "invalid_pipeline" })
      assert.strictEqual((yield* create("good.t", {})).status, 422)
      assert.strictEqual(yield* stop("SIGTERM"), 0)
    }),
  120_000
)
