import { assert, layer } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import { apiServer, member, newTask, refusal, request, taskBody } from "../support/ApiServer.ts"
import { fromJsonSchema } from "../support/fromJsonSchema.ts"
import { served } from "../support/openApi.ts"

const seed = 20_261_124
const unknownId = "019cadc6-9a80-7000-8000-000000000000"

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

const nasty = FastCheck.oneof(
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

const mutations = (bodies: FastCheck.Arbitrary<unknown>) =>
  FastCheck.tuple(bodies, FastCheck.array(FastCheck.tuple(FastCheck.nat(30), changes), { maxLength: 2 })).map(
    ([value, list]) => list.reduce((held, [at, change]) => mutated(held, at, change), value)
  )

/** A body of a task whose schedule and pipeline are sound now and then, so that what comes after the schema is reached. */
const sounder = (bodies: FastCheck.Arbitrary<unknown>) =>
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

/** Milliseconds that all requests may take together; each route gets its share. */
const within = 9000

layer(apiServer())("random and mutated bodies", (it) => {
  it.effect(
    "never end in a 500, and every refusal is a problem document",
    () =>
      Effect.gen(function* () {
        const { document, routes } = yield* served
        const { actor } = yield* member("target", ["tasks:*"])
        const statuses = new Map<number, number>()
        const withBody = routes.flatMap(({ method, operation: { requestBody }, path }) =>
          requestBody === undefined ? [] : [{ method, path, schema: requestBody.content["application/json"].schema }]
        )
        for (const { method, path, schema } of withBody) {
          const plain = fromJsonSchema(schema, document.components.schemas)
          const values = /^\/tasks(?:\/\{id\})?$|preview/.test(path) ? sounder(plain) : plain
          const { id } = yield* newTask()
          const target = path
            .replace("{name}", "fuzzed")
            .replace("{id}", path.startsWith("/agents") ? actor.id : path.startsWith("/tasks") ? id : unknownId)
          const until = performance.now() + within / withBody.length
          for (const value of FastCheck.sample(mutations(values), { seed, numRuns: 300 })) {
            if (performance.now() > until) break
            const body = JSON.stringify(value) ?? "null"
            const answer = yield* request(method, target, { body })
            const told = `${method} ${path} ${body.slice(0, 2000)} -> ${answer.text.slice(0, 300)}`
            assert.isBelow(answer.status, 500, told)
            if (answer.status >= 400) refusal(answer)
            statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
          }
        }
        assert.isAbove(withBody.length, 10)
        assert.isAbove(statuses.get(422) ?? 0, 100)
        assert.isAbove(
          [200, 201, 202].reduce((sum, status) => sum + (statuses.get(status) ?? 0), 0),
          50
        )
      }),
    30_000
  )
})
