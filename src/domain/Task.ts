import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as Model from "@effect/sql/Model"
import { Schema } from "effect"
import { AgentId } from "./Agent.ts"
import { keyProblem } from "./ConcurrencyKey.ts"
import { Instant } from "./Instant.ts"
import { JsonObject } from "./Json.ts"
import { PipelineSpec } from "./PipelineSpec.ts"
import { BackoffSeconds, BackoffStrategy } from "./Retry.ts"
import { ScheduleKind } from "./ScheduleSpec.ts"

export const TaskId = Schema.UUID.pipe(Schema.brand("TaskId"))
export type TaskId = typeof TaskId.Type

/** `active` fires; `paused` decides nothing until it is resumed; `completed` has no occurrence left; `canceled` is final. */
export const TaskStatus = Schema.Literal("active", "paused", "completed", "canceled")
export type TaskStatus = typeof TaskStatus.Type

/** What becomes of an occurrence while the last run of the task is unfinished. */
export const OverlapPolicy = Schema.Literal("allow", "skip", "queue", "cancel_running")
/** What becomes of occurrences whose time passed while nobody could fire them. */
export const MisfirePolicy = Schema.Literal("fire_once", "fire_all", "skip")
export type MisfirePolicy = typeof MisfirePolicy.Type

const readOnly = <S extends Schema.Schema.All>(row: S) => Model.Field({ select: row, json: row })
const instantOrNull = Model.Field({ select: Schema.NullOr(Model.DateTimeFromDate), json: Schema.NullOr(Instant) })
const instant = Model.Field({ select: Model.DateTimeFromDate, json: Instant })

/** A field of the definition: required at creation, optional in a change. */
const required = <S extends Schema.Schema.All>(schema: S) =>
  Model.Field({
    select: schema,
    json: schema,
    jsonCreate: schema,
    jsonUpdate: Schema.optionalWith(schema, { exact: true })
  })

/** A field of the definition that may be left out at creation. */
const defaulted = <A, I>(schema: Schema.Schema<A, I>, value: () => NoInfer<A>) =>
  Model.Field({
    select: schema,
    json: schema,
    jsonCreate: Schema.optionalWith(schema, { exact: true, default: value }),
    jsonUpdate: Schema.optionalWith(schema, { exact: true })
  })

const boundary = Model.Field({
  select: Schema.NullOr(Model.DateTimeFromDate),
  json: Schema.NullOr(Instant),
  jsonCreate: Schema.optionalWith(Schema.NullOr(Instant), { exact: true, default: () => null }),
  jsonUpdate: Schema.optionalWith(Schema.NullOr(Instant), { exact: true })
})

const none = () => null
const int = (from: number, to: number) => Schema.Int.pipe(Schema.between(from, to))
const Key = Schema.NullOr(Schema.NonEmptyTrimmedString.pipe(Schema.maxLength(100)))
/** Text, or a template over `params`, `event` and `task` that gives one. */
const ConcurrencyKey = Key.pipe(Schema.filter((key) => (key === null ? undefined : keyProblem(key))))
const Timezone = Schema.NonEmptyString.pipe(Schema.maxLength(100))
const LocalTime = Schema.NullOr(
  Schema.String.pipe(
    Schema.pattern(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}$/),
    Schema.annotations({ message: () => "is a local wall time such as 2026-01-31T09:00:00, without an offset" })
  )
)
/** A record of the schema library would lose the key without a word. */
const LabelName = Schema.String.pipe(
  Schema.pattern(/^(?!__proto__$)/, { jsonSchema: { pattern: "^(?!__proto__$)", maxLength: 100 } })
)
const Labels = Schema.Record({ key: LabelName, value: Schema.String.pipe(Schema.maxLength(200)) }).pipe(
  Schema.filter((labels) => {
    const names = Object.keys(labels)
    const wrong = names.find((name) => name === "" || name.length > 100)
    if (wrong !== undefined) return { path: [wrong], message: "the name of a label has 1 to 100 characters" }
    return names.length <= 20 || "has more than 20 labels"
  })
)

/** The last finished or skipped run of a task. */
export const LastRun = Schema.Struct({ id: Schema.String, state: Schema.String, finished_at: Instant })

/** Row of table `task`. `Task.json` is the response, `Task.jsonCreate` the body of POST /tasks, `Task.jsonUpdate` that of PATCH. */
export class Task extends Model.Class<Task>("Task")({
  id: readOnly(TaskId),
  created_by: readOnly(AgentId),
  title: required(Schema.NonEmptyTrimmedString.pipe(Schema.maxLength(200))),
  description: defaulted(Schema.String.pipe(Schema.maxLength(2000)), () => ""),
  schedule_kind: required(ScheduleKind),
  /** A cron expression, an RFC 5545 rule, an instant, a topic pattern or a JMESPath condition, by `schedule_kind`. */
  schedule_expr: required(Schema.NonEmptyString.pipe(Schema.maxLength(4096))),
  /** IANA name. */
  timezone: Model.Field({
    select: Timezone,
    json: Timezone,
    jsonCreate: Schema.optionalWith(Timezone, { exact: true }),
    jsonUpdate: Schema.optionalWith(Timezone, { exact: true })
  }),
  /** Where an `rrule` starts, as local wall time. */
  dtstart: defaulted(LocalTime, none),
  payload: required(PipelineSpec),
  /** 1 runs first, 9 last. */
  priority: defaulted(int(1, 9), () => 5),
  labels: defaulted(Labels, () => ({})),
  /** Attempts after the first. */
  max_retries: defaulted(int(0, 25), () => 3),
  backoff_strategy: defaulted(BackoffStrategy, () => "exponential_jitter" as const),
  backoff_seconds: defaulted(BackoffSeconds, () => 1),
  backoff_max_seconds: defaulted(BackoffSeconds, () => 3600),
  /** Of one attempt, while it is leased. */
  timeout_seconds: defaulted(int(1, 86_400), () => 3600),
  deadline_seconds: defaulted(Schema.NullOr(int(1, 31_622_400)), none),
  start_within_seconds: defaulted(Schema.NullOr(int(1, 31_622_400)), none),
  dedupe_key: defaulted(Key, none),
  dedupe_window_seconds: defaulted(int(0, 31_622_400), () => 0),
  concurrency_key: Model.Field({
    select: Key,
    json: Key,
    jsonCreate: Schema.optionalWith(ConcurrencyKey, { exact: true, default: none }),
    jsonUpdate: Schema.optionalWith(ConcurrencyKey, { exact: true })
  }),
  concurrency_limit: defaulted(int(1, 10_000), () => 1),
  overlap_policy: defaulted(OverlapPolicy, () => "allow" as const),
  misfire_policy: defaulted(MisfirePolicy, () => "fire_once" as const),
  misfire_grace_seconds: defaulted(int(0, 86_400), () => 60),
  /** Spreads the start of each occurrence, always alike for the same one. */
  jitter_seconds: defaulted(int(0, 86_400), () => 0),
  /** Occurrences before it do not exist. */
  starts_at: boundary,
  /** Occurrences after it do not exist. */
  ends_at: boundary,
  max_runs: defaulted(Schema.NullOr(int(1, 1_000_000_000)), none),
  status: readOnly(TaskStatus),
  status_reason: readOnly(Schema.NullOr(Schema.String)),
  version: readOnly(Schema.Int),
  next_run_at: instantOrNull,
  snoozed_until: instantOrNull,
  last_run: readOnly(Schema.NullOr(LastRun)),
  created_at: instant,
  updated_at: instant,
  namespace: Model.FieldOnly("select")(Schema.String),
  decided_through: Model.FieldOnly("select")(Model.DateTimeFromDate),
  next_due_at: Model.FieldOnly("select")(Schema.NullOr(Model.DateTimeFromDate)),
  count_end: Model.FieldOnly("select")(Schema.NullOr(Model.DateTimeFromDate)),
  tzdata_version: Model.FieldOnly("select")(Schema.NullOr(Schema.String)),
  fired_count: Model.FieldOnly("select")(Schema.Int),
  last_fired_for: Model.FieldOnly("select")(Schema.NullOr(Model.DateTimeFromDate))
}) {}

const strict = { parseOptions: { onExcessProperty: "error", errors: "all" } } as const

/** Body of POST /tasks. */
export const TaskCreate = Task.jsonCreate.annotations({ identifier: "TaskCreate", ...strict })
export type TaskCreate = typeof TaskCreate.Type

/** Body of PATCH and PUT /tasks/{id}: the fields that change. */
export const TaskPatch = Task.jsonUpdate.annotations({ identifier: "TaskPatch", ...strict })
export type TaskPatch = typeof TaskPatch.Type

/** A definition as it was; a run pins one by its version. */
export const Revision = Schema.Struct({
  version: Schema.Int,
  definition: JsonObject,
  changed_by: Schema.NullOr(Schema.String),
  created_at: Instant
}).annotations({ identifier: "Revision" })
export type Revision = typeof Revision.Type

/** What an agent may say of a task: the fields of `TaskCreate`, all present. A revision keeps them as they were. */
export type TaskDefinition = Omit<TaskCreate, "timezone"> & { readonly timezone: string }

/** Body of the state changes; `on_missed` is read by resume alone. */
export const Reason = Schema.Struct({
  reason: Schema.optionalWith(Schema.String.pipe(Schema.maxLength(500)), { exact: true })
}).annotations({ identifier: "Reason", ...strict })

export const Resume = Schema.Struct({
  ...Reason.fields,
  on_missed: Schema.optionalWith(MisfirePolicy, { exact: true })
}).annotations({ identifier: "Resume", ...strict })

/** Body of POST /tasks/{id}/snooze: one of the two. */
export const Snooze = Schema.Struct({
  ...Reason.fields,
  delay_seconds: Schema.optionalWith(int(1, 31_536_000), { exact: true }),
  until: Schema.optionalWith(Instant, { exact: true })
}).pipe(
  Schema.filter(
    ({ delay_seconds, until }) =>
      (delay_seconds === undefined) !== (until === undefined) || {
        path: ["delay_seconds"],
        message: "give either delay_seconds or until"
      }
  ),
  Schema.annotations({ identifier: "Snooze", ...strict })
)
export type Snooze = typeof Snooze.Type

/** No such task, or not visible to this agent. */
export class TaskNotFound extends Schema.TaggedError<TaskNotFound>()(
  "TaskNotFound",
  { task_id: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

/** The task is canceled, which is final. */
export class TaskCanceled extends Schema.TaggedError<TaskCanceled>()(
  "TaskCanceled",
  { task_id: TaskId },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** The task is paused or completed and has no next occurrence that could be put off. */
export class NothingToSnooze extends Schema.TaggedError<NothingToSnooze>()(
  "NothingToSnooze",
  { task_id: TaskId, status: TaskStatus },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** Another active or paused task of the agent bears the `dedupe_key`. */
export class DuplicateTask extends Schema.TaggedError<DuplicateTask>()(
  "DuplicateTask",
  { task_id: TaskId, dedupe_key: Schema.String },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** A run within the task's dedupe window. */
export class DuplicateRun extends Schema.TaggedError<DuplicateRun>()(
  "DuplicateRun",
  { task_id: TaskId, within_seconds: Schema.Int },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** The task has as many unfinished runs as it may. */
export class TooManyRuns extends Schema.TaggedError<TooManyRuns>()(
  "TooManyRuns",
  { task_id: TaskId },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** `If-Match` names another version than the task has. */
export class VersionMismatch extends Schema.TaggedError<VersionMismatch>()(
  "VersionMismatch",
  { task_id: TaskId, version: Schema.Int },
  HttpApiSchema.annotations({ status: 412 })
) {}

/** A value that can be told to be wrong only by looking further than its form; `path` is a JSON Pointer or `query.<name>`. */
export class InvalidField extends Schema.TaggedError<InvalidField>()(
  "InvalidField",
  { path: Schema.String, message: Schema.String },
  HttpApiSchema.annotations({ status: 422 })
) {}

/** The agent has as many active tasks as it may. */
export class TooManyTasks extends Schema.TaggedError<TooManyTasks>()(
  "TooManyTasks",
  { max_tasks: Schema.Int },
  HttpApiSchema.annotations({ status: 422 })
) {}
