import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, Effect, Layer, Schedule } from "effect"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { Audit } from "./Audit.ts"
import { storeErrors } from "./Db.ts"
import { Draining } from "./Draining.ts"
import * as Retries from "./Retries.ts"

/** Pairs of key id and address that are told apart in one minute; those beyond are counted together. */
const mostPairs = 1000

interface Failures {
  readonly key_id: string | null
  readonly address: string
  readonly since: number
  count: number
}

/** Counts refused credentials for the trail: one entry a minute for each key id and address, however many there were. */
export class AuthFailures extends Context.Tag("ordinaut/AuthFailures")<
  AuthFailures,
  {
    /** One more; `keyId` is null where the credentials name no key. */
    readonly count: (keyId: string | null, address: string) => Effect.Effect<void>
    /** Writes what was counted since the last time. Answers how many entries that were. */
    readonly flush: Effect.Effect<number, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const audit = yield* Audit
      let counted = new Map<string, Failures>()

      const add = (key_id: string | null, address: string, since: number, more: number) => {
        const name = `${key_id ?? ""} ${address}`
        const known = counted.get(name)
        if (known !== undefined) known.count += more
        else if (counted.size < mostPairs || address === "others")
          counted.set(name, { key_id, address, since, count: more })
        else add(null, "others", since, more)
      }

      const record = ({ address, count, key_id, since }: Failures, until: number) =>
        audit.record({
          actor: "system",
          namespace: "main",
          action: "auth.failed",
          subject_kind: key_id === null ? "address" : "api_key",
          subject_id: key_id ?? address,
          before: null,
          after: { address, count, since: new Date(since).toISOString(), until: new Date(until).toISOString() }
        })

      return AuthFailures.of({
        count: (keyId, address) => Effect.map(Clock.currentTimeMillis, (now) => add(keyId, address, now, 1)),
        flush: Effect.gen(function* () {
          const taken = [...counted.values()]
          if (taken.length === 0) return 0
          counted = new Map()
          const until = yield* Clock.currentTimeMillis
          yield* Effect.forEach(taken, (one) => record(one, until), { discard: true }).pipe(
            sql.withTransaction,
            storeErrors,
            // Kept for the next time.
            Effect.tapErrorCause(() =>
              Effect.sync(() => {
                for (const { address, count, key_id, since } of taken) add(key_id, address, since, count)
              })
            )
          )
          return taken.length
        }).pipe(Effect.withSpan("AuthFailures.flush"))
      })
    })
  )

  /** `flush` once a minute, and at the end of the program. */
  static readonly loop = Layer.scopedDiscard(
    Effect.gen(function* () {
      const failures = yield* AuthFailures
      const draining = yield* Draining
      yield* Effect.addFinalizer(() => failures.flush.pipe(Effect.timeout("2 seconds"), Effect.ignore))
      yield* draining.supervised(
        failures.flush.pipe(Effect.delay("1 minute"), Effect.repeat(Schedule.forever), Effect.retry(Retries.loop))
      )
    })
  )
}
