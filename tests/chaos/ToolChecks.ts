import { Effect, Either, Schema } from "effect"
import { query } from "../support/programs.ts"
import type { ToolRequest } from "../support/toolServer.ts"
import type { Fleet } from "./Fleet.ts"
import type { Ledger } from "./Ledger.ts"
import type { Record } from "./Record.ts"
import type { ToolBench } from "./ToolBench.ts"

/** A worker that was frozen may send what it had in hand before it sees that its leases are over. */
const thawMillis = 2000

const Step = Schema.Struct({
  run_id: Schema.String,
  step_id: Schema.String,
  item: Schema.Int,
  uses: Schema.String,
  state: Schema.String,
  run_state: Schema.String,
  output: Schema.Unknown
})
type Step = typeof Step.Type

/** Steps of runs that are over, as they are recorded. */
const recorded = `
  SELECT s.run_id, s.step_id, s.item, s.uses, s.state, r.state AS run_state, s.output FROM run_step s JOIN task_run r ON r.id = s.run_id
  WHERE split_part(s.uses, '.', 1) IN ('probe', 'odd') OR s.uses IN ('core.http', 'core.approval')`

const Ended = Schema.Struct({
  id: Schema.String,
  title: Schema.String,
  state: Schema.String,
  crashes: Schema.Int,
  code: Schema.NullOr(Schema.String),
  message: Schema.NullOr(Schema.String)
})
const ends = `
  SELECT r.id, v.definition ->> 'title' AS title, r.state, r.crashes, r.error ->> 'code' AS code, r.error ->> 'message' AS message
  FROM task_run r JOIN task_revision v ON v.task_id = r.task_id AND v.version = 1`

const Plain = Schema.Struct({ answer: Schema.Int })
const numberIn = Schema.decodeUnknownEither(
  Schema.Union(Plain, Schema.Struct({ status: Schema.Literal(200), body: Plain }))
)
/** The number of the answer that an output is. */
const answerOf = (output: unknown): number | undefined => {
  const found = numberIn(output)
  if (Either.isLeft(found)) return undefined
  return "body" in found.right ? found.right.body.answer : found.right.answer
}

const readSeen = Schema.decodeUnknownEither(
  Schema.Struct({ seen: Schema.Record({ key: Schema.String, value: Schema.Int }) })
)
const seenIn = (input: unknown) => {
  const found = readSeen(input)
  return Either.isRight(found) ? Object.entries(found.right.seen) : []
}

const nameOf = (run: string, step: string, item: number) => `${run}:${step}${item < 0 ? "" : `:${item}`}`

const told = (calls: ReadonlyArray<ToolRequest>) =>
  calls
    .map(
      ({ at, attempt, lease, output }) =>
        `attempt ${attempt} lease ${lease} at ${at.toFixed(0)} ${JSON.stringify(output)}`
    )
    .join("; ")

const byKey = (calls: ReadonlyArray<ToolRequest>, key: (call: ToolRequest) => string) => {
  const found = new Map<string, Array<ToolRequest>>()
  for (const call of calls) {
    const name = key(call)
    const group = found.get(name)
    if (group === undefined) found.set(name, [call])
    else group.push(call)
  }
  return found
}

/** A recorded success has its call, made under the last lease that called at all: what was stored is not called again. */
const recordsHaveTheirCalls = (
  steps: ReadonlyArray<Step>,
  calls: ReadonlyMap<string, ReadonlyArray<ToolRequest>>,
  record: Record
) => {
  for (const { item, output, run_id, state, step_id, uses } of steps) {
    const name = nameOf(run_id, step_id, item)
    const mine = calls.get(name) ?? []
    if (state !== "succeeded" || uses === "core.approval" || (item < 0 && mine.length === 0 && Array.isArray(output)))
      continue
    const answer = answerOf(output)
    const one = mine.find((call) => answer !== undefined && answerOf(call.output) === answer)
    if (one === undefined)
      record.wrong(`step ${name} has ${JSON.stringify(output)}, which no call of it was answered: ${told(mine)}`)
    else if (mine.some(({ lease }) => lease > one.lease))
      record.wrong(`step ${name} was called again after its result was stored: ${told(mine)}`)
  }
}

/** What a call goes by is what is recorded: it was stored before the call was made. */
const callsGoByTheRecord = (calls: ReadonlyArray<ToolRequest>, steps: ReadonlyArray<Step>, record: Record) => {
  const answers = new Map(
    steps.flatMap(({ item, output, run_id, state, step_id }) =>
      item < 0 && state === "succeeded" ? [[`${run_id}:${step_id}`, answerOf(output)] as const] : []
    )
  )
  for (const { input, key, run } of calls) {
    for (const [step, answer] of seenIn(input)) {
      const stored = answers.get(`${run}:${step}`)
      if (stored !== answer) record.wrong(`call ${key} goes by answer ${answer} of ${step}; ${stored} is recorded`)
    }
  }
}

/** Once a later lease has called, an earlier one calls no more, save what a frozen process had in hand. */
const leasesFollow = (calls: ReadonlyArray<ToolRequest>, record: Record) => {
  for (const [run, mine] of byKey(calls, (call) => call.run)) {
    let latest = 0
    for (const { at, key, lease } of mine) {
      const thawed = record.thawed.some((thaw) => at >= thaw && at <= thaw + thawMillis)
      if (lease < latest && !thawed)
        record.wrong(`run ${run} calls ${key} under lease ${lease} after ${latest}, ${told(mine)}`)
      latest = Math.max(latest, lease)
    }
  }
}

/** Looks whether the calls that the tools saw and the runs that are recorded tell the same. Answers how many calls there were. */
export const toolsAgree = (fleet: Fleet, bench: ToolBench, ledger: Ledger, record: Record) =>
  Effect.gen(function* () {
    const { calls } = bench
    const steps = yield* query(fleet.database, Step, recorded)
    const named = byKey(calls, ({ key }) => key)
    for (const [key, mine] of named) {
      const places = new Set(mine.map(({ index, run, step }) => nameOf(run, step, index)))
      if (places.size > 1 || !places.has(key)) record.wrong(`the key ${key} came from ${[...places].join(", ")}`)
    }
    recordsHaveTheirCalls(steps, named, record)
    callsGoByTheRecord(calls, steps, record)
    leasesFollow(calls, record)

    const decisions = new Map(steps.map((step) => [`${step.run_id}:${step.step_id}`, step]))
    const Data = Schema.is(Schema.Struct({ data: Schema.Unknown }))
    for (const [name, data] of ledger.decided) {
      const step = decisions.get(name)
      const output = step?.output
      if (
        step?.state === "succeeded"
          ? !Data(output) || output.data !== data
          : step?.run_state === "succeeded" || step === undefined
      )
        record.wrong(`step ${name} was decided with ${data} and is ${step?.state} with ${JSON.stringify(output)}`)
    }

    const allowed = new Set(["poison", "internal", "canceled"])
    for (const { code, crashes, id, message, state, title } of yield* query(fleet.database, Ended, ends)) {
      const calling = title === "branches" || title === "child" || title.startsWith("calls ") || title === "surge"
      if (calling && state === "failed" && !allowed.has(code ?? ""))
        record.wrong(`run ${id} of ${title} failed: ${code} ${message}`)
      if (code === "poison" && crashes !== 3) record.wrong(`run ${id} of ${title} is poison after ${crashes} crashes`)
      if (title === "deadly" && code !== "poison")
        record.wrong(`run ${id} took its workers along and ended as ${state} ${code} after ${crashes} crashes`)
    }
    return calls.length
  })
