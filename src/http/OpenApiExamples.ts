import type { JsonObject } from "../domain/Json.ts"

const pipeline = [
  { id: "forecast", uses: "weather.forecast", with: { city: "Chisinau" }, save_as: "weather" },
  { id: "notify", uses: "mail.send", with: { to: "ops@example.com", text: "${steps.weather.summary}" } }
]

const task = {
  title: "Morning briefing",
  schedule_kind: "cron",
  schedule_expr: "30 8 * * 1-5",
  timezone: "Europe/Chisinau",
  payload: { pipeline },
  labels: { team: "ops" }
}

const order = { topic: "orders.created", payload: { id: 1001, total: 129.9 }, dedupe_key: "order-1001" }

const work = { lease_token: "the lease_token of POST /work/lease" }

/** A body for every operation that takes one, by the operation's id. */
export const examples: Readonly<Record<string, JsonObject>> = {
  "tasks.create": task,
  "tasks.createAll": { items: [task, { ...task, title: "Evening briefing", schedule_expr: "0 18 * * 1-5" }] },
  "tasks.patch": { schedule_expr: "0 9 * * 1-5", max_retries: 5 },
  "tasks.put": { title: "Late morning briefing", priority: 3 },
  "tasks.backfill": { from: "2026-03-02T08:00:00Z", to: "2026-03-02T08:05:00Z", max_parallel: 2 },
  "tasks.runNow": { params: { city: "Balti" } },
  "tasks.snooze": { delay_seconds: 3600, reason: "a holiday" },
  "tasks.pause": { reason: "the mail server moves" },
  "tasks.resume": { reason: "it has moved", on_missed: "skip" },
  "tasks.cancel": { reason: "nobody reads it" },
  "runs.retry": { task_version: "latest" },
  "runs.decide": { decision: "approved", comment: "go ahead", data: { limit: 100 } },
  "schedules.preview": {
    schedule_kind: "rrule",
    schedule_expr: "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=8;BYMINUTE=30",
    timezone: "Europe/Chisinau",
    count: 5
  },
  "pipelines.dryRun": {
    payload: { pipeline },
    timezone: "Europe/Chisinau",
    tool_outputs: { forecast: { summary: "sunny" } }
  },
  "events.publish": order,
  "events.publishAll": { items: [order, { topic: "orders.paid", payload: { id: 1001 } }] },
  "work.lease": { tools: ["video.render"], limit: 10, wait_seconds: 0, lease_seconds: 120 },
  "work.heartbeat": work,
  "work.complete": { ...work, output: { frames: 240 } },
  "work.fail": { ...work, message: "the disk is full", retryable: true },
  "agents.create": { name: "briefings", scopes: ["tasks:read", "tasks:write", "runs:read"], rate_per_minute: 600 },
  "agents.patch": { max_tasks: 100, budgets: [{ tool: "weather.*", calls_per_day: 1000 }] },
  "agents.issueKey": { name: "of the second server" },
  "extensions.put": {
    kind: "http",
    base_url: "https://weather.example.com",
    tools: [
      {
        name: "forecast",
        description: "Tomorrow's weather",
        input_schema: { type: "object", properties: { city: { type: "string", maxLength: 100 } }, required: ["city"] }
      }
    ]
  },
  "secrets.put": { value: "what nobody sees again", bound_to: { hosts: ["api.example.com"] } },
  "auth.token": { scopes: ["tasks:read"], ttl_seconds: 300 },
  "auth.revoke": { jti: "the jti of a token" }
}
