import { Effect, Option, Schema } from "effect"
import type { Chance } from "../simulation/Chance.ts"
import type { Answer, Client } from "./Client.ts"
import { byHand, listeners, often, once, recurring, seldom, topics } from "./Definitions.ts"
import type { Definition, Listener } from "./Definitions.ts"
import { addTo, type Ledger } from "./Ledger.ts"
import { child, deadly, doomed, outside, surge } from "./Outside.ts"
import type { Record } from "./Record.ts"
import { extensionsOf, type ToolBench } from "./ToolBench.ts"

const read =
  <A, I>(schema: Schema.Schema<A, I>) =>
  (answer: Answer | undefined): A | undefined =>
    Option.getOrUndefined(Schema.decodeUnknownOption(schema)(answer?.body))

const idOf = read(Schema.Struct({ id: Schema.String }))
const versionOf = read(Schema.Struct({ version: Schema.Int }))
const runOf = read(Schema.Struct({ run_id: Schema.String }))
const eventOf = read(Schema.Struct({ event_id: Schema.String }))
const waitingOf = read(
  Schema.Struct({ items: Schema.Array(Schema.Struct({ run_id: Schema.String, step_id: Schema.String })) })
)
const otherOf = read(Schema.Struct({ task_id: Schema.String }))

/** What the load works with: tasks that fire all the time, and event tasks with what they hear. */
export interface Stock {
  readonly recurring: ReadonlyArray<{ readonly id: string; readonly often: boolean; readonly bounded: boolean }>
  readonly listeners: ReadonlyArray<{ readonly id: string; readonly hears: Listener["hears"] }>
  readonly byHand: string
  readonly deadly: string
  readonly doomed: string
  readonly surge: string
}

/** Runs that fail at once. */
const doomedAtOnce = 1000

/** Requests of all kinds, each of whose acknowledgements goes into the ledger. */
export const makeLoad = (client: Client, ledger: Ledger, bench: ToolBench, record: Record) => {
  const created = (definition: Definition, answer: Answer | undefined) => {
    const task = answer?.status === 201 ? idOf(answer) : undefined
    if (task !== undefined) ledger.created.set(task.id, String(definition["title"]))
    return task?.id
  }

  const create = (definition: Definition) =>
    Effect.map(client.insist("POST", "/tasks", definition), (answer) => created(definition, answer) ?? "")

  const publish = (topic: string, n: number, dedupe_key: string | undefined) =>
    client.send("POST", "/events", { topic, payload: { n }, ...(dedupe_key === undefined ? {} : { dedupe_key }) }).pipe(
      Effect.tap((answer) =>
        Effect.sync(() => {
          const event = answer?.status === 202 ? eventOf(answer) : undefined
          if (event === undefined) return
          ledger.events.set(event.event_id, { topic, n })
          if (dedupe_key !== undefined) addTo(ledger.eventsByKey, dedupe_key, event.event_id)
        })
      )
    )

  /** Many at once with one `dedupe_key`, as an impatient client sends them. */
  const repeatedEvent = (dedupe_key: string, times: number) =>
    Effect.all(
      Array.from({ length: times }, () => publish(topics[0], 7, dedupe_key)),
      { concurrency: times, discard: true }
    )

  const repeatedTask = (dedupe_key: string, times: number) => {
    const definition = { ...byHand(dedupe_key), dedupe_key }
    const one = Effect.map(client.send("POST", "/tasks", definition), (answer) => {
      const id = created(definition, answer) ?? (answer?.status === 409 ? otherOf(answer)?.task_id : undefined)
      if (id !== undefined) addTo(ledger.tasksByKey, dedupe_key, id)
    })
    return Effect.all(
      Array.from({ length: times }, () => one),
      { concurrency: times, discard: true }
    )
  }

  const runNow = (id: string) =>
    Effect.map(client.send("POST", `/tasks/${id}/run_now`), (answer) => {
      const run = answer?.status === 202 ? runOf(answer) : undefined
      if (run !== undefined) ledger.asked.add(run.run_id)
      return run?.run_id
    })

  /** Two decisions at once about what waits for one, of which one at most may hold. */
  const decide = (chance: Chance, name: string) =>
    Effect.gen(function* () {
      const found = waitingOf(yield* client.send("GET", "/approvals?limit=20"))?.items ?? []
      const one = found[chance.int(0, found.length - 1)]
      if (one === undefined) return
      const key = `${one.run_id}:${one.step_id}`
      const as = (data: string) =>
        Effect.map(
          client.send("POST", `/runs/${one.run_id}/steps/${one.step_id}/decide`, {
            decision: chance.pick(["approved", "rejected"]),
            data
          }),
          (answer) => {
            if (answer?.status !== 200) return
            const other = ledger.decided.get(key)
            if (other !== undefined) record.wrong(`step ${key} was decided twice: ${other} and ${data}`)
            ledger.decided.set(key, data)
          }
        )
      yield* Effect.all([as(`${name} a`), as(`${name} b`)], { concurrency: 2, discard: true })
    })

  const patch = (id: string, change: Definition) =>
    Effect.map(client.send("PATCH", `/tasks/${id}`, change), (answer) => {
      const changed = answer?.status === 200 ? versionOf(answer) : undefined
      if (changed !== undefined) ledger.patched.set(`${id} ${changed.version}`, change)
    })

  const cancel = (id: string) =>
    Effect.map(client.send("POST", `/tasks/${id}/cancel`), (answer) => {
      if (answer?.status === 200) ledger.canceled.add(id)
    })

  const stock = (chance: Chance): Effect.Effect<Stock> =>
    Effect.gen(function* () {
      for (const [name, body] of Object.entries(extensionsOf(bench)))
        yield* client.insist("PUT", `/extensions/${name}`, body)
      const inside = yield* Effect.forEach(recurring(chance), ({ definition, often: isOften }) =>
        Effect.map(create(definition), (id) => ({ id, often: isOften, bounded: "max_runs" in definition }))
      )
      const calling = yield* Effect.forEach(outside(chance, bench, yield* create(child)), (definition) =>
        Effect.map(create(definition), (id) => ({ id, often: false, bounded: false }))
      )
      const fails = yield* create(doomed)
      return {
        recurring: [...inside, ...calling],
        listeners: yield* Effect.forEach(listeners(chance), ({ definition, hears }) =>
          Effect.map(create(definition), (id) => ({ id, hears }))
        ),
        byHand: yield* create(byHand("by hand")),
        deadly: yield* create(deadly),
        doomed: fails,
        surge: yield* create(surge(fails, doomedAtOnce))
      }
    })

  /** One request that chance chooses; `name` makes what it creates its own. */
  const one = ({ byHand: hand, listeners: hearing, recurring: firing }: Stock, chance: Chance, name: string) =>
    Effect.suspend((): Effect.Effect<unknown> => {
      const target = firing[chance.int(0, firing.length - 1)]
      if (target === undefined) return Effect.void
      const roll = chance.unit()
      if (roll < 0.35)
        return publish(chance.pick(topics), chance.int(0, 9), chance.maybe(0.3) ? `event ${name}` : undefined)
      if (roll < 0.42) return repeatedEvent(`event ${name}`, chance.int(2, 4))
      if (roll < 0.48) return decide(chance, name)
      if (roll < 0.56) return runNow(chance.maybe(0.5) ? hand : target.id)
      if (roll < 0.63) return client.send("POST", `/tasks/${target.id}/pause`)
      if (roll < 0.75) {
        const on_missed = chance.maybe(0.4) ? { on_missed: chance.pick(["fire_once", "fire_all", "skip"]) } : {}
        return client.send("POST", `/tasks/${target.id}/resume`, on_missed)
      }
      if (roll < 0.78) return client.send("POST", `/tasks/${hearing[chance.int(0, hearing.length - 1)]?.id}/pause`)
      if (roll < 0.81) return client.send("POST", `/tasks/${hearing[chance.int(0, hearing.length - 1)]?.id}/resume`)
      if (roll < 0.88) {
        const schedule = target.bounded ? {} : chance.pick(target.often ? often : seldom)
        return patch(target.id, { ...schedule, title: `patched ${name}`, priority: chance.int(1, 9) })
      }
      if (roll < 0.9) return client.send("GET", `/runs?task_id=${target.id}&limit=20`)
      return Effect.flatMap(create(once(chance, `once ${name}`, Date.now())), (id) =>
        id !== "" && chance.maybe(0.3)
          ? Effect.zipRight(Effect.sleep(`${chance.int(0, 3000)} millis`), cancel(id))
          : Effect.void
      )
    })

  return { stock, one, repeatedEvent, repeatedTask, runNow }
}
