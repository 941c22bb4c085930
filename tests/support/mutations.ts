import { Effect, Schema } from "effect"
import { permissions } from "../../src/domain/Agent.ts"
import { TokenIssued } from "../../src/domain/Token.ts"
import type { Worker } from "../../src/layers/Worker.ts"
import { member, newTask, request } from "./ApiServer.ts"
import type { ApiServer } from "./ApiServer.ts"
import { work } from "./fixtures.ts"

/** Who makes what requests change: an agent with every permission, and its key. */
export interface Owner {
  readonly name: string
  readonly key: string
}

/** A request that changes something, and succeeds when its owner sends it. */
export interface Mutation {
  readonly path: string
  readonly body?: unknown
  /** Who sends it, where that is not the owner. */
  readonly key?: string
}

/** Makes what a route changes, belonging to an agent, and the request that changes it. */
type Prepare = (owner: Owner, n: number) => Effect.Effect<Mutation, unknown, ApiServer | Worker>

const Id = Schema.Struct({ id: Schema.String })
const Started = Schema.Struct({ run_id: Schema.String })
const Leased = Schema.Struct({ items: Schema.Array(Schema.Struct({ id: Schema.String, lease_token: Schema.String })) })

const decode = <A, I>(schema: Schema.Schema<A, I>, body: unknown) => Schema.decodeUnknownSync(schema)(body)

/** Sends a request that must succeed. */
const send = (method: string, path: string, key: string, body?: unknown) =>
  Effect.map(request(method, path, body === undefined ? { key } : { key, body }), (answer) => {
    if (answer.status >= 300) throw new Error(`${method} ${path} answers ${answer.status} ${answer.text}`)
    return answer.body
  })

const onTask =
  (suffix: string, body?: unknown, more: Readonly<Record<string, unknown>> = {}): Prepare =>
  ({ key }) =>
    Effect.map(newTask(more, key), ({ id }) => ({
      path: `/tasks/${id}${suffix}`,
      ...(body === undefined ? {} : { body })
    }))

const runOf = ({ key }: Owner, pipeline: ReadonlyArray<unknown>) =>
  Effect.gen(function* () {
    const { id } = yield* newTask({ schedule_expr: "0 0 1 1 *", max_retries: 0, payload: { pipeline } }, key)
    return decode(Started, yield* send("POST", `/tasks/${id}/run_now`, key)).run_id
  })

const agentOf = ({ key }: Owner, n: number) =>
  Effect.map(send("POST", "/agents", key, { name: `made-${n}`, scopes: ["tasks:read"] }), (body) => decode(Id, body).id)

const item =
  (suffix: "heartbeat" | "complete" | "fail", more: object): Prepare =>
  (owner, n) =>
    Effect.gen(function* () {
      yield* waitingItem(owner, n)
      const { items } = decode(Leased, yield* send("POST", "/work/lease", owner.key, { tools: [`crunch${n}.do`] }))
      const [{ id, lease_token } = { id: "", lease_token: "" }] = items
      return { path: `/work/${id}/${suffix}`, body: { lease_token, ...more } }
    })

const waitingItem = (owner: Owner, n: number) =>
  Effect.gen(function* () {
    const extension = { kind: "worker", served_by: [owner.name], tools: [{ name: "do" }] }
    yield* send("PUT", `/extensions/crunch${n}`, owner.key, extension)
    yield* runOf(owner, [{ id: "only", uses: `crunch${n}.do` }])
    yield* work
  })

const made = {
  title: "made",
  schedule_kind: "once",
  schedule_expr: "2100-01-01T00:00:00Z",
  payload: { pipeline: [{ id: "only", uses: "mail.send" }] }
}
const published = { topic: "orders.created", payload: { total: 1 } }
const secret = { value: "a value that nobody sees", bound_to: { hosts: ["api.example.com"] } }
const extension = { kind: "simulated", tools: [] }

/** Every route of the API that changes something, by its name in the served document. */
export const mutations: Readonly<Record<string, Prepare>> = {
  "POST /tasks": () => Effect.succeed({ path: "/tasks", body: made }),
  "POST /tasks/batch": () => Effect.succeed({ path: "/tasks/batch", body: { items: [made] } }),
  "PATCH /tasks/{id}": onTask("", { title: "changed" }),
  "PUT /tasks/{id}": onTask("", { title: "changed" }),
  "DELETE /tasks/{id}": onTask(""),
  "POST /tasks/{id}/backfill": onTask("/backfill", { from: "2026-03-02T08:00:00Z", to: "2026-03-02T08:05:00Z" }),
  "POST /backfills/{id}/cancel": (owner, n) =>
    Effect.gen(function* () {
      const { body, path } = yield* onTask("/backfill", { from: "2026-03-02T07:00:00Z", to: "2026-03-02T07:05:00Z" })(
        owner,
        n
      )
      const made = decode(Schema.Struct({ backfill_id: Schema.String }), yield* send("POST", path, owner.key, body))
      return { path: `/backfills/${made.backfill_id}/cancel` }
    }),
  "POST /tasks/{id}/run_now": onTask("/run_now"),
  "POST /tasks/{id}/snooze": onTask("/snooze", { delay_seconds: 60 }),
  "POST /tasks/{id}/pause": onTask("/pause"),
  "POST /tasks/{id}/resume": (owner, n) =>
    Effect.gen(function* () {
      const { path } = yield* onTask("/pause")(owner, n)
      yield* send("POST", path, owner.key)
      return { path: path.replace("/pause", "/resume") }
    }),
  "POST /tasks/{id}/cancel": onTask("/cancel"),
  "POST /runs/{id}/cancel": (owner) =>
    Effect.map(runOf(owner, [{ id: "only", uses: "mail.send" }]), (id) => ({ path: `/runs/${id}/cancel` })),
  "POST /runs/{id}/retry": (owner) =>
    Effect.gen(function* () {
      const id = yield* runOf(owner, [{ id: "only", uses: "core.fail", with: { message: "no" } }])
      yield* work
      return { path: `/runs/${id}/retry` }
    }),
  "POST /runs/{id}/steps/{step_id}/decide": (owner) =>
    Effect.gen(function* () {
      const id = yield* runOf(owner, [{ id: "ask", uses: "core.approval", with: { message: "May I?" } }])
      yield* work
      return { path: `/runs/${id}/steps/ask/decide`, body: { decision: "approved" } }
    }),
  "POST /events": () => Effect.succeed({ path: "/events", body: published }),
  "POST /events/batch": () => Effect.succeed({ path: "/events/batch", body: { items: [published] } }),
  "POST /work/lease": (owner, n) =>
    Effect.as(waitingItem(owner, n), { path: "/work/lease", body: { tools: [`crunch${n}.do`] } }),
  "POST /work/{id}/complete": item("complete", { output: { done: true } }),
  "POST /work/{id}/fail": item("fail", { code: "failed", message: "no" }),
  "POST /agents": (_, n) => Effect.succeed({ path: "/agents", body: { name: `made-${n}`, scopes: ["tasks:read"] } }),
  "PATCH /agents/{id}": (owner, n) =>
    Effect.map(agentOf(owner, n), (id) => ({ path: `/agents/${id}`, body: { max_tasks: 5 } })),
  "DELETE /agents/{id}": (owner, n) => Effect.map(agentOf(owner, n), (id) => ({ path: `/agents/${id}` })),
  "POST /agents/{id}/keys": (owner, n) =>
    Effect.map(agentOf(owner, n), (id) => ({ path: `/agents/${id}/keys`, body: { name: "second" } })),
  "DELETE /agents/{id}/keys/{keyId}": (owner, n) =>
    Effect.gen(function* () {
      const id = yield* agentOf(owner, n)
      const key = decode(Id, yield* send("POST", `/agents/${id}/keys`, owner.key, {}))
      return { path: `/agents/${id}/keys/${key.id}` }
    }),
  "PUT /extensions/{name}": (_, n) => Effect.succeed({ path: `/extensions/made${n}`, body: extension }),
  "DELETE /extensions/{name}": ({ key }, n) =>
    Effect.as(send("PUT", `/extensions/made${n}`, key, extension), { path: `/extensions/made${n}` }),
  "PUT /secrets/{name}": (_, n) => Effect.succeed({ path: `/secrets/made${n}`, body: secret }),
  "DELETE /secrets/{name}": ({ key }, n) =>
    Effect.as(send("PUT", `/secrets/made${n}`, key, secret), { path: `/secrets/made${n}` }),
  "POST /auth/token": () => Effect.succeed({ path: "/auth/token", body: {} }),
  "POST /auth/revoke": ({ key }) =>
    Effect.map(send("POST", "/auth/token", key, {}), (body) => {
      const [, claims = ""] = decode(TokenIssued, body).access_token.split(".")
      return { path: "/auth/revoke", body: { jti: JSON.parse(Buffer.from(claims, "base64url").toString()).jti } }
    })
}

/** Routes that are no GET and change nothing that is worth an entry: they compute, or say that a lease is still used. */
export const harmless: ReadonlyArray<string> = [
  "POST /schedules/preview",
  "POST /pipelines/dry_run",
  "POST /work/{id}/heartbeat"
]

/** An agent of the first admin's namespace with every permission. */
export const owner = (name: string) => Effect.map(member(name, permissions), ({ key }): Owner => ({ name, key }))
