import type * as HttpApiError from "@effect/platform/HttpApiError"
import type * as Agent from "../domain/Agent.ts"
import type { AlreadyDecided, ApprovalNotFound } from "../domain/Approval.ts"
import type { BackfillNotFound } from "../domain/Backfill.ts"
import type { EventNotFound } from "../domain/Event.ts"
import type { IdempotencyKeyInUse, IdempotencyKeyReused } from "../domain/IdempotentAnswer.ts"
import type { InvalidPipeline } from "../domain/PipelineSpec.ts"
import type { RateLimited, TooManyStreams } from "../domain/RateLimit.ts"
import type { NotRetryable, RunExpired } from "../domain/Rerun.ts"
import type { CredentialsUnreadable, ExtensionNotFound, ExtensionVersionMismatch } from "../domain/Registration.ts"
import type { RunFinished, RunNotFound, StepNotFound } from "../domain/Run.ts"
import type { SecretNotFound } from "../domain/Secret.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import type * as Task from "../domain/Task.ts"
import type * as Token from "../domain/Token.ts"
import type { InvalidSchedule } from "../domain/Timeline.ts"
import type { WorkItemNotFound, WorkLeaseLost } from "../domain/WorkItem.ts"
import { fieldErrors } from "./FieldErrors.ts"
import type { BadRequest } from "./Requests.ts"

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
  | IdempotencyKeyInUse
  | IdempotencyKeyReused
  | InvalidPipeline
  | InvalidSchedule
  | AlreadyDecided
  | ApprovalNotFound
  | NotRetryable
  | RunExpired
  | RateLimited
  | RunFinished
  | RunNotFound
  | SecretNotFound
  | StepNotFound
  | StoreUnavailable
  | TooManyStreams
  | WorkItemNotFound
  | WorkLeaseLost
  | Task.DuplicateRun
  | Task.DuplicateTask
  | Task.InvalidField
  | Task.NothingToSnooze
  | Task.TaskCanceled
  | Task.TaskNotFound
  | Task.TooManyRuns
  | Task.TooManyTasks
  | Task.VersionMismatch
  | Token.IssuerUnavailable
  | Token.KeyRequired
  | Token.TokenNotFound

/** How an error is told. */
export interface Description {
  readonly status: number
  readonly code: string
  readonly detail: string
  readonly errors?: ReadonlyArray<{ readonly path: string; readonly message: string }>
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

const overLimit: Readonly<Record<RateLimited["scope"], string>> = {
  agent: "requests of this agent",
  address: "requests from this address",
  auth_failures: "failed authentications"
}

/** How each error is told, by its tag. */
export const descriptions: Descriptions = {
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
  KeyRequired: () => ({
    status: 403,
    code: "api_key_required",
    detail: "this needs an API key: a token buys no other token"
  }),
  TokenNotFound: () => ({
    status: 404,
    code: "token_not_found",
    detail: "there is no such token, or it is not one of this agent's"
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
  TooManyRuns: ({ task_id }) => ({
    status: 409,
    code: "too_many_runs",
    detail: "the task has as many unfinished runs as ORDINAUT_MAX_UNFINISHED_RUNS allows",
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
  IdempotencyKeyInUse: ({ retry_after }) => ({
    status: 409,
    code: "idempotency_key_in_use",
    detail: "the first request with this Idempotency-Key is still under way; try again in a moment",
    headers: { "retry-after": String(retry_after) }
  }),
  IdempotencyKeyReused: () =>
    invalid(
      [{ path: "header.Idempotency-Key", message: "was used for another request within the last 24 hours" }],
      "idempotency_key_reused"
    ),
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
  RateLimited: ({ retry_after, scope }) => ({
    status: 429,
    code: "rate_limited",
    detail: `too many ${overLimit[scope]} within a minute; try again in ${retry_after} s`,
    headers: { "retry-after": String(retry_after) },
    more: { scope }
  }),
  TooManyStreams: ({ limit, retry_after, scope }) => ({
    status: 429,
    code: "too_many_streams",
    detail: `${scope === "agent" ? "this agent has" : "this process serves"} ${limit} open streams, which are as many as may be`,
    headers: { "retry-after": String(retry_after) },
    more: { scope }
  }),
  StoreUnavailable: ({ retry_after }) => ({
    status: 503,
    code: "store_unavailable",
    detail: "the database does not answer; try again in a moment",
    headers: { "retry-after": String(retry_after) }
  }),
  IssuerUnavailable: ({ retry_after }) => ({
    status: 503,
    code: "issuer_unavailable",
    detail: "the keys of the tokens' issuer cannot be read; try again in a moment",
    headers: { "retry-after": String(retry_after) }
  })
}
