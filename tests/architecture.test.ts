import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, sep } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const root = fileURLToPath(new URL("../src", import.meta.url))

interface File {
  /** Relative to `src`, such as `layers/Db.ts`. */
  readonly path: string
  readonly text: string
  readonly room: string
  /** Paths relative to `src` for our own files, package names or `node:` modules for others. */
  readonly imports: ReadonlyArray<string>
}

const read = (path: string): File => {
  const text = readFileSync(join(root, path), "utf8")
  const imports = ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) =>
    fileName.startsWith(".")
      ? relative(root, join(root, dirname(path), fileName))
          .split(sep)
          .join("/")
      : fileName
  )
  return { path, text, room: path.split("/")[0] ?? "", imports }
}

const files = readdirSync(root, { recursive: true, encoding: "utf8" })
  .map((path) => path.split(sep).join("/"))
  .filter((path) => path.endsWith(".ts"))
  .map(read)

const paths = new Set(files.map(({ path }) => path))
const isOurs = (name: string) => paths.has(name)

/** Who may import whom; a room always imports itself. Nobody imports programs. */
const arrows: Record<string, ReadonlyArray<string>> = {
  domain: [],
  layers: ["domain"],
  http: ["domain", "layers"],
  programs: ["domain", "layers", "http"]
}

/** What a pure room needs from outside: parsers and data, and the families that declare schemas. */
const pure = [
  /^effect(\/|$)/,
  /^@effect\/platform\/HttpApiSchema$/,
  /^@effect\/sql\/Model$/,
  /^@effect\/experimental\/VariantSchema$/,
  /^rrule(\/|$)/,
  /^jmespath(\/|$)/,
  /^moment-timezone\/data\//
]

const offences = (find: (file: File) => ReadonlyArray<string>) =>
  files.flatMap((file) => find(file).map((offence) => `${file.path}: ${offence}`))

/** Matches outside comments, where words may name what the code avoids. */
const matches = (file: File, pattern: RegExp) =>
  [...file.text.replaceAll(/\/\*[\s\S]*?\*\/|(?<!:)\/\/.*$/gm, "").matchAll(pattern)].map(([found]) => found)

describe("architecture", () => {
  it("has rooms that the rules know", () => {
    assert.deepStrictEqual(
      offences(({ room }) => (room in arrows ? [] : [`room ${room}`])),
      []
    )
  })

  it("points programs → http → layers → domain", () => {
    assert.deepStrictEqual(
      offences(({ imports, room }) =>
        imports.filter((name) => {
          const other = name.split("/")[0] ?? ""
          return isOurs(name) && other !== room && !arrows[room]?.includes(other)
        })
      ),
      []
    )
  })

  it("imports only files of its own that exist, below src", () => {
    assert.deepStrictEqual(
      offences(({ imports }) => imports.filter((name) => name.endsWith(".ts") && !isOurs(name))),
      []
    )
  })

  it("keeps the domain pure", () => {
    assert.deepStrictEqual(
      offences(({ imports, room }) =>
        room === "domain" ? imports.filter((name) => !isOurs(name) && !pure.some((one) => one.test(name))) : []
      ),
      []
    )
  })

  it("keeps SQL and the making of layers' services out of http", () => {
    assert.deepStrictEqual(
      offences((file) => {
        if (file.room !== "http") return []
        const drivers = file.imports.filter((name) => /^(@effect\/sql|pg$|pg\/|ioredis)/.test(name))
        const services = file.imports
          .filter((name) => name.startsWith("layers/"))
          .map((name) => name.replace(/^layers\/(.*)\.ts$/, "$1"))
        const made = services.flatMap((name) => matches(file, new RegExp(`\\b${name}\\.layer\\b`, "g")))
        return [...drivers, ...made]
      }),
      []
    )
  })

  it("has no circle", () => {
    const circles: Array<string> = []
    const done = new Set<string>()
    const visit = (path: string, way: ReadonlyArray<string>): void => {
      const at = way.indexOf(path)
      if (at >= 0) circles.push([...way.slice(at), path].join(" → "))
      if (at >= 0 || done.has(path)) return
      const file = files.find((one) => one.path === path)
      for (const name of file?.imports.filter(isOurs) ?? []) visit(name, [...way, path])
      done.add(path)
    }
    for (const { path } of files) visit(path, [])
    assert.deepStrictEqual(circles, [])
  })

  it("has no file over 300 lines", () => {
    assert.deepStrictEqual(
      offences(({ text }) => {
        const lines = text.trimEnd().split("\n").length
        return lines > 300 ? [`${lines} lines`] : []
      }),
      []
    )
  })

  it("reads time and chance only where they enter", () => {
    const entrances = /^layers\/(Clock|EmbeddedDb\w*)\.ts$/
    assert.deepStrictEqual(
      offences((file) =>
        ["domain", "layers"].includes(file.room) && !entrances.test(file.path)
          ? matches(file, /\bDate\.now\b|\bnew Date\(\s*\)|\bMath\.random\b/g)
          : []
      ),
      []
    )
  })

  it("names no path of one machine", () => {
    assert.deepStrictEqual(
      offences(({ text }) =>
        [`${process.cwd()}/`, "/root/", "/home/", "/Users/"].filter((word) => text.includes(word))
      ),
      []
    )
  })
})
