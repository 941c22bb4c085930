import { Clock, Effect, Exit } from "effect"
import { StepFailed } from "../../src/domain/StepFailed.ts"
import { plainTool } from "../../src/layers/Tool.ts"
import { Tools } from "../../src/layers/Tools.ts"
import type { Chance } from "./Chance.ts"
import type { Machine } from "./Machine.ts"
import type { Witness } from "./Witness.ts"

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
    admit: () => Effect.dieMessage("none of them is metered"),
    begun: () => Effect.void,
    computing: () => Effect.succeed(null),
    find: (_plan, _work, { tool, uses }) =>
      Effect.succeed(
        plainTool("http", {
          // As tools that call outside are: what came before is stored first.
          outside: true,
          idempotent: false,
          waits: () => tool === "naps" || tool === "asks",
          begin: () =>
            Effect.map(Clock.currentTimeMillis, (now) =>
              tool === "asks"
                ? { kind: "event", tool: null, detail: {}, expires_at: null }
                : { kind: "wait", tool: null, detail: { began: now }, expires_at: now + chance.int(0, 20_000) }
            ),
          call: ({ idempotencyKey, step, work }) =>
            Effect.gen(function* () {
              const call = witness.called({
                run: work.id,
                step: step.id,
                key: idempotencyKey,
                lease: work.lease_no,
                machine
              })
              const die = Effect.zipRight(
                Effect.sync(() => kill(machine)),
                never
              )
              const doing = behaviours[tool]?.(chance, die) ?? Effect.die(`there is no tool ${uses}`)
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
              return { output: { call: call.number }, simulated: false, log: undefined }
            })
        })
      )
  })
