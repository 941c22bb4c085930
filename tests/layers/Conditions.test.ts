import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import * as fc from "fast-check"
import { Effect, Either } from "effect"
import { Events } from "../../src/layers/Events.ts"
import { Occurrences } from "../../src/layers/Occurrences.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { task } from "../support/fixtures.ts"
import { create } from "../support/schedules.ts"
import { inWords, listening, Owner, runsOf, say, second, tick, world } from "../support/listening.ts"

const change = { reason: null, version: null }
const hot = 'events."temp.kitchen".v > `30`'
const condition = (schedule_expr: string, more: Record<string, unknown> = {}) =>
  Effect.flatMap(Owner, (actor) => create(actor, { schedule_kind: "condition", schedule_expr, ...more }))

const lastValue = (id: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(sql<{ v: boolean | null }>`SELECT last_value AS v FROM task WHERE id = ${id}`, ([row]) => row?.v ?? null)
  )

layer(listening())("Conditions", (it) => {
  it.effect("fires when an event makes it true, and not while it stays true", () =>
    world(() =>
      Effect.gen(function* () {
        yield* say("temp.kitchen", { v: 1 })
        const { id } = yield* condition(hot)
        assert.isFalse(yield* lastValue(id))
        const fired: Array<number> = []
        for (const [n, v] of [20, 31, 35, 30, 29, 40, 41].entries()) {
          yield* second(n + 1)
          const { triggered_runs } = yield* say("temp.kitchen", { v })
          if (triggered_runs.length > 0) fired.push(v)
          yield* say("temp.cellar", { v: 99 })
        }
        assert.deepStrictEqual(fired, [31, 40])
        assert.deepStrictEqual(yield* inWords(id), ["2 e queued", "6 e queued"])
      })
    )
  )

  it.effect("the first evaluation sets the base where a topic was never heard before", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* condition(hot)
        assert.isNull(yield* lastValue(id))
        yield* say("temp.kitchen", { v: 50 })
        assert.isTrue(yield* lastValue(id))
        yield* say("temp.kitchen", { v: 1 })
        yield* say("temp.kitchen", { v: 51 })
        assert.lengthOf(yield* runsOf(id), 1)
      })
    )
  )

  it.effect("a new base after an edit and after a resume; what happened meanwhile does not fire", () =>
    world((actor) =>
      Effect.gen(function* () {
        const states = yield* TaskStates
        const tasks = yield* Tasks
        yield* say("temp.kitchen", { v: 1 })
        const { id } = yield* condition(hot)
        yield* states.pause(actor, id, change)
        yield* say("temp.kitchen", { v: 40 })
        assert.isEmpty(yield* runsOf(id))
        yield* states.resume(actor, id, { ...change, onMissed: null })
        assert.isTrue(yield* lastValue(id))
        yield* say("temp.kitchen", { v: 41 })
        assert.isEmpty(yield* runsOf(id))
        yield* tasks.patch(actor, id, { schedule_expr: 'events."temp.kitchen".v > `50`' }, null)
        assert.isFalse(yield* lastValue(id))
        yield* say("temp.kitchen", { v: 51 })
        assert.lengthOf(yield* runsOf(id), 1)
        yield* tasks.patch(actor, id, { schedule_expr: hot }, null)
        yield* say("temp.kitchen", { v: 52 })
        assert.lengthOf(yield* runsOf(id), 1)
        yield* tasks.patch(actor, id, { schedule_expr: "events.other.v" }, null)
        assert.isNull(yield* lastValue(id))
        yield* tasks.patch(actor, id, { schedule_kind: "cron", schedule_expr: "* * * * *" }, null)
        assert.isNull(yield* lastValue(id))
      })
    )
  )

  it.effect("an edit of what it does leaves the base alone", () =>
    world((actor) =>
      Effect.gen(function* () {
        yield* say("temp.kitchen", { v: 1 })
        const { id } = yield* condition(hot)
        yield* say("temp.kitchen", { v: 31 })
        const payload = task().payload
        yield* Effect.flatMap(Tasks, (tasks) => tasks.patch(actor, id, { payload, priority: 2 }, null))
        yield* say("temp.kitchen", { v: 32 })
        assert.lengthOf(yield* runsOf(id), 1)
      })
    )
  )

  it.effect("looks at now once a minute, whoever ticks, and fires the edge once for a minute", () =>
    world(() =>
      Effect.gen(function* () {
        const { id, next_run_at } = yield* condition("now.minute >= `2` && now.minute < `4` || now.minute == `6`")
        assert.isNull(next_run_at)
        for (let seconds = 0; seconds <= 8 * 60; seconds += 20) {
          yield* second(seconds)
          yield* Effect.all([tick, tick, tick], { concurrency: 3 })
        }
        const runs = yield* runsOf(id)
        assert.deepStrictEqual(
          runs.map(({ key }) => key),
          ["c:2026-03-02T09:02:00.000Z", "c:2026-03-02T09:06:00.000Z"]
        )
        assert.deepStrictEqual(yield* inWords(id), ["120 c queued", "360 c queued"])
      })
    )
  )

  it.effect("wakes the scheduler at the next minute, and looks late after a downtime", () =>
    world(() =>
      Effect.gen(function* () {
        const { id } = yield* condition("now.hour == `10`", { timezone: "Europe/Chisinau" })
        const { nextAt } = yield* tick
        assert.strictEqual(new Date(nextAt ?? 0).toISOString(), "2026-03-02T09:01:00.000Z")
        // 11:00 there at the start; the hour 10 of the next day comes while nobody ticks, but for its last minutes.
        yield* second(23 * 3600 + 1790)
        yield* tick
        yield* tick
        assert.deepStrictEqual(yield* inWords(id), [`${23 * 3600 + 1740} c queued`])
        yield* second(26 * 3600)
        yield* tick
        assert.isFalse(yield* lastValue(id))
      })
    )
  )

  it.effect("an event and the minute move one value: the edge that one saw is no edge for the other", () =>
    world(() =>
      Effect.gen(function* () {
        yield* say("go", false)
        const { id } = yield* condition("events.go && now.minute >= `1`")
        yield* say("go", true)
        assert.isEmpty(yield* runsOf(id))
        yield* second(60)
        yield* tick
        yield* say("go", true)
        yield* second(120)
        yield* tick
        assert.deepStrictEqual(yield* inWords(id), ["60 c queued"])
        yield* say("go", false)
        yield* say("go", true)
        yield* tick
        assert.deepStrictEqual(yield* inWords(id), ["60 c queued", "120 e queued"])
      })
    )
  )

  it.effect("fires once under fifty events at once while two schedulers tick", () =>
    world(() =>
      Effect.gen(function* () {
        yield* say("temp.kitchen", { v: 1 })
        const { id } = yield* condition(`${hot} && now.minute >= \`0\``)
        yield* second(60)
        const started = yield* Effect.all(
          [
            ...Array.from({ length: 50 }, (_, n) =>
              Effect.map(say("temp.kitchen", { v: 31 + n }), ({ triggered_runs }) => triggered_runs.length)
            ),
            ...Array.from({ length: 10 }, () => Effect.as(tick, 0))
          ],
          { concurrency: 12 }
        )
        assert.strictEqual(
          started.reduce((sum, n) => sum + n, 0),
          1
        )
        assert.lengthOf(yield* runsOf(id), 1)
      })
    )
  )

  it.effect("overlap and the dedupe window bind its runs; max_runs completes it", () =>
    world((actor) =>
      Effect.gen(function* () {
        yield* say("t", false)
        const overlap = yield* condition("events.t", { overlap_policy: "skip" })
        const dedupe = yield* condition("events.t", { dedupe_window_seconds: 60 })
        const twice = yield* condition("events.t", { max_runs: 2 })
        for (const seconds of [1, 2, 3, 100]) {
          yield* second(seconds)
          yield* say("t", true)
          yield* say("t", false)
        }
        assert.deepStrictEqual(yield* inWords(overlap.id), [
          "1 e queued",
          "2 e skipped overlap",
          "3 e skipped overlap",
          "100 e skipped overlap"
        ])
        assert.deepStrictEqual(yield* inWords(dedupe.id), [
          "1 e queued",
          "2 e skipped dedupe",
          "3 e skipped dedupe",
          "100 e queued"
        ])
        assert.deepStrictEqual(yield* inWords(twice.id), ["1 e queued", "2 e queued"])
        assert.strictEqual((yield* Effect.flatMap(Tasks, (tasks) => tasks.get(actor, twice.id))).status, "completed")
      })
    )
  )

  it.effect("what cannot be evaluated is not true, and the explanation says so", () =>
    world((actor) =>
      Effect.gen(function* () {
        const occurrences = yield* Occurrences
        yield* say("list", [])
        const { id } = yield* condition("length(events.list) > `1`")
        yield* say("list", 7)
        const broken = yield* occurrences.explain(actor, id, null)
        assert.strictEqual(broken.reason, "condition_error")
        assert.include(
          broken.checks.find(({ name }) => name === "condition_evaluates")?.sentence,
          "cannot be evaluated"
        )
        yield* say("list", [1, 2])
        assert.lengthOf(yield* runsOf(id), 1)
        const told = yield* occurrences.explain(actor, id, null)
        assert.include(told.checks.find(({ name }) => name === "condition_evaluates")?.sentence, "is true now")
        assert.strictEqual(told.recent.length, 1)
        assert.isNull(told.next)
        assert.isEmpty(yield* occurrences.next(actor, id, null, 10))
        assert.isEmpty(yield* occurrences.upcoming(actor, Date.UTC(2026, 0, 1), Date.UTC(2026, 11, 1)))
      })
    )
  )

  it.effect("one whose stored expression cannot be read is set aside at its minute", () =>
    world((actor) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { id } = yield* condition("now.minute == `1`")
        const other = yield* condition("now.minute == `1`")
        yield* sql`UPDATE task SET schedule_expr = 'events.*' WHERE id = ${id}`
        yield* second(60)
        yield* tick
        assert.lengthOf(yield* runsOf(other.id), 1)
        const { reason } = yield* Effect.flatMap(Occurrences, (occurrences) => occurrences.explain(actor, id, null))
        assert.strictEqual(reason, "quarantined")
      })
    )
  )

  it.effect("over random histories it fires as the model does", () =>
    world((actor) =>
      Effect.gen(function* () {
        const step = fc.oneof(
          {
            weight: 6,
            arbitrary: fc.record({
              tag: fc.constant("say" as const),
              topic: fc.constantFrom("a", "b"),
              v: fc.integer({ min: 0, max: 3 })
            })
          },
          {
            weight: 3,
            arbitrary: fc.record({ tag: fc.constant("wait" as const), seconds: fc.integer({ min: 1, max: 90 }) })
          },
          {
            weight: 1,
            arbitrary: fc.record({ tag: fc.constantFrom("pause" as const, "resume" as const, "resume" as const) })
          }
        )
        const states = yield* TaskStates
        let total = 0
        for (const history of fc.sample(fc.array(step, { minLength: 10, maxLength: 40 }), { numRuns: 12, seed: 7 })) {
          let now = 0
          yield* second(now)
          const said: Record<string, number> = {}
          yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql`TRUNCATE topic_last, event, outbox`)
          const { id } = yield* condition("events.a.v > events.b.v && (now.minute < `2` || now.minute > `3`)")
          const value = () =>
            (said["a"] ?? NaN) > (said["b"] ?? NaN) && !(Math.floor(now / 60) >= 2 && Math.floor(now / 60) <= 3)
          const complete = () => "a" in said && "b" in said
          let base: boolean | null = null
          let paused = false
          let fired = 0
          const look = () => {
            if (paused) return
            if (base === false && value()) fired++
            base = value()
          }
          for (const one of history) {
            if (one.tag === "say") {
              said[one.topic] = one.v
              yield* say(one.topic, { v: one.v })
              look()
            } else if (one.tag === "wait") {
              const before = now
              now += one.seconds
              yield* second(now)
              yield* Effect.all([tick, tick], { concurrency: 2 })
              if (Math.floor(now / 60) > Math.floor(before / 60)) look()
            } else if (one.tag === "pause") {
              yield* states.pause(actor, id, change)
              paused = true
            } else {
              yield* states.resume(actor, id, { ...change, onMissed: null })
              if (paused) base = complete() ? value() : null
              paused = false
            }
          }
          assert.lengthOf(yield* runsOf(id), fired, JSON.stringify(history))
          yield* states.cancel(actor, id, change)
          total += fired
        }
        assert.isAbove(total, 10)
      })
    )
  )

  it.effect("the last payload of a topic stays when its event is past the retention", () =>
    world((actor) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* say("kept", { v: 1 })
        yield* sql`DELETE FROM event`
        const { id } = yield* condition("events.kept.v && events.other")
        yield* say("other", false)
        yield* say("other", true)
        assert.lengthOf(yield* runsOf(id), 1)
        const topics = yield* Effect.flatMap(Events, (events) => events.topics(actor, null, 10))
        assert.deepStrictEqual(
          topics.map(({ tasks, topic }) => [topic, tasks.map((one) => one.id)]),
          [
            ["kept", [id]],
            ["other", [id]]
          ]
        )
      })
    )
  )

  it.effect("names the field of an expression that is refused", () =>
    world((actor) =>
      Effect.gen(function* () {
        const tasks = yield* Tasks
        const made = yield* Effect.either(
          tasks.create(actor, task({ schedule_kind: "condition", schedule_expr: "values(events)" }))
        )
        assert.ok(Either.isLeft(made) && made.left._tag === "InvalidSchedule")
        assert.strictEqual(made.left.field, "schedule_expr")
      })
    )
  )
})
