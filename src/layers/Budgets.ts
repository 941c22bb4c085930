import * as SqlClient from "@effect/sql/SqlClient"
import { Clock, Context, Deferred, Effect, Exit, Layer, Queue } from "effect"
import type { Budget } from "../domain/Agent.ts"
import { standingProblem } from "../domain/Rights.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import { dayOf, exhausted, matchesTool } from "../domain/Usage.ts"
import type { Exhausted, NewUsage, Used } from "../domain/Usage.ts"
import * as Metrics from "./Metrics.ts"
import * as Retries from "./Retries.ts"
import { RunRights } from "./RunRights.ts"
import { countUsage } from "./Usages.ts"

/** Calls that one transaction reserves. */
const mostAtOnce = 100

interface Asked {
  readonly usage: NewUsage
  readonly budgets: ReadonlyArray<Budget>
  readonly answer: Deferred.Deferred<Exhausted | undefined>
}

/** What runs may use of tools. */
export class Budgets extends Context.Tag("ordinaut/Budgets")<
  Budgets,
  {
    /**
     * To be asked before each call of a tool that an agent's run makes, with the bytes of its input. Where budgets bind the call, it is
     * counted here, under a lock of the agent: whatever workers call at once, there are never more calls than `calls_per_day`, while
     * seconds and bytes are exceeded by what the calls under way take at most. Answers what is still to be counted with the record
     * of the step. Fails with `budget_exceeded`, and with `forbidden` where the agent is disabled or removed.
     */
    readonly admit: (agentId: string, tool: string, bytes: number) => Effect.Effect<NewUsage, StepFailed>
  }
>() {
  static readonly layer = Layer.scoped(
    this,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const rights = yield* RunRights
      const waiting = yield* Queue.unbounded<Asked>()

      /** What each agent has used today, read under the locks of the agents, which are taken in order. */
      const usedToday = Effect.fnUntraced(function* (batch: ReadonlyArray<Asked>) {
        const agents = [...new Set(batch.map(({ usage }) => usage.agent_id))].sort()
        for (const id of agents)
          yield* sql`SELECT pg_advisory_xact_lock(hashtextextended(${`ordinaut.budget:${id}`}, 0))`
        // A statement of its own: its snapshot is later than the locks.
        const rows = yield* sql<Used & { readonly agent_id: string; readonly day: string }>`
          SELECT agent_id, to_char(day, 'YYYY-MM-DD') AS day, tool, calls::float8 AS calls, seconds, bytes::float8 AS bytes FROM usage_day
          WHERE agent_id = ANY (${agents}::uuid[]) AND day = ANY (${[...new Set(batch.map(({ usage }) => usage.day))]}::date[])`
        const used = new Map<string, Array<Used>>()
        for (const row of rows) {
          const key = `${row.agent_id} ${row.day}`
          used.set(key, [...(used.get(key) ?? []), row])
        }
        return used
      })

      const reserve = (batch: ReadonlyArray<Asked>) =>
        Effect.gen(function* () {
          const used = yield* usedToday(batch)
          const granted: Array<NewUsage> = []
          const refusals = batch.map(({ budgets, usage }) => {
            const key = `${usage.agent_id} ${usage.day}`
            const today = used.get(key) ?? []
            const over = exhausted(budgets, today, usage.tool, usage.bytes)
            if (over === undefined) {
              granted.push(usage)
              used.set(key, [...today, usage])
            }
            return over
          })
          if (granted.length > 0) yield* countUsage(sql, granted)
          return refusals
        }).pipe(sql.withTransaction)

      yield* Effect.gen(function* () {
        const batch = [...(yield* Queue.takeBetween(waiting, 1, mostAtOnce))]
        // An outage is waited out; the fence of the lease ends the waiting of those who asked.
        const done = yield* Effect.exit(Effect.retry(reserve(batch), Retries.loop))
        yield* Effect.forEach(
          batch,
          ({ answer }, index) =>
            Deferred.done(
              answer,
              Exit.match(done, {
                onSuccess: (all) => Exit.succeed(all[index]),
                // A bug of the statement ends these calls; the queue goes on.
                onFailure: (cause) => Exit.die(cause)
              })
            ),
          { discard: true }
        )
      }).pipe(Effect.forever, Effect.forkScoped)

      return Budgets.of({
        admit: Effect.fn("Budgets.admit")(function* (agent_id, tool, bytes) {
          const known = yield* rights
            .one(agent_id)
            .pipe(Effect.catchTag("StoreUnavailable", () => StepFailed.of("internal", "the database did not answer")))
          const problem = standingProblem(known)
          if (problem !== null) return yield* problem
          const usage = { agent_id, day: dayOf(yield* Clock.currentTimeMillis), tool, calls: 1, seconds: 0, bytes }
          const budgets = known.budgets.filter((budget) => matchesTool(budget.tool, tool))
          if (budgets.length === 0) return usage
          const answer = yield* Deferred.make<Exhausted | undefined>()
          yield* waiting.offer({ usage, budgets, answer })
          const over = yield* Deferred.await(answer)
          if (over === undefined) return { ...usage, calls: 0, bytes: 0 }
          Metrics.budgetExceeded.add(1, { reason: over.limit })
          return yield* StepFailed.of(
            "budget_exceeded",
            `the agent's budget of ${over.limit} a day for ${over.budget.tool} is used up until the next day begins (UTC)`
          )
        })
      })
    })
  )
}
