import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { DateTime, Deferred, Effect, Fiber, TestClock } from "effect"
import type { JsonValue } from "../../src/domain/Json.ts"
import type { RunStep } from "../../src/domain/Run.ts"
import { AuditTrail } from "../../src/layers/AuditTrail.ts"
import { Approvals } from "../../src/layers/Approvals.ts"
import { Events } from "../../src/layers/Events.ts"
import { History } from "../../src/layers/History.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Reruns } from "../../src/layers/Reruns.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Extensions } from "../../src/layers/Extensions.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { Worker } from "../../src/layers/Worker.ts"
import { admin, agent, task, work } from "../support/fixtures.ts"
import { services } from "../support/Services.ts"
import { give, toolServer } from "../support/toolServer.ts"

/** Starts a run of a pipeline by hand and works as far as it goes. */
const run = (payload: Record<string, unknown>, more: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const { actor } = yield* admin
    const created = yield* (yield* Tasks).create(
      actor,
      task({ schedule_expr: "0 0 1 1 *", max_retries: 0, payload, ...more })
    )
    const id = yield* (yield* TaskStates).runNow(actor, created.id, null, null)
    yield* work
    return { actor, id, taskId: created.id, read: Effect.flatMap(Runs, (runs) => runs.get(actor, id)) }
  })

/** Time passes; what has become due is done. */
const after = (duration: Parameters<typeof TestClock.adjust>[0]) =>
  Effect.gen(function* () {
    yield* TestClock.adjust(duration)
    yield* (yield* History).prepare
    yield* (yield* Lease).promote
    yield* work
  })

const inWords = (found: Effect.Effect.Success<Effect.Effect.Success<ReturnType<typeof run>>["read"]>) =>
  `${found.state}: ${found.steps.map(({ id, state }) => `${id} ${state}`).join(", ")}`

/** Milliseconds from the start of a step to its end. */
const lasted = ({ finished_at, started_at }: Pick<RunStep, "finished_at" | "started_at">) =>
  started_at === null || finished_at === null
    ? NaN
    : DateTime.toEpochMillis(finished_at) - DateTime.toEpochMillis(started_at)

const value = (of: JsonValue) => ({ uses: "core.transform", with: { value: of } })
const fails = { uses: "core.fail", with: { message: "no" } }
const approval = { uses: "core.approval", with: { message: "May I?", data: { sum: 3 } } }

layer(services())("a pipeline", (it) => {
  it.effect("runs steps as their needs say, and one that is skipped counts as met", () =>
    Effect.gen(function* () {
      const { read } = yield* run({
        pipeline: [
          { id: "last", needs: ["left", "right"], ...value("${steps.left} ${steps.right}") },
          { id: "left", needs: ["first"], ...value("${steps.first}1") },
          { id: "right", needs: ["first"], if: "`false`", ...value(2) },
          { id: "first", needs: [], ...value("a") }
        ]
      })
      const found = yield* read
      assert.strictEqual(inWords(found), "succeeded: last succeeded, left succeeded, right skipped, first succeeded")
      assert.strictEqual(found.output?.steps["last"], "a1 null")
    })
  )

  it.effect(
    "ends at the run's deadline what waits and what was to be tried again, and lets on_failure take its time",
    () =>
      Effect.gen(function* () {
        const later = { uses: "core.wait", with: { seconds: 3600 } }
        const more = { deadline_seconds: 10 }
        const waiting = yield* run({ pipeline: [{ id: "w", ...later }], on_failure: [{ id: "o", ...later }] }, more)
        const failing = yield* run(
          { pipeline: [{ id: "f", uses: "core.fail", with: { message: "no", retryable: true } }] },
          { ...more, max_retries: 3, backoff_strategy: "fixed", backoff_seconds: 600 }
        )
        yield* after("9 seconds")
        assert.strictEqual((yield* waiting.read).state, "waiting")
        assert.strictEqual((yield* failing.read).state, "queued")
        yield* after("1 second")
        const failed = yield* failing.read
        assert.deepStrictEqual([failed.state, failed.error?.code, failed.attempt], ["failed", "deadline", 2])
        // The failure's own steps do not wake up again and again because the deadline has passed.
        yield* work
        assert.strictEqual((yield* waiting.read).state, "waiting")
        yield* after("3600 seconds")
        const found = yield* waiting.read
        assert.deepInclude(found.error, { code: "deadline", step_id: "w" })
        assert.strictEqual(inWords(found), "failed: w canceled, o succeeded")
      })
  )

  it.effect("starts nothing new after a failure", () =>
    Effect.gen(function* () {
      const { read } = yield* run({
        pipeline: [
          { id: "a", needs: [], ...fails },
          { id: "b", needs: ["a"], ...value(1) },
          { id: "c", needs: [], ...value(1) }
        ]
      })
      const found = yield* read
      assert.deepInclude(found.error, { code: "failed", step_id: "a" })
      assert.strictEqual(inWords(found), "failed: a failed, b pending, c succeeded")
    })
  )

  it.effect("starts nothing that needs a step that failed, also where others ended at the same moment", () =>
    Effect.gen(function* () {
      const { read } = yield* run({
        pipeline: [
          { id: "a", needs: [], if: "`false`", ...value(1) },
          { id: "b", needs: ["a"], ...value("${params.nothing}") },
          { id: "c", needs: [], if: "`false`", ...value(1) },
          { id: "d", needs: ["b"], ...value(1) }
        ]
      })
      assert.strictEqual(inWords(yield* read), "failed: a skipped, b failed, c skipped, d pending")
    })
  )

  it.effect("starts nothing on a failure that comes at the same time as the end of another step", () =>
    Effect.gen(function* () {
      const sides = [
        { id: "well", needs: [], ...value(1) },
        { id: "ill", needs: [], ...fails }
      ]
      for (const pair of [sides, sides.toReversed()]) {
        const { read } = yield* run({ pipeline: [...pair, { id: "both", needs: ["well", "ill"], ...value(1) }] })
        const { steps } = yield* read
        assert.strictEqual(steps[2]?.state, "pending")
      }
    })
  )

  it.effect("runs a step over the elements of an array, and shows how each ended", () =>
    Effect.gen(function* () {
      const { actor, id, read } = yield* run({
        params: { list: [1, 2, 3, 4, 5] },
        pipeline: [
          { id: "each", for_each: "${params.list}", max_parallel: 2, ...value("${index}:${item}") },
          { id: "none", for_each: "${`[]`}", ...value(1) },
          {
            id: "some",
            for_each: "${params.list}",
            on_item_error: "continue",
            uses: "core.transform",
            with: { expression: "params.list[?@ > `1`].abs('x')" }
          },
          { id: "sum", ...value(["${steps.each}", "${steps.none}", "${steps.some}", "${length(errors.some)}"]) }
        ]
      })
      const found = yield* read
      assert.strictEqual(found.state, "succeeded", JSON.stringify(found.error))
      assert.deepStrictEqual(found.output?.steps["sum"], [
        ["0:1", "1:2", "2:3", "3:4", "4:5"],
        [],
        [null, null, null, null, null],
        5
      ])
      assert.deepStrictEqual(
        found.steps.map(({ items }) => items),
        [{ total: 5, succeeded: 5, failed: 0 }, null, { total: 5, succeeded: 0, failed: 5 }, null]
      )
      const runs = yield* Runs
      const page = yield* runs.items(actor, id, "each", 0, 2)
      assert.deepStrictEqual(
        page.items.map(({ index, output, state }) => [index, output, state]),
        [
          [1, "1:2", "succeeded"],
          [2, "2:3", "succeeded"]
        ]
      )
      assert.strictEqual(page.next, 2)
    })
  )

  it.effect("fails a for_each by its first failure, and one that is given no array", () =>
    Effect.gen(function* () {
      const first = yield* run({
        params: { list: [1, 2, 3, 4] },
        pipeline: [
          {
            id: "each",
            for_each: "${params.list}",
            max_parallel: 1,
            uses: "core.fail",
            with: { message: "not ${item}" }
          }
        ]
      })
      const found = yield* first.read
      assert.deepInclude(found.error, { code: "failed", message: "element 0: not 1" })
      assert.deepStrictEqual(found.steps[0]?.items, { total: 1, succeeded: 0, failed: 1 })
      const second = yield* run({ params: { list: "x" }, pipeline: [{ for_each: "${params.list}", ...value(1) }] })
      assert.deepInclude((yield* second.read).error, { code: "template_error" })
    })
  )

  it.effect("runs on_failure once after the final failure, which stays the end of the run", () =>
    Effect.gen(function* () {
      const { read } = yield* run(
        {
          pipeline: [
            { id: "ok", ...value(1) },
            { id: "bad", uses: "core.fail", with: { message: "no", retryable: true } },
            { id: "never", ...value(2) }
          ],
          on_failure: [
            { id: "tell", ...value("${errors.bad.message}, ${steps.ok}, ${steps.never}") },
            { id: "worse", on_error: "continue", ...fails },
            { id: "end", ...value("${errors.worse.code}") }
          ]
        },
        { max_retries: 1, backoff_strategy: "fixed", backoff_seconds: 60 }
      )
      assert.strictEqual((yield* read).state, "queued")
      assert.strictEqual((yield* read).steps.length, 3)
      yield* after("61 seconds")
      const found = yield* read
      assert.strictEqual(
        inWords(found),
        "failed: ok succeeded, bad failed, never pending, tell succeeded, worse failed, end succeeded"
      )
      assert.deepInclude(found.error, { code: "failed", step_id: "bad" })
      assert.strictEqual(found.attempt, 2)
      assert.deepStrictEqual(
        found.steps.slice(3).map(({ output }) => output),
        ["no, 1, null", null, "failed"]
      )
    })
  )

  it.effect("asks nobody any more for what a failed run waited for, while its on_failure goes on", () =>
    Effect.gen(function* () {
      const approvals = yield* Approvals
      const open = (actor: Parameters<typeof approvals.list>[0]) =>
        Effect.map(approvals.list(actor, { limit: 50, before: null }), ({ items }) =>
          items.map(({ run_id, step_id }) => [run_id, step_id])
        )
      const { actor, id, read } = yield* run({
        pipeline: [
          { id: "ask", needs: [], ...approval },
          { id: "pause", needs: [], uses: "core.wait", with: { seconds: 60 } },
          { id: "bad", needs: ["pause"], ...fails },
          {
            id: "each",
            needs: [],
            for_each: "${params.two}",
            max_parallel: 2,
            uses: "core.wait",
            with: { seconds: 3600 }
          }
        ],
        params: { two: [1, 2] },
        on_failure: [{ id: "after", ...approval }]
      })
      assert.deepStrictEqual(yield* open(actor), [[id, "ask"]])
      yield* after("60 seconds")
      assert.deepStrictEqual(yield* open(actor), [[id, "after"]])
      const meanwhile = yield* read
      assert.strictEqual(
        inWords(meanwhile),
        "waiting: ask canceled, pause succeeded, bad failed, each canceled, after waiting"
      )
      assert.deepStrictEqual(meanwhile.steps[0]?.input, { message: "May I?", data: { sum: 3 } })
      assert.isNotNull(meanwhile.steps[0]?.finished_at ?? null)
      const { items } = yield* (yield* Runs).items(actor, id, "each", -1, 10)
      assert.deepStrictEqual(
        items.map(({ state }) => state),
        ["canceled", "canceled"]
      )
      yield* approvals.decide(actor, id, "after", { decision: "approved" })
      yield* work
      assert.strictEqual(
        inWords(yield* read),
        "failed: ask canceled, pause succeeded, bad failed, each canceled, after succeeded"
      )
    })
  )

  it.effect("waits for 90 days without a worker", () =>
    Effect.gen(function* () {
      const { read } = yield* run({
        pipeline: [
          { id: "wait", uses: "core.wait", with: { seconds: 90 * 86_400 } },
          { id: "then", ...value("${steps.wait.waited_seconds}") }
        ]
      })
      assert.strictEqual(inWords(yield* read), "waiting: wait waiting, then pending")
      yield* after("89 days")
      assert.strictEqual((yield* read).state, "waiting")
      yield* after("1 day")
      const found = yield* read
      assert.strictEqual(inWords(found), "succeeded: wait succeeded, then succeeded")
      assert.strictEqual(found.output?.steps["then"], 90 * 86_400)
      assert.strictEqual(found.attempt, 1)
    })
  )

  it.effect("shows a step that waited from the start of the wait on, with its input", () =>
    Effect.gen(function* () {
      const { actor, id, read } = yield* run({
        params: { list: ["a", "b"] },
        pipeline: [
          { id: "wait", uses: "core.wait", with: { seconds: 60 } },
          { id: "ask", for_each: "${params.list}", ...approval }
        ]
      })
      yield* after("1 minute")
      yield* TestClock.adjust("2 minutes")
      for (const index of [0, 1]) {
        yield* (yield* Approvals).decide(actor, id, "ask", { decision: "approved", index })
        yield* work
        yield* TestClock.adjust("1 minute")
      }
      const found = yield* read
      assert.strictEqual(inWords(found), "succeeded: wait succeeded, ask succeeded")
      assert.deepStrictEqual(found.steps[0]?.input, { seconds: 60 })
      assert.deepStrictEqual(found.steps.map(lasted), [60_000, 180_000])
      const { items } = yield* (yield* Runs).items(actor, id, "ask", -1, 10)
      assert.deepStrictEqual(items.map(lasted), [120_000, 180_000])
    })
  )

  it.effect("goes on with a decision, once and for all", () =>
    Effect.gen(function* () {
      const { actor, id, read } = yield* run({
        pipeline: [
          { id: "ask", ...approval },
          { id: "then", if: "steps.ask.status == 'approved'", ...value("${steps.ask.data.by}") }
        ]
      })
      const approvals = yield* Approvals
      const { items } = yield* approvals.list(actor, { limit: 200, before: null })
      const mine = items.find(({ run_id }) => run_id === id)
      assert.deepInclude(mine, { step_id: "ask", index: null, message: "May I?", data: { sum: 3 } })
      yield* approvals.decide(actor, id, "ask", { decision: "approved", data: { by: "me" } })
      const again = yield* Effect.flip(approvals.decide(actor, id, "ask", { decision: "rejected" }))
      assert.strictEqual(again._tag, "AlreadyDecided")
      yield* work
      const found = yield* read
      assert.strictEqual(inWords(found), "succeeded: ask succeeded, then succeeded")
      assert.strictEqual(found.output?.steps["then"], "me")
      const late = (by: typeof actor, step: string, index?: number) =>
        Effect.map(
          Effect.flip(
            approvals.decide(by, id, step, { decision: "rejected", ...(index === undefined ? {} : { index }) })
          ),
          (error) => (error._tag === "AlreadyDecided" ? error.reason : error._tag)
        )
      assert.strictEqual(yield* late(actor, "ask"), "decided")
      assert.strictEqual(yield* late(actor, "then"), "ApprovalNotFound")
      assert.strictEqual(yield* late(actor, "ask", 0), "ApprovalNotFound")
      const stranger = (yield* agent(actor, `stranger-${crypto.randomUUID().slice(0, 8)}`, ["runs:*"])).actor
      assert.strictEqual(yield* late(stranger, "ask"), "ApprovalNotFound")
    })
  )

  it.effect("ends an approval that nobody gave in time as it says", () =>
    Effect.gen(function* () {
      const failing = yield* run({ pipeline: [{ ...approval, expires_seconds: 60 }] })
      const rejecting = yield* run({
        pipeline: [
          { ...approval, expires_seconds: 60, with: { message: "?", on_expire: "reject" } },
          value("${steps.step_1.status}")
        ]
      })
      const strict = yield* run({
        pipeline: [
          { ...approval, expires_seconds: 60, with: { message: "?", on_expire: "reject", fail_on_reject: true } }
        ]
      })
      yield* after("61 seconds")
      assert.strictEqual((yield* failing.read).error?.code, "expired")
      assert.strictEqual((yield* rejecting.read).output?.steps["step_2"], "rejected")
      assert.strictEqual((yield* strict.read).error?.code, "rejected")
      const approvals = yield* Approvals
      for (const { actor, id } of [failing, rejecting]) {
        const late = yield* Effect.flip(approvals.decide(actor, id, "step_1", { decision: "approved" }))
        assert.deepInclude(late, { _tag: "AlreadyDecided", reason: "expired" })
      }
    })
  )

  it.effect("asks for each element, and goes on when all are decided", () =>
    Effect.gen(function* () {
      const { actor, id, read } = yield* run({
        params: { list: ["a", "b", "c"] },
        pipeline: [
          {
            id: "ask",
            for_each: "${params.list}",
            max_parallel: 2,
            uses: "core.approval",
            with: { message: "${item}?" }
          }
        ]
      })
      const approvals = yield* Approvals
      const open = Effect.map(approvals.list(actor, { limit: 200, before: null }), ({ items }) =>
        items.flatMap(({ index, run_id }) => (run_id === id ? [index] : [])).sort()
      )
      assert.deepStrictEqual(yield* open, [0, 1])
      yield* approvals.decide(actor, id, "ask", { decision: "approved", index: 1 })
      yield* work
      assert.deepStrictEqual(yield* open, [0, 2])
      for (const index of [0, 2]) yield* approvals.decide(actor, id, "ask", { decision: "rejected", index })
      yield* work
      const found = yield* read
      assert.strictEqual(found.state, "succeeded")
      assert.deepStrictEqual(found.steps[0]?.items, { total: 3, succeeded: 3, failed: 0 })
    })
  )

  it.effect("frees the worker over a long pause between two calls", () =>
    Effect.gen(function* () {
      const { read } = yield* run({
        pipeline: [
          {
            id: "flaky",
            uses: "core.fail",
            with: { message: "later", retryable: true },
            retry: { max_attempts: 3, backoff_strategy: "fixed", backoff_seconds: 600 }
          }
        ]
      })
      assert.strictEqual(inWords(yield* read), "waiting: flaky waiting")
      assert.strictEqual((yield* read).steps[0]?.error?.message, "later")
      yield* after("10 minutes")
      assert.strictEqual((yield* read).state, "waiting")
      yield* after("10 minutes")
      const found = yield* read
      assert.strictEqual(found.state, "failed")
      assert.strictEqual(found.steps[0]?.attempt, 3)
      assert.strictEqual(found.attempt, 1)
    })
  )

  it.effect("waits for a run that it starts, and takes its outputs", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const child = yield* (yield* Tasks).create(
        actor,
        task({
          schedule_expr: "0 0 1 1 *",
          payload: { pipeline: [{ id: "x", save_as: "sum", ...value("${params.n}!") }] }
        })
      )
      const broken = yield* (yield* Tasks).create(
        actor,
        task({ schedule_expr: "0 0 1 1 *", max_retries: 0, payload: { pipeline: [fails] } })
      )
      const start = (task_id: string, wait: boolean) => ({
        uses: "core.run_task",
        with: { task_id, params: { n: "3" }, wait }
      })
      const { id, read } = yield* run({
        pipeline: [
          { id: "call", ...start(child.id, true) },
          { id: "send", ...start(child.id, false) },
          { id: "bad", on_error: "continue", ...start(broken.id, true) },
          { id: "none", on_error: "continue", ...start("018f0000-0000-7000-9000-000000000001", true) },
          value("${steps.call.output.steps.sum}")
        ]
      })
      yield* work
      yield* work
      const found = yield* read
      assert.strictEqual(
        inWords(found),
        "succeeded: call succeeded, send succeeded, bad failed, none failed, step_5 succeeded"
      )
      assert.strictEqual(found.output?.steps["step_5"], "3!")
      assert.include(found.steps[2]?.error?.message, "failed: no")
      assert.strictEqual(found.steps[3]?.error?.code, "tool_input_invalid")
      const runs = yield* Runs
      const { items } = yield* runs.list(actor, { task_id: child.id }, { limit: 10, before: null })
      assert.deepStrictEqual(
        items.map(({ parent_run_id, state }) => [parent_run_id, state]),
        [
          [id, "succeeded"],
          [id, "succeeded"]
        ]
      )
      const trail = yield* (yield* AuditTrail).list(
        actor,
        { action: "task.run_now", subject_id: child.id },
        { limit: 10, cursor: null }
      )
      assert.sameDeepMembers(
        trail.items.map((entry) => [entry.actor, entry.after]),
        items.map((one) => [actor.id, { run_id: one.id, parent_run_id: id }])
      )
    })
  )

  it.effect("is retried from a step, with the outputs of the steps before", () =>
    Effect.gen(function* () {
      const { actor, id, taskId } = yield* run({
        pipeline: [
          { id: "a", ...value("${run.id}") },
          { id: "b", ...value("${run.id}") },
          { id: "c", ...fails }
        ]
      })
      const reruns = yield* Reruns
      const runs = yield* Runs
      const byDefault = yield* reruns.retry(actor, id, { task_version: "same" }, null)
      const fromB = yield* reruns.retry(actor, id, { from_step: "b", task_version: "same" }, null)
      assert.strictEqual(
        (yield* Effect.flip(reruns.retry(actor, fromB, { task_version: "same" }, null)))._tag,
        "NotRetryable"
      )
      yield* work
      const [first, second] = [yield* runs.get(actor, byDefault), yield* runs.get(actor, fromB)]
      assert.deepStrictEqual(
        [first, second].map(({ retry_of, steps, trigger }) => [trigger, retry_of, steps[0]?.output, steps[1]?.output]),
        [
          ["retry", id, id, id],
          ["retry", id, id, fromB]
        ]
      )
      assert.strictEqual(
        (yield* Effect.flip(reruns.retry(actor, id, { from_step: "d", task_version: "same" }, null)))._tag,
        "InvalidField"
      )
      yield* (yield* Tasks).patch(
        actor,
        taskId,
        {
          payload: {
            pipeline: [
              { id: "a", ...value(1) },
              { id: "c", ...value("${steps.a}") }
            ]
          }
        },
        null
      )
      assert.deepInclude(
        yield* Effect.flip(reruns.retry(actor, id, { from_step: "c", task_version: "latest" }, null)),
        { reason: "pipeline_changed" }
      )
      const latest = yield* reruns.retry(actor, id, { from_step: "a", task_version: "latest" }, null)
      yield* work
      assert.strictEqual((yield* runs.get(actor, latest)).output?.steps["c"], 1)
    })
  )

  it.effect("that is retried from a step that a failure jumped over jumps over it again, and says so", () =>
    Effect.gen(function* () {
      const { actor, id, read } = yield* run({
        pipeline: [
          { id: "a", ...fails, on_error: { goto: "c" } },
          { id: "b", ...value(1) },
          { id: "b2", ...value(2) },
          { id: "c", ...value("${run.id}") }
        ]
      })
      const words = "succeeded: a failed, b skipped, b2 skipped, c succeeded"
      assert.strictEqual(inWords(yield* read), words)
      for (const from_step of ["b", "b2"]) {
        const again = yield* (yield* Reruns).retry(actor, id, { from_step, task_version: "same" }, null)
        yield* work
        const found = yield* (yield* Runs).get(actor, again)
        assert.strictEqual(inWords(found), words)
        assert.deepStrictEqual(found.output?.steps, { a: null, b: null, b2: null, c: again })
      }
    })
  )

  it.effect("waits for an event, also for one that came since the run was queued", () =>
    Effect.gen(function* () {
      const events = yield* Events
      const { actor } = yield* admin
      const publish = (id: number) => events.publish(actor, { topic: "orders.paid", payload: { id } }, null)
      const wait = (id: number, topic = "orders.*") => ({
        uses: "core.wait_event",
        with: { topic, if: `event.payload.id == \`${id}\`` }
      })
      yield* publish(1)
      yield* TestClock.adjust("1 second")
      const later = yield* run({
        pipeline: [
          { id: "e", ...wait(1) },
          { id: "x", ...value("${steps.e.payload.id} ${steps.e.topic}") }
        ]
      })
      assert.strictEqual((yield* later.read).state, "waiting")
      yield* publish(2)
      assert.strictEqual((yield* later.read).state, "waiting")
      yield* publish(1)
      yield* publish(1)
      yield* work
      assert.strictEqual((yield* later.read).output?.steps["x"], "1 orders.paid")
      const before = yield* run({
        pipeline: [
          { id: "pause", uses: "core.wait", with: { seconds: 60 } },
          { id: "e", ...wait(3, "orders.paid") }
        ]
      })
      yield* publish(3)
      yield* after("61 seconds")
      yield* work
      assert.strictEqual(inWords(yield* before.read), "succeeded: pause succeeded, e succeeded")
      const expired = yield* run({ pipeline: [{ ...wait(4), expires_seconds: 5 }] })
      yield* after("6 seconds")
      assert.strictEqual((yield* expired.read).error?.code, "expired")
    })
  )

  it.effect("publishes an event once, whatever is tried again", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const { id, read } = yield* run(
        {
          pipeline: [
            { id: "tell", uses: "core.emit", with: { topic: "runs.told", payload: "${run.id}" } },
            { id: "bad", uses: "core.fail", with: { message: "again", retryable: true } }
          ]
        },
        { max_retries: 2, backoff_strategy: "fixed", backoff_seconds: 0 }
      )
      const found = yield* read
      assert.strictEqual(found.attempt, 3)
      const { items } = yield* (yield* Events).list(actor, "runs.told", { limit: 10, before: null })
      assert.deepStrictEqual(
        items.map(({ payload }) => payload),
        [id]
      )
      assert.deepStrictEqual(found.steps[0]?.output, { event_id: items[0]?.id ?? null })
    })
  )
})

/** How the steps of a run stand in the store. */
const storedSteps = (id: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ step_id: string; state: string }>`
      SELECT step_id, state FROM live_step WHERE run_id = ${id} AND kind = 'step' ORDER BY position, item`
    return rows.map(({ state, step_id }) => `${step_id} ${state}`).join(", ")
  })

const privateAllowed = [["ORDINAUT_ALLOW_PRIVATE_TARGETS", "127.0.0.0/8"]] as const

layer(services(privateAllowed))("a pipeline that calls outside", (it) => {
  it.scoped("stores what a step put out before a for_each over it calls, also where calls may be repeated", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      // The elements are never answered.
      const tools = yield* toolServer((call, response) =>
        call.index < 0 ? void give(call, response, [1, 2]) : undefined
      )
      yield* (yield* Extensions).put(
        actor,
        "probe",
        { kind: "http", base_url: tools.url, tools: [{ name: "list" }, { name: "one", idempotent: true }] },
        null
      )
      const created = yield* (yield* Tasks).create(
        actor,
        task({
          schedule_expr: "0 0 1 1 *",
          payload: {
            pipeline: [
              { id: "list", uses: "probe.list" },
              { id: "each", uses: "probe.one", for_each: "${steps.list}", with: "${item}" }
            ]
          }
        })
      )
      const id = yield* (yield* TaskStates).runNow(actor, created.id, null, null)
      yield* (yield* Worker).turn
      yield* Effect.promise(async () => {
        while (tools.calls.length < 3) await new Promise((resume) => setTimeout(resume, 5))
      })
      assert.include(yield* storedSteps(id), "list succeeded")
    })
  )

  it.scoped(
    "goes on with a step under the lease that it waited under: with its input, without what has ended of it",
    () =>
      Effect.gen(function* () {
        const { actor } = yield* admin
        const held: Array<() => void> = []
        const tools = yield* toolServer((call, response) => {
          if (call.step === "busy") held.push(() => void give(call, response, null))
          else if (tools.calls.filter(({ index }) => index === 1).length > 1 || call.index === 0)
            void give(call, response, call.index)
          else response.writeHead(503).end()
        })
        yield* (yield* Extensions).put(
          actor,
          "slow",
          { kind: "http", base_url: tools.url, tools: [{ name: "one" }, { name: "two" }] },
          null
        )
        const created = yield* (yield* Tasks).create(
          actor,
          task({
            schedule_expr: "0 0 1 1 *",
            payload: {
              pipeline: [
                {
                  id: "each",
                  needs: [],
                  for_each: "${`[7, 8]`}",
                  uses: "slow.one",
                  with: { number: "${item}" },
                  retry: { max_attempts: 2, backoff_strategy: "fixed", backoff_seconds: 10 }
                },
                { id: "busy", needs: [], uses: "slow.two" }
              ]
            }
          })
        )
        const id = yield* (yield* TaskStates).runNow(actor, created.id, null, null)
        yield* (yield* Worker).turn
        const pause = Effect.promise(() => new Promise((resume) => setTimeout(resume, 5)))
        const stored = storedSteps(id).pipe(Effect.zipLeft(pause))
        yield* Effect.repeat(stored, { until: (text) => text === "each succeeded, each waiting, busy running" })
        yield* TestClock.adjust("11 seconds")
        yield* Effect.repeat(pause, { until: () => tools.calls.filter(({ index }) => index === 1).length > 1 })
        for (const answer of held) answer()
        yield* work
        const found = yield* (yield* Runs).get(actor, id)
        assert.strictEqual(inWords(found), "succeeded: each succeeded, busy succeeded")
        assert.sameDeepMembers(
          tools.calls.filter(({ step }) => step === "each").map(({ index, input, lease }) => [lease, index, input]),
          [
            [1, 0, { number: 7 }],
            [1, 1, { number: 8 }],
            [1, 1, { number: 8 }]
          ]
        )
        assert.deepStrictEqual(found.output?.steps["each"], [0, 1])
      })
  )

  it.scoped("stores what a step put out before it starts a run to wait for", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE started (parent uuid, steps text)`
      yield* sql`
        CREATE FUNCTION keep_start() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          INSERT INTO started SELECT NEW.parent_run_id, string_agg(step_id || ' ' || state, ', ' ORDER BY position)
          FROM live_step WHERE run_id = NEW.parent_run_id AND kind = 'step';
          RETURN NEW;
        END $$`
      yield* sql`
        CREATE TRIGGER started BEFORE INSERT ON due_work FOR EACH ROW WHEN (NEW.parent_run_id IS NOT NULL)
        EXECUTE FUNCTION keep_start()`
      const child = yield* (yield* Tasks).create(actor, task({ schedule_expr: "0 0 1 1 *" }))
      const { id, read } = yield* run({
        pipeline: [
          { id: "emit", uses: "core.emit", with: { topic: "a.b", payload: 1 } },
          { id: "child", uses: "core.run_task", with: { task_id: child.id, wait: true } }
        ]
      })
      yield* work
      assert.strictEqual(inWords(yield* read), "succeeded: emit succeeded, child succeeded")
      assert.deepStrictEqual(yield* sql`SELECT * FROM started`, [
        { parent: id, steps: "emit succeeded, child running" }
      ])
    })
  )

  it.scoped("leaves nothing behind where an attempt times out while a step is being stored", () =>
    Effect.gen(function* () {
      const { actor } = yield* admin
      const sql = yield* SqlClient.SqlClient
      const gate = 4711
      yield* sql`
        CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END $$`
      yield* sql`
        CREATE TRIGGER gate AFTER INSERT ON live_step FOR EACH ROW WHEN (NEW.step_id = 'gated') EXECUTE FUNCTION gate()`
      const opened = yield* Deferred.make<void>()
      const closed = yield* Deferred.make<void>()
      const holder = yield* Effect.fork(
        sql`SELECT pg_advisory_xact_lock(${gate})`.pipe(
          Effect.zipRight(Deferred.succeed(closed, undefined)),
          Effect.zipRight(Deferred.await(opened)),
          sql.withTransaction
        )
      )
      yield* Deferred.await(closed)
      const created = yield* (yield* Tasks).create(
        actor,
        task({
          schedule_expr: "0 0 1 1 *",
          timeout_seconds: 60,
          max_retries: 0,
          payload: { pipeline: [{ id: "gated", uses: "core.emit", with: { topic: "a.b", payload: 1 } }] }
        })
      )
      const id = yield* (yield* TaskStates).runNow(actor, created.id, null, null)
      const worker = yield* Worker
      yield* worker.turn
      const waiting = sql<{ n: number }>`
        SELECT count(*)::integer AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
      const until = (n: number, times: number) =>
        Effect.promise(() => new Promise((resume) => setTimeout(resume, 5))).pipe(
          Effect.zipRight(waiting),
          Effect.repeat({ until: ([row]) => (row?.n ?? 0) >= n, times })
        )
      yield* until(1, 2000)
      yield* TestClock.adjust("61 seconds")
      // Settled meanwhile, the run would wait for the lock that the step is stored under.
      const turn = yield* Effect.fork(worker.turn)
      yield* until(2, 50)
      yield* Deferred.succeed(opened, undefined)
      yield* Fiber.join(holder)
      yield* Fiber.join(turn)
      yield* work
      assert.strictEqual(inWords(yield* (yield* Runs).get(actor, id)), "failed: gated canceled")
      assert.strictEqual(yield* storedSteps(id), "")
    })
  )
})
