import { FastCheck } from "effect"
import { taskBody } from "./ApiServer.ts"

const schedule = FastCheck.constantFrom(
  { schedule_kind: "cron", schedule_expr: "*/5 * * * *" },
  { schedule_kind: "cron", schedule_expr: "0 0 31 2 *" },
  { schedule_kind: "rrule", schedule_expr: "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30" },
  { schedule_kind: "rrule", schedule_expr: "FREQ=SECONDLY;COUNT=2147483647", dtstart: "0001-01-01T00:00:00" },
  { schedule_kind: "rrule", schedule_expr: "DTSTART:99991231T235959\nRRULE:FREQ=DAILY" },
  { schedule_kind: "rrule", schedule_expr: "FREQ=DAILY;INTERVAL=999999999999" },
  { schedule_kind: "once", schedule_expr: "9000-12-31T23:59:59Z" },
  { schedule_kind: "once", schedule_expr: "0000-01-01T00:00" },
  { schedule_kind: "event", schedule_expr: "a.** if event.payload[0].x.y > `1`" },
  { schedule_kind: "condition", schedule_expr: "a" }
)

/** Values at the edges of what JSON, text, numbers and templates can be. */
export const nasty = FastCheck.oneof(
  FastCheck.constantFrom<unknown>(
    null,
    true,
    -0,
    -1,
    1e308,
    2 ** 53,
    0.1,
    "",
    " ",
    "\u0000",
    "\ud800",
    "\u{1F600}",
    "__proto__",
    "${",
    "${a",
    "${`}",
    "2026-03-02T09:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "0100-01-01T00:00:00+23:59",
    "x".repeat(5000),
    [],
    {},
    [[]]
  ),
  FastCheck.jsonValue({ depthSize: "small", maxDepth: 3 }),
  FastCheck.string({ unit: "binary", maxLength: 20 })
)

/** The value with the `at`-th of its places, counted through the tree, given to `change`. */
const mutated = (value: unknown, at: number, change: (old: unknown) => unknown): unknown => {
  let left = at
  const walk = (old: unknown): unknown => {
    if (left-- === 0) return change(old)
    if (Array.isArray(old)) return old.map(walk)
    if (typeof old !== "object" || old === null) return old
    return Object.fromEntries(Object.entries(old).map(([key, held]) => [key, walk(held)]))
  }
  return walk(value)
}

const changes = FastCheck.oneof(
  nasty.map((value) => () => value),
  nasty.map((value) => (old: unknown) => (Array.isArray(old) ? [...old, value] : { ...Object(old), extra: value })),
  FastCheck.string({ maxLength: 8 }).map(
    (key) => (old: unknown) => Object.defineProperty({ ...Object(old) }, key, { value: 1, enumerable: true })
  ),
  FastCheck.constant((old: unknown) => (Array.isArray(old) ? [...old, ...old] : [old])),
  FastCheck.constant(() => undefined)
)

/** Bodies with up to two of their places changed for the worse. */
export const mutations = (bodies: FastCheck.Arbitrary<unknown>) =>
  FastCheck.tuple(bodies, FastCheck.array(FastCheck.tuple(FastCheck.nat(30), changes), { maxLength: 2 })).map(
    ([value, list]) => list.reduce((held, [at, change]) => mutated(held, at, change), value)
  )

/** A body of a task whose schedule and pipeline are sound now and then, so that what comes after the schema is reached. */
export const sounder = (bodies: FastCheck.Arbitrary<unknown>) =>
  FastCheck.oneof(
    bodies,
    FastCheck.tuple(bodies, schedule).map(([body, when]) => ({
      ...Object(body),
      title: "a",
      timezone: "UTC",
      ...when
    })),
    FastCheck.tuple(bodies, schedule).map(([body, when]) => ({ ...Object(body), ...taskBody(when) }))
  )
