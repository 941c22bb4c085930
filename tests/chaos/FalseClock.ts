import { Effect } from "effect"
import { execFile } from "node:child_process"
import { access, readdir } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"

/** Debian keeps it below the folder of the architecture. */
const find = async (): Promise<string | undefined> => {
  const folders = await readdir("/usr/lib").catch(() => [])
  const candidates = ["/usr/lib", ...folders.map((name) => join("/usr/lib", name)), "/usr/local/lib"]
  for (const folder of candidates) {
    const library = join(folder, "faketime/libfaketimeMT.so.1")
    if (
      await access(library).then(
        () => true,
        () => false
      )
    )
      return library
  }
  return undefined
}

const install = () =>
  promisify(execFile)("apt-get", ["install", "--quiet", "--yes", "--no-install-recommends", "faketime"], {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    timeout: 30_000
  })

/** The library that shows a program another time of day, with its threads; installed where that is possible. */
export const falseClock: Effect.Effect<string | undefined> = Effect.promise(async () => {
  const found = await find()
  if (found !== undefined || process.getuid?.() !== 0) return found
  await install().catch(() => undefined)
  return await find()
})

/** The environment in which a program's clock is off by so many seconds; its monotonic clock is right. */
export const clockOff = (library: string, seconds: number) => ({
  LD_PRELOAD: library,
  FAKETIME: `${seconds < 0 ? "" : "+"}${seconds}s`,
  FAKETIME_DONT_FAKE_MONOTONIC: "1",
  DONT_FAKE_MONOTONIC: "1"
})
