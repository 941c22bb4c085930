import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parse } from "yaml"
import { images } from "./images.ts"
import { workflowParser } from "./workflowParser.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const read = (path: string) => readFileSync(join(root, path), "utf8")
const names = readdirSync(join(root, ".github/workflows"))

const Step = Schema.Struct({
  uses: Schema.optional(Schema.String),
  run: Schema.optional(Schema.String),
  with: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.Unknown }))
})
const Workflow = Schema.Struct({
  permissions: Schema.Record({ key: Schema.String, value: Schema.String }),
  jobs: Schema.Record({
    key: Schema.String,
    value: Schema.Struct({
      uses: Schema.optional(Schema.String),
      container: Schema.optional(Schema.String),
      strategy: Schema.optional(
        Schema.Struct({
          matrix: Schema.Struct({
            program: Schema.optional(Schema.Array(Schema.String)),
            node: Schema.optional(Schema.Array(Schema.String))
          })
        })
      ),
      "timeout-minutes": Schema.optional(Schema.Int),
      steps: Schema.optionalWith(Schema.Array(Step), { default: () => [] })
    })
  })
})
const workflows = names.map((name) => ({
  name,
  ...Schema.decodeUnknownSync(Workflow)(parse(read(`.github/workflows/${name}`)))
}))
const jobs = workflows.flatMap(({ jobs, name }) =>
  Object.entries(jobs).map(([id, job]) => ({ at: `${name}: ${id}`, ...job }))
)
const steps = jobs.flatMap((job) => job.steps.map((step) => ({ at: job.at, ...step })))

describe("the workflows", () => {
  let errors = (_name: string, _content: string): ReadonlyArray<string> => ["the parser is not there"]
  beforeAll(async () => {
    const { NoOperationTraceWriter, parseWorkflow } = await workflowParser()
    errors = (name, content) =>
      parseWorkflow({ name, content }, new NoOperationTraceWriter())
        .context.errors.getErrors()
        .map(({ message }) => message)
  })

  it("are read by GitHub's own parser", () => {
    assert.sameMembers(names, ["test.yml", "release.yml", "images.yml"])
    for (const name of names) assert.deepStrictEqual(errors(name, read(`.github/workflows/${name}`)), [], name)
    assert.isNotEmpty(errors("a.yml", "on: push\njobs:\n  a:\n    runs_on: b\n    steps:\n      - run: c"))
    assert.isNotEmpty(errors("a.yml", "on: push\njobs:\n  a:\n    runs-on: b\n    steps:\n      - run: ${{ matrx.c }}"))
  })

  it("use actions of a stated version, and files that there are", () => {
    assert.isNotEmpty(steps)
    for (const { at, uses } of [...steps, ...jobs]) {
      if (uses === undefined) continue
      if (uses.startsWith("./")) assert.isTrue(existsSync(join(root, uses)), uses)
      else assert.match(uses, /^[\w-]+\/[\w-]+@(?:v\d+(?:\.\d+)*|[0-9a-f]{40})$/, at)
    }
    for (const { steps: of } of jobs)
      for (const { with: given } of of) {
        const file = given?.["file"]
        if (typeof file === "string") assert.strictEqual(file, "ops/docker/${{ matrix.program }}.Dockerfile")
      }
    for (const { strategy } of jobs)
      if (strategy?.matrix.program !== undefined)
        assert.sameMembers(
          [...strategy.matrix.program],
          images.map(({ program }) => program)
        )
  })

  it("may read and no more, unless a job says so, and end in time", () => {
    for (const { name, permissions } of workflows)
      assert.deepStrictEqual<unknown>(permissions, { contents: "read" }, name)
    for (const job of jobs) if (job.uses === undefined) assert.isDefined(job["timeout-minutes"], job.at)
  })

  it("run commands that there are, and put nothing of strangers into a shell", () => {
    const { scripts } = Schema.decodeUnknownSync(
      Schema.Struct({ scripts: Schema.Record({ key: Schema.String, value: Schema.String }) })
    )(JSON.parse(read("package.json")))
    const runs = steps.flatMap(({ at, run }) => (run === undefined ? [] : [{ at, run }]))
    for (const { at, run } of runs) {
      for (const [, name = ""] of run.matchAll(/npm run (?:--\S+ )*([\w:-]+)/g)) assert.property(scripts, name, at)
      for (const [, path = ""] of run.matchAll(/(?:^|\s)((?:\.ci|scripts|ops)\/[\w./-]+)/gm))
        if (!path.includes("node_modules")) assert.isTrue(existsSync(join(root, path)), `${at}: ${path}`)
      assert.notMatch(run, /\$\{\{\s*(?:github\.event|github\.head_ref|inputs)/, at)
    }
    accessSync(join(root, ".ci/run"), constants.X_OK)
  })

  it("test on the oldest and the newest Node, which is that of the images", () => {
    const versions = jobs.flatMap(({ strategy }) => strategy?.matrix.node ?? [])
    const { engines } = Schema.decodeUnknownSync(Schema.Struct({ engines: Schema.Struct({ node: Schema.String }) }))(
      JSON.parse(read("package.json"))
    )
    assert.strictEqual(versions[0]?.split(".")[0], engines.node.replace(">=", "").split(".")[0])
    for (const { text } of images) assert.include(text, `node:${versions.at(-1)}-bookworm-slim`)
  })

  it("release with plugins that are installed for it, and build images with what is in them and where from", () => {
    const { plugins } = Schema.decodeUnknownSync(
      Schema.Struct({ plugins: Schema.Array(Schema.Tuple(Schema.String, Schema.Unknown)) })
    )(JSON.parse(read(".releaserc.json")))
    const { packages } = Schema.decodeUnknownSync(
      Schema.Struct({ packages: Schema.Record({ key: Schema.String, value: Schema.Unknown }) })
    )(JSON.parse(read("ops/release/package-lock.json")))
    const Preset = Schema.Struct({ preset: Schema.String })
    for (const [name, options] of plugins) {
      assert.property(packages, `node_modules/${name}`)
      // Not the default one, which does not see that `feat!: …` breaks something.
      if (Schema.is(Preset)(options)) assert.strictEqual(options.preset, "conventionalcommits")
    }
    assert.property(packages, "node_modules/conventional-changelog-conventionalcommits")
    const analyzer = plugins.find(([name]) => name === "@semantic-release/commit-analyzer")
    assert.isTrue(Schema.is(Preset)(analyzer?.[1]))
    const push = steps.find(
      ({ at, uses }) => at.startsWith("images.yml") && uses?.startsWith("docker/build-push-action@")
    )
    assert.deepInclude(push?.with, { push: true, sbom: true, provenance: "mode=max" })
  })
})
