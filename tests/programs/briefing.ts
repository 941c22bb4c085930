import { assert } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { briefing as pipeline } from "../domain/briefing.ts"
import { eventually, request } from "../support/programs.ts"

/** The task of the README. */
export const briefing = {
  title: "Weekday Morning Briefing",
  description: "Daily agenda, weather, and priority summary",
  schedule_kind: "rrule",
  schedule_expr: "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=8;BYMINUTE=30",
  timezone: "Europe/Chisinau",
  payload: { pipeline }
} as const

const Run = Schema.Struct({
  id: Schema.String,
  state: Schema.String,
  started_at: Schema.NullOr(Schema.String),
  finished_at: Schema.NullOr(Schema.String),
  output: Schema.NullOr(Schema.Struct({ steps: Schema.Record({ key: Schema.String, value: Schema.Unknown }) })),
  steps: Schema.Array(
    Schema.Struct({ id: Schema.String, state: Schema.String, input: Schema.Unknown, output: Schema.Unknown })
  )
})

const Window = Schema.Struct({ start: Schema.DateFromString, end: Schema.DateFromString })

/** Waits until a run of the briefing has succeeded, and looks at what its steps were given. */
export const briefingRun = (to: { readonly url: string; readonly key: string }, id: string) =>
  Effect.gen(function* () {
    const run = yield* eventually(
      "succeeded run of the briefing",
      15,
      Effect.map(request(to, "GET", `/runs/${id}`, Run), ({ body }) => (body.state === "succeeded" ? body : undefined))
    )
    const [calendar, weather, summarize, notify] = run.steps
    assert.deepStrictEqual(
      run.steps.map((step) => [step.id, step.state]),
      pipeline.map((step) => [step.id, "succeeded"])
    )
    const { end, start } = yield* Effect.orDie(Schema.decodeUnknown(Window)(calendar?.input))
    assert.strictEqual(end.getTime() - start.getTime(), 86_400_000)
    assert.strictEqual(start.toISOString(), run.started_at)
    assert.deepStrictEqual(weather?.input, { city: "Chisinau" })
    assert.deepStrictEqual(summarize?.input, {
      instruction: "Create morning briefing",
      calendar: calendar?.output,
      weather: weather?.output
    })
    assert.deepStrictEqual(notify?.input, { chat_id: 12345, text: "<simulated steps.summary.text>" })
    return run
  })
