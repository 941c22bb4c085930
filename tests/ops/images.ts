import { DockerfileParser, type Copy, type Dockerfile } from "dockerfile-ast"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const folder = fileURLToPath(new URL("../../ops/docker/", import.meta.url))

/** What the Dockerfile of a program says. */
export interface Image {
  readonly program: string
  readonly text: string
  readonly file: Dockerfile
  /** Instructions of the last stage: keyword, arguments as they are written, and the JSON strings among them. */
  readonly last: ReadonlyArray<{
    readonly keyword: string
    readonly given: string
    readonly strings: ReadonlyArray<string>
  }>
  /** What is copied: from the context or from the first stage, to a path below the folder of the program. */
  readonly copies: ReadonlyArray<{ readonly built: boolean; readonly from: string; readonly to: string }>
  /** The stage before: what it copies, and the last command that it runs. */
  readonly built: { readonly copies: Image["copies"]; readonly command: string }
  readonly env: Readonly<Record<string, string>>
  readonly port: number
}

const copied = (copy: Copy) => {
  const built = copy.getFromFlag() !== null
  const paths = copy.getArguments().map((argument) => argument.getValue())
  return paths.slice(0, -1).map((from) => ({ built, from, to: paths.at(-1) ?? "" }))
}

const read = (name: string): Image => {
  const text = readFileSync(`${folder}${name}`, "utf8")
  const file = DockerfileParser.parse(text)
  const from = file.getFROMs().at(-1)?.getRange().start.line ?? 0
  const instructions = file.getInstructions().filter((one) => one.getRange().start.line > from)
  const last = instructions.map((one) => {
    const given = one.getArgumentsContent() ?? ""
    return { keyword: one.getKeyword(), given, strings: [...given.matchAll(/"([^"]*)"/g)].map(([, part = ""]) => part) }
  })
  const ofLast = new Set(instructions.map((one) => one.getRange().start.line))
  const copies = (isLast: boolean) =>
    file
      .getCOPYs()
      .filter((one) => ofLast.has(one.getRange().start.line) === isLast)
      .flatMap(copied)
  return {
    program: name.replace(".Dockerfile", ""),
    text,
    file,
    last,
    copies: copies(true),
    built: {
      copies: copies(false),
      command:
        file
          .getInstructions()
          .findLast((one) => one.getKeyword() === "RUN" && !ofLast.has(one.getRange().start.line))
          ?.getArgumentsContent() ?? ""
    },
    env: Object.fromEntries(
      last
        .filter(({ keyword }) => keyword === "ENV")
        .flatMap(({ given }) => [...given.matchAll(/(\w+)=(\S+)/g)].map(([, name = "", value = ""]) => [name, value]))
    ),
    port: Number(last.find(({ keyword }) => keyword === "EXPOSE")?.given)
  }
}

/** The images, one for each program that runs on. */
export const images: ReadonlyArray<Image> = readdirSync(folder)
  .filter((name) => name.endsWith(".Dockerfile"))
  .map(read)

/** Whether `node <file>` can be run in the image. */
export const has = ({ copies }: Image, file: string) => copies.some(({ from }) => from.split("/").at(-1) === file)

/** Variables that are of Node and not of the product. */
export const ofNode = ["NODE_ENV", "NODE_OPTIONS"]
