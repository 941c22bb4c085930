import { Clock, Duration, Effect } from "effect"
import { execFile } from "node:child_process"
import { readFile } from "node:fs/promises"
import { systemCode } from "./EmbeddedDbError.ts"

/** A fast shutdown writes what is dirty; after this long an immediate one leaves that to the recovery of the next start. */
const stopsWithin = Duration.seconds(10)

/** Waiting on processes is real waiting, also where a test owns the clock. */
export const realClock = Effect.withClock(Clock.make())

/** Whether the kernel knows the process, alive or ended but not yet collected by its parent. */
export const listed = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (cause) {
    return systemCode(cause) === "EPERM"
  }
}

/** Whether a process lives. One that has ended but was not collected by its parent does not. */
export const alive = async (pid: number): Promise<boolean> =>
  listed(pid) && (process.platform !== "linux" || (await commandLine(pid)) !== "")

/** How the process was started; empty when it is gone. */
export const commandLine = (pid: number): Promise<string> =>
  process.platform === "linux"
    ? readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")
    : new Promise((done) => execFile("ps", ["-ww", "-o", "command=", "-p", `${pid}`], (_, output) => done(output)))

/** Looks every 20 ms; a count instead of a timeout, since it runs where nothing can be interrupted. */
const gone = (pid: number) =>
  Effect.sleep("20 millis").pipe(
    Effect.zipRight(Effect.promise(() => alive(pid))),
    Effect.repeat({ while: (lives) => lives, times: Duration.toMillis(stopsWithin) / 20 }),
    Effect.map((lives) => !lives)
  )

/** Ends the server: a fast shutdown, then an immediate one, then the kernel's. Bounded at half a minute. */
export const stop = (pid: number): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
      yield* Effect.try(() => process.kill(pid, signal)).pipe(Effect.ignore)
      if (yield* gone(pid)) return
    }
  }).pipe(realClock)
