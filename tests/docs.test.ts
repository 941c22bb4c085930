import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Either, Schema } from "effect"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join, sep } from "node:path"
import { fileURLToPath } from "node:url"
import { stale } from "../scripts/docs.ts"
import { coreToolNames } from "../src/domain/CoreInputs.ts"
import { dryRun } from "../src/domain/DryRun.ts"
import { givenOutputs } from "../src/domain/GivenOutput.ts"
import { check } from "../src/domain/PipelineChecks.ts"
import { PipelineSpec, Step, StepRetry } from "../src/domain/PipelineSpec.ts"
import { compile } from "../src/domain/ScheduleSpec.ts"
import { ErrorCode, isRetryable } from "../src/domain/StepFailed.ts"
import { TaskCreate } from "../src/domain/Task.ts"
import { find } from "../src/domain/Zone.ts"
import { DryRunCreate } from "../src/http/PipelinesApi.ts"
import { settings } from "../src/layers/EdgeSettings.ts"
import { briefing } from "./domain/briefing.ts"
import { blocksOf } from "./support/blocks.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const read = (path: string) => readFileSync(join(root, path), "utf8")

const documents = [
  ...["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"],
  ...["docs", "docs/decisions", "docs/guides"].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith(".md"))
      .map((name) => `${folder}/${name}`)
  )
]

/** Files that the guides show. */
const examples = readdirSync(join(root, "examples"), { recursive: true, encoding: "utf8" })
  .filter((path) => /\.(?:json|mjs)$/.test(path))
  .map((path) => `examples/${path.split(sep).join("/")}`)

const found = (path: string, pattern: RegExp) => [...read(path).matchAll(pattern)].map(([, text = ""]) => text)

/** The values of the JSON blocks of a document. */
const jsonOf = (path: string): ReadonlyArray<unknown> =>
  found(path, /^```json\n([^]*?)^```$/gm).map((text): unknown => JSON.parse(text))

/** Every table of a document: the cells of its head, and those of its rows. */
const tablesOf = (path: string) =>
  found(path, /((?:^\|.*\|\n)+)/gm).map((text) => {
    const [head = [], , ...rows] = text
      .trim()
      .split("\n")
      .map((line) =>
        line
          .split("|")
          .slice(1, -1)
          .map((part) => part.trim())
      )
    return { head, rows }
  })

const firstCode = (cell: string | undefined) => /`([^`]+)`/.exec(cell ?? "")?.[1] ?? ""

/** The expressions of the tables of the manual of schedules whose second column bears this title. */
const expressions = (title: string) =>
  tablesOf("docs/schedules.md")
    .filter(({ head }) => head[0] === "Expression" && head[1]?.startsWith(title))
    .flatMap(({ rows }) => rows.map(([cell]) => cell ?? ""))
    .map((cell) => ({ expr: firstCode(cell), dtstart: /`dtstart` (\S+)/.exec(cell)?.[1] ?? null }))

const compiles = ({ dtstart, expr }: { readonly expr: string; readonly dtstart: string | null }) =>
  Either.isRight(
    compile({
      kind: expr.startsWith("FREQ") ? "rrule" : "cron",
      expr,
      timezone: "Europe/Chisinau",
      dtstart,
      createdAt: Date.UTC(2026, 2, 2, 9)
    })
  )

const accepted = (payload: typeof PipelineSpec.Type) => assert.isTrue(Either.isRight(check(payload, "/payload")))

/** `Jmes…` stands for all files that begin so, `…Api.ts` for all that end so. */
const covers = (name: string, file: string) =>
  name.endsWith("…")
    ? file.startsWith(name.slice(0, -1))
    : name.startsWith("…")
      ? file.endsWith(name.slice(1))
      : name === file

const hasKey = (value: unknown, key: string) => typeof value === "object" && value !== null && key in value

describe("the documents", () => {
  it("that are made from the code are up to date", async () => {
    assert.deepStrictEqual(await stale(), [])
  })

  it("name no environment variable that does not exist", () => {
    const ofExamples = examples.flatMap((path) => found(path, /\bprocess\.env\.(\w+)/g))
    const ofCompose = found("ops/compose.yaml", /\$\{(\w+)/g)
    const known = new Set([...settings.map(({ name }) => name), ...ofExamples, ...ofCompose, "CI", "NO_COLOR"])
    const named = documents.flatMap((path) =>
      found(path, /(?<![\w*])((?:[A-Z][A-Z0-9]*_)+[A-Z0-9]+)\b/g).map((name) => ({ path, name }))
    )
    assert.isAbove(named.length, settings.length)
    assert.deepStrictEqual(
      named.filter(({ name }) => !known.has(name)),
      []
    )
  })

  it("link to what exists", () => {
    const links = documents.flatMap((path) =>
      [
        ...read(path)
          .replaceAll(/^```[^]*?^```$/gm, "")
          .matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)
      ].map(([, to = ""]) => join(dirname(path), to))
    )
    assert.isNotEmpty(links)
    assert.deepStrictEqual(
      links.filter((path) => !existsSync(join(root, path))),
      []
    )
  })

  it("name files that exist", () => {
    const files = new Set(
      ["src", "tests", "scripts"].flatMap((folder) =>
        readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map(
          (path) => path.split(/[\\/]/).at(-1) ?? ""
        )
      )
    )
    const named = documents.flatMap((path) => found(path, /`(?:[\w./-]*\/)?([A-Za-z][\w.]*\.(?:ts|sql))\b/g))
    assert.isAbove(named.length, 50)
    assert.deepStrictEqual(
      named.filter((name) => !files.has(name)),
      []
    )
  })

  it("show the examples as they are, and each of them in one guide", () => {
    const guides = documents.filter((path) => path.startsWith("docs/guides/"))
    const shown = guides.flatMap((path) =>
      blocksOf(read(path)).flatMap((block) => (block.file === null ? [] : [block]))
    )
    assert.sameMembers(
      shown.map(({ file }) => file),
      examples.filter((path) => path !== "examples/json.mjs")
    )
    for (const { file, text } of [...shown, ...blocksOf(read("README.md"))])
      if (file !== null) assert.strictEqual(text, read(file), file)
    const showcase = Schema.decodeUnknownSync(TaskCreate)(JSON.parse(read("examples/briefing/task.json")))
    assert.deepStrictEqual<unknown>(showcase.payload.pipeline, briefing)
  })

  it("lead to every page", () => {
    const led = new Set(found("README.md", /\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g))
    assert.deepStrictEqual(
      documents.filter((path) => !led.has(path) && path !== "README.md" && dirname(path) !== "docs/decisions"),
      []
    )
  })

  it("say where every file of the code belongs", () => {
    const [, list = ""] = /^## What is where\n([^]*?)^## /m.exec(read("ARCHITECTURE.md")) ?? []
    const rooms = list.split(/^### /m).slice(1)
    const lost = ["domain", "layers", "http", "programs"].flatMap((room) => {
      const text = rooms.find((one) => one.startsWith(`\`src/${room}\``)) ?? ""
      const named = [...text.matchAll(/`(…?[\w-]+(?:\.ts|…))`/g)].map(([, name = ""]) => name)
      const files = readdirSync(join(root, "src", room))
      const gone = named.filter((name) => !files.some((file) => covers(name, file)))
      return [...files.filter((file) => !named.some((name) => covers(name, file))), ...gone].map(
        (file) => `${room}/${file}`
      )
    })
    assert.deepStrictEqual(lost, [])
  })

  it("show a task that the API takes", () => {
    const [showcase, ...others] = jsonOf("README.md").filter((value) => hasKey(value, "schedule_kind"))
    assert.isEmpty(others)
    accepted(Schema.decodeUnknownSync(TaskCreate)(showcase).payload)
  })

  it("show pipelines, steps and retries that the API takes", () => {
    const strict = { onExcessProperty: "error" } as const
    const payload = Schema.decodeUnknownSync(PipelineSpec, strict)
    const steps = (list: unknown) => accepted(payload({ pipeline: list }))
    let kinds = 0
    for (const value of [...jsonOf("docs/pipelines.md"), ...jsonOf("docs/events.md")]) {
      if (hasKey(value, "pipeline")) accepted(payload(value))
      else if (hasKey(value, "payload")) accepted(Schema.decodeUnknownSync(DryRunCreate, strict)(value).payload)
      else if (Array.isArray(value)) steps(value)
      else if (hasKey(value, "uses")) steps([value])
      else if (hasKey(value, "max_attempts")) Schema.decodeUnknownSync(StepRetry, strict)(value)
      else {
        assert.isTrue(
          ["errors", "tool_address", "steps"].some((key) => hasKey(value, key)),
          JSON.stringify(value)
        )
        continue
      }
      kinds++
    }
    assert.isAbove(kinds, 9)
  })

  it.effect("show a dry run and what it answers", () =>
    Effect.gen(function* () {
      const blocks = jsonOf("docs/pipelines.md")
      const body = yield* Schema.decodeUnknown(DryRunCreate)(blocks.find((value) => hasKey(value, "payload")))
      const pipeline = yield* check(body.payload)
      const steps = yield* dryRun(pipeline, {
        at: DateTime.toEpochMillis(body.at ?? DateTime.unsafeMake(0)),
        zone: yield* Either.fromNullable(find(body.timezone ?? ""), () => "no zone"),
        event: null,
        given: yield* givenOutputs(pipeline, body.tool_outputs ?? {}, ""),
        pause: Effect.void
      })
      assert.deepStrictEqual(
        { steps },
        blocks.find((value) => hasKey(value, "steps"))
      )
    })
  )

  it("name every tool, every field of a step and every code of the pipelines, and none that there is not", () => {
    const tables = tablesOf("docs/pipelines.md")
    const firsts = (title: string, section = 0) =>
      tables.filter(({ head }) => head[0] === title)[section]?.rows.map(([cell]) => firstCode(cell)) ?? []
    assert.sameMembers(
      firsts("Tool"),
      coreToolNames.map((name) => `core.${name}`)
    )
    assert.sameMembers(firsts("Code"), [...ErrorCode.literals])
    const fields = new Set(firsts("Field", 1))
    assert.sameMembers([...fields, "max_parallel", "on_item_error"], Object.keys(Step.fields))
    for (const field of Object.keys(PipelineSpec.fields)) assert.include(firsts("Field"), field)
    assert.sameMembers(firsts("Field", 2), Object.keys(DryRunCreate.fields))
    for (const { rows } of tables.filter(({ head }) => head[0] === "Code")) {
      for (const [code, , retryable] of rows) {
        const said = ErrorCode.literals.find((one) => one === firstCode(code))
        if (said !== undefined && retryable !== undefined && /^(?:yes|no)$/.test(retryable))
          assert.strictEqual(retryable === "yes", isRetryable(said), code)
      }
    }
  })

  it("show schedules that are taken, and as refused those that are refused", () => {
    const fires = expressions("Fires")
    const refused = expressions("Answer")
    assert.isAbove(fires.length, 15)
    assert.isNotEmpty(refused)
    assert.deepStrictEqual(
      fires.filter((one) => !compiles(one)),
      []
    )
    assert.deepStrictEqual(
      refused.filter((one) => compiles(one)),
      []
    )
  })
})
