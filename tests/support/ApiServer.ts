import * as HttpServer from "@effect/platform/HttpServer"
import { assert } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import * as Listen from "../../src/http/Listen.ts"
import * as Server from "../../src/http/Server.ts"
import type { Actor } from "../../src/domain/Agent.ts"
import { Task } from "../../src/domain/Task.ts"
import { admin, agent } from "./fixtures.ts"
import { services } from "./Services.ts"

/** A request as a client writes it. A body that is not text or bytes is sent as JSON; `key` becomes the credentials. */
export interface Call {
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly key?: string | null
}

/** An answer; `body` is its JSON, or undefined where it has none. */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  readonly body: unknown
}

/** The product's API as a client meets it, over a loopback port. */
export class ApiServer extends Context.Tag("tests/ApiServer")<
  ApiServer,
  {
    readonly origin: string
    readonly adminKey: string
    readonly admin: Actor
    /** Sends a request, with the admin's key unless another one, or null for none, is given. */
    readonly request: (method: string, path: string, call?: Call) => Effect.Effect<Answer>
  }
>() {}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const init = (method: string, key: string | null, { body, headers }: Call): RequestInit => {
  const raw = typeof body === "string" || body instanceof Uint8Array || body instanceof ReadableStream
  return {
    method,
    redirect: "manual",
    headers: {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers
    },
    ...(body === undefined ? {} : { body: raw ? body : JSON.stringify(body) }),
    ...(body instanceof ReadableStream ? { duplex: "half" } : {})
  }
}

const served = Layer.effect(
  ApiServer,
  Effect.gen(function* () {
    const { address } = yield* HttpServer.HttpServer
    const origin = address._tag === "TcpAddress" ? `http://${address.hostname}:${address.port}` : ""
    const first = yield* admin
    return ApiServer.of({
      origin,
      adminKey: first.key,
      admin: first.actor,
      request: (method, path, call = {}) =>
        Effect.promise(async () => {
          const key = call.key === undefined ? first.key : call.key
          const answer = await fetch(`${origin}${path}`, init(method, key, call))
          // A stream does not end: its head is the answer.
          const isStream = answer.headers.get("content-type") === "text/event-stream"
          if (isStream) await answer.body?.cancel()
          const text = isStream ? "" : await answer.text()
          return { status: answer.status, headers: answer.headers, text, body: parsed(text) }
        })
    })
  })
)

/** A test's clock stands still, so that all its requests fall within one minute. */
const unlimited = [
  ["RATE_AGENT", "1000000"],
  ["RATE_ADDRESS", "1000000"],
  ["RATE_AUTH_FAILURES", "1000000"]
] as const

/** Serves the real API on a free loopback port, over every service on a fresh database and the tests' clock. `more` are settings. */
export const apiServer = (more: ReadonlyArray<readonly [string, string]> = []) =>
  Layer.mergeAll(served, Server.layer).pipe(
    Layer.provideMerge(Listen.api("127.0.0.1")),
    Layer.provideMerge(services([["PORT", "0"], ...unlimited, ...more])),
    Layer.orDie
  )

/** `request` of the server that is under test. */
export const request = (method: string, path: string, call?: Call) =>
  Effect.flatMap(ApiServer, (server) => server.request(method, path, call))

/** Another agent with a key of its own. */
export const member = (name: string, scopes: ReadonlyArray<string>) =>
  Effect.flatMap(ApiServer, (server) => agent(server.admin, name, scopes))

/** The body of an answer with this status, of exactly the form that the contract declares. */
export const answered = <A, I>(answer: Answer, status: number, schema: Schema.Schema<A, I>): I => {
  assert.strictEqual(answer.status, status, answer.text)
  return Schema.decodeUnknownSync(Schema.encodedSchema(schema), { onExcessProperty: "error" })(answer.body)
}

/** A list's answer. */
export const page = <A, I>(answer: Answer, item: Schema.Schema<A, I>) =>
  answered(answer, 200, Schema.Struct({ items: Schema.Array(item), next_cursor: Schema.NullOr(Schema.String) }))

const ProblemDocument = Schema.Struct({
  type: Schema.String,
  title: Schema.NonEmptyString,
  status: Schema.Int,
  detail: Schema.NonEmptyString,
  instance: Schema.String,
  code: Schema.String.pipe(Schema.pattern(/^[a-z0-9_]+$/)),
  request_id: Schema.NonEmptyString,
  errors: Schema.optional(Schema.NonEmptyArray(Schema.Struct({ path: Schema.String, message: Schema.NonEmptyString })))
})

/** The problem document of a refusal (RFC 9457), which bears `errors` with 422 alone. */
export const refusal = (answer: Answer, status?: number, code?: string) => {
  if (status !== undefined) assert.strictEqual(answer.status, status, answer.text)
  assert.strictEqual(answer.headers.get("content-type"), "application/problem+json", answer.text)
  const problem = Schema.decodeUnknownSync(ProblemDocument)(answer.body)
  assert.strictEqual(problem.status, answer.status)
  assert.strictEqual(problem.errors !== undefined, answer.status === 422, answer.text)
  if (code !== undefined) assert.strictEqual(problem.code, code, answer.text)
  return problem
}

/** Body of a task with one simulated step; `more` overrides. */
export const taskBody = (more: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> => ({
  title: "a task",
  schedule_kind: "cron",
  schedule_expr: "* * * * *",
  timezone: "UTC",
  payload: { pipeline: [{ id: "only", uses: "mail.send", with: { to: "a" } }] },
  ...more
})

/** A new task, as POST /tasks answers it. */
export const newTask = (more: Readonly<Record<string, unknown>> = {}, key?: string) =>
  Effect.map(request("POST", "/tasks", { body: taskBody(more), ...(key === undefined ? {} : { key }) }), (answer) =>
    answered(answer, 201, Task.json)
  )
