import { assert, describe, it } from "@effect/vitest"
import { Either, Schema } from "effect"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { stale } from "../scripts/docs.ts"
import { check } from "../src/domain/PipelineChecks.ts"
import { PipelineSpec } from "../src/domain/PipelineSpec.ts"
import { compile } from "../src/domain/ScheduleSpec.ts"
import { TaskCreate } from "../src/domain/Task.ts"
import { settings } from "../src/layers/Settings.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const read = (path: string) => readFileSync(join(root, path), "utf8")

const documents = [
  ...["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"],
  ...["docs", "docs/decisions"].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith(".md"))
      .map((name) => `${folder}/${name}`)
  )
]

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

const hasKey = (value: unknown, key: string) => typeof value === "object" && value !== null && key in value

describe("the documents", () => {
  it("that are made from the code are up to date", async () => {
    assert.deepStrictEqual(await stale(), [])
  })

  it("name no environment variable that does not exist", () => {
    const known = new Set([...settings.map(({ name }) => name), "CI", "NO_COLOR"])
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
      found(path, /\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g).map((to) => join(dirname(path), to))
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

  it("show a task that the API takes", () => {
    const [showcase, ...others] = jsonOf("README.md").filter((value) => hasKey(value, "schedule_kind"))
    assert.isEmpty(others)
    accepted(Schema.decodeUnknownSync(TaskCreate)(showcase).payload)
  })

  it("show pipelines that the API takes", () => {
    const payloads = [...jsonOf("docs/pipelines.md"), ...jsonOf("docs/events.md")].filter((value) =>
      hasKey(value, "pipeline")
    )
    assert.isAbove(payloads.length, 2)
    for (const payload of payloads) {
      accepted(Schema.decodeUnknownSync(PipelineSpec, { onExcessProperty: "error" })(payload))
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
