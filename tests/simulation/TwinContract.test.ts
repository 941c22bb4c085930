import { layer } from "@effect/vitest"
import { Clock, DateTime, Effect, Layer, Schema, TestClock } from "effect"
import { TaskCreate } from "../../src/domain/Task.ts"
import * as Firing from "../../src/layers/Firing.ts"
import { millisOf } from "../../src/layers/TaskRows.ts"
import { cursorInWords, endedInWords, keyInWords, Store, unfinishedInWords } from "./contract.ts"
import { contract } from "./store.contract.ts"
import { addTask, idsOf } from "./TwinSetup.ts"
import { atOnce, twin } from "./TwinStore.ts"
import { emptyTables, unwatched } from "./TwinTables.ts"

const start = Date.UTC(2026, 2, 2, 9, 0, 0)
const decode = Schema.decodeUnknownSync(TaskCreate)

/** A twin of its own, and what the contract asks of it. */
const subject = Layer.unwrapEffect(
  Effect.sync(() => {
    const tables = emptyTables({
      watch: unwatched,
      leaseMillis: 15_000,
      cluttered: () => false,
      newId: idsOf(new Uint8Array(10))
    })
    const { dueWork, heartbeats, history, keys, live, occurrences, outbox, slots, tasks } = tables
    const keyOf = (id: string) => dueWork.get(id)?.key ?? history.find((run) => run.id === id)?.key ?? ""
    const after = (at: number | null) => (at === null ? null : at - start)
    const store = Store.of({
      start,
      clear: Effect.suspend(() => {
        for (const table of [dueWork, heartbeats, keys, live, occurrences, slots, tasks]) table.clear()
        history.length = 0
        outbox.length = 0
        return TestClock.setTime(start)
      }),
      setTime: (at) => TestClock.setTime(start + at),
      task: (more = {}) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          const pipeline = [{ id: "only", uses: "mail.send" }]
          const base = {
            title: "a",
            schedule_kind: "cron",
            schedule_expr: "* * * * *",
            timezone: "UTC",
            payload: { pipeline }
          }
          const { id: _, ...given } = Firing.workFor("", addTask(tables, decode({ ...base, ...more }), now))
          return given
        }),
      unfinished: Effect.sync(() =>
        Object.fromEntries([...dueWork.values()].map((row) => [keyInWords(row.key, start), unfinishedInWords(row)]))
      ),
      ended: Effect.sync(() =>
        Object.fromEntries(
          history.map((run) => [
            keyInWords(run.key, start),
            endedInWords({
              ...run,
              code: run.error?.code ?? null,
              attempts: run.attempts.length,
              reason: run.skip_reason,
              skipped: run.skipped === null ? null : { from: run.skipped.from - start, count: run.skipped.count }
            })
          ])
        )
      ),
      slots: Effect.sync(() =>
        Object.fromEntries([...slots].map(([key, { in_use }]) => [key.slice(key.indexOf("|") + 1), in_use]))
      ),
      cursor: (taskId) =>
        Effect.sync(() => {
          const task = tasks.get(taskId)
          if (task === undefined) return "gone"
          const instants = {
            through: after(DateTime.toEpochMillis(task.decided_through)),
            next: after(millisOf(task.next_run_at)),
            due: after(millisOf(task.next_due_at)),
            last: after(millisOf(task.last_fired_for))
          }
          return cursorInWords(task.status, instants, task.fired_count)
        }),
      told: Effect.sync(() => {
        const told: Record<string, string> = {}
        for (const { run_id, state } of outbox) {
          const key = keyInWords(keyOf(run_id), start)
          told[key] = told[key] === undefined ? state : `${told[key]} ${state}`
        }
        return told
      })
    })
    return Layer.merge(Layer.succeedContext(twin(tables, atOnce)), Layer.succeed(Store, store))
  })
)

layer(subject)("the twin of the store", (it) => {
  for (const [name, scenario] of Object.entries(contract))
    it.effect(name, () =>
      Effect.zipRight(
        Effect.flatMap(Store, ({ clear }) => clear),
        scenario
      )
    )
})
