import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { blocksOf } from "../support/blocks.ts"
import { follow } from "../support/guide.ts"
import { portOf } from "../support/ports.ts"
import * as Programs from "../support/programs.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

const freePort = Effect.async<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const port = portOf(server)
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** The all-in-one program, and a folder as a newcomer has it, with the ports that are free here in the place of those of the files. */
class Place extends Context.Tag("tests/Place")<
  Place,
  {
    readonly url: string
    readonly key: string
    readonly folder: string
    readonly put: (text: string) => string
  }
>() {
  static readonly layer = Layer.scoped(
    this,
    Effect.gen(function* () {
      const data = yield* Programs.dataFolder
      const program = yield* Programs.start("all", {
        ORDINAUT_DATA_DIR: data,
        ORDINAUT_ALLOW_PRIVATE_TARGETS: "127.0.0.0/8"
      })
      const [tools, mcp] = [yield* freePort, yield* freePort]
      const put = (text: string) =>
        text
          .replaceAll("http://127.0.0.1:8080", program.url)
          .replaceAll(/\b4101\b/g, String(tools))
          .replaceAll(/\b4102\b/g, String(mcp))
      const folder = yield* Effect.acquireRelease(
        Effect.promise(() => mkdtemp(join(tmpdir(), "ordinaut-examples-"))),
        (made) => Effect.promise(() => rm(made, { recursive: true, force: true }))
      )
      yield* Effect.promise(async () => {
        await cp(join(root, "examples"), join(folder, "examples"), { recursive: true })
        for (const name of await readdir(folder, { recursive: true })) {
          if (!/\.(?:json|mjs)$/.test(name)) continue
          await writeFile(join(folder, name), put(await readFile(join(folder, name), "utf8")))
        }
        await symlink(join(root, "node_modules"), join(folder, "node_modules"))
        await symlink(data, join(folder, ".ordinaut"))
      })
      const key = yield* Effect.promise(() => readFile(join(data, "admin.key"), "utf8"))
      return { url: program.url, key: key.trim(), folder, put }
    })
  )
}

const Runs = Schema.Struct({
  items: Schema.Array(Schema.Struct({ state: Schema.String, simulated: Schema.Boolean, trigger: Schema.String }))
})

layer(Place.layer, { excludeTestServices: true, timeout: "60 seconds" })("the examples", (it) => {
  it.scoped("README: the first task runs as it is shown", () =>
    Effect.gen(function* () {
      const place = yield* Place
      const readme = yield* Effect.promise(() => readFile(join(root, "README.md"), "utf8"))
      const section = readme.split(/^## /m).find((text) => text.startsWith("One request and its answer")) ?? ""
      assert.strictEqual(yield* follow(section, place.folder, place.put), 1)
    })
  )

  for (const name of ["briefing", "approval", "fan-out", "mcp", "worker", "conditions"]) {
    it.scoped(`${name}: the guide does what it says`, () =>
      Effect.gen(function* () {
        const place = yield* Place
        const page = yield* Effect.promise(() => readFile(join(root, `docs/guides/${name}.md`), "utf8"))
        const answers = blocksOf(page).filter(({ file, lang }) => file === null && lang !== "sh")
        assert.isAbove(answers.length, 3)
        assert.strictEqual(yield* follow(page, place.folder, place.put), answers.length)
      })
    )
  }

  it.effect("leave no run that failed but those that are meant to, and none that was simulated but the README's", () =>
    Effect.gen(function* () {
      const place = yield* Place
      const { body } = yield* Programs.request(place, "GET", "/runs?limit=200", Runs)
      // One of the tasks may have come due meanwhile.
      const runs = body.items.filter(({ trigger }) => trigger !== "schedule")
      const count = (test: (run: (typeof runs)[number]) => boolean) => runs.filter(test).length
      assert.strictEqual(
        count(({ state }) => state === "failed"),
        2
      )
      assert.strictEqual(
        count(({ simulated }) => simulated),
        1
      )
      assert.strictEqual(
        count(({ state }) => !["failed", "succeeded"].includes(state)),
        0
      )
      assert.sameMembers([...new Set(runs.map(({ trigger }) => trigger))], ["manual", "event", "condition", "retry"])
    })
  )
})
