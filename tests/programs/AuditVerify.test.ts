import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { randomBytes } from "node:crypto"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import * as Programs from "../support/programs.ts"
import { freshDatabase } from "../support/TestDb.ts"

describe("npm run audit:verify", () => {
  it.scopedLive(
    "ends with 0 for a trail that holds, and with 1 and the first broken link for one that does not",
    () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        const env = {
          DATABASE_URL: url,
          ORDINAUT_ADMIN_KEY: fromRandom(randomBytes(41)).text,
          ORDINAUT_SECRET: randomBytes(32).toString("base64")
        }
        const sql = (statement: string) => Programs.query(url, Schema.Unknown, statement)
        assert.strictEqual(yield* (yield* Programs.run("migrate", env)).ended, 0)
        yield* sql(
          `SELECT audit_append(ROW('one', 0, now(), 'one', 'b', 'c', n::text, 'main', NULL, NULL, NULL, '\\x')::audit_log)
           FROM generate_series(1, 20) AS n`
        )
        const good = yield* Programs.run("audit-verify", env)
        assert.strictEqual(yield* good.ended, 0, good.errors())
        assert.include(good.output(), "The audit trail holds: 21 entries.")
        const strange = yield* Programs.run("audit-verify", env, `one:7:${"0".repeat(64)}`)
        assert.strictEqual(yield* strange.ended, 1)
        assert.include(strange.errors(), "entry 7 of chain one")
        const none = yield* Programs.run("audit-verify", env, "nonsense")
        assert.strictEqual(yield* none.ended, 1)
        assert.include(none.errors(), "nonsense is no anchor")
        yield* sql("DELETE FROM audit_log WHERE chain = 'one' AND seq = 11")
        const bad = yield* Programs.run("audit-verify", env)
        assert.strictEqual(yield* bad.ended, 1)
        assert.include(bad.errors(), "the first broken link is entry 11 of chain one")
      }),
    90_000
  )

  it.scopedLive("says which setting is missing, and makes neither a secret nor a database", () =>
    Effect.gen(function* () {
      const folder = join(yield* Programs.dataFolder, "none")
      const secret = { ORDINAUT_SECRET: randomBytes(32).toString("base64") }
      for (const [env, missing] of [
        [{}, "ORDINAUT_SECRET is missing"],
        [{ DATABASE_URL: yield* freshDatabase }, "ORDINAUT_SECRET is missing"],
        [secret, "DATABASE_URL is missing"]
      ] as const) {
        const program = yield* Programs.run("audit-verify", { ...env, ORDINAUT_DATA_DIR: folder })
        assert.strictEqual(yield* program.ended, 1, program.output())
        assert.include(program.errors(), missing)
        assert.isFalse(existsSync(folder), missing)
      }
    })
  )
})
