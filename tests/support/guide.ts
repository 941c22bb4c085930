import { assert } from "@effect/vitest"
import { Effect, Either, Schema } from "effect"
import type { Scope } from "effect"
import { spawn } from "node:child_process"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { type Block, blocksOf } from "./blocks.ts"
import { eventually, leash } from "./programs.ts"

/** A shell that keeps its variables; whatever it started is gone when the scope closes. */
const shell = (cwd: string): Effect.Effect<(commands: string) => Effect.Effect<string>, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const env = { PATH: process.env["PATH"], HOME: process.env["HOME"], NODE_OPTIONS: `--import ${leash}` }
        const child = spawn("bash", { cwd, env, detached: true, stdio: "pipe" })
        let output = ""
        child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text))
        child.stderr.setEncoding("utf8").on("data", (text: string) => (output += text))
        return { child, takeOutput: () => output.split("\0") }
      }),
      ({ child }) => Effect.sync(() => child.pid !== undefined && process.kill(-child.pid, "SIGKILL"))
    ),
    ({ child, takeOutput }) => {
      let ran = 0
      return (commands) =>
        Effect.suspend(() => {
          child.stdin.write(`${commands}\nprintf '\\0'\n`)
          const at = ran++
          return eventually(
            `end of ${commands}`,
            30,
            Effect.sync(() => (takeOutput().length > at + 1 ? takeOutput()[at] : undefined))
          )
        })
    }
  )

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Where an answer is not as it is shown: of objects, fields may be left out; `…` stands for anything but nothing. */
export const difference = (shown: unknown, given: unknown, path = ""): string | null => {
  if (shown === "…") return given == null ? `${path} is missing` : null
  if (isRecord(shown) && isRecord(given)) {
    for (const [key, value] of Object.entries(shown)) {
      const found = difference(value, given[key], `${path}/${key}`)
      if (found !== null) return found
    }
    return null
  }
  if (Array.isArray(shown) && Array.isArray(given) && shown.length === given.length) {
    for (const [index, value] of shown.entries()) {
      const found = difference(value, given[index], `${path}/${index}`)
      if (found !== null) return found
    }
    return null
  }
  return Object.is(shown, given) ? null : `${path} is ${JSON.stringify(given)} and not ${JSON.stringify(shown)}`
}

const parse = Schema.decodeUnknownEither(Schema.parseJson())

/** Where an answer differs from the block that shows it. */
const unlike = ({ lang, text }: Block, answer: string): string | null => {
  if (lang === "text") return answer.trim() === text.trim() ? null : `it says ${answer}`
  const given = parse(answer)
  return Either.isLeft(given) ? `it is no JSON: ${answer}` : difference(JSON.parse(text), given.right)
}

/** What only asks may be asked again, as the reader would. */
const onlyAsks = (commands: string) => !/ -X | -d /.test(commands)

const startsServer = (commands: string) => /npm start$/m.test(commands)

/**
 * Does what a page says, in its order, in the folder: runs its commands, starts what stays in a terminal, and holds every answer
 * against the one that is shown. `put` translates its addresses. Answers how many answers were compared.
 */
export const follow = (
  page: string,
  folder: string,
  put: (text: string) => string
): Effect.Effect<number, never, Scope.Scope> =>
  Effect.gen(function* () {
    const run = yield* shell(folder)
    const blocks = blocksOf(put(page)).filter(({ file }) => file === null)
    let log = ""
    let compared = 0
    for (const [index, block] of blocks.entries()) {
      if (block.lang === "sh" && block.terminal) {
        if (startsServer(block.text)) continue
        log = `terminal-${index}.log`
        assert.strictEqual(yield* run(`${block.text.trim()} > ${log} 2>&1 &`), "")
      } else if (block.lang === "sh") {
        const next = blocks[index + 1]
        const shown = next !== undefined && next.lang !== "sh" && !next.terminal ? next : undefined
        const answer = run(block.text)
        if (shown === undefined) {
          assert.notInclude(yield* answer, "there is no ", block.text)
          continue
        }
        let last: string | null = null
        yield* onlyAsks(block.text)
          ? eventually(
              `answer such as\n${shown.text}to\n${block.text}`,
              20,
              Effect.map(answer, (given) => ((last = unlike(shown, given)) === null ? true : undefined))
            ).pipe(Effect.onError(() => Effect.sync(() => process.stderr.write(`${last}\n`))))
          : Effect.map(answer, (given) => assert.isNull(unlike(shown, given), block.text))
        compared++
      } else if (block.terminal) {
        const lines = block.text.trim().split("\n")
        yield* eventually(
          `line of ${log} after the other:\n${block.text}`,
          15,
          Effect.promise(async () => {
            const said = (await readFile(join(folder, log), "utf8")).split("\n")
            return lines.every((line) => said.includes(line)) ? true : undefined
          })
        )
        compared++
      }
    }
    return compared
  })
