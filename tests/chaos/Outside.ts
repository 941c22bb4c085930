import type { Chance } from "../simulation/Chance.ts"
import type { Definition } from "./Definitions.ts"
import type { ToolBench } from "./ToolBench.ts"

/**
 * What a call has of the steps before it: of each, the number of the answer that it goes by. It must be the one that is recorded,
 * or the call was made before that was stored.
 */
const seen = (...steps: ReadonlyArray<string>) => ({
  seen: Object.fromEntries(steps.map((step) => [step, `\${steps.${step}.answer}`]))
})

const never = { schedule_kind: "once", schedule_expr: "2100-01-01T00:00:00Z" }

/** One call after the other, some of them of tools that misbehave. */
const inOrder = (url: string, elements: string) => ({
  pipeline: [
    { id: "first", uses: "probe.quick" },
    {
      id: "each",
      uses: elements,
      for_each: "${`[1, 2, 3, 4, 5]`}",
      max_parallel: 2,
      with: seen("first")
    },
    { id: "odd", uses: "odd.any", with: seen("first"), timeout_seconds: 2, on_error: "continue" },
    {
      id: "http",
      uses: "core.http",
      with: {
        method: "POST",
        url: `${url}/http`,
        body: { tool: "http", step: "http", run: { id: "${run.id}", attempt: "${run.attempt}" }, input: seen("first") }
      },
      timeout_seconds: 2,
      retry: {
        max_attempts: 4,
        backoff_seconds: 0.2,
        on: [
          "tool_http_5xx",
          "tool_connection",
          "tool_output_invalid",
          "tool_response_too_large",
          "timeout",
          "internal"
        ]
      }
    },
    { id: "last", uses: "probe.slow", with: seen("first") }
  ]
})

/** Branches that wait: for time, for a decision, for an event, for another run. */
const branches = (child: string) => ({
  pipeline: [
    { id: "first", needs: [], uses: "probe.quick" },
    { id: "pause", needs: [], uses: "core.wait", with: { seconds: 1 } },
    { id: "slow", needs: ["first"], uses: "probe.slow", with: seen("first") },
    {
      id: "ask",
      needs: ["slow", "pause"],
      uses: "core.approval",
      with: { message: "Go on?", on_expire: "reject" },
      expires_seconds: 8
    },
    {
      id: "event",
      needs: ["first"],
      uses: "core.wait_event",
      with: { topic: "stock.low" },
      expires_seconds: 6,
      on_error: "continue"
    },
    {
      id: "child",
      needs: ["first"],
      uses: "core.run_task",
      with: { task_id: child, params: seen("first"), wait: true },
      on_error: "continue"
    },
    { id: "last", needs: ["ask", "event", "child", "slow"], uses: "probe.quick", with: seen("first", "slow") }
  ]
})

/** A task whose runs others start and wait for. */
export const child: Definition = {
  title: "child",
  ...never,
  max_retries: 2,
  backoff_strategy: "fixed",
  backoff_seconds: 0.5,
  payload: { params: { seen: {} }, pipeline: [{ id: "only", uses: "probe.quick", with: { parent: "${params.seen}" } }] }
}

/** A task whose runs take their worker along. */
export const deadly: Definition = {
  title: "deadly",
  ...never,
  max_retries: 0,
  payload: { pipeline: [{ id: "only", uses: "probe.deadly" }] }
}

/** A task whose runs all fail, and a task that starts so many of them at once. */
export const doomed: Definition = {
  title: "doomed",
  ...never,
  max_retries: 1,
  backoff_strategy: "exponential_jitter",
  backoff_seconds: 6,
  payload: { pipeline: [{ id: "fail", uses: "core.fail", with: { message: "always", retryable: true } }] }
}
export const surge = (task_id: string, runs: number): Definition => ({
  title: "surge",
  ...never,
  max_retries: 3,
  backoff_strategy: "fixed",
  backoff_seconds: 0.5,
  payload: {
    params: { list: Array.from({ length: runs }, (_, n) => n) },
    pipeline: [{ id: "each", for_each: "${params.list}", max_parallel: 50, uses: "core.run_task", with: { task_id } }]
  }
})

/** Tasks that call outside all the time. A worker's death and an outage use up no attempt; what is meant to fail has its own end. */
export const outside = (chance: Chance, { url }: ToolBench, childId: string): ReadonlyArray<Definition> =>
  [
    ...["probe.quick", "probe.repeatable"].map((elements, n) => ({
      title: `calls ${elements}`,
      schedule_kind: "cron",
      schedule_expr: ["*/2 * * * * *", "1-59/3 * * * * *"][n],
      payload: inOrder(url, elements)
    })),
    { title: "branches", schedule_kind: "cron", schedule_expr: "*/3 * * * * *", payload: branches(childId) }
  ].map((definition) => ({
    ...definition,
    timezone: "UTC",
    overlap_policy: chance.pick(["allow", "allow", "cancel_running"]),
    misfire_policy: "skip",
    max_retries: 3,
    backoff_strategy: "fixed",
    backoff_seconds: 0.5
  }))
