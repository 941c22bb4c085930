import { FastCheck } from "effect"
import type { JsonValue } from "../../src/domain/Json.ts"
import type { Answer, ModelPipeline, ModelStep, Read, World } from "./PipelineModel.ts"

/** What every step of a random pipeline uses. */
export const probe = "probe.call"

/** A random pipeline with a world for it: its meaning, and as a task bears it. */
export interface Scenario {
  readonly model: ModelPipeline
  readonly payload: unknown
  /** Fields of the task beside the payload. */
  readonly task: { readonly max_retries: number; readonly backoff_strategy: "fixed"; readonly backoff_seconds: 0 }
  /** By step and element, the answers to its calls in order; the last one stands for all further calls. */
  readonly answers: Readonly<Record<string, ReadonlyArray<Answer>>>
}

export interface ScenarioOptions {
  /** Whether steps may state their needs. */
  readonly graphs: boolean
  /** Whether calls take time, 1 ms to 4 s each; where they take none, what runs at the same time is often unsettled. */
  readonly timed: boolean
}

/** The world of a scenario. */
export const worldOf =
  ({ answers }: Scenario): World =>
  (step, index, n) => {
    const script = answers[`${step}:${index}`] ?? []
    return script[Math.min(n, script.length) - 1] ?? { ok: null, takes: 0 }
  }

const codes = ["failed", "timeout", "tool_http_5xx", "tool_http_4xx"] as const

const answer = (timed: boolean): FastCheck.Arbitrary<Answer> => {
  const takes = timed ? FastCheck.integer({ min: 1, max: 4000 }) : FastCheck.constant(0)
  const ok = FastCheck.constantFrom<JsonValue>(null, false, 0, 1, "", "text", [], [1], {}, { a: 1 })
  return FastCheck.oneof(
    { arbitrary: FastCheck.record({ ok, takes }), weight: 3 },
    {
      arbitrary: FastCheck.record({ code: FastCheck.constantFrom(...codes), retryable: FastCheck.boolean(), takes }),
      weight: 2
    }
  )
}

/** What is drawn for a step; the numbers choose among what is there at its place. */
const draft = (timed: boolean) =>
  FastCheck.record({
    condition: FastCheck.option(FastCheck.constantFrom<boolean | Read["what"]>(true, false, "output", "error"), {
      freq: 3
    }),
    reads: FastCheck.array(FastCheck.tuple(FastCheck.nat(), FastCheck.constantFrom<Read["what"]>("output", "error")), {
      maxLength: 2
    }),
    asks: FastCheck.nat(),
    missing: FastCheck.nat(11).map((n) => n === 0),
    key: FastCheck.option(FastCheck.constantFrom("k", "other"), { freq: 3 }),
    each: FastCheck.option(
      FastCheck.record({
        list: FastCheck.array(FastCheck.constantFrom<JsonValue>("a", 1, null, { b: 2 }), { maxLength: 4 }),
        parallel: FastCheck.integer({ min: 1, max: 3 }),
        onItemError: FastCheck.constantFrom<"fail" | "continue">("fail", "continue")
      }),
      { freq: 3 }
    ),
    retry: FastCheck.option(
      FastCheck.record({
        most: FastCheck.integer({ min: 1, max: 3 }),
        on: FastCheck.option(FastCheck.subarray([...codes], { minLength: 1 }))
      }),
      { freq: 3 }
    ),
    onError: FastCheck.constantFrom<"fail" | "continue" | "goto">("fail", "continue", "goto"),
    jump: FastCheck.nat(),
    needs: FastCheck.array(FastCheck.nat(), { maxLength: 3 }),
    answers: FastCheck.array(FastCheck.array(answer(timed), { minLength: 1, maxLength: 4 }), {
      minLength: 4,
      maxLength: 4
    })
  })

type Draft = ReturnType<typeof draft> extends FastCheck.Arbitrary<infer A> ? A : never

/** Steps by their meaning: each reads only what has always ended, or is jumped over, before it starts. */
const stepsOf = (drafts: ReadonlyArray<Draft>, graph: boolean, prefix: string, earlier: ReadonlyArray<string>) => {
  const id = (place: number) => `${prefix}${place}`
  const ancestors: Array<ReadonlySet<number>> = []
  return drafts.map((one, place): ModelStep => {
    const needs = graph && place > 0 ? [...new Set(one.needs.map((need) => need % place))] : []
    const all = graph
      ? new Set([...needs, ...needs.flatMap((need) => [...(ancestors[need] ?? [])])])
      : new Set(drafts.keys())
    ancestors.push(all)
    const known = [...earlier, ...[...all].filter((other) => other < place).map(id)]
    const named = (at: number, what: Read["what"]): ReadonlyArray<Read> => {
      const from = known[at % Math.max(1, known.length)]
      return from === undefined ? [] : [{ from, what }]
    }
    const later = drafts.length - 1 - place
    const [asked] = typeof one.condition === "string" ? named(one.asks, one.condition) : []
    // Whether errors of elements stand under `errors` where there was none is not settled: nobody asks.
    const eachId = new Set(drafts.flatMap(({ each }, at) => (each === null ? [] : [id(at)])))
    const open =
      asked !== undefined && asked.what === "error" && (eachId.has(asked.from) || earlier.includes(asked.from))
    return {
      id: id(place),
      condition: typeof one.condition === "boolean" ? one.condition : open ? null : (asked ?? null),
      reads: one.reads.flatMap(([at, what]) => named(at, what)),
      missing: one.missing,
      key: one.key,
      each: one.each,
      // A call that cannot be rendered is not made, and so not retried.
      retry: one.missing ? null : one.retry,
      onError:
        one.onError !== "goto"
          ? one.onError
          : graph || later === 0
            ? "fail"
            : { goto: id(place + 1 + (one.jump % later)) },
      needs: graph ? needs.map(id) : null
    }
  })
}

const readText = ({ from, what }: Read, inFailure: boolean): string => {
  if (what === "error") return `\${errors.${from}[0].code || errors.${from}.code || 'none'}`
  return inFailure ? `\${steps.${from} || 'none'}` : `\${steps.${from}}`
}

const conditionText = (condition: boolean | Read): string =>
  typeof condition === "boolean"
    ? `params.${condition ? "yes" : "no"}`
    : `${condition.what === "error" ? "errors" : "steps"}.${condition.from}`

/** A step as the API takes it. */
const written = (step: ModelStep, inFailure: boolean) => ({
  id: step.id,
  uses: probe,
  with: {
    ...Object.fromEntries(step.reads.map((read, at) => [`r${at}`, readText(read, inFailure)])),
    ...(step.each !== null && { item: "${item}", index: "${index}" }),
    ...(step.missing && { missing: "${params.missing}" })
  },
  ...(step.condition !== null && { if: conditionText(step.condition) }),
  ...(step.key !== null && { idempotency_key: `${step.key}:\${run.id}${step.each === null ? "" : ":${index}"}` }),
  ...(step.each !== null && {
    for_each: `\${params.${step.id}}`,
    max_parallel: step.each.parallel,
    on_item_error: step.each.onItemError
  }),
  ...(step.retry !== null && {
    retry: {
      max_attempts: step.retry.most,
      backoff_seconds: 0,
      ...(step.retry.on !== null && { on: step.retry.on })
    }
  }),
  on_error: step.onError,
  ...(step.needs !== null && { needs: step.needs })
})

const listsOf = (steps: ReadonlyArray<ModelStep>) =>
  steps.flatMap(({ each, id }) => (each === null ? [] : [[id, each.list] as const]))

const scriptsOf = (drafts: ReadonlyArray<Draft>, steps: ReadonlyArray<ModelStep>) =>
  steps.flatMap(({ each, id }, place) => {
    const answers = drafts[place]?.answers ?? []
    return each === null
      ? [[`${id}:-1`, answers[0] ?? []] as const]
      : each.list.map((_, index) => [`${id}:${index}`, answers[index] ?? []] as const)
  })

/** Random pipelines of one to six steps, with up to three in `on_failure`, and what their tools do. */
export const scenarios = ({ graphs, timed }: ScenarioOptions): FastCheck.Arbitrary<Scenario> => {
  const graph = graphs ? FastCheck.boolean() : FastCheck.constant(false)
  return FastCheck.record({
    main: FastCheck.array(draft(timed), { minLength: 1, maxLength: 6 }),
    failure: FastCheck.array(draft(timed), { maxLength: 3 }),
    graph,
    failureGraph: graph,
    maxRetries: FastCheck.integer({ min: 0, max: 2 })
  }).map((drawn) => {
    const main = stepsOf(drawn.main, drawn.graph, "s", [])
    const failure = stepsOf(
      drawn.failure,
      drawn.failureGraph,
      "f",
      main.map(({ id }) => id)
    )
    return {
      model: { main, failure, maxRetries: drawn.maxRetries },
      payload: {
        params: { yes: true, no: false, ...Object.fromEntries([...listsOf(main), ...listsOf(failure)]) },
        pipeline: main.map((step) => written(step, false)),
        ...(failure.length > 0 && { on_failure: failure.map((step) => written(step, true)) })
      },
      task: { max_retries: drawn.maxRetries, backoff_strategy: "fixed", backoff_seconds: 0 },
      answers: Object.fromEntries([...scriptsOf(drawn.main, main), ...scriptsOf(drawn.failure, failure)])
    }
  })
}
