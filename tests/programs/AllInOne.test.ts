import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { readFile, rename, stat } from "node:fs/promises"
import { join } from "node:path"
import { readCard, urlOf } from "../../src/layers/EmbeddedDbCluster.ts"
import * as Programs from "../support/programs.ts"
import { briefing, briefingRun } from "./briefing.ts"
import { coverage, perSecond, slow } from "./coverage.ts"

const { eventually, query, request } = Programs

const Id = Schema.Struct({ id: Schema.String })
const Task = Schema.Struct({ id: Schema.String, status: Schema.String, version: Schema.Int })
const Run = Schema.Struct({
  state: Schema.String,
  scheduled_for: Schema.DateFromString,
  started_at: Schema.NullOr(Schema.DateFromString),
  lag_ms: Schema.NullOr(Schema.Int)
})
const Runs = Schema.Struct({ items: Schema.Array(Run) })

type Target = { readonly url: string; readonly key: string }

const keyIn = (folder: string) => Effect.promise(async () => (await readFile(join(folder, "admin.key"), "utf8")).trim())

const started = (folder: string, env: Readonly<Record<string, string>> = {}) =>
  Effect.gen(function* () {
    const program = yield* Programs.start("all", { ORDINAUT_DATA_DIR: folder, ...env })
    return { ...program, key: yield* keyIn(folder) }
  })

const create = (to: Target, task: Readonly<Record<string, unknown>>) =>
  request(to, "POST", "/tasks", Task, { title: "a task", timezone: "UTC", payload: briefing.payload, ...task }).pipe(
    Effect.tap(({ status }) => assert.strictEqual(status, 201)),
    Effect.map(({ body }) => body)
  )

const runsOf = (to: Target, task: string, filter = "") =>
  Effect.map(request(to, "GET", `/runs?task_id=${task}&limit=100${filter}`, Runs), ({ body }) => body.items)

/** Waits for `count` succeeded runs of a task whose occurrences are later than `after`. */
const succeeded = (to: Target, task: string, count: number, after = new Date(0)) =>
  eventually(
    `${count} succeeded runs`,
    15,
    Effect.map(runsOf(to, task, "&state=succeeded"), (runs) => {
      const found = runs.filter(({ scheduled_for }) => scheduled_for > after)
      return found.length >= count ? found : undefined
    })
  )

const inSeconds = (seconds: number) => new Date(Math.ceil(Date.now() / 1000 + seconds) * 1000)

describe("all in one", () => {
  it.scopedLive(
    "starts on an empty folder, runs the briefing, and keeps everything over a restart",
    () =>
      Effect.gen(function* () {
        const folder = yield* Programs.dataFolder
        const first = yield* started(folder)
        assert.include(first.output(), `is ready on ${first.url}`)
        assert.include(first.output(), `${first.url}/docs`)
        assert.include(first.output(), first.key)
        assert.strictEqual((yield* Effect.promise(() => stat(join(folder, "admin.key")))).mode & 0o777, 0o600)
        assert.strictEqual((yield* Effect.promise(() => fetch(`${first.url}/docs`))).status, 200)

        const created = yield* request(first, "POST", "/tasks", Task, briefing)
        assert.strictEqual(created.status, 201)
        const now = yield* request(
          first,
          "POST",
          `/tasks/${created.body.id}/run_now`,
          Schema.Struct({ run_id: Schema.String })
        )
        assert.strictEqual(now.status, 202)
        const run = yield* briefingRun(first, now.body.run_id)

        const end = yield* first.stop("SIGTERM")
        assert.strictEqual(end, 0)
        assert.isUndefined(yield* Programs.databasePid(folder))

        const second = yield* started(folder)
        assert.notInclude(second.output(), second.key)
        assert.strictEqual(second.key, first.key)
        const kept = yield* request(second, "GET", `/tasks/${created.body.id}`, Task)
        assert.deepStrictEqual(kept.body, created.body)
        assert.deepStrictEqual(yield* briefingRun(second, now.body.run_id), run)
      }),
    60_000
  )

  it.scopedLive(
    "fires within a second of the time, and takes every change while it runs",
    () =>
      Effect.gen(function* () {
        const here = yield* started(yield* Programs.dataFolder)
        const at = inSeconds(2)
        const once = yield* create(here, { schedule_kind: "once", schedule_expr: at.toISOString() })
        const cron = yield* create(here, { schedule_kind: "cron", schedule_expr: "* * * * * *" })
        const [single] = yield* succeeded(here, once.id, 1)
        assert.strictEqual(single?.scheduled_for.getTime(), at.getTime())
        const runs = [...(yield* succeeded(here, cron.id, 3)), ...(single === undefined ? [] : [single])]
        for (const run of runs) {
          assert.isAtLeast(run.started_at?.getTime() ?? 0, run.scheduled_for.getTime())
          assert.isBelow(run.lag_ms ?? Infinity, 1000)
        }
        assert.strictEqual((yield* request(here, "GET", `/tasks/${once.id}`, Task)).body.status, "completed")

        const moved = inSeconds(2)
        yield* request(here, "PATCH", `/tasks/${cron.id}`, Task, {
          schedule_kind: "once",
          schedule_expr: moved.toISOString()
        })
        const changed = yield* succeeded(here, cron.id, 1, new Date(moved.getTime() - 1))
        assert.deepStrictEqual(
          changed.map(({ scheduled_for }) => scheduled_for),
          [moved]
        )
        yield* request(here, "PATCH", `/tasks/${cron.id}`, Task, {
          schedule_kind: "cron",
          schedule_expr: "* * * * * *"
        })
        yield* succeeded(here, cron.id, 1, moved)

        const pausedAt = new Date()
        const paused = yield* request(here, "POST", `/tasks/${cron.id}/pause`, Task)
        assert.strictEqual(paused.body.status, "paused")
        // Another task's seconds pass meanwhile.
        const witness = yield* create(here, { schedule_kind: "cron", schedule_expr: "* * * * * *" })
        yield* succeeded(here, witness.id, 2)
        const resumedAt = new Date()
        const meanwhile = yield* runsOf(here, cron.id)
        assert.isEmpty(meanwhile.filter(({ scheduled_for }) => scheduled_for > pausedAt))
        yield* request(here, "POST", `/tasks/${cron.id}/resume`, Task, { on_missed: "skip" })
        yield* succeeded(here, cron.id, 2, resumedAt)
      }),
    60_000
  )

  it.scopedLive(
    "loses nothing and runs nothing twice when it is killed in the midst of its work",
    () =>
      Effect.gen(function* () {
        const folder = yield* Programs.dataFolder
        const first = yield* started(folder)
        yield* perSecond(first, 30, { payload: slow(4) })
        // Those of the downtime are late for these, and recorded as skipped.
        yield* perSecond(first, 5, { payload: slow(2), misfire_grace_seconds: 0, misfire_policy: "skip" })
        const database = urlOf(yield* Effect.orDie(readCard(join(folder, "postgres"))))
        const leased = (more: string) =>
          query(database, Id, `SELECT id FROM due_work WHERE state = 'leased' ${more} ORDER BY id`)
        const atWork = yield* eventually(
          "work under way",
          20,
          Effect.map(leased(""), (rows) => (rows.length > 20 ? rows : undefined))
        )
        assert.strictEqual(yield* first.stop("SIGKILL"), "SIGKILL")
        const killed = new Date()
        const second = yield* started(folder)
        // Nobody renews the leases of the killed process.
        yield* eventually(
          "end of the dead leases",
          20,
          Effect.map(leased(`AND started_at < '${killed.toISOString()}' AND lease_no = 1`), (rows) =>
            rows.length === 0 ? rows : undefined
          )
        )
        yield* eventually(
          "decision of all seconds of the downtime",
          20,
          Effect.map(coverage(database), ({ through }) =>
            through.getTime() > killed.getTime() + 2000 ? through : undefined
          )
        )
        yield* eventually(
          "end of all runs that were under way",
          20,
          Effect.map(
            query(
              database,
              Schema.Struct({ state: Schema.String }),
              `SELECT state FROM task_run WHERE id = ANY ($1) AND state = 'failed'`,
              [atWork.map(({ id }) => id)]
            ),
            (rows) => (rows.length === atWork.length ? rows : undefined)
          )
        )
        yield* coverage(database)
        assert.strictEqual(yield* second.stop("SIGTERM"), 0)
        assert.isUndefined(yield* Programs.databasePid(folder))
      }),
    90_000
  )

  it.scopedLive(
    "finds the first admin's key when it was killed while it made the admin",
    () =>
      Effect.gen(function* () {
        const folder = yield* Programs.dataFolder
        const first = yield* started(folder)
        yield* first.stop("SIGKILL")
        // What is on the disk after the commit and before the key has its name.
        yield* Effect.promise(() => rename(join(folder, "admin.key"), join(folder, "admin.key.new")))
        const second = yield* started(folder)
        assert.strictEqual(second.key, first.key)
        assert.include(second.output(), first.key)
        assert.strictEqual((yield* request(second, "GET", "/tasks", Schema.Unknown)).status, 200)
      }),
    60_000
  )
})
