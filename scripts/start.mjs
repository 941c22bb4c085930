// Plain JavaScript: it runs before anything is built, also where no development dependency is installed.
import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, statSync } from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
/** The program to run: all of them in one process, unless the first argument names another file of src/programs. */
const named = process.argv[2] !== undefined && /^[a-z]+(?:-[a-z]+)*$/.test(process.argv[2])
const program = named ? process.argv.splice(2, 1)[0] : "all"
const bundle = join(root, "dist", `${program}.js`)

/** Milliseconds since the epoch of the last change at or below the path. */
const changed = (path) => {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined || !found.isDirectory()) return found?.mtimeMs ?? 0
  return Math.max(found.mtimeMs, ...readdirSync(path).map((name) => changed(join(path, name))))
}

const sources = ["src", "migrations", "package-lock.json", "scripts/build.ts"].map((name) => join(root, name))

/** An installation without sources has nothing to be stale against. */
const stale = () => !existsSync(bundle) || Math.max(...sources.map(changed)) > changed(bundle)

const canBuild = () => {
  try {
    createRequire(import.meta.url).resolve("tsx")
    createRequire(import.meta.url).resolve("esbuild")
    return existsSync(join(root, "src"))
  } catch {
    return false
  }
}

if (stale()) {
  if (canBuild()) {
    const build = spawnSync(process.execPath, ["--import", "tsx", join(root, "scripts/build.ts")], {
      cwd: root,
      // Standard output belongs to the program.
      stdio: ["ignore", 2, 2]
    })
    if (build.status !== 0) process.exit(build.status ?? 1)
  } else if (!existsSync(bundle)) {
    console.error(
      `dist/${program}.js is not built and the build tools are absent: run \`npm ci && npm run build\` once.`
    )
    process.exit(1)
  }
}

// npm gives a SIGTERM to the shell between it and us alone; the shell ends, and this process would go on unseen.
if (process.env.npm_lifecycle_event !== undefined) {
  const parent = process.ppid
  const watch = setInterval(() => {
    if (process.ppid !== parent) process.kill(process.pid, "SIGTERM")
  }, 250)
  watch.unref()
  // A second signal would end the program at once, in the middle of its orderly end.
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => clearInterval(watch))
}

// In this process, so that signals reach the program and nothing else.
await import(pathToFileURL(bundle).href)
