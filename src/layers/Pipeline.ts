import { Clock, Context, Duration, Effect, Layer, Queue } from "effect"
import type { Scope } from "effect"
import type { CheckedStep, Part } from "../domain/CheckedPipeline.ts"
import type { DueWork } from "../domain/DueWork.ts"
import type { StepRecord } from "../domain/Settlement.ts"
import type { StepFailed } from "../domain/StepFailed.ts"
import { PipelineState } from "./PipelineState.ts"
import type { Plan, RunInput } from "./Plans.ts"
import type { RunIo } from "./RunIo.ts"
import type { Running } from "./StepCall.ts"
import { earliest, runStep } from "./StepRun.ts"
import type { StepEnd } from "./StepRun.ts"
import type { Tool } from "./Tool.ts"
import { Tools } from "./Tools.ts"

/** Steps of one run at the same time: each may hold a connection. */
const mostAtOnce = 50

/** How a part of a pipeline stands: `until` is epoch milliseconds, or null for as long as it takes. */
export type PartEnd =
  | { readonly at: "done" }
  | { readonly at: "failed"; readonly step: CheckedStep; readonly error: StepFailed }
  | { readonly at: "waiting"; readonly until: number | null }

/** A pipeline under one lease. */
export interface PipelineRun {
  /** Runs the steps from the first that is not finished. Every step that ends is noted before another starts. */
  readonly main: Effect.Effect<PartEnd>
  /** Notes that nothing of `main` is waited for any more. */
  readonly close: Effect.Effect<void>
  /** Likewise the steps of `on_failure`. */
  readonly failure: Effect.Effect<PartEnd>
}

/** Runs pipelines: in order, or as the needs of the steps say. */
export class Pipeline extends Context.Tag("ordinaut/Pipeline")<
  Pipeline,
  {
    /** As `Tools.computing`. */
    readonly computing: (typeof Tools.Service)["computing"]
    /**
     * A run's pipeline, with what earlier leases left of it. Where it only computes, as `Tools.computing` says, it uses the `tools`
     * found for that.
     */
    readonly open: (
      plan: Plan,
      work: DueWork,
      input: RunInput,
      io: RunIo,
      tools?: ReadonlyArray<Tool> | null
    ) => PipelineRun
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.map(Tools, (tools) =>
      Pipeline.of({
        computing: tools.computing,
        open: (plan, work, input, io, found = null) => {
          const find = (step: CheckedStep) => {
            const tool = found?.[step.index]
            return tool === undefined ? tools.find(plan, work, step) : Effect.succeed(tool)
          }
          const running = { plan, work, io, tools, find, state: new PipelineState(plan, work, input) }
          const run = (part: Part) =>
            part.needs === null
              ? inOrder(running, part.steps)
              : Effect.scoped(asNeeded(running, part.steps, part.needs))
          return {
            main:
              found === null
                ? Effect.suspend(() => run(plan.pipeline.main)).pipe(Effect.withSpan("Pipeline.main"))
                : run(plan.pipeline.main),
            close: Effect.suspend(() => cancelWaits(running)),
            failure: Effect.suspend(() => {
              running.state.closeMain()
              return run(plan.pipeline.failure)
            }).pipe(Effect.withSpan("Pipeline.failure"))
          }
        }
      })
    )
  )
}

/** One step after the other; a failure may jump over some. */
const inOrder = (running: Running, steps: ReadonlyArray<CheckedStep>): Effect.Effect<PartEnd> =>
  Effect.gen(function* () {
    const { state } = running
    let index = 0
    for (let step = steps[index]; step !== undefined; step = steps[index]) {
      index++
      if (state.finished.has(step.id)) {
        const target = state.jumps.get(step.id)
        if (target === undefined) continue
        // A run that takes over a failure jumps by it again.
        yield* skip(running, steps.slice(index, target))
        index = target
        continue
      }
      const end = yield* runStep(running, step)
      if (end.at === "waiting") return end
      if (end.at === "done" || step.onError === "continue") continue
      if (step.onError === "fail") return { at: "failed", step, error: end.error } as const
      yield* skip(running, steps.slice(index, step.onError.goto))
      index = step.onError.goto
    }
    return { at: "done" } as const
  })

const skip = ({ io, state }: Running, jumped: ReadonlyArray<CheckedStep>) =>
  Effect.forEach(
    jumped.filter(({ id }) => !state.finished.has(id)),
    (step) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        state.remember(step, null, null)
        return io.note(emptyRecord(step, "skipped", now))
      }),
    { discard: true }
  )

/** Cancels what waits: nobody is asked for it any more. */
const cancelWaits = ({ io, state }: Running): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.forEach(
      state.waiting(),
      ({ call, item, step }) =>
        io.note({
          ...emptyRecord(step, "canceled", now),
          item,
          attempt: call.calls,
          input: call.input,
          error: call.error,
          started_at: call.since ?? now
        }),
      { discard: true }
    )
  )

/**
 * Every step as soon as all that it needs has ended. After a failure those under way finish and nothing new starts. As long as one
 * runs, the others that wait are looked at again whenever something may have come for them.
 */
const asNeeded = (
  running: Running,
  steps: ReadonlyArray<CheckedStep>,
  needs: ReadonlyArray<ReadonlyArray<number>>
): Effect.Effect<PartEnd, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { io, state } = running
    const ends = yield* Queue.unbounded<readonly [number, StepEnd]>()
    // Not what the state says: there a step is finished before its failure is known here.
    const met = new Set([...steps.entries()].flatMap(([place, { id }]) => (state.finished.has(id) ? [place] : [])))
    const started = new Set(met)
    const waiting = new Map<number, number | null>()
    let underWay = 0
    let failed: PartEnd | null = null
    const start = (place: number, step: CheckedStep) => {
      started.add(place)
      underWay++
      return Effect.forkScoped(Effect.flatMap(runStep(running, step), (end) => ends.offer([place, end])))
    }
    for (;;) {
      for (const [place, step] of steps.entries()) {
        if (failed !== null || underWay >= mostAtOnce) break
        const ready = (needs[place] ?? []).every((need) => met.has(need))
        if (ready && !started.has(place)) yield* start(place, step)
      }
      if (underWay === 0) {
        if (failed !== null) return failed
        return waiting.size === 0
          ? ({ at: "done" } as const)
          : ({ at: "waiting", until: earliest([...waiting.values()]) } as const)
      }
      const next = yield* Effect.raceFirst(
        ends.take,
        waiting.size === 0 ? Effect.never : Effect.as(mayHaveCome(io, earliest([...waiting.values()])), null)
      )
      if (next === null) {
        state.hear(yield* io.waits)
        for (const place of waiting.keys()) started.delete(place)
        waiting.clear()
        continue
      }
      const [place, end] = next
      underWay--
      const step = steps[place]
      if (end.at === "waiting") waiting.set(place, end.until)
      else if (end.at === "failed" && step?.onError === "fail") failed ??= { at: "failed", step, error: end.error }
      else met.add(place)
    }
  })

/** Returns at a signal, or when the first wait runs out. */
const mayHaveCome = (io: RunIo, until: number | null): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    until === null
      ? io.signaled
      : Effect.raceFirst(io.signaled, Effect.sleep(Duration.millis(Math.max(0, until - now))))
  )

const emptyRecord = (step: CheckedStep, state: "canceled" | "skipped", now: number): StepRecord => ({
  step_id: step.id,
  position: step.index,
  item: -1,
  uses: step.uses,
  state,
  attempt: 0,
  input: null,
  output: null,
  error: null,
  simulated: false,
  logs: [],
  started_at: now,
  finished_at: now
})
