import type * as HttpApiError from "@effect/platform/HttpApiError"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Schema } from "effect"
import type * as Agent from "../domain/Agent.ts"
import type { AlreadyDecided, ApprovalNotFound } from "../domain/Approval.ts"
import type { BackfillNotFound } from "../domain/Backfill.ts"
import type { EventNotFound } from "../domain/Event.ts"
import type { InvalidPipeline } from "../domain/PipelineSpec.ts"
import type { NotRetryable, RunExpired } from "../domain/Rerun.ts"
import type { CredentialsUnreadable, ExtensionNotFound, ExtensionVersionMismatch } from "../domain/Registration.ts"
import type { RunFinished, RunNotFound, StepNotFound } from "../domain/Run.ts"
import type { SecretNotFound } from "../domain/Secret.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import type * as Task from "../domain/Task.ts"
import type { InvalidSchedule } from "../domain/Timeline.ts"
import type { WorkItemNotFound, WorkLeaseLost } from "../domain/WorkItem.ts"
import { fieldErrors } from "./FieldErrors.ts"
import type { BadRequest } from "./Requests.ts"

/** What is wrong with one value; `path` is a JSON Pointer into the body, or `query.<name>`. */
export const FieldError = Schema.Struct({ path: Schema.String, message: Schema.String })

/** An error as it travels: RFC 9457 `application/problem+json`. `code` is stable, `errors` comes with 422 alone. */
export const Problem = Schema.Struct({
  type: Schema.String,
  title: Schema.String,
  status: Schema.Int,
  detail: Schema.String,
  instance: Schema.String,
  code: Schema.String,
  request_id: Schema.String,
  errors: Schema.optionalWith(Schema.Array(FieldError), { exact: true })
})

/** Everything that a request may fail with. */
export type ApiError =
  | Agent.AgentExists
  | Agent.AgentNotFound
  | Agent.Forbidden
  | Agent.KeyNotFound
  | Agent.LastAdmin
  | Agent.Unauthorized
  | BackfillNotFound
  | BadRequest
  | CredentialsUnreadable
  | EventNotFound
  | ExtensionNotFound
  | ExtensionVersionMismatch
  | HttpApiError.HttpApiDecodeError
  | InvalidPipeline
  | InvalidSchedule
  | AlreadyDecided
  | ApprovalNotFound
  | NotRetryable
  | RunExpired
  | RunFinished
  | RunNotFound
  | SecretNotFound
  | StepNotFound
  | StoreUnavailable
  | WorkItemNotFound
  | WorkLeaseLost
  | Task.DuplicateRun
  | Task.DuplicateTask
  | Task.InvalidField
  | Task.NothingToSnooze
  | Task.TaskCanceled
  | Task.TaskNotFound
  | Task.TooManyTasks
  | Task.VersionMismatch

interface Description {
  readonly status: number
  readonly code: string
  readonly detail: string
  readonly errors?: ReadonlyArray<typeof FieldError.Type>
  readonly headers?: Readonly<Record<string, string>>
  /** Members beside those of RFC 9457 that a client may want to act on. */
  readonly more?: Readonly<Record<string, unknown>>
}

type Descriptions = {
  readonly [Tag in ApiError["_tag"]]: (error: Extract<ApiError, { readonly _tag: Tag }>, method: string) => Description
}

const invalid = (errors: Description["errors"] & object, code = "validation_failed"): Description => ({
  status: 422,
  code,
  detail:
    errors.length === 1
      ? `${errors[0]?.path || "the body"}: ${errors[0]?.message}`
      : `${errors.length} values are invalid`,
  errors
})

const descriptions: Descriptions = {
  Unauthorized: () => ({
    status: 401,
    code: "unauthorized",
    detail: "give an API key or a token: Authorization: Bearer ord_…",
    headers: { "www-authenticate": "Bearer" }
  }),
  Forbidden: ({ scope }) => ({
    status: 403,
    code: "forbidden",
    detail: `this needs the scope ${scope}`,
    more: { scope }
  }),
  AgentNotFound: ({ agent_id }) => ({ status: 404, code: "agent_not_found", detail: `there is no agent ${agent_id}` }),
  KeyNotFound: ({ key_id }) => ({ status: 404, code: "key_not_found", detail: `the agent has no key ${key_id}` }),
  TaskNotFound: ({ task_id }) => ({ status: 404, code: "task_not_found", detail: `there is no task ${task_id}` }),
  RunNotFound: ({ run_id }) => ({ status: 404, code: "run_not_found", detail: `there is no run ${run_id}` }),
  StepNotFound: ({ step_id }) => ({ status: 404, code: "step_not_found", detail: `the run has no step ${step_id}` }),
  BackfillNotFound: ({ backfill_id }) => ({
    status: 404,
    code: "backfill_not_found",
    detail: `there is no backfill ${backfill_id}`
  }),
  EventNotFound: ({ event_id }) => ({ status: 404, code: "event_not_found", detail: `there is no event ${event_id}` }),
  ExtensionNotFound: ({ name }) => ({
    status: 404,
    code: "extension_not_found",
    detail: `there is no extension ${name}`
  }),
  SecretNotFound: ({ name }) => ({ status: 404, code: "secret_not_found", detail: `there is no secret ${name}` }),
  CredentialsUnreadable: ({ reason }) => ({
    status: 409,
    code: "credentials_unreadable",
    detail: `${reason}; give the credentials anew`
  }),
  AgentExists: ({ name }) => ({
    status: 409,
    code: "agent_exists",
    detail: `an agent of this namespace is called ${name} already`
  }),
  LastAdmin: () => ({
    status: 409,
    code: "last_admin",
    detail: "the namespace main would be left without an enabled admin"
  }),
  TaskCanceled: ({ task_id }) => ({
    status: 409,
    code: "task_canceled",
    detail: "the task is canceled, which is final",
    more: { task_id }
  }),
  DuplicateTask: ({ dedupe_key, task_id }) => ({
    status: 409,
    code: "duplicate_task",
    detail: `task ${task_id} bears the dedupe_key ${dedupe_key} already`,
    more: { task_id }
  }),
  DuplicateRun: ({ task_id, within_seconds }) => ({
    status: 409,
    code: "duplicate_run",
    detail: `the task ran within its dedupe window of ${within_seconds} s`,
    more: { task_id }
  }),
  NothingToSnooze: ({ status, task_id }) => ({
    status: 409,
    code: "nothing_to_snooze",
    detail: `the task is ${status} and has no next occurrence to put off`,
    more: { task_id }
  }),
  ApprovalNotFound: ({ step_id }) => ({
    status: 404,
    code: "approval_not_found",
    detail: `step ${step_id} of the run does not wait for a decision of yours`
  }),
  AlreadyDecided: ({ reason, run_id, step_id }) => ({
    status: 409,
    code: reason === "decided" ? "already_decided" : "approval_expired",
    detail: reason === "decided" ? `step ${step_id} was decided before` : `the time to decide step ${step_id} is over`,
    more: { run_id, step_id }
  }),
  NotRetryable: ({ reason, run_id, state }) => ({
    status: 409,
    code: reason,
    detail: {
      run_unfinished: `the run is ${state}: only one that has ended is retried`,
      run_skipped: "the run was skipped: run_now or a backfill runs what never ran",
      pipeline_changed: "steps whose outputs are to be kept are not in that version of the pipeline"
    }[reason],
    more: { run_id, state }
  }),
  RunExpired: ({ run_id }) => ({
    status: 410,
    code: "run_expired",
    detail: `run ${run_id} is older than the history is kept`
  }),
  RunFinished: ({ run_id, state }) => ({
    status: 409,
    code: "run_finished",
    detail: `the run has ended: ${state}`,
    more: { run_id, state }
  }),
  WorkItemNotFound: ({ item_id }) => ({
    status: 404,
    code: "work_item_not_found",
    detail: `there is no item ${item_id}`
  }),
  WorkLeaseLost: ({ item_id }) => ({
    status: 409,
    code: "lease_lost",
    detail: `item ${item_id} is not yours any more: its lease ran out, it is finished, or its run has ended`
  }),
  VersionMismatch: ({ version }) => ({
    status: 412,
    code: "version_mismatch",
    detail: `the task is at version ${version}; read it again`,
    more: { version }
  }),
  ExtensionVersionMismatch: ({ name, version }) => ({
    status: 412,
    code: "version_mismatch",
    detail: version === 0 ? `there is no extension ${name}` : `the extension is at version ${version}; read it again`,
    more: { version }
  }),
  InvalidField: (error) => invalid([{ path: error.path, message: error.message }]),
  InvalidSchedule: ({ code, field, message }) => invalid([{ path: `/${field}`, message }], code),
  InvalidPipeline: ({ errors }) => invalid(errors, "invalid_pipeline"),
  TooManyTasks: ({ max_tasks }) =>
    invalid([{ path: "", message: `the agent may have ${max_tasks} active tasks` }], "too_many_tasks"),
  HttpApiDecodeError: ({ issues }, method) =>
    invalid(fieldErrors(issues, method === "GET" || method === "HEAD" || method === "DELETE" ? "query" : "body")),
  BadRequest: ({ code, detail, errors, headers, status }) => ({
    status,
    code,
    detail,
    ...(errors === undefined ? {} : { errors }),
    ...(headers === undefined ? {} : { headers })
  }),
  StoreUnavailable: ({ retry_after }) => ({
    status: 503,
    code: "store_unavailable",
    detail: "the database does not answer; try again in a moment",
    headers: { "retry-after": String(retry_after) }
  })
}

const titles: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  410: "Gone",
  412: "Precondition Failed",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  422: "Unprocessable Content",
  500: "Internal Server Error",
  503: "Service Unavailable"
}

interface Place {
  readonly method: string
  readonly instance: string
  readonly requestId: string
}

const isApiError = (error: unknown): error is ApiError =>
  typeof error === "object" &&
  error !== null &&
  "_tag" in error &&
  typeof error._tag === "string" &&
  error._tag in descriptions

/** The description of a tag is the one for the error's own type, which the index loses. */
const describe = (error: ApiError, method: string): Description =>
  (descriptions[error._tag] as (error: ApiError, method: string) => Description)(error, method)

const respond = (description: Description, { instance, requestId }: Place) => {
  const { code, detail, errors, headers, more, status } = description
  return HttpServerResponse.text(
    JSON.stringify({
      type: "about:blank",
      title: titles[status] ?? "Error",
      status,
      detail,
      instance,
      code,
      request_id: requestId,
      ...(errors === undefined ? {} : { errors }),
      ...more
    }),
    { status, contentType: "application/problem+json", ...(headers === undefined ? {} : { headers }) }
  )
}

/** The answer to an error of the API; undefined for anything else, which is a bug. */
export const toResponse = (error: unknown, place: Place): HttpServerResponse.HttpServerResponse | undefined =>
  isApiError(error) ? respond(describe(error, place.method), place) : undefined

/** The answer to a bug: it says nothing of what happened, which the log says. */
export const internal = (place: Place): HttpServerResponse.HttpServerResponse =>
  respond(
    { status: 500, code: "internal", detail: "something went wrong here; the log has it under the request's id" },
    place
  )
