import { Context, Deferred, Effect, FiberId, Layer } from "effect"
import type { Scope } from "effect"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { Draining } from "./Draining.ts"
import { EventStream } from "./EventStream.ts"
import type { Numbered } from "./EventStream.ts"
import * as Retries from "./Retries.ts"
import { Wakeups } from "./Wakeups.ts"

/** Entries that are kept in memory for those who follow closely; some megabytes. */
const kept = 5000
/** Batches that one read brings. */
const batchesRead = 50
/** As `batchesRead`, for a follower that fell behind: each holds what it read until its client took it. */
const batchesBehind = 2
/** Reads at once of followers that fell behind, so that a crowd of them leaves connections to the others. */
const readersBehind = 2
/** Entries that a follower is given at once. */
const mostAtOnce = 500
/** Without a wake-up the log is looked at this often. */
const lookEvery = "1 second"

/** The log of events and changes as it grows, read once for all who follow it in this process. */
export class LogTail extends Context.Tag("ordinaut/LogTail")<
  LogTail,
  {
    /** The log is read as long as some scope is open in which this was called; without it, `after` waits in vain. */
    readonly following: Effect.Effect<void, never, Scope.Scope>
    /**
     * The entries after a number, in order, some hundreds at most; waits for the first. They begin later than with the next number
     * where the log does.
     */
    readonly after: (number: number) => Effect.Effect<ReadonlyArray<Numbered>, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.scoped(
    this,
    Effect.gen(function* () {
      const stream = yield* EventStream
      const wakeups = yield* Wakeups
      const draining = yield* Draining
      const someone = yield* Effect.makeLatch(false)
      const behind = yield* Effect.makeSemaphore(readersBehind)
      let followers = 0
      /** The number of the last entry that was read; null while nobody follows. `tail` ends with it. */
      let head: number | null = null
      let tail: ReadonlyArray<Numbered> = []
      let grown = Deferred.unsafeMake<void>(FiberId.none)

      const grow = (number: number, fresh: ReadonlyArray<Numbered>) => {
        const follows = fresh[0]?.number === (head ?? -1) + 1
        tail = (follows ? [...tail, ...fresh] : fresh).slice(-kept)
        head = number
        const told = grown
        grown = Deferred.unsafeMake<void>(FiberId.none)
        Deferred.unsafeDone(told, Effect.void)
      }

      const forget = () => {
        head = null
        tail = []
      }

      const pass = Effect.gen(function* () {
        yield* someone.await
        const from: number = head ?? (yield* stream.bounds).newest
        const fresh = yield* stream.after(from, batchesRead)
        // The last follower may have left meanwhile: the next one need not wait for what was missed until then.
        if (followers === 0) return
        if (head === null || fresh.length > 0) return grow(fresh.at(-1)?.number ?? from, fresh)
        yield* wakeups.wait("log", lookEvery)
      })
      yield* draining.supervised(pass.pipe(Effect.forever, Effect.retry(Retries.loop)))

      const join = Effect.suspend(() => (followers++ === 0 ? someone.open : Effect.void))
      const leave = Effect.suspend(() => {
        if (--followers > 0) return Effect.void
        forget()
        return someone.close
      })

      return LogTail.of({
        following: Effect.acquireRelease(Effect.asVoid(join), () => leave),

        after: Effect.fn("LogTail.after")(function* (number) {
          for (;;) {
            const more = grown
            const start: number = head === null ? Infinity : head - tail.length
            if (number < start) {
              const found = yield* behind.withPermits(1)(stream.after(number, batchesBehind))
              if (found.length > 0) return found
            } else if (number < start + tail.length) {
              return tail.slice(number - start, number - start + mostAtOnce)
            }
            yield* Deferred.await(more)
          }
        })
      })
    })
  )
}
