import { Clock, DateTime, Effect, Either, LogLevel } from "effect"
import type { CheckedStep, ForEach } from "../domain/CheckedPipeline.ts"
import { holds } from "../domain/Expression.ts"
import { isArray } from "../domain/Json.ts"
import type { JsonValue } from "../domain/Json.ts"
import type { StepRecord } from "../domain/Settlement.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import { render } from "../domain/Template.ts"
import type { ToolResult } from "../domain/ToolCall.ts"
import * as Metrics from "./Metrics.ts"
import { runError } from "./PipelineState.ts"
import { callStep } from "./StepCall.ts"
import type { CallHooks, Running } from "./StepCall.ts"
import type { Tool } from "./Tool.ts"

/** How a step stands: skipped or done, failed, or waiting until an instant (epoch milliseconds), or for ever. */
export type StepEnd =
  | { readonly at: "done" }
  | { readonly at: "failed"; readonly error: StepFailed }
  | { readonly at: "waiting"; readonly until: number | null }

/** Elements that a `for_each` runs over at most. */
const mostElements = 10_000

/** Elements whose ends are noted before they are stored, where a call that is made again does no harm. */
const savedTogether = 100

/** What became of a call or a step, to be noted. */
type Note = Pick<StepRecord, "state" | "input" | "output" | "error" | "attempt"> &
  Partial<Pick<StepRecord, "simulated" | "logs">>

/** Runs one step, or goes on with one that waits: its condition, its elements, its calls. Every end is noted. */
export const runStep = (running: Running, step: CheckedStep): Effect.Effect<StepEnd> =>
  Effect.gen(function* () {
    const { find, io, plan, state, work } = running
    const { bindings } = state

    /** When a call begins, or began, where it has waited since. */
    const beginningOf = (item: number) =>
      Effect.map(Clock.currentTimeMillis, (now) =>
        state.waitOf(step, item) === undefined ? now : (state.openCall(step, item).since ?? now)
      )
    const started_at = yield* beginningOf(-1)

    const note = (item: number, { logs = [], simulated = false, ...rest }: Note, startedAt = started_at) =>
      Effect.flatMap(Clock.currentTimeMillis, (finished_at) =>
        io.note({
          step_id: step.id,
          position: step.index,
          item,
          uses: step.uses,
          started_at: startedAt,
          finished_at,
          simulated,
          logs,
          ...rest
        })
      )

    /** The end of the whole step. */
    const ended = Effect.fnUntraced(function* (kind: Tool["kind"], end: Note) {
      const labels = { tool_kind: kind, outcome: end.state }
      const began = state.firstElementAt(step) ?? started_at
      Metrics.steps.add(1, labels)
      Metrics.stepDuration.add(((yield* Clock.currentTimeMillis) - began) / 1000, labels)
      state.remember(step, end.output, end.error)
      yield* note(-1, end, began)
    })

    const failed = (kind: Tool["kind"], error: StepFailed, input: JsonValue, calls: number) =>
      Effect.as(
        ended(kind, { state: "failed", input, output: null, error: runError(step.id, error), attempt: calls }),
        { at: "failed", error } as const
      )

    // What waits has passed its condition.
    if (step.condition !== undefined && state.waitOf(step, -1) === undefined && state.elementsOf(step).size === 0) {
      const held = holds(step.condition, bindings)
      if (Either.isLeft(held)) return yield* failed("core", StepFailed.ofExpression(held.left), null, 0)
      if (!held.right) {
        yield* ended("core", { state: "skipped", input: null, output: null, error: null, attempt: 0 })
        return { at: "done" } as const
      }
    }
    const found = yield* Effect.either(find(step))
    if (Either.isLeft(found)) return yield* failed("core", found.left, null, 0)
    const tool = found.right

    const hooksOf = (item: number, beginning: number): CallHooks => ({
      leaves: (input, calls) =>
        item >= 0 && tool.idempotent
          ? Effect.void
          : Effect.zipRight(
              note(item, { state: "running", input, output: null, error: null, attempt: calls }, beginning),
              io.save([])
            ),
      waits: (input, calls, last) =>
        Effect.suspend(() => {
          const error = last === null ? null : runError(step.id, last)
          state.rememberCall(step, item, { calls, input, error, since: beginning })
          return note(item, { state: "waiting", input, output: null, error, attempt: calls }, beginning)
        }),
      cut: (input, calls) =>
        note(item, { state: "canceled", input, output: null, error: null, attempt: calls }, beginning)
    })

    const logged = Effect.fnUntraced(function* ({ log }: ToolResult) {
      if (log === undefined) return []
      yield* Effect.logWithLevel(logLevels[log.level], log.message).pipe(
        Effect.annotateLogs({ run_id: work.id, task_id: work.task_id, step_id: step.id, data: log.data })
      )
      return [{ ...log, at: DateTime.formatIso(yield* DateTime.now) }]
    })

    const once = Effect.gen(function* () {
      const call = yield* callStep(running, step, -1, bindings, tool, hooksOf(-1, started_at))
      if (call.at === "waiting") return call
      const { calls, input } = call
      const result = Either.flatMap(call.result, (given) => state.weigh(input, given))
      if (Either.isLeft(result)) return yield* failed(tool.kind, result.left, input, calls)
      const { output, simulated } = result.right
      const logs = yield* logged(result.right)
      yield* ended(tool.kind, { state: "succeeded", input, output, error: null, attempt: calls, simulated, logs })
      return { at: "done" } as const
    })

    const each = Effect.fnUntraced(function* ({ items, maxParallel, onItemError }: ForEach) {
      const rendered = Either.mapLeft(render(items, bindings, plan.pipeline), StepFailed.ofExpression)
      const list = Either.flatMap(rendered, elements)
      if (Either.isLeft(list)) return yield* failed(tool.kind, list.left, null, 0)
      const outputs: Array<JsonValue> = list.right.map(() => null)
      const errors: Array<JsonValue> = list.right.map(() => null)
      const known = state.elementsOf(step)
      for (const [index, { error, output }] of known) {
        outputs[index] = output
        errors[index] = error
      }
      let next = 0
      let calls = 0
      let simulated = [...known.values()].some((one) => one.simulated)
      const failure: { first: StepFailed | null } = { first: null }
      let noted = 0
      const until: Array<number | null> = []

      const one = Effect.fnUntraced(function* (index: number) {
        const beginning = yield* beginningOf(index)
        const within = { ...bindings, item: list.right[index] ?? null, index }
        const call = yield* callStep(running, step, index, within, tool, hooksOf(index, beginning))
        if (call.at === "waiting") {
          until.push(call.until)
          return false
        }
        const { input } = call
        calls += call.calls
        const result = Either.flatMap(call.result, (given) => state.weigh(input, given))
        if (Either.isLeft(result)) {
          const error = runError(step.id, result.left)
          errors[index] = error
          if (onItemError === "fail") {
            failure.first ??= new StepFailed({ ...result.left, message: `element ${index}: ${result.left.message}` })
          }
          state.rememberCall(step, index, { calls: call.calls, input, error, since: null })
          yield* note(index, { state: "failed", input, output: null, error, attempt: call.calls }, beginning)
          if (onItemError === "continue")
            state.rememberElement(step, index, { output: null, error, simulated: false, started_at: beginning })
        } else {
          const { output, simulated: isSimulated } = result.right
          outputs[index] = output
          simulated ||= isSimulated
          state.rememberElement(step, index, { output, error: null, simulated: isSimulated, started_at: beginning })
          const logs = yield* logged(result.right)
          yield* note(
            index,
            {
              state: "succeeded",
              input,
              output,
              error: null,
              attempt: call.calls,
              simulated: isSimulated,
              logs
            },
            beginning
          )
        }
        noted++
        if (noted % savedTogether === 0 || (tool.outside && !tool.idempotent)) yield* io.save([])
        return true
      })
      /** One of those at work: it takes the next element as long as there is one, and ends where its own waits, which keeps its place. */
      const hand: Effect.Effect<void> = Effect.gen(function* () {
        for (let going = true; going && failure.first === null;) {
          while (known.has(next)) next++
          if (next >= outputs.length) return
          going = yield* one(next++)
        }
      })
      // What came before is stored before a call leaves; such calls are not stored one by one.
      if (tool.outside && tool.idempotent && known.size < outputs.length) yield* io.save([])
      yield* Effect.all(
        Array.from({ length: Math.min(maxParallel, outputs.length) }, () => hand),
        { concurrency: maxParallel, discard: true }
      )
      if (failure.first !== null) return yield* failed(tool.kind, failure.first, null, calls)
      if (until.length > 0) return { at: "waiting", until: earliest(until) } as const
      const gathered = state.gathered(outputs)
      if (Either.isLeft(gathered)) return yield* failed(tool.kind, gathered.left, null, calls)
      yield* ended(tool.kind, {
        state: "succeeded",
        input: null,
        output: gathered.right,
        error: null,
        attempt: calls,
        simulated
      })
      if (errors.some((error) => error !== null)) state.remember(step, gathered.right, errors)
      return { at: "done" } as const
    })

    return yield* step.forEach === undefined ? once : each(step.forEach)
  })

const logLevels = { debug: LogLevel.Debug, info: LogLevel.Info, warn: LogLevel.Warning, error: LogLevel.Error }

const elements = (value: JsonValue): Either.Either<ReadonlyArray<JsonValue>, StepFailed> => {
  if (!isArray(value)) return Either.left(StepFailed.of("template_error", "for_each must give an array"))
  return value.length > mostElements
    ? Either.left(StepFailed.of("template_error", `for_each runs over at most ${mostElements} elements`))
    : Either.right(value)
}

/** The first of some instants; null, which is never, comes last. */
export const earliest = (instants: ReadonlyArray<number | null>): number | null =>
  instants.reduce((first, at) => (first === null ? at : at === null ? first : Math.min(first, at)), null)
