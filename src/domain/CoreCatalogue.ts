import { logLevels } from "./CoreInputs.ts"
import type { JsonObject } from "./Json.ts"

/** What is told of a built-in tool. */
export interface CoreDescription {
  readonly description: string
  readonly input_schema: JsonObject
}

const text = { type: "string" }

const input = (properties: JsonObject, required: ReadonlyArray<string>, more: JsonObject = {}): JsonObject => ({
  type: "object",
  properties,
  required,
  additionalProperties: false,
  ...more
})

/** The built-in tools by name, without their namespace; `coreToolNames` says which of them there are. */
export const coreCatalogue: ReadonlyMap<string, CoreDescription> = new Map([
  [
    "http",
    {
      description: "Sends a request to a URL; the output is its status, headers and body",
      input_schema: input(
        {
          method: { enum: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"], default: "GET" },
          url: { type: "string", format: "uri" },
          headers: { type: "object", additionalProperties: text },
          query: { type: "object" },
          body: {},
          expect_status: {}
        },
        ["url"]
      )
    }
  ],
  [
    "wait",
    {
      description: "Waits for a number of seconds, or until an instant, and holds no worker meanwhile",
      input_schema: input(
        { seconds: { type: "number", minimum: 0 }, until: { type: "string", format: "date-time" } },
        [],
        {
          oneOf: [{ required: ["seconds"] }, { required: ["until"] }]
        }
      )
    }
  ],
  [
    "wait_event",
    {
      description: "Waits for an event of a topic, for which a condition over `event` may hold",
      input_schema: input({ topic: text, if: text }, ["topic"])
    }
  ],
  [
    "approval",
    {
      description: "Waits for a person's decision, which is the output",
      input_schema: input(
        {
          message: text,
          data: {},
          approvers: { type: "array", items: text },
          on_expire: { enum: ["fail", "reject"], default: "fail" },
          fail_on_reject: { type: "boolean", default: false }
        },
        ["message"]
      )
    }
  ],
  [
    "emit",
    { description: "Publishes an event", input_schema: input({ topic: text, payload: {} }, ["topic", "payload"]) }
  ],
  [
    "run_task",
    {
      description: "Starts another task, and waits for its end where it is told to",
      input_schema: input(
        {
          task_id: { type: "string", format: "uuid" },
          params: { type: "object" },
          wait: { type: "boolean", default: false }
        },
        ["task_id"]
      )
    }
  ],
  [
    "transform",
    {
      description: "Gives a value: a template rendered, or a JMESPath expression over the context",
      input_schema: input({ value: {}, expression: text }, [], {
        oneOf: [{ required: ["value"] }, { required: ["expression"] }]
      })
    }
  ],
  [
    "log",
    {
      description: "Writes a line into the run and into the log",
      input_schema: input({ message: {}, level: { enum: logLevels, default: "info" }, data: {} }, ["message"])
    }
  ],
  [
    "fail",
    {
      description: "Fails the step with a message",
      input_schema: input({ message: {}, retryable: { type: "boolean", default: false } }, ["message"])
    }
  ]
])
