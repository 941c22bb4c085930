import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { execFile } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { parse as parseYaml } from "yaml"
import { findPrometheus } from "../support/prometheusServer.ts"
import { emitted, labelsOf, wrongIn } from "./metrics.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const read = (path: string) => readFileSync(join(root, path), "utf8")
const files = (folder: string, ending: string) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith(ending))
    .map((name) => `${folder}/${name}`)

const Alert = Schema.Struct({
  alert: Schema.String,
  expr: Schema.String,
  for: Schema.optional(Schema.String),
  labels: Schema.Struct({ severity: Schema.Literal("critical", "warning", "info") }),
  annotations: Schema.Struct({ summary: Schema.NonEmptyString, runbook_url: Schema.String })
})
const Record = Schema.Struct({ record: Schema.String, expr: Schema.String })
const RuleFile = Schema.Struct({
  groups: Schema.Array(Schema.Struct({ name: Schema.String, rules: Schema.Array(Schema.Union(Alert, Record)) }))
})
const CaseFile = Schema.Struct({
  rule_files: Schema.Array(Schema.String),
  tests: Schema.Array(
    Schema.Struct({
      input_series: Schema.Array(Schema.Struct({ series: Schema.String, values: Schema.Unknown })),
      alert_rule_test: Schema.Array(
        Schema.Struct({ alertname: Schema.String, exp_alerts: Schema.Array(Schema.Unknown) })
      )
    })
  )
})
const Dashboard = Schema.Struct({
  uid: Schema.String,
  title: Schema.String,
  links: Schema.Array(Schema.Struct({ url: Schema.String })),
  templating: Schema.Struct({
    list: Schema.Array(Schema.Struct({ name: Schema.String, type: Schema.String, query: Schema.Unknown }))
  }),
  panels: Schema.Array(
    Schema.Struct({
      id: Schema.Int,
      type: Schema.String,
      title: Schema.NonEmptyString,
      description: Schema.optional(Schema.NonEmptyString),
      gridPos: Schema.Struct({ x: Schema.Int, y: Schema.Int, w: Schema.Int, h: Schema.Int }),
      targets: Schema.optionalWith(Schema.Array(Schema.Struct({ refId: Schema.String, expr: Schema.String })), {
        default: () => []
      })
    })
  )
})

const rules = files("ops/prometheus/rules", ".yml").flatMap((path) =>
  Schema.decodeUnknownSync(RuleFile, { onExcessProperty: "error" })(parseYaml(read(path))).groups.flatMap(
    (group) => group.rules
  )
)
const alerts = rules.flatMap((rule) => ("alert" in rule ? [rule] : []))
const records = rules.flatMap((rule) => ("record" in rule ? [rule] : []))
const cases = files("ops/prometheus/tests", ".yml").flatMap(
  (path) => Schema.decodeUnknownSync(CaseFile)(parseYaml(read(path))).tests
)
const dashboards = files("ops/grafana/dashboards", ".json").map((path) =>
  Schema.decodeUnknownSync(Dashboard)(JSON.parse(read(path)))
)

/** With what Grafana puts in for its own variables. */
const ofGrafana = (expr: string) => expr.replaceAll("$__rate_interval", "5m")

const unique = (values: ReadonlyArray<unknown>) => new Set(values).size === values.length

const run = async (...args: ReadonlyArray<string>) => {
  const { promtool } = await findPrometheus()
  return promisify(execFile)(promtool, args, { cwd: root }).then(
    ({ stderr, stdout }) => ({ passed: true, said: stdout + stderr }),
    (cause: unknown) => ({ passed: false, said: String(cause) + JSON.stringify(cause) })
  )
}

describe("rules of Prometheus", () => {
  let series: ReadonlyMap<string, ReadonlyArray<string>> = new Map()
  beforeAll(async () => {
    series = new Map([...(await emitted()), ...records.map(({ expr, record }) => [record, labelsOf(expr)] as const)])
  })

  it("read what the programs really give", () => {
    assert.isAbove(alerts.length, 20)
    assert.deepStrictEqual(
      rules.flatMap(({ expr }) => wrongIn(expr, series)),
      []
    )
  })

  it("would be found wrong", () => {
    const wrong = [
      "sum(rate(ordinaut_run_total[5m]))",
      'ordinaut_runs_total{task_id="1"}',
      'ordinaut_runs_total{state="done"}',
      'ordinaut_runs_total{state=~"failed|done"}',
      'ordinaut_queue_wait_seconds_bucket{le="30"}',
      "sum by (route) (ordinaut_runs_total)",
      "sum(ordinaut_runs_total",
      "ordinaut_queue_wait_seconds"
    ]
    assert.deepStrictEqual(
      wrong.filter((expr) => wrongIn(expr, series).length === 0),
      []
    )
    assert.deepStrictEqual(wrongIn('sum by (state) (rate(ordinaut_runs_total{state="failed"}[5m]))', series), [])
  })

  it("have names of their own", () => {
    assert.isTrue(unique(alerts.map(({ alert }) => alert)))
    assert.isTrue(unique(records.map(({ record }) => record)))
  })

  it("are each used", () => {
    const readers = [
      ...rules.map(({ expr }) => expr),
      ...dashboards.flatMap(({ panels }) => panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)))
    ]
    assert.deepStrictEqual(
      records.filter(({ record }) => !readers.some((expr) => new RegExp(`\\b${record}(?![\\w:])`).test(expr))),
      []
    )
  })

  it("lead each alert to a paragraph of the runbooks, which has no other", () => {
    const headings = [...read("docs/runbooks.md").matchAll(/^### (\w+)\n\n(?=\w)/gm)].map(([, name = ""]) => name)
    assert.sameMembers(
      headings,
      alerts.map(({ alert }) => alert)
    )
    for (const { alert, annotations } of alerts)
      assert.strictEqual(annotations.runbook_url, `docs/runbooks.md#${alert.toLowerCase()}`)
  })

  it("have cases that show each alert firing, and not firing on series of the same name", () => {
    const of = (name: string, fires: boolean) =>
      cases.filter(({ alert_rule_test }) =>
        alert_rule_test.some(({ alertname, exp_alerts }) => alertname === name && exp_alerts.length > 0 === fires)
      )
    const named = (list: typeof cases) =>
      new Set(list.flatMap(({ input_series }) => input_series.map((one) => one.series.replace(/\{.*/, ""))))
    for (const { alert } of alerts) {
      assert.isNotEmpty(of(alert, true), alert)
      assert.isNotEmpty(of(alert, false), alert)
      assert.sameMembers([...named(of(alert, true))], [...named(of(alert, false))], alert)
    }
    assert.deepStrictEqual(
      cases.flatMap(({ input_series }) =>
        input_series.flatMap((one) => (/_bucket\{.*\ble="/.test(one.series) ? [] : wrongIn(one.series, series)))
      ),
      []
    )
  })

  it("hold in promtool", { timeout: 120_000 }, async () => {
    for (const path of files("ops/prometheus/tests", ".yml")) {
      const { passed, said } = await run("test", "rules", path)
      assert.isTrue(passed, said)
    }
    const config = await run("check", "config", "ops/prometheus/prometheus.yml")
    assert.isTrue(config.passed, config.said)
  })
})

describe("dashboards of Grafana", () => {
  let series: ReadonlyMap<string, ReadonlyArray<string>> = new Map()
  beforeAll(async () => {
    series = new Map([...(await emitted()), ...records.map(({ expr, record }) => [record, labelsOf(expr)] as const)])
  })

  it("read what the programs really give, and the rules record", () => {
    assert.isAbove(dashboards.length, 1)
    const variables = dashboards.flatMap(({ templating }) =>
      templating.list.flatMap(({ query, type }) => {
        const asked = Schema.decodeUnknownOption(Schema.Struct({ query: Schema.String }))(query)
        const [, name = "", label = ""] =
          asked._tag === "Some" ? (/^label_values\((\w+), (\w+)\)$/.exec(asked.value.query) ?? []) : []
        return type === "query" ? [`sum by (${label}) (${name})`] : []
      })
    )
    assert.isNotEmpty(variables)
    const asked = dashboards.flatMap(({ panels }) => panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)))
    assert.deepStrictEqual(
      [...variables, ...asked].flatMap((expr) => wrongIn(ofGrafana(expr), series)),
      []
    )
  })

  it("use variables that they have", () => {
    for (const { panels, templating, title } of dashboards) {
      const names = new Set(templating.list.map(({ name }) => name))
      const used = panels.flatMap(({ targets }) =>
        targets.flatMap(({ expr }) => [...expr.matchAll(/\$(?!__)(\w+)/g)].map(([, name = ""]) => name))
      )
      assert.deepStrictEqual(
        used.filter((name) => !names.has(name)),
        [],
        title
      )
    }
  })

  it("have panels with names of their own, in their places, and explained", () => {
    assert.isTrue(unique(dashboards.map(({ uid }) => uid)))
    for (const { links, panels, title } of dashboards) {
      assert.isTrue(unique(panels.map(({ id }) => id)), title)
      for (const { description, targets, title: name, type } of panels.filter((panel) => panel.type !== "row")) {
        assert.isDefined(description, name)
        assert.isNotEmpty(targets, name)
        assert.include(["timeseries", "stat", "heatmap"], type)
      }
      const overlaps = panels.filter(({ gridPos: a, id }) =>
        panels.some(
          ({ gridPos: b, id: other }) =>
            other > id && a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
        )
      )
      assert.deepStrictEqual(overlaps, [], title)
      assert.isTrue(
        panels.every(({ gridPos: { w, x } }) => x + w <= 24),
        title
      )
      for (const { url } of links)
        assert.isTrue(
          dashboards.some(({ uid }) => url === `/d/${uid}`),
          url
        )
    }
  })

  it("are found where the provisioning looks for them", () => {
    const [provider] = Schema.decodeUnknownSync(
      Schema.Struct({ providers: Schema.Array(Schema.Struct({ options: Schema.Struct({ path: Schema.String }) })) })
    )(parseYaml(read("ops/grafana/provisioning/dashboards/ordinaut.yaml"))).providers
    assert.include(read("ops/compose.yaml"), `./grafana/dashboards:${provider?.options.path}:ro`)
  })
})
