import { Metric, MetricState } from "effect"
import * as Client from "prom-client"
import { definitions } from "./Metrics.ts"
import type { Definition } from "./Metrics.ts"

/** What `prom-client` asks of a metric when it writes the text. */
interface Source {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly get: () => Promise<{
    readonly name: string
    readonly help: string
    readonly type: string
    readonly aggregator: "sum"
    readonly values: ReadonlyArray<{ readonly value: number; readonly labels: Labels; readonly metricName: string }>
  }>
}

type Labels = Readonly<Record<string, string>>

const valuesOf = (name: string, labels: Labels, state: unknown) => {
  if (MetricState.isCounterState(state)) return [{ value: Number(state.count), labels, metricName: name }]
  if (MetricState.isGaugeState(state)) return [{ value: Number(state.value), labels, metricName: name }]
  if (!MetricState.isHistogramState(state)) return []
  const buckets = state.buckets
    .filter(([bound]) => Number.isFinite(bound))
    .map(([bound, count]) => ({ value: count, labels: { ...labels, le: String(bound) }, metricName: `${name}_bucket` }))
  return [
    ...buckets,
    { value: state.count, labels: { ...labels, le: "+Inf" }, metricName: `${name}_bucket` },
    { value: state.sum, labels, metricName: `${name}_sum` },
    { value: state.count, labels, metricName: `${name}_count` }
  ]
}

/** One of Effect's metrics as a source of `prom-client`'s registry, read anew at each scrape. */
const source = ({ meaning, name, type }: Definition): Source => ({
  name,
  help: meaning,
  type,
  get: async () => ({
    name,
    help: meaning,
    type,
    aggregator: "sum",
    values: Metric.unsafeSnapshot()
      .filter(({ metricKey }) => metricKey.name === name)
      .flatMap(({ metricKey, metricState }) =>
        valuesOf(name, Object.fromEntries(Array.from(metricKey.tags, (tag) => [tag.key, tag.value])), metricState)
      )
  })
})

/** The registry's types know its own three classes only, while it asks no more of a metric than `Source` says. */
const asMetric = (bridge: Source) => bridge as unknown as Client.Metric

const registry = new Client.Registry()
for (const definition of definitions) registry.registerMetric(asMetric(source(definition)))
Client.collectDefaultMetrics({ register: registry })

/** All metrics of this process in the Prometheus text format 0.0.4. */
export const text = (): Promise<string> => registry.metrics()

/** Media type of `text`. */
export const contentType = registry.contentType
