import { Clock, Duration, Effect, Either, Exit, Option, Random } from "effect"
import type { CheckedStep } from "../domain/CheckedPipeline.ts"
import type { DueWork } from "../domain/DueWork.ts"
import type { Bindings } from "../domain/Expression.ts"
import type { JsonValue } from "../domain/Json.ts"
import { delay } from "../domain/Retry.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import { render, renderText } from "../domain/Template.ts"
import type { ToolCall, ToolResult } from "../domain/ToolCall.ts"
import { bytesOf, dayOf } from "../domain/Usage.ts"
import type { NewWait, Wait } from "../domain/Wait.ts"
import { callOf, endOfWait, isPause } from "../domain/WaitEnd.ts"
import * as Ids from "./Ids.ts"
import * as Metrics from "./Metrics.ts"
import type { PipelineState } from "./PipelineState.ts"
import type { Plan } from "./Plans.ts"
import type { RunIo } from "./RunIo.ts"
import type { Begun, Tool } from "./Tool.ts"
import type { Tools } from "./Tools.ts"

/** A pause between two calls that is longer than this frees the worker, milliseconds. */
const longestPause = 5000

/** A run under way, as its steps see it. */
export interface Running {
  readonly plan: Plan
  readonly work: DueWork
  readonly state: PipelineState
  readonly io: RunIo
  readonly tools: typeof Tools.Service
  /** As `Tools.find`. */
  readonly find: (step: CheckedStep) => Effect.Effect<Tool, StepFailed>
}

/** How a call stands: it goes on waiting, until an instant (epoch milliseconds) or for ever, or it has ended. */
export type CallEnd =
  | { readonly at: "waiting"; readonly until: number | null }
  | {
      readonly at: "ended"
      readonly result: Either.Either<ToolResult, StepFailed>
      readonly input: JsonValue
      /** In all attempts. */
      readonly calls: number
    }

/** What is to be done at the turns of a call; `calls` are those of all attempts. */
export interface CallHooks {
  readonly leaves: (input: JsonValue, calls: number) => Effect.Effect<void>
  readonly waits: (input: JsonValue, calls: number, last: StepFailed | null) => Effect.Effect<void>
  readonly cut: (input: JsonValue, calls: number) => Effect.Effect<void>
}

/**
 * Makes a call of a step, or goes on with one that waits: renders its input, retries it as the step says, and waits where the tool
 * waits for others. A long pause between two calls is a wait, too.
 */
export const callStep = (
  running: Running,
  step: CheckedStep,
  item: number,
  bindings: Bindings,
  tool: Tool,
  hooks: CallHooks
): Effect.Effect<CallEnd> =>
  Effect.suspend(() => {
    const under: Under = { input: null, calls: 0 }
    return calling(running, step, item, bindings, tool, hooks, under).pipe(
      Effect.onInterrupt(() => hooks.cut(under.input, under.calls))
    )
  })

/** Where a call is: its input once it is rendered, and how often it was made in this attempt. */
interface Under {
  input: JsonValue
  calls: number
}

const calling = (
  running: Running,
  step: CheckedStep,
  item: number,
  bindings: Bindings,
  tool: Tool,
  hooks: CallHooks,
  under: Under
): Effect.Effect<CallEnd> =>
  Effect.gen(function* () {
    const { io, plan, state, tools, work } = running
    const open = state.openCall(step, item)
    const kept = state.waitOf(step, item)
    const prepared = yield* Effect.either(
      Effect.gen(function* () {
        const idempotencyKey = yield* keyOf(running, step, item, bindings)
        // What waits was rendered when it began: the run may be at another attempt by now.
        if (kept !== undefined) return { idempotencyKey, input: open.input }
        const input = yield* Either.mapLeft(render(step.input, bindings, plan.pipeline), StepFailed.ofExpression)
        yield* tool.checkInput(input)
        return { idempotencyKey, input }
      })
    )
    if (Either.isLeft(prepared)) {
      return { at: "ended", result: Either.left(prepared.left), input: null, calls: open.calls } as const
    }
    const { idempotencyKey, input } = prepared.right
    const call: ToolCall = { pipeline: plan.pipeline, step, work, item, input, bindings, idempotencyKey }
    under.input = input
    under.calls = open.calls
    let calls = kept === undefined ? 0 : callOf(kept)
    let wait = kept
    if (wait !== undefined && isPause(wait)) {
      if ((wait.expires_at ?? 0) > (yield* Clock.currentTimeMillis))
        return { at: "waiting", until: wait.expires_at } as const
      wait = undefined
    }

    const begin = Effect.fnUntraced(function* ({ detail, ...begun }: Begun, last: StepFailed | null) {
      const fresh: NewWait = {
        ...begun,
        id: yield* Ids.next,
        step_id: step.id,
        item,
        detail: { ...detail, attempt: work.attempt, call: calls }
      }
      yield* hooks.waits(input, open.calls, last)
      yield* io.save([fresh])
      yield* tools.begun(work, fresh)
      return { ...fresh, result: null } satisfies Wait
    })

    /** The result of one call; none while it is waited for. */
    const once = Effect.gen(function* () {
      if (!tool.waits(input)) {
        calls++
        under.calls = open.calls + calls
        if (tool.metered) yield* admit(running, call)
        if (tool.outside) yield* hooks.leaves(input, open.calls + calls)
        const made = inTime(tool.call(call), step, tool)
        return Option.some(yield* tool.metered ? measured(running, call, made) : made)
      }
      if (wait === undefined) {
        calls++
        if (tool.outside) yield* hooks.leaves(input, open.calls + calls)
        const begun = yield* tool.begin(call)
        if (tool.metered) yield* admit(running, call)
        wait = yield* begin(begun, null)
      }
      const end = endOfWait(wait, yield* Clock.currentTimeMillis)
      return end === null ? Option.none() : Option.some({ output: yield* end, simulated: false, log: undefined })
    }).pipe(
      Effect.tap(Option.match({ onNone: () => Effect.void, onSome: ({ output }) => tool.checkOutput(output) })),
      failingSafely
    )

    for (;;) {
      const result = yield* Effect.either(once)
      if (Either.isRight(result) && Option.isNone(result.right)) {
        return { at: "waiting", until: wait?.expires_at ?? null } as const
      }
      const given = Either.map(result, (some) => Option.getOrThrow(some))
      yield* Effect.sync(() => Metrics.toolCalls.add(1, { tool_kind: tool.kind, outcome: outcomeOf(given) }))
      const pause = Either.isLeft(given) ? pauseAfter(step, given.left, calls, yield* Random.next) : null
      if (Either.isRight(given) || pause === null) {
        return { at: "ended", result: given, input, calls: open.calls + calls } as const
      }
      wait = undefined
      if (pause > longestPause) {
        const until = (yield* Clock.currentTimeMillis) + pause
        yield* begin({ kind: "wait", tool: null, detail: { pause: true }, expires_at: until }, given.left)
        return { at: "waiting", until } as const
      }
      yield* Effect.sleep(pause)
    }
  })

const keyOf = ({ plan, work }: Running, step: CheckedStep, item: number, bindings: Bindings) =>
  step.idempotencyKey === undefined
    ? Either.right(item < 0 ? `${work.id}:${step.id}` : `${work.id}:${step.id}:${item}`)
    : Either.mapLeft(renderText(step.idempotencyKey, bindings, plan.pipeline), StepFailed.ofExpression)

/** The call is within the budgets of the run's agent, and counted before it is made. */
const admit = ({ io, tools, work }: Running, { input, step }: ToolCall) =>
  Effect.flatMap(tools.admit(work.agent_id, step.uses, bytesOf(input)), (usage) => io.use(usage))

/** Counts the time of a call, however it ends, and the bytes of its output. */
const measured = (
  { io, work }: Running,
  { step }: ToolCall,
  made: Effect.Effect<ToolResult, StepFailed>
): Effect.Effect<ToolResult, StepFailed> =>
  Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    return yield* Effect.onExit(made, (exit) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        io.use({
          agent_id: work.agent_id,
          day: dayOf(began),
          tool: step.uses,
          calls: 0,
          seconds: (now - began) / 1000,
          bytes: Exit.isSuccess(exit) ? bytesOf(exit.value.output) : 0
        })
      )
    )
  })

const inTime = (call: Effect.Effect<ToolResult, StepFailed>, step: CheckedStep, tool: Tool) => {
  if (tool.computes) return call
  const seconds = step.timeoutSeconds ?? tool.timeoutSeconds
  return Effect.timeoutFail(call, {
    duration: Duration.seconds(seconds),
    onTimeout: () => StepFailed.of("timeout", `${step.uses} gave no answer within ${seconds} s`)
  })
}

/** A bug in a tool fails its step; it does not take the worker down. */
const failingSafely = <A>(call: Effect.Effect<A, StepFailed>): Effect.Effect<A, StepFailed> =>
  Effect.catchAllDefect(call, (defect) =>
    Effect.logError("A tool threw.", defect).pipe(
      Effect.zipRight(StepFailed.of("internal", "the tool ended unexpectedly; the log has the details"))
    )
  )

const outcomeOf = (result: Either.Either<ToolResult, StepFailed>): string =>
  Either.isRight(result) ? "succeeded" : result.left.code

/**
 * Milliseconds until a failed call is made again: by the step's backoff, but not before the tool asked for. Null where the step's own
 * retries do not: only failures that it names, or that are retryable, and only so often in an attempt of the run.
 */
const pauseAfter = ({ retry }: CheckedStep, error: StepFailed, calls: number, unit: number): number | null => {
  if (retry === undefined || calls >= retry.policy.max_attempts) return null
  if (!(retry.on === undefined ? error.retryable : retry.on.has(error.code))) return null
  return Math.max(delay(retry.policy, calls, unit), (error.retry_after_seconds ?? 0) * 1000)
}
