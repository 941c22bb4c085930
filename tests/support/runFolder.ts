import { Effect } from "effect"
import { mkdir, readdir, realpath, rm } from "node:fs/promises"
import { readFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { alive, commandLine, stop } from "../../src/layers/EmbeddedDbProcess.ts"

/** One folder per test run below it, named by the pid of the run. */
const parent = join(tmpdir(), `ordinaut-tests-${process.getuid?.() ?? 0}`)

/** The servers that a run recorded, with the words that their command lines must hold. */
const recorded = (folder: string, read: (path: string) => string) => {
  const lines = (path: string) => {
    try {
      return read(join(folder, path)).split(/\s+/)
    } catch {
      return []
    }
  }
  const [postgres] = lines("postgres/postmaster.pid")
  const [redis, port] = lines("redis.pid")
  return [
    { pid: Number(postgres), words: ["postgres", folder] },
    { pid: Number(redis), words: ["-server", `:${port}`] }
  ].filter(({ pid }) => pid > 0)
}

const readSync = (path: string) => readFileSync(path, "utf8")

/** Stops what a killed run left behind, and removes its folder. Runs that live are left alone. */
const sweep = async () => {
  for (const name of await readdir(parent)) {
    if (await alive(Number(name))) continue
    const folder = join(parent, name)
    for (const { pid, words } of recorded(folder, readSync)) {
      const line = await commandLine(pid)
      if (words.every((word) => line.includes(word))) await Effect.runPromise(stop(pid))
    }
    await removeRunFolder(folder)
  }
}

/** The new folder of this run. When the run is broken off, its servers get their signal at the exit of the process. */
export const makeRunFolder = async (): Promise<string> => {
  await mkdir(parent, { recursive: true, mode: 0o755 })
  await sweep()
  const folder = join(parent, `${process.pid}`)
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { mode: 0o755 })
  process.once("SIGHUP", () => process.exit(129))
  // Before vitest's own listener, which ends the process.
  process.prependOnceListener("exit", () => {
    for (const { pid } of recorded(folder, readSync)) {
      try {
        process.kill(pid, "SIGINT")
      } catch {
        // It has ended already.
      }
    }
  })
  return folder
}

/** The database may be elsewhere, behind a link, when the temporary folder is closed to other accounts. */
export const removeRunFolder = async (folder: string): Promise<void> => {
  const home = await realpath(join(folder, "postgres")).then(dirname, () => folder)
  for (const each of new Set([folder, home])) await rm(each, { recursive: true, force: true })
}
