import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { EventStream } from "../../src/layers/EventStream.ts"
import { Reruns } from "../../src/layers/Reruns.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { create } from "../support/schedules.ts"
import { work } from "../support/fixtures.ts"
import { inWords, listening, Owner, runsOf, say, second, tick, world } from "../support/listening.ts"

const most = 5
const hearer = (schedule_expr: string, more: Record<string, unknown> = {}) =>
  Effect.flatMap(Owner, (actor) => create(actor, { schedule_kind: "event", schedule_expr, ...more }))
const runNow = (id: string) =>
  Effect.flatMap(Owner, (actor) => Effect.flatMap(TaskStates, (states) => states.runNow(actor, id, null, null)))
const publishAll = Effect.flatMap(EventStream, (stream) =>
  Effect.repeat(stream.number, { until: (numbered) => numbered === 0 })
).pipe(Effect.orDie)
const fullest = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ n: number }>`SELECT count(*)::integer AS n FROM due_work GROUP BY task_id ORDER BY 1 DESC LIMIT 1`,
    ([row]) => row?.n ?? 0
  )
)

layer(listening([["ORDINAUT_MAX_UNFINISHED_RUNS", String(most)]]))("the quota of unfinished runs", (it) => {
  it.effect("what events ask for beyond it is recorded as skipped; what has ended makes room", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* hearer("go", { max_runs: 6 })
        for (let n = 0; n < most + 2; n++) yield* say("go")
        const words = yield* inWords(id)
        assert.deepStrictEqual(words, [
          ...Array.from({ length: most }, () => "0 e queued"),
          ...Array.from({ length: 2 }, () => "0 e skipped quota")
        ])
        yield* work
        yield* say("go")
        // What was skipped is none of the runs that it may have.
        assert.strictEqual((yield* inWords(id)).at(-1), "0 e queued")
        yield* work
      })
    )
  )

  it.effect("two tasks that hear all of each other's runs never have more, and their refusals start nothing", () =>
    world(() =>
      Effect.gen(function* () {
        const one = yield* hearer("ordinaut.run.**")
        const two = yield* hearer("ordinaut.run.**")
        yield* publishAll
        yield* runNow(one.id)
        for (let round = 0; round < 4; round++) {
          yield* work
          yield* publishAll
          assert.isAtMost(yield* fullest, most)
        }
        const skipped = (yield* runsOf(two.id)).filter(({ reason }) => reason === "quota")
        assert.isNotEmpty(skipped)
        const before = (yield* runsOf(one.id)).length
        yield* publishAll
        assert.lengthOf(yield* runsOf(one.id), before)
        const actor = yield* Owner
        const states = yield* TaskStates
        for (const { id } of [one, two]) yield* states.cancel(actor, id, { reason: null, version: null })
      })
    )
  )

  it.effect("a step that starts runs of its own task without end fails with too_many_runs", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* hearer("never", {
          max_retries: 0,
          // One at a time, so that none has ended before the last is asked for.
          concurrency_key: "one at a time",
          payload: {
            params: { n: Array.from({ length: most + 3 }, (_, n) => n) },
            pipeline: [
              {
                id: "go",
                uses: "core.run_task",
                for_each: "${params.n}",
                with: { task_id: "${task.id}", params: { n: [] } }
              }
            ]
          }
        })
        const run = yield* runNow(id)
        yield* work
        const told = yield* Effect.flatMap(Runs, (runs) => runs.get(actor, run))
        assert.deepInclude(told.error, { code: "too_many_runs", step_id: "go", retryable: false })
        yield* work
        assert.isTrue((yield* runsOf(id)).every(({ state }) => state === "succeeded" || state === "failed"))
      })
    )
  )

  it.effect("the schedule skips, run_now and retry are refused", () =>
    world((actor) =>
      Effect.gen(function* () {
        const { id } = yield* create(actor, { schedule_kind: "rrule", schedule_expr: "FREQ=SECONDLY" })
        const first = yield* runNow(id)
        yield* work
        for (let at = 1; at <= most; at++) {
          yield* second(at)
          yield* tick
        }
        assert.strictEqual((yield* inWords(id)).filter((words) => words.endsWith("s queued")).length, most)
        for (const at of [most + 1, most + 2]) {
          yield* second(at)
          yield* tick
        }
        assert.deepStrictEqual((yield* inWords(id)).slice(-2), ["6 s skipped quota", "7 s skipped quota"])
        const refused = yield* Effect.flip(runNow(id))
        assert.deepInclude(refused, { _tag: "TooManyRuns", task_id: id })
        const reruns = yield* Reruns
        const again = yield* Effect.flip(reruns.retry(actor, first, { task_version: "same" }, null))
        assert.deepInclude(again, { _tag: "TooManyRuns", task_id: id })
        yield* Effect.flatMap(TaskStates, (states) => states.cancel(actor, id, { reason: null, version: null }))
      })
    )
  )
})
