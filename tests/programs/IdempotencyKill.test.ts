import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { randomBytes } from "node:crypto"
import pg from "pg"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import * as Programs from "../support/programs.ts"
import { freshDatabase } from "../support/TestDb.ts"

const { eventually, query } = Programs

const gate = 4711
const Count = Schema.Struct({ n: Schema.Int })
const body = JSON.stringify({
  title: "once",
  schedule_kind: "once",
  schedule_expr: "2199-01-01T00:00:00Z",
  payload: { pipeline: [{ id: "only", uses: "mail.send" }] }
})

/** A connection that holds the gate until it is opened. */
const closedGate = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      await client.query(`SELECT pg_advisory_lock(${gate})`)
      return client
    }),
    (client) => Effect.promise(() => client.end())
  )

const open = (client: pg.Client) => Effect.promise(() => client.query(`SELECT pg_advisory_unlock(${gate})`))

const waits = (url: string, statement: RegExp) =>
  eventually(
    "statement that waits at the gate",
    20,
    Effect.map(
      query(
        url,
        Schema.Struct({ query: Schema.String }),
        "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'"
      ),
      (rows) => rows.find((row) => statement.test(row.query))
    )
  )

const post = (url: string, key: string) =>
  fetch(`${url}/tasks`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", "idempotency-key": "killed" },
    body
  })

/** Where the request stands still: at the gate, before it stores its answer or at its commit. */
const moments = [
  {
    name: "before its answer is stored",
    trigger: "CREATE TRIGGER gate BEFORE INSERT",
    at: /INSERT INTO idempotency_key/,
    done: 0
  },
  {
    name: "at its commit, whose outcome it never learns",
    trigger: "CREATE CONSTRAINT TRIGGER gate AFTER INSERT",
    at: /^COMMIT/i,
    done: 1
  }
]

describe("an API process that is killed in the middle of a request with an Idempotency-Key", () => {
  for (const { at, done, name, trigger } of moments) {
    it.scopedLive(
      `${name}: the repeat finds it done once`,
      () =>
        Effect.gen(function* () {
          const url = yield* freshDatabase
          const key = fromRandom(randomBytes(41)).text
          const env = {
            DATABASE_URL: url,
            ORDINAUT_ADMIN_KEY: key,
            ORDINAUT_SECRET: randomBytes(32).toString("base64"),
            HOST: "127.0.0.1"
          }
          assert.strictEqual(yield* (yield* Programs.run("migrate", env)).ended, 0)
          const deferred = done === 1 ? "DEFERRABLE INITIALLY DEFERRED" : ""
          yield* query(
            url,
            Schema.Unknown,
            `CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_advisory_xact_lock_shared(${gate}); RETURN NEW; END $$`
          )
          yield* query(
            url,
            Schema.Unknown,
            `${trigger} ON idempotency_key ${deferred} FOR EACH ROW EXECUTE FUNCTION gate()`
          )
          const first = yield* Programs.start("api", env)
          const holder = yield* closedGate(url)
          const lost = post(first.url, key).then(
            () => "answered",
            () => "cut"
          )
          yield* waits(url, at)
          assert.strictEqual(yield* first.stop("SIGKILL"), "SIGKILL")
          assert.strictEqual(yield* Effect.promise(() => lost), "cut")
          yield* open(holder)
          yield* eventually(
            "end of the dead process's transaction",
            20,
            Effect.map(
              query(
                url,
                Count,
                "SELECT count(*)::integer AS n FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ordinaut-api'"
              ),
              ([row]) => (row?.n === 0 ? true : undefined)
            )
          )
          assert.deepStrictEqual(yield* query(url, Count, "SELECT count(*)::integer AS n FROM task"), [{ n: done }])
          const second = yield* Programs.start("api", env)
          const answers = yield* Effect.promise(() => Promise.all([post(second.url, key), post(second.url, key)]))
          const texts = yield* Effect.promise(() => Promise.all(answers.map((answer) => answer.text())))
          assert.deepStrictEqual(
            answers.map(({ status }) => status),
            [201, 201]
          )
          assert.strictEqual(texts[0], texts[1])
          const fresh = answers.filter(({ headers }) => headers.get("idempotency-replayed") === null)
          assert.lengthOf(fresh, 1 - done)
          assert.deepStrictEqual(yield* query(url, Count, "SELECT count(*)::integer AS n FROM task"), [{ n: 1 }])
        }),
      90_000
    )
  }
})
