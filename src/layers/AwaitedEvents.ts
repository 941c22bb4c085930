import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Effect, Either, Layer } from "effect"
import type { DueWork } from "../domain/DueWork.ts"
import { matches, parsePattern } from "../domain/Event.ts"
import type { HeardEvent } from "../domain/Event.ts"
import { compileCondition, holds } from "../domain/Expression.ts"
import type { JsonObject, JsonValue } from "../domain/Json.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import type { Answer, NewWait } from "../domain/Wait.ts"
import { find } from "../domain/Zone.ts"
import { storeErrors } from "./Db.ts"
import { Lease } from "./Lease.ts"

/** Events that one look back reads at a time. */
const page = 500

/** What of an event those who wait for it are given; `at` is epoch milliseconds. */
type Come = Pick<HeardEvent, "id" | "topic" | "payload" | "at">

interface Awaiting {
  readonly id: string
  readonly detail: JsonObject
}

/** Events that runs wait for. */
export class AwaitedEvents extends Context.Tag("ordinaut/AwaitedEvents")<
  AwaitedEvents,
  {
    /**
     * Gives events that are being accepted to the runs that wait for them, to each the first that it waits for. Joins the caller's
     * transaction. Answers how many runs got one.
     */
    readonly tell: (namespace: string, events: ReadonlyArray<Come>) => Effect.Effect<number, StoreUnavailable>
    /** Gives a run that begins to wait the first such event since it was queued, if there was one. */
    readonly lookBack: (work: DueWork, wait: NewWait) => Effect.Effect<void, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const lease = yield* Lease
      return AwaitedEvents.of({
        tell: Effect.fn("AwaitedEvents.tell")(function* (namespace, events) {
          const now = DateTime.toDateUtc(yield* DateTime.now)
          const open = yield* sql<Awaiting>`
            SELECT id, detail FROM pending_item
            WHERE namespace = ${namespace} AND kind = 'event' AND result IS NULL AND (expires_at IS NULL OR expires_at > ${now})
            ORDER BY created_at`
          const answers = open.flatMap(({ detail, id }) => {
            const first = events.find((event) => isMeant(detail, event))
            return first === undefined ? [] : [answerTo(id, first)]
          })
          return (yield* lease.answer(answers)).length
        }, storeErrors),

        lookBack: Effect.fn("AwaitedEvents.lookBack")(function* ({ created_at, namespace }, { detail, id }) {
          let after = "00000000-0000-0000-0000-000000000000"
          for (;;) {
            const found = yield* sql<{ id: string; topic: string; payload: JsonValue; at: Date }>`
              SELECT id, topic, payload, at FROM event
              WHERE namespace = ${namespace} AND at >= ${DateTime.toDateUtc(created_at)} AND id > ${after} ORDER BY id LIMIT ${page}`
            const events = found.map((event) => ({ ...event, at: event.at.getTime() }))
            const first = events.find((event) => isMeant(detail, event))
            if (first !== undefined) yield* lease.answer([answerTo(id, first)])
            const last = found.at(-1)
            if (first !== undefined || last === undefined || found.length < page) return
            after = last.id
          }
        }, storeErrors)
      })
    })
  )
}

const told = ({ at, id, payload, topic }: Come) => ({ id, topic, payload, at: new Date(at).toISOString() })

const answerTo = (id: string, event: Come): Answer => ({ id, result: { output: told(event) } })

/** Whether an event is the one that a wait is for. A condition that cannot be evaluated takes none. */
const isMeant = (detail: JsonObject, event: Come): boolean => {
  const pattern = parsePattern(String(detail["topic"]))
  if (Either.isLeft(pattern) || !matches(pattern.right, event.topic)) return false
  const text = detail["if"]
  if (typeof text !== "string") return true
  const zone = find("UTC")
  if (zone === undefined) return false
  const bindings = {
    params: null,
    steps: null,
    errors: null,
    event: told(event),
    run: null,
    task: null,
    now: event.at,
    zone
  }
  return compileCondition(text, "").pipe(
    Either.flatMap((condition) => holds(condition, bindings)),
    Either.getOrElse(() => false)
  )
}
