import { ConfigProvider, DateTime, Either, Layer } from "effect"
import type { Extension } from "../../src/domain/Extension.ts"
import type { JsonValue } from "../../src/domain/Json.ts"
import { check } from "../../src/domain/PipelineChecks.ts"
import { DueWork } from "../../src/domain/DueWork.ts"
import type { ToolCall } from "../../src/domain/ToolCall.ts"
import { Outgoing } from "../../src/layers/Outgoing.ts"
import { zone } from "../domain/bindings.ts"
import { Schema } from "effect"

const at = new Date("2026-03-02T09:00:00Z")
const id = "018f0000-0000-7000-8000-000000000001"

/** The seventh lease of a run in its second attempt. */
export const work = Schema.decodeSync(DueWork)({
  id,
  task_id: "018f0000-0000-7000-8000-000000000002",
  task_version: 1,
  agent_id: "018f0000-0000-7000-8000-000000000003",
  namespace: "main",
  trigger: "schedule",
  key: "s:2026-03-02T09:00:00.000Z",
  scheduled_for: at,
  due_at: at,
  priority: 5,
  lease_no: 7,
  attempt: 2,
  signals: 0,
  crashes: 0,
  cancel_requested_at: null,
  started_at: at,
  attempt_started_at: at,
  spent_ms: 0,
  deadline_at: null,
  start_by: null,
  event_id: null,
  parent_run_id: null,
  hops: 0,
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  created_at: at
})

/** A call of a tool with this input, as the engine makes it. */
export const toolCall = (
  uses: string,
  input: JsonValue,
  more: Partial<ToolCall> = {},
  timeoutSeconds = 20
): ToolCall => {
  const simple = { pipeline: [{ id: "call", uses: "mail.send" }] }
  const pipeline = Either.getOrThrow(check(simple))
  const [first] = pipeline.steps
  if (first === undefined) throw new Error("a pipeline has a step")
  const dot = uses.indexOf(".")
  return {
    pipeline,
    step: { ...first, uses, namespace: uses.slice(0, dot), tool: uses.slice(dot + 1), timeoutSeconds },
    work,
    item: -1,
    input,
    bindings: { params: {}, steps: {}, errors: {}, event: null, run: {}, task: {}, now: 0, zone: zone("UTC") },
    idempotencyKey: `${id}:call`,
    ...more
  }
}

/** An extension at a URL, with the tools of these names. */
export const extensionAt = (kind: Extension["kind"], base_url: string, ...names: ReadonlyArray<string>): Extension => ({
  namespace: "main",
  name: "mail",
  kind,
  base_url,
  tools: names.map((name) => ({ name })),
  served_by: [],
  version: 1,
  updated_at: DateTime.unsafeMake(at)
})

/** No credentials. */
export const noCredentials = { auth: null, signingSecret: null }

/** Settings under which the tests' own servers may be called. */
export const loopbackAllowed = Layer.setConfigProvider(
  ConfigProvider.fromMap(new Map([["ORDINAUT_ALLOW_PRIVATE_TARGETS", "127.0.0.0/8"]]))
)

/** The client that may call the tests' own servers. */
export const outgoing = Outgoing.layer.pipe(Layer.provide(loopbackAllowed))
