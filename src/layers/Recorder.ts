import { Deferred, Effect, Exit, Queue } from "effect"
import { fitting } from "../domain/Settlement.ts"
import type { Progress } from "../domain/Settlement.ts"
import { callKey } from "../domain/Wait.ts"
import type { Lease } from "./Lease.ts"
import * as Retries from "./Retries.ts"
import type { Saving } from "./RunIo.ts"

/** Requests that one statement carries. */
const mostAtOnce = 100

/**
 * Stores what runs have come to: what is asked for while a statement is under way goes with the next one, so that many runs share a
 * commit. Answers whether the lease still held; an outage is waited out. What is not stored when the scope closes is not held.
 */
export const makeRecorder = (lease: typeof Lease.Service) =>
  Effect.gen(function* () {
    const waiting = yield* Queue.unbounded<Saving>()
    const open = new Set<Deferred.Deferred<boolean>>()
    const store: (batch: ReadonlyArray<Saving>) => Effect.Effect<void> = Effect.fnUntraced(function* (batch) {
      const stored = yield* Effect.exit(
        Effect.retry(lease.record(combined(batch.map(({ progress }) => progress))), Retries.loop)
      )
      if (Exit.isFailure(stored) && batch.length > 1) {
        // One of them is why the database refuses the statement; it alone is to end by that.
        return yield* Effect.forEach(batch, (one) => store([one]), { discard: true })
      }
      yield* Effect.forEach(
        batch,
        ({ held, progress }) =>
          Deferred.done(
            held,
            Exit.match(stored, {
              onSuccess: (ids) => Exit.succeed(ids.has(progress.work.id)),
              // What cannot be stored ends its run; the recorder goes on.
              onFailure: (cause) => Exit.die(cause)
            })
          ),
        { discard: true }
      )
    })
    yield* Effect.gen(function* () {
      let left: ReadonlyArray<Saving> = [...(yield* Queue.takeBetween(waiting, 1, mostAtOnce))]
      while (left.length > 0) {
        const carried = fitting(left, ({ progress }) => progress.steps)
        yield* store(carried)
        left = left.slice(carried.length)
      }
    }).pipe(Effect.forever, Effect.forkScoped)
    let closed = false
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closed = true
        return Effect.forEach(open, (held) => Deferred.succeed(held, false), { discard: true })
      })
    )
    return (progress: Progress) =>
      Effect.gen(function* () {
        if (closed) return false
        const held = yield* Deferred.make<boolean>()
        open.add(held)
        yield* waiting.offer({ progress, held })
        return yield* Effect.ensuring(
          Deferred.await(held),
          Effect.sync(() => open.delete(held))
        )
      })
  })

/** One entry a run: a statement writes no row twice. What was asked for later replaces what was asked for before. */
const combined = (all: ReadonlyArray<Progress>): ReadonlyArray<Progress> => {
  const byRun = new Map<string, Progress>()
  for (const one of all) {
    const before = byRun.get(one.work.id)
    byRun.set(
      one.work.id,
      before === undefined
        ? one
        : {
            work: one.work,
            steps: latest([...before.steps, ...one.steps]),
            waits: latest([...before.waits, ...one.waits]),
            failed: before.failed ?? one.failed,
            usage: [...(before.usage ?? []), ...(one.usage ?? [])]
          }
    )
  }
  return [...byRun.values()]
}

const latest = <Of extends { readonly step_id: string; readonly item: number }>(all: ReadonlyArray<Of>) => [
  ...new Map(all.map((one) => [callKey(one), one])).values()
]
