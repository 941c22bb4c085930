import { createHash } from "node:crypto"
import { existsSync } from "node:fs"
import { readdir, readFile } from "node:fs/promises"
import { fileURLToPath } from "node:url"
import * as SqlClient from "@effect/sql/SqlClient"
import { DateTime, Effect, Layer, Schema } from "effect"
import { Maintenance, reachable } from "./Db.ts"
import * as Retries from "./Retries.ts"

/** The files of `migrations/` and the database do not belong together; `message` says what to do. */
export class MigrationMismatch extends Schema.TaggedError<MigrationMismatch>()("MigrationMismatch", {
  message: Schema.String
}) {}

interface Migration {
  readonly version: number
  readonly name: string
  readonly text: string
  readonly checksum: string
}

/** Beside the bundle, or in the source tree. */
const folder = [new URL("./migrations/", import.meta.url), new URL("../../migrations/", import.meta.url)]
  .map((url) => fileURLToPath(url))
  .find((path) => existsSync(path))

const files: Effect.Effect<ReadonlyArray<Migration>> = Effect.promise(async () => {
  if (folder === undefined) throw new Error("the folder migrations/ is missing from this installation")
  const names = (await readdir(folder)).filter((name) => /^\d{4}_\w+\.sql$/.test(name)).sort()
  return Promise.all(
    names.map(async (name) => {
      const text = await readFile(`${folder}/${name}`, "utf8")
      return {
        version: Number(name.slice(0, 4)),
        name,
        text,
        checksum: createHash("sha256").update(text).digest("hex")
      }
    })
  )
})

const applied = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [table] = yield* sql<{ there: boolean }>`SELECT to_regclass('schema_migration') IS NOT NULL AS there`
  if (table?.there !== true) return []
  return yield* sql<{
    version: number
    checksum: string
  }>`SELECT version, checksum FROM schema_migration ORDER BY version`
})

/** Arbitrary, but ours: of the advisory lock that lets one migrator in at a time. */
const lockId = 7_239_104_551

/** A migration that has to wait longer for a table's lock gives way to the traffic on it, and fails. */
const lockWait = "10s"

/**
 * Applies the files of `migrations/` that the database lacks, each in a transaction of its own, under an advisory lock:
 * any number may start at once. Answers the names of those it applied.
 */
export const run = Effect.gen(function* () {
  const sql = yield* Maintenance
  const known = yield* files
  return yield* Effect.scoped(
    Effect.gen(function* () {
      // The lock is of its session, and outlives the transactions below, which use another one.
      const session = yield* sql.reserve
      yield* Effect.acquireRelease(session.execute(`SELECT pg_advisory_lock(${lockId})`, [], undefined), () =>
        Effect.ignore(session.execute(`SELECT pg_advisory_unlock(${lockId})`, [], undefined))
      )
      yield* sql`
        CREATE TABLE IF NOT EXISTS schema_migration (
          version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz(3) NOT NULL)`
      const before = yield* Effect.provideService(applied, SqlClient.SqlClient, sql)
      yield* mismatch(known, before)
      const lacking = known.filter(({ version }) => !before.some((row) => row.version === version))
      const now = DateTime.toDateUtc(yield* DateTime.now)
      for (const { version, name, text, checksum } of lacking) {
        yield* Effect.all(
          [
            sql.unsafe(`SET LOCAL lock_timeout = '${lockWait}'`),
            sql.unsafe(text),
            sql`INSERT INTO schema_migration ${sql.insert({ version, name, checksum, applied_at: now })}`
          ],
          { discard: true }
        ).pipe(sql.withTransaction)
      }
      return lacking.map(({ name }) => name)
    })
  )
})

const mismatch = (
  known: ReadonlyArray<Migration>,
  before: ReadonlyArray<{ readonly version: number; readonly checksum: string }>
) => {
  const changed = known.find(({ version, checksum }) =>
    before.some((row) => row.version === version && row.checksum !== checksum)
  )
  return changed === undefined
    ? Effect.void
    : new MigrationMismatch({
        message: `${changed.name} was changed after it was applied to this database; add a new file instead`
      })
}

/** How many of the files the database lacks. A database that is ahead (a newer version runs beside this one) lacks none. */
export const pending = Effect.gen(function* () {
  const [known, before] = yield* Effect.all([files, applied])
  return known.filter(({ version }) => !before.some((row) => row.version === version)).length
})

/** Applies what is pending before anything that is built on top. */
export const layer = Layer.effectDiscard(
  Effect.tap(run, (names) =>
    names.length === 0
      ? Effect.void
      : Effect.logInfo("The database was migrated.").pipe(Effect.annotateLogs({ applied: names }))
  )
)

/** Waits for the database, and until somebody has migrated it, saying so. */
export const awaited = pending.pipe(
  Effect.filterOrElse(
    (lacking) => lacking === 0,
    () =>
      Effect.zipRight(
        Effect.logWarning("The database lacks migrations; waiting for `npm run migrate`."),
        Effect.fail("behind" as const)
      )
  ),
  Effect.retry(Retries.boot),
  Effect.asVoid
)

/** `awaited`, before anything that is built on top. */
export const layerAwaited = Layer.effectDiscard(Effect.zipRight(reachable, awaited))
