import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"
import { parse, parseAllDocuments } from "yaml"
import { settings } from "../../src/layers/EdgeSettings.ts"
import { has, images } from "./images.ts"
import { emitted, wrongIn } from "./metrics.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const folder = join(root, "ops/kubernetes")
const read = (path: string) => readFileSync(join(folder, path), "utf8")

/** The declarations of Kubernetes' own types, by what an object says that it is. */
const declarations: Readonly<Record<string, string>> = {
  "v1 Namespace": "core/v1",
  "v1 ConfigMap": "core/v1",
  "v1 ServiceAccount": "core/v1",
  "v1 Service": "core/v1",
  "batch/v1 Job": "batch/v1",
  "apps/v1 Deployment": "apps/v1",
  "policy/v1 PodDisruptionBudget": "policy/v1",
  "networking.k8s.io/v1 NetworkPolicy": "networking/v1",
  "autoscaling/v2 HorizontalPodAutoscaler": "autoscaling/v2"
}

const Labels = Schema.Record({ key: Schema.String, value: Schema.String })
const Probe = Schema.Struct({ httpGet: Schema.Struct({ path: Schema.String, port: Schema.String }) })
const Container = Schema.Struct({
  name: Schema.String,
  image: Schema.String,
  command: Schema.optional(Schema.Array(Schema.String)),
  securityContext: Schema.Unknown,
  envFrom: Schema.Array(Schema.Unknown),
  ports: Schema.optionalWith(Schema.Array(Schema.Struct({ name: Schema.String, containerPort: Schema.Int })), {
    default: () => []
  }),
  livenessProbe: Schema.optional(Probe),
  readinessProbe: Schema.optional(Probe),
  resources: Schema.Struct({ requests: Labels, limits: Schema.Struct({ memory: Schema.String }) })
})
const PodTemplate = Schema.Struct({
  metadata: Schema.Struct({ labels: Labels }),
  spec: Schema.Struct(
    {
      serviceAccountName: Schema.String,
      automountServiceAccountToken: Schema.Boolean,
      terminationGracePeriodSeconds: Schema.Int,
      securityContext: Schema.Unknown,
      containers: Schema.Array(Container)
    },
    { key: Schema.String, value: Schema.Unknown }
  )
})
const Thing = Schema.Struct({
  apiVersion: Schema.String,
  kind: Schema.String,
  metadata: Schema.Struct({ name: Schema.String, labels: Schema.optional(Labels) }),
  data: Schema.optional(Labels),
  spec: Schema.optional(
    Schema.Struct(
      {
        template: Schema.optional(PodTemplate),
        selector: Schema.optional(Schema.Unknown),
        podSelector: Schema.optional(Schema.Unknown),
        policyTypes: Schema.optional(Schema.Array(Schema.String)),
        scaleTargetRef: Schema.optional(Schema.Struct({ kind: Schema.String, name: Schema.String })),
        metrics: Schema.optional(
          Schema.Array(
            Schema.Struct({
              external: Schema.optional(Schema.Struct({ metric: Schema.Struct({ name: Schema.String }) }))
            })
          )
        )
      },
      { key: Schema.String, value: Schema.Unknown }
    )
  )
})
const Kustomization = Schema.Struct({
  resources: Schema.Array(Schema.String),
  images: Schema.optionalWith(
    Schema.Array(Schema.Struct({ name: Schema.String, newName: Schema.String, newTag: Schema.String })),
    { default: () => [] }
  ),
  patches: Schema.optionalWith(
    Schema.Array(
      Schema.Struct({ target: Schema.Struct({ kind: Schema.String, name: Schema.String }), patch: Schema.String })
    ),
    { default: () => [] }
  )
})

const kustomization = (name: string) =>
  Schema.decodeUnknownSync(Kustomization)(parse(read(`${name}/kustomization.yaml`)))
const base = kustomization("base")
const autoscaled = kustomization("autoscaled")
const manifests = [
  ...base.resources.map((name) => `base/${name}`),
  ...autoscaled.resources.filter((name) => !name.startsWith("../")).map((name) => `autoscaled/${name}`)
]
const objects = manifests.flatMap((path) => parseAllDocuments(read(path)).map((document): unknown => document.toJS()))
const things = objects.map((object) => Schema.decodeUnknownSync(Thing)(object))
const of = (kind: string) => things.filter((thing) => thing.kind === kind)
const templates = things.flatMap(({ metadata: { name }, spec }) =>
  spec?.template === undefined ? [] : [{ name, ...spec.template }]
)
const containers = templates.flatMap((template) =>
  template.spec.containers.map((container) => ({ pod: template.name, ...container }))
)
const deployed = of("Deployment").map(({ metadata: { name } }) => name)

/** What the compiler says of these objects as values of Kubernetes' own types: a field that there is not, one that is missing, a wrong type. */
const faults = (values: ReadonlyArray<unknown>): ReadonlyArray<string> => {
  const file = join(root, "tests/ops/made.ts")
  const typed = Schema.decodeUnknownSync(
    Schema.Array(Schema.Struct({ apiVersion: Schema.String, kind: Schema.String }))
  )(values)
  const text = values
    .map((value, i) => {
      const { apiVersion = "", kind = "" } = typed[i] ?? {}
      const path = declarations[`${apiVersion} ${kind}`] ?? "unknown"
      return `export const made${i}: import("kubernetes-types/${path}").${kind} = ${JSON.stringify(value)}`
    })
    .join("\n")
  const options = {
    noEmit: true,
    strict: true,
    skipLibCheck: true,
    types: [],
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler
  }
  const host = ts.createCompilerHost(options)
  const plain = host.getSourceFile.bind(host)
  host.getSourceFile = (name, ...rest) =>
    name === file ? ts.createSourceFile(name, text, ts.ScriptTarget.ESNext) : plain(name, ...rest)
  return ts
    .getPreEmitDiagnostics(ts.createProgram([file], options, host))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, " "))
}

const Selector = Schema.Struct({
  matchLabels: Schema.optional(Labels),
  matchExpressions: Schema.optional(
    Schema.Array(
      Schema.Struct({ key: Schema.String, operator: Schema.Literal("In"), values: Schema.Array(Schema.String) })
    )
  )
})

/** The pods that a selector means. */
const selected = (selector: unknown) => {
  const { matchExpressions = [], matchLabels = {} } = Schema.decodeUnknownSync(Selector, { onExcessProperty: "error" })(
    selector
  )
  return templates.filter(
    ({ metadata: { labels } }) =>
      Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
      matchExpressions.every(({ key, values }) => values.includes(labels[key] ?? ""))
  )
}

describe("the manifests of Kubernetes", () => {
  it("are of Kubernetes' own types", { timeout: 60_000 }, () => {
    assert.isAbove(objects.length, 15)
    assert.deepStrictEqual(faults(objects), [])
    const wrong = (spec: unknown) =>
      faults([{ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "a" }, spec }])
    const pod = (more: object) => ({
      selector: {},
      template: { spec: { containers: [{ name: "a", image: "b", ...more }] } }
    })
    assert.deepStrictEqual(wrong(pod({})), [])
    assert.isNotEmpty(wrong(pod({ livenesProbe: {} })))
    assert.isNotEmpty(wrong({ ...pod({}), replicas: "2" }))
    assert.isNotEmpty(wrong({ template: pod({}).template }))
  })

  it("are all in the kustomizations", () => {
    for (const [name, { resources }] of [
      ["base", base],
      ["autoscaled", autoscaled]
    ] as const) {
      const files = readdirSync(join(folder, name)).filter(
        (file) => !["kustomization.yaml", "adapter-values.yaml"].includes(file)
      )
      assert.sameMembers(
        resources.filter((one) => !one.startsWith("../")),
        files,
        name
      )
    }
    for (const { target, patch } of autoscaled.patches) {
      const thing = of(target.kind).find(({ metadata }) => metadata.name === target.name)
      const [{ op, path } = { op: "", path: "" }] = Schema.decodeUnknownSync(
        Schema.Array(Schema.Struct({ op: Schema.String, path: Schema.String }))
      )(parse(patch))
      assert.deepStrictEqual([op, path], ["remove", "/spec/replicas"])
      assert.property(thing?.spec, "replicas")
    }
  })

  it("run each program, by images that there are and commands that are in them", () => {
    assert.sameMembers(
      deployed,
      images.map(({ program }) => `ordinaut-${program}`)
    )
    for (const { command = [], image, pod, ports } of containers) {
      const made = images.find(({ program }) => image === `ordinaut-${program}`)
      assert.isDefined(made, pod)
      assert.isTrue(
        base.images.some(({ name, newName }) => name === image && newName.endsWith(`/${image}`)),
        image
      )
      if (command.length > 0)
        assert.isTrue(command[0] === "node" && made !== undefined && has(made, command[1] ?? ""), pod)
      else assert.deepStrictEqual(ports, [{ name: "http", containerPort: made?.port ?? 0 }])
    }
  })

  it("set variables that there are, and read the secrets that are asked for", () => {
    const known = new Set(settings.map(({ name }) => name))
    for (const { data = {} } of of("ConfigMap"))
      assert.deepStrictEqual(
        Object.keys(data).filter((name) => !known.has(name)),
        []
      )
    const sources = new Set(of("ConfigMap").map(({ metadata }) => metadata.name))
    const From = Schema.Union(
      Schema.Struct({ configMapRef: Schema.Struct({ name: Schema.String }) }),
      Schema.Struct({
        secretRef: Schema.Struct({
          name: Schema.Literal("ordinaut", "ordinaut-admin"),
          optional: Schema.optional(Schema.Boolean)
        })
      })
    )
    for (const { envFrom } of containers)
      for (const from of Schema.decodeUnknownSync(Schema.Array(From))(envFrom))
        if ("configMapRef" in from) assert.isTrue(sources.has(from.configMapRef.name))
  })

  it("keep to the restricted standard of pod security, and write nothing", () => {
    const [namespace] = of("Namespace")
    assert.strictEqual(namespace?.metadata.labels?.["pod-security.kubernetes.io/enforce"], "restricted")
    for (const { name, spec } of templates) {
      assert.deepStrictEqual<unknown>(
        spec.securityContext,
        { runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, seccompProfile: { type: "RuntimeDefault" } },
        name
      )
      assert.isFalse(spec.automountServiceAccountToken, name)
      for (const forbidden of ["hostNetwork", "hostPID", "hostIPC", "volumes"])
        assert.notProperty(spec, forbidden, name)
    }
    for (const { pod, securityContext } of containers)
      assert.deepStrictEqual(
        securityContext,
        { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
        pod
      )
  })

  it("ask for liveness where no database matters, and for readiness where it does", () => {
    for (const { livenessProbe, pod, readinessProbe } of containers.filter((one) => deployed.includes(one.pod))) {
      assert.deepStrictEqual(livenessProbe, { httpGet: { path: "/health/live", port: "http" } }, pod)
      assert.deepStrictEqual(readinessProbe, { httpGet: { path: "/health/ready", port: "http" } }, pod)
    }
  })

  it("leave running steps the time that they are promised", () => {
    const [config] = of("ConfigMap")
    const grace = Number(config?.data?.["SHUTDOWN_GRACE_SECONDS"])
    assert.isAbove(grace, 0)
    for (const { name, spec } of templates.filter((one) => deployed.includes(one.name)))
      assert.isAbove(spec.terminationGracePeriodSeconds, grace + 10, name)
  })

  it("select pods that there are", () => {
    const named = (selector: unknown) => selected(selector).map(({ name }) => name)
    for (const { metadata, spec } of of("Deployment")) assert.deepStrictEqual(named(spec?.selector), [metadata.name])
    for (const { metadata, spec } of of("PodDisruptionBudget"))
      assert.deepStrictEqual(named(spec?.selector), [metadata.name])
    for (const { metadata, spec } of of("Service"))
      assert.deepStrictEqual(named({ matchLabels: spec?.selector }), [metadata.name])
    assert.sameMembers(
      of("PodDisruptionBudget").map(({ metadata }) => metadata.name),
      deployed
    )
    const policies = of("NetworkPolicy")
    for (const { metadata, spec } of policies) assert.isNotEmpty(named(spec?.podSelector), metadata.name)
    const all = policies.find(({ metadata }) => metadata.name === "ordinaut-nothing")
    assert.deepStrictEqual<unknown>(all?.spec, { podSelector: {}, policyTypes: ["Ingress", "Egress"] })
  })

  it("scale by a metric that the programs give, through the adapter", async () => {
    const adapter = Schema.decodeUnknownSync(
      Schema.Struct({
        rules: Schema.Struct({
          external: Schema.Array(
            Schema.Struct({
              seriesQuery: Schema.String,
              metricsQuery: Schema.String,
              name: Schema.Struct({ as: Schema.String })
            })
          )
        })
      })
    )(parse(read("autoscaled/adapter-values.yaml"))).rules.external
    const wanted = of("HorizontalPodAutoscaler").flatMap(({ spec }) => {
      assert.include(deployed, spec?.scaleTargetRef?.name)
      assert.isTrue(autoscaled.patches.some(({ target }) => target.name === spec?.scaleTargetRef?.name))
      return spec?.metrics?.flatMap(({ external }) => external?.metric.name ?? []) ?? []
    })
    assert.deepStrictEqual(
      wanted,
      adapter.map(({ name }) => name.as)
    )
    const series = await emitted()
    for (const { metricsQuery, seriesQuery } of adapter)
      assert.deepStrictEqual([...wrongIn(metricsQuery, series), ...wrongIn(seriesQuery, series)], [])
  })

  it("are scraped under the names of jobs that the rules know", () => {
    const Jobs = Schema.Struct({
      scrape_configs: Schema.Array(
        Schema.Struct({
          job_name: Schema.String,
          relabel_configs: Schema.Array(Schema.Struct({ regex: Schema.String }))
        })
      )
    })
    const jobs = Schema.decodeUnknownSync(Jobs)(parse(read("scrape.yaml"))).scrape_configs
    assert.sameMembers(
      jobs.map(({ job_name }) => job_name),
      deployed
    )
    for (const { job_name, relabel_configs } of jobs)
      assert.deepStrictEqual(
        relabel_configs.map(({ regex }) => regex),
        [job_name, "http"]
      )
  })
})
