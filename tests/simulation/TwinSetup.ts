import { DateTime, Effect, Either } from "effect"
import { AgentId } from "../../src/domain/Agent.ts"
import * as Cursor from "../../src/domain/Cursor.ts"
import { uuidV7 } from "../../src/domain/Id.ts"
import { check } from "../../src/domain/PipelineChecks.ts"
import type { CheckedPipeline } from "../../src/domain/CheckedPipeline.ts"
import { TaskId } from "../../src/domain/Task.ts"
import type { TaskCreate } from "../../src/domain/Task.ts"
import { find } from "../../src/domain/Zone.ts"
import type { ScheduledTask } from "../../src/layers/TaskRows.ts"
import type { Tables } from "./TwinTables.ts"
import { setLimit } from "./TwinTasks.ts"

/** The agents whose tasks worlds have. */
export const owners = [1, 2, 3].map((n) => AgentId.make(`018f0000-0000-7000-8000-00000000a9e${n}`))
const [first = AgentId.make("")] = owners
const checked = new Map<TaskCreate["payload"], CheckedPipeline>()

const pipelineOf = (payload: TaskCreate["payload"]) => {
  const known = checked.get(payload)
  if (known !== undefined) return known
  const pipeline = Effect.runSync(Effect.orDie(check(payload)))
  checked.set(payload, pipeline)
  return pipeline
}

const millis = (instant: DateTime.Utc | null) => (instant === null ? null : DateTime.toEpochMillis(instant))
const instant = (at: number | null) => (at === null ? null : DateTime.unsafeMake(at))

/** Stores a task as its creation does: with its cursor, its first revision, and the limit of its concurrency key. */
export const addTask = (tables: Tables, created: TaskCreate, now: number, owner = first): ScheduledTask => {
  const { payload, ...input } = created
  const definition = { ...input, timezone: input.timezone ?? "UTC" }
  const id = TaskId.make(tables.newId(now))
  const fields = {
    kind: definition.schedule_kind,
    expr: definition.schedule_expr,
    timezone: definition.timezone,
    dtstart: definition.dtstart,
    createdAt: now,
    startsAt: millis(definition.starts_at),
    endsAt: millis(definition.ends_at)
  }
  const rules = { now, graceSeconds: definition.misfire_grace_seconds, jitterSeconds: definition.jitter_seconds }
  const cursor = Either.getOrThrow(Cursor.start(id, fields, rules))
  const task: ScheduledTask = {
    ...definition,
    id,
    created_by: owner,
    namespace: "main",
    version: 1,
    status: "active",
    status_reason: null,
    dtstart: cursor.dtstart,
    dtstart_given: definition.dtstart !== null,
    next_run_at: instant(cursor.next),
    next_due_at: instant(cursor.nextDueAt),
    decided_through: DateTime.unsafeMake(cursor.decidedThrough),
    count_end: instant(cursor.countEnd),
    tzdata_version: cursor.tzdataVersion,
    fired_count: 0,
    last_fired_for: null,
    snoozed_until: null,
    snoozed_run_id: null,
    quarantined_at: null,
    quarantine_reason: null,
    last_value: null,
    created_at: DateTime.unsafeMake(now),
    updated_at: DateTime.unsafeMake(now)
  }
  const zone = find(definition.timezone)
  if (zone === undefined) throw new Error(`unknown zone ${definition.timezone}`)
  tables.tasks.set(id, task)
  const bound = new Set<string>()
  tables.plans.set(`${id}:1`, { definition: { ...definition, payload }, pipeline: pipelineOf(payload), zone, bound })
  if (task.concurrency_key !== null) setLimit(tables, task.namespace, task.concurrency_key)
  return task
}

/** Ids in the order in which they are made, as one process of the product makes them. */
export const idsOf = (random: Uint8Array) => {
  let count = 0
  return (now: number) => uuidV7(now, random, count++ & 4095)
}
