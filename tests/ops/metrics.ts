import type { SyntaxNode } from "@lezer/common"
import { parser } from "@prometheus-io/lezer-promql"
import { RateScope } from "../../src/domain/RateLimit.ts"
import { RunState, SkipReason, Trigger } from "../../src/domain/Run.ts"
import { ErrorCode } from "../../src/domain/StepFailed.ts"
import { WaitKind } from "../../src/domain/Wait.ts"
import { definitions } from "../../src/layers/Metrics.ts"
import * as Prometheus from "../../src/layers/Prometheus.ts"

/** What Prometheus adds to each series that it scrapes. */
const added = ["job", "instance"]

/** The closed sets that labels come from, as far as the product declares them. */
const valuesOf: Readonly<Record<string, ReadonlyArray<string>>> = {
  trigger: Trigger.literals,
  kind: WaitKind.literals,
  decision: ["fired", ...SkipReason.literals],
  scope: RateScope.literals,
  outcome: ["accepted", "dead", "succeeded", "skipped", ...RunState.literals, ...ErrorCode.literals],
  state: [...RunState.literals, "later", "ready", "blocked", "leased", "parked"],
  tool_kind: ["core", "http", "worker", "mcp", "simulated"],
  end: ["settled", "retried", "released", "parked", "lost", "rescued"]
}

/** Series by name, with their labels: of the product, of its processes, and those that Prometheus has of itself. */
export const emitted = async (): Promise<ReadonlyMap<string, ReadonlyArray<string>>> => {
  const ours = definitions.flatMap(({ labels, name, type }): ReadonlyArray<readonly [string, ReadonlyArray<string>]> =>
    type === "histogram"
      ? [
          [`${name}_bucket`, [...labels, "le", ...added]],
          [`${name}_sum`, [...labels, ...added]],
          [`${name}_count`, [...labels, ...added]]
        ]
      : [[name, [...labels, ...added]]]
  )
  const names = [...(await Prometheus.text()).matchAll(/^# TYPE ((?:process|nodejs)_\w+) /gm)].map(
    ([, name = ""]) => name
  )
  return new Map([...ours, ...names.map((name) => [name, added] as const), ["up", added]])
}

/** What an expression reads: its series, their matchers, and the labels that it groups or joins by. */
export interface Expression {
  readonly errors: ReadonlyArray<string>
  readonly selectors: ReadonlyArray<{
    readonly name: string
    readonly matchers: ReadonlyArray<{ readonly label: string; readonly op: string; readonly value: string }>
  }>
  readonly grouping: ReadonlyArray<string>
}

/** Reads PromQL by the grammar of Prometheus' own editor. */
export const parse = (text: string): Expression => {
  const errors: Array<string> = []
  const selectors: Array<Expression["selectors"][number]> = []
  const grouping: Array<string> = []
  const slice = (node: SyntaxNode | null) => (node === null ? "" : text.slice(node.from, node.to))
  parser.parse(text).iterate({
    enter: ({ node, type }) => {
      if (type.isError) errors.push(`${text}: at ${node.from}`)
      if (type.name === "VectorSelector") {
        const matchers = node.getChild("LabelMatchers")?.getChildren("UnquotedLabelMatcher") ?? []
        selectors.push({
          name: slice(node.getChild("Identifier")),
          matchers: matchers.map((one) => ({
            label: slice(one.getChild("LabelName")),
            op: slice(one.getChild("MatchOp")),
            value: slice(one.getChild("StringLiteral")).slice(1, -1)
          }))
        })
      }
      if (type.name === "GroupingLabels") grouping.push(...node.getChildren("LabelName").map(slice))
    }
  })
  return { errors, selectors, grouping }
}

/** What an expression names that `series` has not: syntax, series, labels, and values that no program gives. */
export const wrongIn = (text: string, series: ReadonlyMap<string, ReadonlyArray<string>>): ReadonlyArray<string> => {
  const { errors, grouping, selectors } = parse(text)
  const known = new Set(selectors.flatMap(({ name }) => series.get(name) ?? []))
  const bounds = new Set(["+Inf", ...Array.from({ length: 19 }, (_, i) => String(0.001 * 2 ** i))])
  const value = (label: string, op: string, given: string) => {
    // A variable of a dashboard stands for any value.
    if (given.startsWith("$")) return true
    if (label === "le") return bounds.has(given)
    const set = valuesOf[label]
    if (set === undefined) return true
    return op.endsWith("~") ? given.split("|").every((part) => set.includes(part)) : set.includes(given)
  }
  return [
    ...errors,
    ...(selectors.length === 0 ? [`${text}: reads no series`] : []),
    ...selectors.flatMap(({ matchers, name }) => {
      const labels = series.get(name)
      if (labels === undefined) return [`${text}: there is no ${name}`]
      return matchers.flatMap(({ label, op, value: given }) =>
        labels.includes(label) && value(label, op, given) ? [] : [`${text}: ${name} has no ${label}${op}${given}`]
      )
    }),
    ...grouping.filter((label) => !known.has(label)).map((label) => `${text}: groups by ${label}`)
  ]
}

/** Labels of what an expression results in, as far as it says so: by what its outermost aggregation keeps. */
export const labelsOf = (text: string): ReadonlyArray<string> => {
  const [, by = ""] = /^(?:\w+\([\d., ]*)?\w+ by \(([\w, ]+)\)/.exec(text) ?? []
  return by
    .split(",")
    .map((label) => label.trim())
    .filter((label) => label !== "" && label !== "le")
}
