import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { pathToFileURL } from "node:url"

/** What a commit may be; `feat`, `fix` and `perf` make a release, as .releaserc.json says. */
export const types = ["feat", "fix", "perf", "refactor", "test", "docs", "style", "build", "ci", "chore", "revert"]

/** Longer ones are cut where Git shows them. */
const longest = 120

const form = /^(?<type>[a-z]+)(?:\((?<scope>[^()]*)\))?!?: (?<subject>.+)$/

/** What is wrong with a commit message by Conventional Commits 1.0.0, one sentence each; nothing where it is well. */
export const faults = (message: string): ReadonlyArray<string> => {
  const [header = "", second, ...body] = message.trimEnd().split("\n")
  // Git's own words for what it does by itself.
  if (/^(?:Merge (?:branch|pull request|tag|remote-tracking branch)|Revert ")/.test(header)) return []
  if (/^(?:fixup|squash|amend)! /.test(header)) return ["is to be squashed before it is merged"]
  const { scope, subject = "", type = "" } = form.exec(header)?.groups ?? {}
  if (type === "") return ["begins with a type, as in `feat: …` or `fix(lease): …`"]
  return [
    ...(types.includes(type) ? [] : [`"${type}" is none of the types ${types.join(", ")}`]),
    ...(scope === undefined || /^[a-z0-9][a-z0-9_-]*$/.test(scope)
      ? []
      : [`the scope "${scope}" is one word in lower case`]),
    ...(subject.trim() === subject && !subject.endsWith(".")
      ? []
      : ["the subject neither begins nor ends with a space, nor ends with a full stop"]),
    ...(header.length <= longest ? [] : [`the first line has ${header.length} characters, and may have ${longest}`]),
    ...(second === undefined || second === "" ? [] : ["the second line is empty"]),
    ...(body.some((line) => /^breaking[ -]change\b/i.test(line) && !/^BREAKING[ -]CHANGE: \S/.test(line))
      ? ["what breaks is told as `BREAKING CHANGE: …`"]
      : [])
  ]
}

/** Messages of a range of commits, or, of `-`, the one on standard input. */
const messages = (range: string): ReadonlyArray<string> =>
  range === "-"
    ? [readFileSync(0, "utf8")]
    : execFileSync("git", ["log", "--format=%B%x00", "--end-of-options", range], { encoding: "utf8" })
        .split("\0")
        .map((message) => message.trim())
        .filter((message) => message !== "")

if (process.argv[1] !== undefined && pathToFileURL(process.argv[1]).href === import.meta.url) {
  const [range = "HEAD~1..HEAD"] = process.argv.slice(2)
  for (const message of messages(range))
    for (const fault of faults(message)) {
      console.error(`${message.split("\n")[0]}\n  ${fault}`)
      process.exitCode = 1
    }
}
