import { Clock, Context, Duration, Effect } from "effect"
import type { StoreUnavailable } from "../../src/domain/StoreUnavailable.ts"
import { DueTasks } from "../../src/layers/DueTasks.ts"
import { Heartbeats } from "../../src/layers/Heartbeats.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { Plans } from "../../src/layers/Plans.ts"
import type { RunInput } from "../../src/layers/Plans.ts"
import { plain } from "../../src/domain/Line.ts"
import { isObject } from "../../src/domain/Json.ts"
import type { Tables } from "./TwinTables.ts"
import { pair } from "./TwinTables.ts"
import { look } from "./TwinLine.ts"
import * as Runs from "./TwinRuns.ts"
import * as Tasks from "./TwinTasks.ts"
import { rescue, turn } from "./TwinTurn.ts"

/**
 * How a statement comes to the store: `apply` is the statement, which takes effect in one step or not at all, with the time that
 * its caller read before it was sent.
 */
export type Call = <A>(name: string, apply: (now: number) => A) => Effect.Effect<A, StoreUnavailable>

/** Every statement takes effect at once. */
export const atOnce: Call = (_, apply) => Effect.map(Clock.currentTimeMillis, apply)

export type Services = Lease | DueTasks | Plans | Heartbeats

/** The product's view of the store, over tables in memory. */
export const twin = (tables: Tables, call: Call): Context.Context<Services> =>
  Context.empty().pipe(
    Context.add(Lease, lease(tables, call)),
    Context.add(DueTasks, dueTasks(tables, call)),
    Context.add(Plans, plans(tables, call)),
    Context.add(Heartbeats, heartbeats(tables, call))
  )

const lease = (tables: Tables, call: Call) =>
  Lease.of({
    enqueue: (work) =>
      work.length === 0 ? Effect.succeed([]) : call("enqueue", (now) => Runs.enqueue(tables, work, now)),
    // No scenario has so many runs.
    room: (ids) => Effect.succeed(new Map(ids.map((id) => [id, Infinity]))),
    turn: (worker, settled, capacity, suspects = false, line = plain) =>
      call("turn", (now) => turn(tables, { worker, settled, capacity, suspects, line, now })),
    line: (after) => call("line", () => look(tables, after)),
    record: (progress) => call("record", () => Runs.record(tables, progress)),
    takeOver: (id, from, steps) => call("takeOver", () => Runs.takeOver(tables, id, from, steps)),
    answer: (answers) => call("answer", () => Runs.answer(tables, answers)),
    renew: (worker, held) => call("renew", (now) => Runs.renew(tables, worker, held, now)),
    rescue: call("rescue", (now) => rescue(tables, now)),
    makeRoom: (worker, patience) =>
      call("makeRoom", (now) => Runs.makeRoom(tables, worker, now, now + Duration.toMillis(patience))),
    age: call("age", (now) => Runs.age(tables, now)),
    promote: call("promote", (now) => Runs.promote(tables, now)),
    cancel: (ids) => call("cancel", (now) => Runs.cancel(tables, ids, now)),
    signal: (ids) => call("signal", () => Runs.signal(tables, ids)),
    unstarted: (id) =>
      call("unstarted", () => {
        const row = tables.dueWork.get(id)
        return row === undefined || row.lease_no > 0 ? null : row.scheduled_for
      }),
    snooze: (id, dueAt) => call("snooze", () => Runs.snooze(tables, id, dueAt)),
    hold: (taskId) => call("hold", () => Runs.hold(tables, taskId)),
    unhold: (taskId, skipBefore) => call("unhold", (now) => Runs.unhold(tables, taskId, skipBefore, now))
  })

const dueTasks = (tables: Tables, call: Call) =>
  DueTasks.of({
    fire: (now, limit, decide) => call("fire", () => Tasks.fire(tables, now, limit, decide)),
    // Its tasks are of time.
    closeWindows: () => Effect.succeed({ ended: 0, fired: 0 }),
    nextAt: call("nextAt", () => Tasks.nextAt(tables)),
    adoptZoneData: (limit) => call("adoptZoneData", () => Tasks.adoptZoneData(tables, limit))
  })

const plans = (tables: Tables, call: Call) =>
  Plans.of({
    load: (work) =>
      call("load", () => {
        const found = work.flatMap(({ id, task_id, task_version }) => {
          const plan = tables.plans.get(`${task_id}:${task_version}`)
          return plan === undefined ? [] : [[id, plan] as const]
        })
        return new Map(found)
      }),
    inputs: (work) =>
      call("inputs", () => {
        const inputOf = (id: string, taskId: string, key: string): RunInput => {
          const input = tables.occurrences.get(pair(taskId, key))?.input ?? null
          const params = isObject(input) ? input["params"] : null
          const live = tables.live.get(id)
          return {
            params: params !== undefined && isObject(params) ? params : null,
            event: null,
            events: null,
            known: [...(live?.steps.values() ?? [])],
            waits: [...(live?.waits.values() ?? [])],
            failed: live?.failed ?? null
          }
        }
        return new Map(work.map(({ id, key, task_id }) => [id, inputOf(id, task_id, key)]))
      }),
    waits: (id) => call("waits", () => [...(tables.live.get(id)?.waits.values() ?? [])])
  })

const heartbeats = (tables: Tables, call: Call) =>
  Heartbeats.of({
    beat: ({ id, program }) =>
      call("beat", (now) => {
        const before = tables.heartbeats.get(id)
        tables.heartbeats.set(id, {
          program,
          last_seen: now,
          seen_before: before?.last_seen ?? null,
          making_room_until: before?.making_room_until ?? null
        })
      }),
    leave: (id) =>
      call("leave", () => {
        tables.heartbeats.delete(id)
      }),
    live: Effect.succeed([])
  })
