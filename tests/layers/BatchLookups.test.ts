import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect, Either, Tracer } from "effect"
import { Extensions } from "../../src/layers/Extensions.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { admin, task } from "../support/fixtures.ts"
import { services } from "../support/Services.ts"

/** Runs an effect and tells the names of the spans that began in it. */
const spansOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const names: Array<string> = []
    const tracer = Tracer.make({
      context: (run) => run(),
      span: (name, parent, context, links, startTime, kind) => {
        names.push(name)
        return {
          _tag: "Span",
          name,
          spanId: String(names.length),
          traceId: "trace",
          parent,
          context,
          links,
          kind,
          sampled: true,
          attributes: new Map(),
          status: { _tag: "Started", startTime },
          end: () => undefined,
          attribute: () => undefined,
          event: () => undefined,
          addLinks: () => undefined
        }
      }
    })
    const result = yield* Effect.withTracer(effect, tracer)
    return { names, result }
  })

layer(services())("a batch of tasks", (it) => {
  it.effect("looks its extensions up once, and binds each task to its own", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const extensions = yield* Extensions
      for (const name of ["mail", "post"]) {
        const body = { kind: "worker" as const, served_by: ["someone"], tools: [{ name: "send" }] }
        yield* extensions.put(actor, name, body, null)
      }
      const of = (...uses: ReadonlyArray<string>) =>
        task({ payload: { pipeline: uses.map((one) => ({ uses: one, with: {} })) } })
      const many = [of("mail.send"), of("mail.nothing"), of("nobody.knows", "post.send"), of("nobody.knows")]
      const { names, result } = yield* spansOf(Effect.flatMap(Tasks, (tasks) => tasks.createAll(actor, many)))
      assert.strictEqual(names.filter((name) => name === "Extensions.named").length, 1)
      const sql = yield* SqlClient.SqlClient
      const bound = yield* Effect.forEach(result, (one) =>
        Effect.gen(function* () {
          if (Either.isLeft(one)) return one.left._tag
          const [row] = yield* sql<{ bound: ReadonlyArray<string> }>`
            SELECT bound_extensions AS bound FROM task_revision WHERE task_id = ${one.right.id}`
          return row?.bound
        })
      )
      assert.deepStrictEqual(bound, [["mail"], "InvalidPipeline", ["post"], []])
    })
  )
})
