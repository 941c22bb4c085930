import { assert } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { query, request } from "../support/programs.ts"

/** A step that is called `calls` times, half a second apart, and fails then. */
export const slow = (calls: number) => ({
  pipeline: [
    {
      id: "slow",
      uses: "core.fail",
      with: { message: "not yet", retryable: true },
      retry: { max_attempts: calls, backoff_strategy: "fixed", backoff_seconds: 0.5 }
    }
  ]
})

const Created = Schema.Struct({ id: Schema.String })

/** Creates `count` tasks that fire every second, some at a time. */
export const perSecond = (
  to: { readonly url: string; readonly key: string },
  count: number,
  task: Readonly<Record<string, unknown>>
) =>
  Effect.forEach(
    Array.from({ length: count }, (_, n) => `every second ${n}`),
    (title) =>
      request(to, "POST", "/tasks", Created, {
        title,
        schedule_kind: "cron",
        schedule_expr: "* * * * * *",
        timezone: "UTC",
        max_retries: 0,
        ...task
      }).pipe(
        Effect.tap(({ status }) => assert.strictEqual(status, 201)),
        Effect.map(({ body }) => body.id)
      ),
    { concurrency: 8 }
  )

/** Seconds of a task that fires every second, between its creation and what is decided, that are not decided exactly once. */
const wrongSeconds = `
  WITH timed AS (
    SELECT id AS task_id, date_trunc('second', created_at) + interval '1 second' AS first, decided_through AS through
    FROM task WHERE schedule_kind = 'cron' AND schedule_expr = '* * * * * *'),
  decided AS (
    SELECT task_id, scheduled_for AS second FROM due_work WHERE trigger = 'schedule'
    UNION ALL
    SELECT task_id, generate_series(coalesce(skipped_from, scheduled_for), coalesce(skipped_to, scheduled_for), '1 second')
    FROM task_run WHERE trigger = 'schedule'),
  counted AS (SELECT task_id, second, count(*) AS times FROM decided JOIN timed USING (task_id) GROUP BY 1, 2),
  expected AS (SELECT task_id, generate_series(first, through, '1 second') AS second, true AS expected FROM timed)
  SELECT 'decided ' || coalesce(times, 0) || ' times at ' || second || ' of ' || task_id AS wrong
  FROM expected FULL JOIN counted USING (task_id, second) WHERE times IS DISTINCT FROM 1 OR expected IS NULL`

/** The clocks of two processes agree within the round trips by which they were set. */
const wrongEnds = `
  SELECT 'ended ' || count(*) || ' times: ' || id AS wrong FROM task_run GROUP BY id HAVING count(*) > 1
  UNION ALL SELECT 'ended and under way: ' || id FROM task_run JOIN due_work USING (id)
  UNION ALL SELECT 'ended at attempt ' || attempt || ': ' || r.id FROM task_run r JOIN task t ON t.id = r.task_id
    WHERE r.attempt > t.max_retries + 1
  UNION ALL SELECT 'ended ' || (due_at - finished_at) || ' before its time: ' || id
    FROM task_run WHERE state <> 'skipped' AND finished_at < due_at - interval '20 milliseconds'`

const Wrong = Schema.Struct({ wrong: Schema.String })
const Through = Schema.Struct({ through: Schema.NullOr(Schema.DateFromSelf), fired: Schema.Int })

/**
 * Fails unless every second since the creation of every task that fires each second was decided exactly once and no run
 * ended twice. Answers up to where all of them are decided and how many runs have ended.
 */
export const coverage = (database: string) =>
  Effect.gen(function* () {
    const wrong = [...(yield* query(database, Wrong, wrongSeconds)), ...(yield* query(database, Wrong, wrongEnds))]
    assert.deepStrictEqual(
      wrong.slice(0, 20).map((one) => one.wrong),
      []
    )
    const [found] = yield* query(
      database,
      Through,
      `SELECT (SELECT min(decided_through) FROM task WHERE schedule_expr = '* * * * * *' AND status = 'active') AS through,
        (SELECT count(*)::integer FROM task_run) AS fired`
    )
    return { through: found?.through ?? new Date(0), fired: found?.fired ?? 0 }
  })

const Lag = Schema.Struct({ p50: Schema.NullOr(Schema.Number), max: Schema.NullOr(Schema.Number) })

/** Milliseconds between due and start of the runs of one lease, over all. */
export const lags = (database: string) =>
  Effect.map(
    query(
      database,
      Lag,
      `SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY lag) AS p50, max(lag)::float8 AS max
       FROM (SELECT (extract(epoch FROM started_at - due_at) * 1000)::float8 AS lag FROM task_run WHERE started_at IS NOT NULL) AS l`
    ),
    ([found]) => ({ p50: found?.p50 ?? Infinity, max: found?.max ?? Infinity })
  )
