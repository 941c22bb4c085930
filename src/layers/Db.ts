import * as Reactivity from "@effect/experimental/Reactivity"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import { Context, Duration, Effect, Layer, Option, ParseResult, Redacted, Schema } from "effect"
import Pg from "pg"
import { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import * as Retries from "./Retries.ts"
import * as Settings from "./Settings.ts"

/** Limits of a connection: the server cancels a statement after the first, a socket that says nothing is given up after the second. */
interface Patience {
  readonly statement: Duration.Duration
  readonly silence: Duration.Duration
}

const usual: Patience = { statement: Duration.seconds(10), silence: Duration.seconds(12) }
/** A renewal that takes longer is worth nothing: the lease is over. */
const brief: Patience = { statement: Duration.seconds(2), silence: Duration.seconds(3) }

/** Migrations and retention take what they take. */
const endless: Patience = { statement: Duration.zero, silence: Duration.hours(6) }

const connectTimeout = Duration.seconds(5)

/**
 * Clients that destroy their socket when a query has had no answer for `silence`: such a connection went half-open, and the pool
 * of `@effect/sql-pg` would keep it for ever.
 */
const healing = (silence: Duration.Duration) =>
  class extends Pg.Client {
    constructor(config?: string | Pg.ClientConfig) {
      super(config)
      // The overloads of `query` differ in their last argument alone; what they return and call back is passed on untouched.
      const plain = this.query.bind(this) as (...args: ReadonlyArray<unknown>) => unknown
      const guarded = (...args: ReadonlyArray<unknown>): unknown => {
        const deadline = setTimeout(() => destroy(this), Duration.toMillis(silence))
        deadline.unref()
        const done = args.at(-1)
        if (typeof done === "function") {
          return plain(...args.slice(0, -1), (...answer: ReadonlyArray<unknown>) => {
            clearTimeout(deadline)
            done(...answer)
          })
        }
        const answer = plain(...args)
        if (answer instanceof Promise) answer.finally(() => clearTimeout(deadline)).catch(() => undefined)
        else clearTimeout(deadline)
        return answer
      }
      Object.defineProperty(this, "query", { value: guarded })
    }
  }

/** `pg` does not declare the socket that its clients have. */
const destroy = (client: Pg.Client) =>
  (client as unknown as { connection: { stream: { destroy: () => void } } }).connection.stream.destroy()

const pool = (url: Redacted.Redacted, max: number, applicationName: string, { silence, statement }: Patience) =>
  new Pg.Pool({
    connectionString: Redacted.value(url),
    Client: healing(silence),
    max,
    application_name: applicationName,
    keepAlive: true,
    connectionTimeoutMillis: Duration.toMillis(connectTimeout),
    statement_timeout: Duration.toMillis(statement),
    lock_timeout: Duration.toMillis(Duration.times(statement, 0.8)),
    idle_in_transaction_session_timeout: Duration.toMillis(Duration.seconds(30)),
    options: "-c timezone=UTC"
  })

/**
 * A statement whose fiber is interrupted goes on to its end, at most to `statement_timeout`; what uses the connection next waits
 * behind it. `@effect/sql-pg` would have the server cancel whatever the connection does when that arrives, which by then is
 * often somebody else's statement: a client that goes away would fail the requests of others.
 */
const neverCanceling = (made: Pg.Pool) => {
  const plain = made.query.bind(made) as (...args: ReadonlyArray<unknown>) => unknown
  const value = (...args: ReadonlyArray<unknown>): unknown => {
    const [text, done] = args
    if (typeof text !== "string" || !text.startsWith("SELECT pg_cancel_backend(")) return plain(...args)
    return typeof done === "function" ? done(null) : undefined
  }
  return Object.defineProperty(made, "query", { value })
}

const acquire = (url: Redacted.Redacted, max: number, applicationName: string, patience: Patience) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const made = neverCanceling(pool(url, max, applicationName, patience))
      // An idle connection that breaks is replaced at its next use; without a listener it would end the process.
      made.on("error", () => undefined)
      return made
    }),
    (made) => Effect.promise(() => made.end()).pipe(Effect.interruptible, Effect.timeoutOption("2 seconds"))
  )

/** A connection that does nothing but renew leases. */
export class Renewals extends Context.Tag("ordinaut/Renewals")<Renewals, SqlClient.SqlClient>() {}

/** Connections for what may take long: migrations and retention. */
export class Maintenance extends Context.Tag("ordinaut/Maintenance")<Maintenance, SqlClient.SqlClient>() {}

/** The connections to `DATABASE_URL`, each made when it is needed. `name` shows in `pg_stat_activity`. */
export const layerNamed = (name: string) =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const url = yield* Settings.databaseUrl
      const max = yield* Settings.databaseConnections
      const client = PgClient.layerFromPool({ acquire: acquire(url, max, name, usual) })
      const renewals = Layer.scoped(
        Renewals,
        PgClient.fromPool({ acquire: acquire(url, 1, `${name}-renewals`, brief) })
      )
      const maintenance = Layer.scoped(
        Maintenance,
        PgClient.fromPool({ acquire: acquire(url, 2, `${name}-maintenance`, endless) })
      )
      return Layer.merge(client, Layer.provide(Layer.merge(renewals, maintenance), Reactivity.layer))
    })
  )

/** Waits for a database that is not there yet, saying so. */
export const reachable = SqlClient.SqlClient.pipe(
  Effect.flatMap((sql) => sql`SELECT 1`),
  Effect.tapError((error) =>
    Effect.logWarning("The database cannot be reached; trying again.").pipe(
      Effect.annotateLogs({ reason: reasonOf(error) })
    )
  ),
  Effect.retry(Retries.boot),
  Effect.asVoid
)

/** The database answers, and lets nobody in who comes with this URL. */
export class DatabaseRefuses extends Schema.TaggedError<DatabaseRefuses>()("DatabaseRefuses", {
  message: Schema.String
}) {}

/** As `reachable`, but fails where waiting does not help: a wrong user, password or database name (classes 28 and 3D). */
export const admitted = SqlClient.SqlClient.pipe(
  Effect.flatMap((sql) => sql`SELECT 1`),
  Effect.catchIf(
    (error) => /^(28|3D)/.test(codeOf(error)),
    (error) => new DatabaseRefuses({ message: `The database refuses DATABASE_URL: ${reasonOf(error)}` })
  ),
  Effect.catchTag("SqlError", () => reachable)
)

/** `layerNamed` under the product's own name. */
export const layer = layerNamed("ordinaut")

const causeOf = (
  error: SqlError
): { readonly code?: unknown; readonly message?: unknown; readonly constraint?: unknown } =>
  typeof error.cause === "object" && error.cause !== null ? error.cause : {}

/** SQLSTATE, or the system's error code of a failed connection; empty where there is none. */
export const codeOf = (error: SqlError): string => {
  const { code } = causeOf(error)
  return typeof code === "string" ? code : ""
}

/** The constraint that a statement violated. */
export const constraintOf = (error: SqlError): string => {
  const { constraint } = causeOf(error)
  return typeof constraint === "string" ? constraint : ""
}

const reasonOf = (error: SqlError): string => {
  const { message } = causeOf(error)
  return [codeOf(error), typeof message === "string" ? message : ""].filter((part) => part !== "").join(": ")
}

/**
 * Classes 08, 53, 57 and the states of a server that refuses, is full, went away, or is not migrated yet (PostgreSQL manual,
 * appendix A).
 */
const outage = /^(08|53|57P|57014|55P03|25P03|3D000|28|42P01|E[A-Z]+$)/

const isOutage = (error: SqlError): boolean => {
  const code = codeOf(error)
  // Without a SQLSTATE the statement never reached a server that answered.
  return code === "" || outage.test(code)
}

const isContention = (error: unknown): boolean =>
  error instanceof SqlError && (codeOf(error) === "40P01" || codeOf(error) === "40001")

/**
 * What a method of a store may fail with, beside its own errors: an outage is typed, anything else of the database is a bug. What
 * lost to another transaction is tried again, whole: within a transaction it is passed on to whoever began that.
 */
export const storeErrors = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Exclude<E, SqlError | ParseResult.ParseError> | StoreUnavailable, R> =>
  Effect.contextWithEffect((context: Context.Context<R>) =>
    // What is interrupted while the database is away cannot roll back either, and shall not end as a bug.
    Effect.uninterruptibleMask((restore) => {
      const within = Context.getOption(context, SqlClient.TransactionConnection)._tag === "Some"
      const found = restore(effect).pipe(
        // A connection lost inside a transaction surfaces as a defect, since the rollback fails too.
        Effect.catchSomeDefect((defect) =>
          defect instanceof SqlError ? Option.some(Effect.fail(defect)) : Option.none()
        )
      )
      const tried = within ? found : Effect.retry(found, { schedule: Retries.contention, while: isContention })
      return Effect.catchAll(
        tried,
        (error): Effect.Effect<never, Exclude<E, SqlError | ParseResult.ParseError> | StoreUnavailable> => {
          if (error instanceof SqlError) {
            if (within && isContention(error)) return Effect.die(error)
            return isOutage(error)
              ? Effect.logWarning("The database did not answer.").pipe(
                  Effect.annotateLogs({ reason: reasonOf(error) }),
                  Effect.zipRight(Effect.fail(new StoreUnavailable({ retry_after: 1 })))
                )
              : Effect.die(error)
          }
          return ParseResult.isParseError(error)
            ? Effect.die(error)
            : Effect.fail(error as Exclude<E, SqlError | ParseResult.ParseError>)
        }
      )
    })
  )
