import { createHash } from "node:crypto"
import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, Deferred, Duration, Effect, FiberId, Layer, Option, Schema } from "effect"
import { canonical } from "../domain/CanonicalJson.ts"
import { IdempotencyKeyInUse, IdempotencyKeyReused } from "../domain/IdempotentAnswer.ts"
import type { Answer, KeyedRequest } from "../domain/IdempotentAnswer.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { storeErrors } from "./Db.ts"
import { Wakeups } from "./Wakeups.ts"

/** How long an answer is given again. */
const keptFor = Duration.hours(24)
/** How long a repeat waits for the first request. */
const patience = Duration.seconds(10)
/** How often a repeat looks whether the first request, in another process, has ended. */
const lookEvery = Duration.millis(100)

/** An answer, and whether it is that of an earlier request. */
export interface Outcome {
  readonly answer: Answer
  readonly replayed: boolean
}

/** Answers that are given again. Owns `idempotency_key`. */
export class Idempotency extends Context.Tag("ordinaut/Idempotency")<
  Idempotency,
  {
    /**
     * Does the work once for each agent and key within 24 h, and answers what it answered then. The work and the record of its
     * answer are one transaction, so that a process killed at any moment has done both or neither; signals of the work are sent
     * after its commit. What fails, or answers no 2xx, leaves the key free.
     *
     * A repeat waits for the first request, at most 10 s. Fails with `IdempotencyKeyReused` where the key belongs to another
     * request.
     */
    readonly once: <E, R>(
      request: KeyedRequest,
      work: Effect.Effect<Answer, E, R>
    ) => Effect.Effect<Outcome, E | IdempotencyKeyReused | IdempotencyKeyInUse | StoreUnavailable, R>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const wakeups = yield* Wakeups
      /** The requests under way in this process: a repeat waits for them without asking the database. */
      const underWay = new Map<string, Deferred.Deferred<void>>()

      const answered = Effect.fnUntraced(function* (request: KeyedRequest, hash: Buffer, now: number) {
        const [found] = yield* decodeRows(
          yield* sql`SELECT request, body_hash, status, headers, body FROM idempotency_key
            WHERE agent_id = ${request.agent_id} AND key = ${request.key}
              AND created_at > ${new Date(now - Duration.toMillis(keptFor))}`
        )
        if (found === undefined) return undefined
        return found.request === request.route && hash.equals(found.body_hash)
          ? { status: found.status, headers: found.headers, body: found.body }
          : yield* new IdempotencyKeyReused({ key: request.key })
      })

      /** None where another process is at work with the key. */
      const attempt = <E, R>(request: KeyedRequest, hash: Buffer, work: Effect.Effect<Answer, E, R>) =>
        Effect.gen(function* () {
          // Tried, not waited for: a repeat that waits must not hold a connection that others need.
          const [lock] = yield* sql<{ taken: boolean }>`
            SELECT pg_try_advisory_xact_lock(hashtextextended(${`ordinaut.idempotency:${request.agent_id}:${request.key}`}, 0)) AS taken`
          if (lock?.taken !== true) return Option.none<Outcome>()
          const now = yield* Clock.currentTimeMillis
          const before = yield* answered(request, hash, now)
          if (before !== undefined) return Option.some<Outcome>({ answer: before, replayed: true })
          const answer = yield* work
          if (answer.status < 300) {
            yield* sql`
              INSERT INTO idempotency_key (agent_id, key, request, body_hash, status, headers, body, created_at)
              VALUES (${request.agent_id}, ${request.key}, ${request.route}, ${hash}, ${answer.status},
                ${JSON.stringify(answer.headers)}::jsonb, ${answer.body}, ${new Date(now)})
              ON CONFLICT (agent_id, key) DO UPDATE SET request = excluded.request, body_hash = excluded.body_hash,
                status = excluded.status, headers = excluded.headers, body = excluded.body, created_at = excluded.created_at`
          }
          return Option.some<Outcome>({ answer, replayed: false })
        }).pipe(sql.withTransaction, wakeups.afterwards, storeErrors)

      /** Waits where a request with the key is under way here; else makes the attempt. None: to be tried again. */
      const turn = <E, R>(request: KeyedRequest, hash: Buffer, work: Effect.Effect<Answer, E, R>) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.suspend(() => {
            const id = `${request.agent_id} ${request.key}`
            const first = underWay.get(id)
            if (first !== undefined) {
              return restore(
                Deferred.await(first).pipe(Effect.timeoutOption(patience), Effect.as(Option.none<Outcome>()))
              )
            }
            const ended = Deferred.unsafeMake<void>(FiberId.none)
            underWay.set(id, ended)
            const leave = Effect.suspend(() => {
              underWay.delete(id)
              return Deferred.succeed(ended, undefined)
            })
            return restore(attempt(request, hash, work)).pipe(
              Effect.tap((outcome) => (Option.isNone(outcome) ? Effect.sleep(lookEvery) : Effect.void)),
              Effect.ensuring(leave)
            )
          })
        )

      return Idempotency.of({
        once: <E, R>(request: KeyedRequest, work: Effect.Effect<Answer, E, R>) =>
          Effect.gen(function* () {
            const hash = createHash("sha256").update(canonical(request.body)).digest()
            const until = (yield* Clock.currentTimeMillis) + Duration.toMillis(patience)
            for (;;) {
              const outcome = yield* turn(request, hash, work)
              if (Option.isSome(outcome)) return outcome.value
              if ((yield* Clock.currentTimeMillis) >= until) {
                return yield* new IdempotencyKeyInUse({ key: request.key, retry_after: 1 })
              }
            }
          }).pipe(Effect.withSpan("Idempotency.once"))
      })
    })
  )
}

const decodeRows = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({
      request: Schema.String,
      body_hash: Schema.Uint8ArrayFromSelf,
      status: Schema.Int,
      headers: Schema.Record({ key: Schema.String, value: Schema.String }),
      body: Schema.NullOr(Schema.String)
    })
  )
)
