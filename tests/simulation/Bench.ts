import { Effect, Exit, FiberRef, Layer } from "effect"
import { StepFailed } from "../../src/domain/StepFailed.ts"
import { Pipeline } from "../../src/layers/Pipeline.ts"
import { Tools } from "../../src/layers/Tools.ts"
import type { Chance } from "./Chance.ts"
import type { Machine } from "./Machine.ts"
import type { Witness } from "./Witness.ts"

/** The run and the lease that a fiber works for. */
const holding = FiberRef.unsafeMake({ run: "", lease: 0 })

/** The product's pipeline; its calls know the number of their lease. */
export const pipeline: Layer.Layer<Pipeline, never, Tools> = Layer.effect(
  Pipeline,
  Effect.map(Pipeline, (real) =>
    Pipeline.of({
      run: (plan, work, input, record) =>
        real.run(plan, work, input, record).pipe(Effect.locally(holding, { run: work.id, lease: work.lease_no }))
    })
  )
).pipe(Layer.provide(Pipeline.layer))

/** `Effect.never` would hold a timer of the host, and with it the whole world for good. */
const never = Effect.async<never>(() => undefined)

/** What tools do, by their names: `sim.<name>`. */
const behaviours: Record<string, (chance: Chance, die: Effect.Effect<never>) => Effect.Effect<void, StepFailed>> = {
  prompt: () => Effect.void,
  slow: (chance) => Effect.sleep(chance.int(50, 2500)),
  long: (chance) => Effect.sleep(chance.int(3000, chance.maybe(0.3) ? 22_000 : 8000)),
  flaky: (chance) =>
    chance.maybe(0.5) ? Effect.sleep(chance.int(0, 300)) : StepFailed.of("tool_connection", "not this time"),
  fails: () => StepFailed.of("tool_http_4xx", "never"),
  hangs: (chance) => (chance.maybe(0.6) ? never : Effect.void),
  throws: (chance) => (chance.maybe(0.5) ? Effect.die("a bug in the tool") : Effect.void),
  kills: (chance, die) => (chance.maybe(0.5) ? die : Effect.sleep(chance.int(0, 500)))
}

/** Tools that do as their names say, and tell the witness of every call. */
export const tools = (
  witness: Witness,
  chance: Chance,
  machine: Machine,
  kill: (machine: Machine) => void
): typeof Tools.Service =>
  Tools.of({
    kindOf: () => "simulated",
    call: ({ idempotencyKey, step }) =>
      Effect.gen(function* () {
        const { lease, run } = yield* FiberRef.get(holding)
        const call = witness.called({ run, step: step.id, key: idempotencyKey, lease, machine })
        const die = Effect.zipRight(
          Effect.sync(() => kill(machine)),
          never
        )
        const doing = behaviours[step.tool]?.(chance, die) ?? Effect.die(`there is no tool ${step.uses}`)
        yield* doing.pipe(
          Effect.onExit((exit) =>
            Effect.sync(() =>
              witness.returned(
                call,
                Exit.isSuccess(exit) ? "done" : Exit.isInterrupted(exit) ? "interrupted" : "failed"
              )
            )
          )
        )
        return { output: { call: call.number }, simulated: true, log: undefined }
      })
  })
