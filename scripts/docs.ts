import { readdir, readFile, writeFile } from "node:fs/promises"
import { fileURLToPath, pathToFileURL } from "node:url"
import { format, type FormatConfig } from "oxfmt"
import * as Metrics from "../src/layers/Metrics.ts"
import { settings as all } from "../src/layers/EdgeSettings.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

/** A cell of a Markdown table: a bar would end it, and `<` would begin HTML. */
const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("<", "&lt;")

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n")

const settings = table(
  ["Variable", "Default", "Meaning"],
  all.map((setting) => [`\`${setting.name}\``, cell(setting.default), cell(setting.meaning)])
)

const metrics = table(
  ["Metric", "Type", "Labels", "Meaning"],
  Metrics.definitions.map(({ labels, meaning, name, type }) => [
    `\`${name}\``,
    type,
    labels.length === 0 ? "–" : labels.map((label) => `\`${label}\``).join(", "),
    cell(meaning)
  ])
)

const made = (source: string) => `<!-- Made from ${source} by scripts/docs.ts; edit that file, not this one. -->`

const configuration = `# Configuration

${made("src/layers/Settings.ts and EdgeSettings.ts")}

Ordinaut is configured by environment variables alone. \`npm start -- --help\` prints this list. A wrong value stops the
program with the variable's name and what it takes, and exit code 1.

${settings}

The all-in-one program (\`npm start\`) needs none of them. Programs that run separately need \`DATABASE_URL\`; \`api\`,
\`worker\` and \`migrate\` need \`ORDINAUT_SECRET\` too, the same for all: API keys are checked with it, and secrets and the
credentials of extensions are opened with it. \`ORDINAUT_ADMIN_KEY\` is read by \`migrate\` and by the all-in-one program, and
only while there is no admin.
`

const metricsPage = `# Metrics

${made("src/layers/Metrics.ts")}

\`GET /metrics\` answers in the Prometheus text format 0.0.4: on the API's port for \`api\` and the all-in-one program, on
\`OPS_PORT\` for \`scheduler\` and \`worker\`. It is open unless \`METRICS_TOKEN\` is set; then it asks for that token as a bearer.
A program shows what it measures itself. No id is ever a label.

${metrics}

Histograms of seconds have bounds from 1 ms up, each twice the last. Beside these, the process and event-loop metrics of
\`prom-client\` are there (\`process_…\`, \`nodejs_…\`).
`

/** The README's table stands between these lines. */
const region = /(?<=<!-- configuration: made by scripts\/docs\.ts -->\n)[^]*?(?=<!-- \/configuration -->)/

const read = (path: string) => readFile(`${root}${path}`, "utf8")

/** A block of code under a link to a file of `examples/` holds that file. */
const shown = /^(\[(examples\/[\w./-]+)\]\((?:\.\.\/)*\2\)\n\n```\w+\n)[^]*?^```$/gm

/** The page with the files that it shows as they are. */
const withFiles = async (page: string) => {
  const named = new Set([...page.matchAll(shown)].map(([, , path = ""]) => path))
  const files = new Map(await Promise.all([...named].map(async (path) => [path, await read(path)] as const)))
  return page.replace(shown, (_, head: string, path: string) => `${head}${files.get(path)}\`\`\``)
}

/** The file is oxfmt's own, whose command checks it against the same type. */
const options = async () => JSON.parse(await read(".oxfmtrc.json")) as FormatConfig

const formatted = async (path: string, text: string) => {
  const { code, errors } = await format(path, text, await options())
  if (errors.length > 0) throw new Error(`${path}: ${errors.map(({ message }) => message).join("; ")}`)
  return code
}

/** The pages that are made, whole or in part, by path: as they should be. */
export const pages = async (): Promise<ReadonlyMap<string, string>> => {
  const readme = await read("README.md")
  if (!region.test(readme)) throw new Error("README.md has lost the lines between which the configuration stands")
  const guides = (await readdir(`${root}docs/guides`)).map((name) => `docs/guides/${name}`)
  const wanted = [
    ["docs/configuration.md", configuration],
    ["docs/metrics.md", metricsPage],
    ["README.md", await withFiles(readme.replace(region, () => `\n${settings}\n\n`))],
    ...(await Promise.all(guides.map(async (path) => [path, await withFiles(await read(path))] as const)))
  ] as const
  return new Map(await Promise.all(wanted.map(async ([path, text]) => [path, await formatted(path, text)] as const)))
}

/** Paths of the pages that are not as they should be. */
export const stale = async (): Promise<ReadonlyArray<string>> => {
  const found = await Promise.all(
    [...(await pages())].map(async ([path, text]) => ((await read(path).catch(() => "")) === text ? [] : [path]))
  )
  return found.flat()
}

if (process.argv[1] !== undefined && pathToFileURL(process.argv[1]).href === import.meta.url) {
  const old = await stale()
  if (process.argv.includes("--check")) {
    if (old.length > 0) {
      console.error(`stale: ${old.join(", ")}; run node --import tsx scripts/docs.ts`)
      process.exitCode = 1
    }
  } else {
    const wanted = await pages()
    await Promise.all(old.map((path) => writeFile(`${root}${path}`, wanted.get(path) ?? "")))
    console.log(old.length === 0 ? "nothing to do" : `written: ${old.join(", ")}`)
  }
}
