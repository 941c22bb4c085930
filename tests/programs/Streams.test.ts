import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import * as EventSource from "../support/eventSource.ts"
import * as Programs from "../support/programs.ts"
import { freshDatabase } from "../support/TestDb.ts"

const Id = Schema.Struct({ id: Schema.String })
const Started = Schema.Struct({ run_id: Schema.String })

/** Separate programs on a database of their own, with more settings. */
const programs = (more: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const key = fromRandom(randomBytes(41)).text
    const env = {
      DATABASE_URL: yield* freshDatabase,
      ORDINAUT_ADMIN_KEY: key,
      ORDINAUT_SECRET: randomBytes(32).toString("base64"),
      HOST: "127.0.0.1",
      ...more
    }
    const migrator = yield* Programs.run("migrate", env)
    assert.strictEqual(yield* migrator.ended, 0, migrator.errors())
    const [api, , worker] = yield* Effect.all(
      [Programs.start("api", env), Programs.start("scheduler", env), Programs.start("worker", env)],
      { concurrency: 3 }
    )
    return { ...api, key, worker }
  })

describe("streams of separate programs", { concurrent: true }, () => {
  const kinds: ReadonlyArray<readonly [string, () => Readonly<Record<string, string>>]> = [
    ["without Redis", () => ({})],
    ["with Redis", () => ({ REDIS_URL: `${inject("redisUrl")}/10` })]
  ]
  for (const [name, settings] of kinds) {
    it.scopedLive(
      `${name} tell of a run at once, and end when the API is told to`,
      () =>
        Effect.gen(function* () {
          const to = yield* programs(settings())
          const { body: task } = yield* Programs.request(to, "POST", "/tasks", Id, {
            title: "followed",
            schedule_kind: "once",
            schedule_expr: "2100-01-01T00:00:00Z",
            payload: { pipeline: [{ id: "only", uses: "mail.send" }] }
          })
          const all = yield* EventSource.open(`${to.url}/stream`, to.key)
          for (let i = 0; i < 3; i++) {
            const { body } = yield* Programs.request(to, "POST", `/tasks/${task.id}/run_now`, Started)
            const one = yield* EventSource.open(`${to.url}/runs/${body.run_id}/stream`, to.key)
            yield* one.until("end", ({ end }) => end() !== undefined)
            const last = one.events().at(-1)
            assert.strictEqual(last?.event, "ordinaut.run.succeeded")
            // The programs share one host here, and with it a clock.
            assert.isBelow(Date.now() - Date.parse(String(last?.data["at"])), 1500)
            yield* all.until("end of the run", ({ events }) =>
              events().some(({ data, event }) => event === "ordinaut.run.succeeded" && data["run_id"] === body.run_id)
            )
          }
          const more = yield* Effect.all(Array.from({ length: 10 }, () => EventSource.open(`${to.url}/stream`, to.key)))
          const told = performance.now()
          assert.strictEqual(yield* to.stop("SIGTERM"), 0)
          assert.isBelow(performance.now() - told, 4000)
          for (const source of [all, ...more]) yield* source.until("end", ({ end }) => end() === "ended")
        }),
      60_000
    )
  }
})
