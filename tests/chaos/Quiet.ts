import { Effect, Schema } from "effect"
import { query } from "../support/programs.ts"
import type { Client } from "./Client.ts"
import type { Fleet } from "./Fleet.ts"
import type { Stock } from "./Load.ts"
import type { Record } from "./Record.ts"

const Left = Schema.Struct({ n: Schema.Int, what: Schema.NullOr(Schema.String) })

/** Waits until a statement counts nothing any more; what is left after `seconds` is a violation. */
const until = (fleet: Fleet, record: Record, what: string, seconds: number, statement: string) => {
  const look = Effect.map(query(fleet.database, Left, statement), ([row]) => row ?? { n: 0, what: null })
  return look.pipe(
    Effect.tap(({ n }) => (n === 0 ? Effect.void : Effect.sleep("250 millis"))),
    Effect.repeat({ until: ({ n }) => n === 0 }),
    Effect.timeoutOption(`${seconds} seconds`),
    Effect.flatMap((end) =>
      end._tag === "Some"
        ? Effect.void
        : Effect.map(look, ({ n, what: rest }) => record.wrong(`after ${seconds} s there are ${n} ${what}: ${rest}`))
    )
  )
}

/** Lets the schedulers decide all that is due, stops the schedules, and waits until all work is over. */
export const quiet = (fleet: Fleet, client: Client, stock: Stock, record: Record, seconds: number) =>
  Effect.gen(function* () {
    const all = (change: string) =>
      Effect.forEach(stock.recurring, ({ id }) => client.insist("POST", `/tasks/${id}/${change}`), {
        concurrency: 4,
        discard: true
      })
    yield* all("resume")
    yield* until(
      fleet,
      record,
      "tasks behind their time",
      seconds,
      `SELECT count(*)::integer AS n, string_agg(id::text, ', ') AS what FROM task
       WHERE status = 'active' AND quarantined_at IS NULL AND next_due_at < clock_timestamp() - interval '3 seconds'`
    )
    yield* all("pause")
    yield* until(
      fleet,
      record,
      "single occurrences to come, unfinished runs and entries without a number",
      seconds,
      `SELECT (count(*))::integer AS n, left(string_agg(what, ', '), 500) AS what FROM (
         SELECT id || ' is ' || state || ', leased ' || lease_no || ' times, ' || crashes || ' crashes' AS what FROM due_work
         UNION ALL SELECT 'entry ' || id FROM outbox WHERE first_number IS NULL
         UNION ALL SELECT 'task ' || id FROM task WHERE status = 'active' AND next_due_at < clock_timestamp() + interval '1 hour') AS open`
    )
  })
