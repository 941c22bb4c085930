import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema, Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { chmod, chown, cp, mkdtemp, readdir, readFile, realpath, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import pg from "pg"
import { EmbeddedDb } from "../../src/layers/EmbeddedDb.ts"
import { place } from "../../src/layers/EmbeddedDbAccount.ts"
import { packageRoot, prepare } from "../../src/layers/EmbeddedDbBinaries.ts"

const isRoot = process.getuid?.() === 0
const ordinary = { uid: 65534, gid: 65534 }
const settings = { fsync: "off" }

/** A new folder that ends with the scope, and with it a database that had to go elsewhere. */
const newFolder = Effect.acquireRelease(
  Effect.promise(async () => {
    const folder = await mkdtemp(join(tmpdir(), "ordinaut-embedded-"))
    await chmod(folder, 0o755)
    return folder
  }),
  (folder) =>
    Effect.promise(async () => {
      const home = await realpath(join(folder, "postgres")).then(dirname, () => folder)
      for (const each of new Set([home, folder])) await rm(each, { recursive: true, force: true })
    })
)

const query = (url: string, statement: string) =>
  Effect.promise(async () => {
    const client = new pg.Client({ connectionString: url })
    client.on("error", () => undefined)
    await client.connect()
    try {
      return (await client.query<Record<string, unknown>>(statement)).rows
    } finally {
      await client.end()
    }
  })

const answers = (url: string) => query(url, "SELECT 1").pipe(Effect.exit, Effect.map(Exit.isSuccess))

const postmaster = (folder: string) =>
  Effect.promise(async () => Number.parseInt(await readFile(join(folder, "postgres/postmaster.pid"), "utf8"), 10))

/** A start whose end the test decides. */
const startIn = (folder: string) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const connection = yield* EmbeddedDb.start({ dataDir: folder, settings }).pipe(Scope.extend(scope))
    return { ...connection, close: Scope.close(scope, Exit.void) }
  })

const Connection = Schema.parseJson(Schema.Struct({ url: Schema.String, attached: Schema.Boolean }))

/** The program of `support/embeddedDbProgram.ts` in a process of its own. */
const spawnProgram = (folder: string, account: { readonly uid?: number; readonly gid?: number } = {}) =>
  Effect.gen(function* () {
    const program = fileURLToPath(new URL("../support/embeddedDbProgram.ts", import.meta.url))
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, ["--import", "tsx", program], {
          ...account,
          env: { PATH: process.env["PATH"], TMPDIR: folder, ORDINAUT_DATA_DIR: join(folder, "data") },
          stdio: ["ignore", "pipe", "inherit"]
        })
      ),
      (started) => Effect.promise(() => ended(started, "SIGTERM"))
    )
    const line = yield* Effect.promise(
      () =>
        new Promise<string>((done, broken) => {
          child.stdout.once("data", (bytes) => done(String(bytes)))
          child.once("exit", (code) => broken(new Error(`the program ended with ${code}`)))
        })
    )
    return { ...(yield* Schema.decode(Connection)(line)), child }
  })

const ended = (child: ChildProcess, signal: NodeJS.Signals) =>
  new Promise<number | null>((done) => {
    if (child.exitCode !== null || child.signalCode !== null) return done(child.exitCode)
    child.once("exit", (code) => done(code))
    child.kill(signal)
  })

describe("EmbeddedDb", () => {
  it.scoped("starts, is shared by a second start, ends with the first, and keeps its data and its address", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      const first = yield* startIn(folder)
      const second = yield* startIn(folder)
      assert.deepStrictEqual([first.attached, second.attached], [false, true])
      assert.strictEqual(second.url, first.url)
      yield* query(second.url, "CREATE TABLE kept AS SELECT 7 AS n")
      yield* second.close
      assert.isTrue(yield* answers(first.url))
      yield* first.close
      assert.isFalse(yield* answers(first.url))
      const third = yield* startIn(folder)
      assert.deepStrictEqual([third.url, third.attached], [first.url, false])
      assert.deepStrictEqual(yield* query(third.url, "SELECT n FROM kept"), [{ n: 7 }])
    })
  )

  it.scoped("is durable unless told otherwise, and lets nobody in without the password", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      const { url } = yield* EmbeddedDb.start({ dataDir: folder })
      const durable = "SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commits"
      assert.deepStrictEqual(yield* query(url, durable), [{ fsync: "on", commits: "on" }])
      assert.isFalse(yield* answers(url.replace(/:[^:@]+@/, ":guess@")))
      const card = yield* Effect.promise(() => stat(join(folder, "postgres/ordinaut.json")))
      assert.strictEqual(card.mode & 0o777, 0o600)
    })
  )

  it.scoped("makes one cluster when many start at once", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      const all = yield* Effect.all([startIn(folder), startIn(folder), startIn(folder)], { concurrency: 3 })
      assert.lengthOf(
        all.filter(({ attached }) => !attached),
        1
      )
      assert.strictEqual(new Set(all.map(({ url }) => url)).size, 1)
      const names = yield* Effect.promise(() => readdir(folder))
      assert.deepStrictEqual(names.toSorted(), ["postgres", "postgres.log"])
    })
  )

  it.scopedLive("is started again at its address when the server is killed", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      const { url } = yield* startIn(folder)
      yield* query(url, "CREATE TABLE kept AS SELECT 7 AS n")
      process.kill(yield* postmaster(folder), "SIGKILL")
      while (!(yield* answers(url))) yield* Effect.sleep("20 millis")
      assert.deepStrictEqual(yield* query(url, "SELECT n FROM kept"), [{ n: 7 }])
    })
  )

  it.scoped("outlives a killed program, and ends with the next that takes it over", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      const { child, url } = yield* spawnProgram(folder)
      yield* query(url, "CREATE TABLE kept AS SELECT 7 AS n")
      yield* Effect.promise(() => ended(child, "SIGKILL"))
      const next = yield* startIn(join(folder, "data"))
      assert.deepStrictEqual([next.url, next.attached], [url, true])
      assert.deepStrictEqual(yield* query(url, "SELECT n FROM kept"), [{ n: 7 }])
      yield* next.close
      assert.isFalse(yield* answers(url))
    })
  )

  it.scoped("ends with its program on SIGTERM", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      const { child, url } = yield* spawnProgram(folder)
      yield* Effect.promise(() => ended(child, "SIGTERM"))
      assert.isFalse(yield* answers(url))
    })
  )

  it.scoped("starts over a pid file whose pid another process has now", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      const first = yield* startIn(folder)
      const file = join(folder, "postgres/postmaster.pid")
      const left = yield* Effect.promise(() => readFile(file, "utf8"))
      yield* first.close
      const stranger = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("sleep", ["60"], isRoot ? ordinary : {})),
        (started) => Effect.sync(() => started.kill("SIGKILL"))
      )
      yield* Effect.promise(async () => {
        await writeFile(file, left.replace(/^\d+/, `${stranger.pid}`))
        if (isRoot) await chown(file, ordinary.uid, ordinary.gid)
      })
      const second = yield* startIn(folder)
      assert.isFalse(second.attached)
      assert.isTrue(yield* answers(second.url))
      assert.isNull(stranger.exitCode)
    })
  )

  it.scoped("refuses data of another major version, and a folder it cannot write, in one sentence", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      const first = yield* startIn(folder)
      yield* first.close
      yield* Effect.promise(() => writeFile(join(folder, "postgres/PG_VERSION"), "15\n"))
      const wrong = yield* EmbeddedDb.start({ dataDir: folder }).pipe(Effect.flip)
      assert.strictEqual(wrong.reason, "WrongVersion")
      assert.match(wrong.message, /^[^\n]*PostgreSQL 15[^\n]*\.$/)
      const below = yield* EmbeddedDb.start({ dataDir: join(folder, "postgres.log", "x") }).pipe(Effect.flip)
      assert.strictEqual(below.reason, "FolderUnusable")
      assert.match(below.message, /^[^\n]*ORDINAUT_DATA_DIR[^\n]*\.$/)
    })
  )

  it.scoped("says why the server does not start", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      const error = yield* EmbeddedDb.start({
        dataDir: folder,
        settings: { ...settings, shared_buffers: "nonsense" }
      }).pipe(Effect.flip)
      assert.strictEqual(error.reason, "StartFailed")
      assert.include(error.message, "shared_buffers")
    })
  )

  it.scoped("makes the links that the install script did not, in a copy where it cannot make them in place", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      const installed = yield* packageRoot
      const root = join(folder, "package")
      const link = "native/lib/libpq.so.5"
      const here = yield* place(join(folder, "data"))
      yield* Effect.promise(() =>
        cp(installed, root, { recursive: true, filter: (path) => !path.endsWith(".a") && !path.endsWith(link) })
      )
      const inPlace = yield* prepare(root, here)
      assert.strictEqual(inPlace.initdb, join(root, "native/bin/initdb"))
      assert.match(yield* Effect.promise(() => realpath(join(root, link))), /libpq\.so\.5\.\d+$/)
      yield* Effect.promise(async () => {
        await rm(join(root, link))
        await chmod(join(root, "native/lib"), 0o555)
        // Root can write everywhere, but its other account cannot enter here.
        if (isRoot) await chmod(root, 0o700)
      })
      const copied = yield* prepare(root, here)
      const copy = dirname(dirname(dirname(copied.initdb)))
      assert.strictEqual(dirname(copy), here.home)
      assert.match(yield* Effect.promise(() => realpath(join(copy, link))), /libpq\.so\.5\.\d+$/)
      yield* Effect.promise(() => chmod(join(root, "native/lib"), 0o755))
    })
  )

  it.scoped.skipIf(!isRoot)("as root, runs the server as another account, also from a folder closed to it", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      yield* Effect.promise(() => chmod(folder, 0o700))
      const { url } = yield* startIn(folder)
      assert.isTrue(yield* answers(url))
      const pid = yield* postmaster(folder)
      assert.notStrictEqual((yield* Effect.promise(() => stat(`/proc/${pid}`))).uid, 0)
    })
  )

  it.scoped.skipIf(!isRoot)("works for an ordinary user", () =>
    Effect.gen(function* () {
      const folder = yield* newFolder
      yield* Effect.promise(() => chown(folder, ordinary.uid, ordinary.gid))
      const { attached, url } = yield* spawnProgram(folder, ordinary)
      assert.isFalse(attached)
      assert.isTrue(yield* answers(url))
    })
  )
})
