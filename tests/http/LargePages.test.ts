import { assert, layer } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { type Answer, answered, apiServer, newTask, request } from "../support/ApiServer.ts"
import { work } from "../support/fixtures.ts"

const big = "x".repeat(900_000)
const Listed = Schema.Struct({
  items: Schema.Array(Schema.Record({ key: Schema.String, value: Schema.Unknown })),
  next_cursor: Schema.NullOr(Schema.String)
})

/** Follows a list to its end; answers the names of its items, and the bytes of its largest page. */
const walk = (path: string, name: string) =>
  Effect.gen(function* () {
    const names: Array<unknown> = []
    let largest = 0
    let cursor: string | null = null
    do {
      const answer: Answer = yield* request("GET", `${path}limit=200${cursor === null ? "" : `&cursor=${cursor}`}`)
      const { items, next_cursor }: typeof Listed.Type = answered(answer, 200, Schema.typeSchema(Listed))
      assert.isNotEmpty(items)
      names.push(...items.map((item) => item[name]))
      largest = Math.max(largest, answer.text.length)
      cursor = next_cursor
    } while (cursor !== null)
    return { names, largest }
  })

layer(apiServer())("a list of large items", (it) => {
  it.effect("comes in pages of some megabytes, without a gap", () =>
    Effect.gen(function* () {
      const task = yield* newTask({ payload: { params: { big }, pipeline: [{ uses: "mail.send" }] } })
      const asking = yield* newTask({
        payload: {
          params: { big },
          pipeline: [{ uses: "core.approval", with: { message: "?", data: "${params.big}" } }]
        }
      })
      for (let i = 0; i < 6; i++) {
        yield* request("POST", "/events", { body: { topic: "large.one", payload: { i, big } } })
        yield* request("PATCH", `/tasks/${task.id}`, { body: { title: `title ${i}` } })
        yield* request("POST", `/tasks/${asking.id}/run_now`)
        yield* newTask({ payload: { params: { big }, pipeline: [{ uses: "mail.send" }] } })
      }
      yield* work
      const lists = [
        ["/events?topic=large.one&", "id", 6],
        ["/tasks?", "id", 8],
        [`/tasks/${task.id}/versions?`, "version", 7],
        ["/approvals?", "id", 6],
        [`/audit?subject_kind=task&action=task.created&`, "subject_id", 8]
      ] as const
      for (const [path, name, count] of lists) {
        const { largest, names } = yield* walk(path, name)
        assert.isBelow(largest, 5_300_000, path)
        assert.lengthOf(names, count, path)
        assert.strictEqual(new Set(names).size, count, path)
      }
    })
  )
})
