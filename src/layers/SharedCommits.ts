import * as SqlClient from "@effect/sql/SqlClient"
import { Array as Arr, Deferred, Effect, Exit, Option, Queue } from "effect"
import type { Scope } from "effect"

/** Transactions under way at the same time in a process. */
const mostUnderWay = 2
/** Requests that one transaction carries. */
const mostTogether = 100

interface Waiting<In, Out, E> {
  readonly one: In
  readonly answer: Deferred.Deferred<Out, E>
}

/**
 * What comes while transactions are under way joins the next one: one commit, and one wait for the locks that each needs, for many
 * requests. Those of one `key` share; `commit` makes the changes of a batch, in its order and in one transaction, and answers each.
 * Where it fails as a whole each is tried alone: none fails for the sake of another. A request within a transaction of its caller's
 * is made there. A caller that goes away meanwhile does not take its change back.
 */
export const sharing = <In, Out, E>(
  key: (one: In) => string,
  commit: (batch: Arr.NonEmptyReadonlyArray<In>) => Effect.Effect<ReadonlyArray<Out>, E>
): Effect.Effect<(one: In) => Effect.Effect<Out, E>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<Waiting<In, Out, E>>()

    const answerAt =
      (place: number) =>
      (all: ReadonlyArray<Out>): Exit.Exit<Out> => {
        const answer = all[place]
        return answer === undefined ? Exit.die(new Error("each of a batch has an answer")) : Exit.succeed(answer)
      }

    const alone = (one: In): Effect.Effect<Out, E> => Effect.flatMap(commit([one]), answerAt(0))

    const settle = (batch: Arr.NonEmptyReadonlyArray<Waiting<In, Out, E>>): Effect.Effect<void> =>
      commit(Arr.map(batch, ({ one }) => one)).pipe(
        Effect.exit,
        Effect.flatMap((exit) =>
          Exit.isFailure(exit) && batch.length > 1
            ? Effect.forEach(batch, ({ answer, one }) => Deferred.complete(answer, alone(one)), { discard: true })
            : Effect.forEach(batch, ({ answer }, place) => Deferred.done(answer, Exit.flatMap(exit, answerAt(place))), {
                discard: true
              })
        )
      )

    yield* Queue.takeBetween(queue, 1, mostTogether).pipe(
      Effect.flatMap((all) => Effect.forEach(Object.values(Arr.groupBy(all, ({ one }) => key(one))), settle)),
      Effect.forever,
      Effect.forkScoped,
      Effect.replicateEffect(mostUnderWay)
    )
    return (one) =>
      Effect.flatMap(
        Effect.serviceOption(SqlClient.TransactionConnection),
        Option.match({
          onSome: () => alone(one),
          onNone: () =>
            Effect.gen(function* () {
              const answer = yield* Deferred.make<Out, E>()
              yield* queue.offer({ one, answer })
              return yield* Deferred.await(answer)
            })
        })
      )
  })
