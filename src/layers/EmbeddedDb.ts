import { stat } from "node:fs/promises"
import { join } from "node:path"
import {
  Config,
  ConfigError,
  ConfigProvider,
  Context,
  Deferred,
  Effect,
  Fiber,
  Layer,
  Option,
  Schedule,
  type Scope
} from "effect"
import { type Place, place } from "./EmbeddedDbAccount.ts"
import { type Binaries, find } from "./EmbeddedDbBinaries.ts"
import { type Card, checkVersion, initialise, readCard, urlOf, writeCard } from "./EmbeddedDbCluster.ts"
import { EmbeddedDbError } from "./EmbeddedDbError.ts"
import { alive, realClock, stop } from "./EmbeddedDbProcess.ts"
import * as Server from "./EmbeddedDbServer.ts"
import * as Settings from "./Settings.ts"

/** Restarts of a server that died: 200 ms growing to one try every 5 s, for ever. The pool connects again by itself. */
const restarts = Schedule.exponential("200 millis").pipe(Schedule.union(Schedule.spaced("5 seconds")))

/** A start may meet another program's start or stop, or the last processes of a killed server: some 3 s of patience. */
const starts = Schedule.exponential("200 millis").pipe(Schedule.intersect(Schedule.recurs(4)))

interface Options {
  /** The folder of the product (`ORDINAUT_DATA_DIR`); the database lives in `postgres` below it. */
  readonly dataDir: string
  /** Default: the port of the last start when free, else any free one. */
  readonly port?: number
  /** Server settings on the command line, such as `fsync=off` for tests. */
  readonly settings?: Readonly<Record<string, string>>
}

interface Connection {
  /** Of database `postgres` on 127.0.0.1, with user and password. */
  readonly url: string
  /** The server ran already: another program's, or one that a killed program left behind. */
  readonly attached: boolean
}

/**
 * The PostgreSQL server that comes with the product, on 127.0.0.1, with a password made at the first start. Programs that
 * share a data folder share the server: the first starts it, and stops it at its end. A server whose starter was killed
 * is stopped by the next program that attaches to it.
 */
export class EmbeddedDb extends Context.Tag("ordinaut/EmbeddedDb")<EmbeddedDb, Connection>() {
  /** Starts or attaches; fails with `EmbeddedDbError`, whose message says what to do. A server that dies is restarted. */
  static readonly start = (options: Options): Effect.Effect<Connection, EmbeddedDbError, Scope.Scope> =>
    Effect.gen(function* () {
      const here = yield* place(options.dataDir)
      const binaries = yield* find(here)
      yield* initialise(here, binaries, options.settings?.["fsync"] !== "off")
      yield* checkVersion(here, binaries)
      return yield* connect(here, binaries, options).pipe(Effect.retry({ schedule: starts, while: isStartFailed }))
    }).pipe(realClock)

  static readonly layer = Layer.scoped(
    this,
    Effect.flatMap(Settings.dataDir, (dataDir) => EmbeddedDb.start({ dataDir }))
  )

  /** As `layerUnlessConfigured`, for a program that only reads: a folder without a database is left without one. */
  static readonly layerOfExisting = Layer.unwrapEffect(
    Effect.gen(function* () {
      if (Option.isSome(yield* Config.option(Settings.databaseUrl))) return Layer.empty
      const data = join(yield* Settings.dataDir, "postgres")
      return yield* Effect.tryPromise({
        try: () => stat(data),
        catch: () => ConfigError.MissingData(["DATABASE_URL"], "DATABASE_URL is missing")
      }).pipe(Effect.as(EmbeddedDb.layerUnlessConfigured))
    })
  )

  /** Where `DATABASE_URL` is not set: starts or attaches, and sets it for everything that is built on top. */
  static readonly layerUnlessConfigured = Layer.unwrapScoped(
    Effect.gen(function* () {
      if (Option.isSome(yield* Config.option(Settings.databaseUrl))) return Layer.empty
      const { url } = yield* EmbeddedDb.start({ dataDir: yield* Settings.dataDir })
      const rest = yield* Effect.configProviderWith((provider) => Effect.succeed(provider))
      const here = ConfigProvider.fromMap(new Map([["DATABASE_URL", url]]))
      return Layer.setConfigProvider(ConfigProvider.orElse(here, () => rest))
    })
  )
}

const isStartFailed = (error: EmbeddedDbError) => error.reason === "StartFailed"

const connect = (here: Place, binaries: Binaries, options: Options) =>
  Effect.gen(function* () {
    const held = yield* Server.owner(here)
    const last = yield* readCard(here.data)
    if (Option.isNone(held)) {
      const port = options.port ?? (yield* Server.freePort(last.port))
      return yield* startServer(here, binaries, { ...last, port, starter: process.pid }, options)
    }
    const card = { ...last, port: held.value.port }
    if (!(yield* Server.ready(held.value, urlOf(card)))) {
      return yield* new EmbeddedDbError({
        reason: "StartFailed",
        message: `The PostgreSQL that owns ${here.data} (process ${held.value.pid}) does not answer: stop it, and start again.`
      })
    }
    const { starter } = yield* readCard(here.data)
    if (!(yield* Effect.promise(() => alive(starter)))) {
      yield* writeCard(here, { ...card, starter: process.pid })
      yield* Effect.addFinalizer(() => stop(held.value.pid))
    }
    return { url: urlOf(card), attached: true }
  })

const startServer = (here: Place, binaries: Binaries, card: Card, options: Options) =>
  Effect.gen(function* () {
    const answering = yield* Deferred.make<void>()
    const life = Effect.gen(function* () {
      const server = yield* Effect.acquireRelease(
        Server.launch(here, binaries, card.port, options.settings ?? {}),
        (launched) => Effect.suspend(() => (launched.running() ? stop(launched.pid) : Effect.void))
      )
      yield* writeCard(here, card)
      if (!(yield* Server.ready(server, urlOf(card)))) return yield* Server.complain(here, server.logFrom)
      // Again, since a program that started at the same moment and lost may have left its own meanwhile.
      yield* writeCard(here, card)
      yield* Deferred.succeed(answering, undefined)
      return yield* server.ended
    }).pipe(Effect.scoped)
    const again = Effect.logWarning("The embedded PostgreSQL ended by itself and is started again.").pipe(
      Effect.zipRight(life),
      Effect.retry(restarts),
      Effect.delay("200 millis"),
      Effect.forever
    )
    const keeper = yield* Effect.forkScoped(life.pipe(Effect.zipRight(again)))
    yield* Effect.raceFirst(Deferred.await(answering), Fiber.join(keeper))
    return { url: urlOf(card), attached: false }
  })
