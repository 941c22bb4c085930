import { execFile } from "node:child_process"
import { access, chmod, constants, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const execute = promisify(execFile)
const names = ["prometheus", "promtool"] as const
const cache = fileURLToPath(new URL("../../node_modules/.cache/ordinaut-prometheus", import.meta.url))

/** Paths of the server and of its tool, which come in one package. */
export interface Prometheus {
  readonly prometheus: string
  readonly promtool: string
}

/** Both in one folder, or nothing. */
const within = async (folder: string): Promise<Prometheus | undefined> => {
  const [prometheus, promtool] = names.map((name) => join(folder, name))
  if (prometheus === undefined || promtool === undefined) return undefined
  const there = await Promise.all([prometheus, promtool].map((path) => access(path, constants.X_OK))).then(
    () => true,
    () => false
  )
  return there ? { prometheus, promtool } : undefined
}

const apt = (cwd: string, ...args: ReadonlyArray<string>) =>
  execute("apt-get", ["-o", "DPkg::Lock::Timeout=120", "-o", "APT::Sandbox::User=root", ...args], {
    cwd,
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    timeout: 300_000
  })

/** Unpacked and not installed: an installation would also start a system service. apt checks the signature all the same. */
const unpack = async () => {
  await mkdir(join(cache, ".."), { recursive: true })
  const draft = await mkdtemp(`${cache}-`)
  try {
    await chmod(draft, 0o755)
    const download = () => apt(draft, "download", "--quiet", "prometheus")
    await download().catch(async (cause: unknown) => {
      // The lists of packages may be absent or old; only root may fetch them.
      if (process.getuid?.() !== 0) throw cause
      await apt(draft, "update", "--quiet")
      return download()
    })
    const archive = (await readdir(draft)).find((name) => name.endsWith(".deb")) ?? ""
    await execute("dpkg-deb", ["--extract", join(draft, archive), draft])
    await rm(join(draft, archive))
    // Of test files that unpack at the same moment the first wins, and the others use what it put there.
    await rename(draft, cache).catch(() => undefined)
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

/** Prometheus from the PATH, or the package of Debian, unpacked into the cache of the project. */
export const findPrometheus = async (): Promise<Prometheus> => {
  const look = async () => {
    for (const folder of [...(process.env["PATH"] ?? "").split(delimiter), join(cache, "usr/bin")]) {
      const found = await within(folder)
      if (found !== undefined) return found
    }
    return undefined
  }
  const found = await look()
  if (found !== undefined) return found
  const failure = await unpack().then(
    () => "",
    (cause: unknown) => String(cause)
  )
  const unpacked = await look()
  if (unpacked !== undefined) return unpacked
  throw new Error(
    `The tests need Prometheus: put prometheus and promtool on the PATH (Debian: apt-get install prometheus). ${failure}`
  )
}
