import { ConfigProvider, Effect, Exit, Scope } from "effect"
import pg from "pg"
import type { TestProject } from "vitest/node"
import * as Db from "../../src/layers/Db.ts"
import { EmbeddedDb } from "../../src/layers/EmbeddedDb.ts"
import * as Migrations from "../../src/layers/Migrations.ts"
import { startRedis } from "./redisServer.ts"
import { makeRunFolder, removeRunFolder } from "./runFolder.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** The maintenance database of the PostgreSQL server that serves this run, as its superuser. */
    readonly databaseUrl: string
    /** Name of the database that holds every migration and no rows. */
    readonly templateDatabase: string
    readonly redisUrl: string
  }
}

const templateDatabase = "ordinaut_template"

/** Nothing here has to survive a power cut. */
const fast = {
  fsync: "off",
  full_page_writes: "off",
  synchronous_commit: "off",
  max_connections: "300",
  autovacuum_naptime: "1h"
}

const makeTemplate = (databaseUrl: string) =>
  Effect.gen(function* () {
    const client = new pg.Client({ connectionString: databaseUrl })
    yield* Effect.promise(async () => {
      await client.connect()
      await client.query(`CREATE DATABASE ${templateDatabase}`)
      await client.end()
    })
    const url = new URL(databaseUrl)
    url.pathname = templateDatabase
    const config = ConfigProvider.fromMap(new Map([["DATABASE_URL", url.href]]))
    yield* Migrations.run.pipe(
      Effect.provide(Db.layer),
      Effect.withConfigProvider(config),
      Effect.orDieWith(
        (error) => new Error(`The migrations fail: ${error}`, { cause: "cause" in error ? error.cause : error })
      )
    )
  })

/** Starts one PostgreSQL and one Redis for all tests, and stops them after the last. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await makeRunFolder()
  const scope = await Effect.runPromise(Scope.make())
  const teardown = async () => {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    await removeRunFolder(folder)
  }
  const services = Effect.all([EmbeddedDb.start({ dataDir: folder, settings: fast }), startRedis(folder)], {
    concurrency: 2
  }).pipe(Effect.tap(([database]) => makeTemplate(database.url)))
  try {
    const [database, redisUrl] = await Effect.runPromise(Scope.extend(services, scope))
    project.provide("databaseUrl", database.url)
    project.provide("templateDatabase", templateDatabase)
    project.provide("redisUrl", redisUrl)
    return teardown
  } catch (cause) {
    await teardown()
    throw cause
  }
}
