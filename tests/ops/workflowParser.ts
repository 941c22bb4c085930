import { build } from "esbuild"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"

type Parser = typeof import("@actions/workflow-parser")

/** GitHub's own parser. It imports its schema, a JSON file, in a way that bundlers take and Node refuses. */
export const workflowParser = async (): Promise<Parser> => {
  const folder = await mkdtemp(join(tmpdir(), "ordinaut-parser-"))
  const outfile = join(folder, "parser.mjs")
  try {
    await build({
      stdin: { contents: 'export * from "@actions/workflow-parser"', resolveDir: import.meta.dirname },
      outfile,
      bundle: true,
      format: "esm",
      platform: "node",
      banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" }
    })
    // What is imported from a bundle has no types of its own.
    return (await import(pathToFileURL(outfile).href)) as Parser
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
