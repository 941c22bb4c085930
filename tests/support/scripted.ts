import { Deferred, Effect, Layer, Schema } from "effect"
import { isObject } from "../../src/domain/Json.ts"
import { ErrorCode, StepFailed } from "../../src/domain/StepFailed.ts"
import type { ToolCall } from "../../src/domain/ToolCall.ts"
import { Pipeline } from "../../src/layers/Pipeline.ts"
import { plainTool } from "../../src/layers/Tool.ts"
import { Tools } from "../../src/layers/Tools.ts"
import type { Call, World } from "../domain/PipelineModel.ts"

/** A call that waits for its answer; `first` where it is the first of its step in an attempt of the run. */
interface Open {
  readonly due: number
  readonly first: boolean
  readonly done: Deferred.Deferred<void>
}

/** A run whose tools follow a script, on a clock of its own. */
interface Scripted {
  readonly world: World
  /** Of the tools: whether a repeated call does no harm. */
  readonly idempotent: boolean
  readonly calls: Array<Call>
  /** Calls whose answer nobody heard: the lease of their run was lost. */
  readonly cut: Array<Call>
  readonly counts: Map<string, number>
  readonly open: Set<Open>
  clock: number
  /** Requests to store that are not answered. */
  saving: number
}

const codeOf = Schema.decodeUnknownSync(ErrorCode)

/** Time for what can go on to go on: more than one pass over timers, in which fibers that gave way are resumed. */
const pass = Effect.promise(async () => {
  for (let n = 0; n < 2; n++) await new Promise((resume) => setTimeout(resume, 0))
})

/** A pipeline whose steps all use one tool, of kind `http`, which answers each run as its world says. */
export const scripted = () => {
  const runs = new Map<string, Scripted>()

  const call = ({ idempotencyKey, input, item, step, work }: ToolCall) =>
    Effect.gen(function* () {
      const run = runs.get(work.id)
      if (run === undefined) return yield* Effect.dieMessage(`nobody wrote a script for run ${work.id}`)
      const place = `${step.id}:${item}`
      const n = (run.counts.get(place) ?? 0) + 1
      run.counts.set(place, n)
      const tried = `${place}:${work.attempt}`
      const first = !run.counts.has(tried)
      run.counts.set(tried, 1)
      const made = { step: step.id, index: item, key: idempotencyKey, input: isObject(input) ? input : {} }
      run.calls.push(made)
      const answer = run.world(step.id, item, n)
      const one: Open = { due: run.clock + answer.takes, first, done: yield* Deferred.make<void>() }
      run.open.add(one)
      yield* Deferred.await(one.done).pipe(
        // To the script it never happened.
        Effect.onInterrupt(() =>
          Effect.sync(() => {
            run.open.delete(one)
            run.counts.set(place, n - 1)
            run.counts.delete(tried)
            run.calls.splice(run.calls.indexOf(made), 1)
            run.cut.push(made)
          })
        )
      )
      if ("ok" in answer) return { output: answer.ok, simulated: false, log: undefined }
      return yield* new StepFailed({ code: codeOf(answer.code), message: "as written", retryable: answer.retryable })
    })

  const tools = Layer.succeed(
    Tools,
    Tools.of({
      begun: () => Effect.void,
      computing: () => Effect.succeed(null),
      admit: () => Effect.dieMessage("none of them is metered"),
      find: (_plan, work) =>
        Effect.succeed(plainTool("http", { outside: true, idempotent: runs.get(work.id)?.idempotent === true, call }))
    })
  )

  const pipeline = Layer.effect(
    Pipeline,
    Effect.map(Pipeline, (real) =>
      Pipeline.of({
        computing: real.computing,
        open: (plan, work, input, io) => {
          const run = runs.get(work.id)
          const counted = <A>(effect: Effect.Effect<A>) =>
            Effect.acquireUseRelease(
              Effect.sync(() => run !== undefined && run.saving++),
              () => effect,
              () => Effect.sync(() => run !== undefined && run.saving--)
            )
          return real.open(plan, work, input, {
            ...io,
            save: (waits, failed) => counted(io.save(waits, failed)),
            waits: counted(io.waits)
          })
        }
      })
    )
  ).pipe(Layer.provide(Pipeline.layer), Layer.provide(tools))

  /**
   * Lets each run that can do nothing but wait come to its next answer, and gives it all that are due then; one of those that
   * `breaks` chooses gets no answer. Answers how many did, and the ids of the chosen.
   */
  const advance = (breaks: () => boolean) =>
    Effect.gen(function* () {
      yield* pass
      const broken: Array<string> = []
      const due: Array<Open> = []
      for (const [id, run] of runs) {
        if (run.saving > 0 || run.open.size === 0) continue
        // How often a step was called in an attempt is not kept over leases.
        if ([...run.open].every(({ first }) => first) && breaks()) {
          broken.push(id)
          continue
        }
        run.clock = Math.min(...[...run.open].map((one) => one.due))
        for (const one of run.open) {
          if (one.due !== run.clock) continue
          run.open.delete(one)
          due.push(one)
        }
      }
      for (const { done } of due) yield* Deferred.succeed(done, undefined)
      return { answered: due.length, broken }
    })

  return {
    pipeline,
    advance,
    /** Writes the script of a run. Its calls are in the answer as they come. */
    write: (id: string, world: World, idempotent: boolean): Pick<Scripted, "calls" | "cut"> => {
      const run = {
        world,
        idempotent,
        calls: [],
        cut: [],
        counts: new Map(),
        open: new Set<Open>(),
        clock: 0,
        saving: 0
      }
      runs.set(id, run)
      return run
    },
    forget: () => runs.clear()
  }
}
