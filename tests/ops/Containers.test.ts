import { assert, describe, it } from "@effect/vitest"
import { Ajv } from "ajv"
import { validate } from "dockerfile-utils"
import { Effect, Schema, type Scope } from "effect"
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { chmodSync, existsSync, readFileSync, statSync } from "node:fs"
import { chmod, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { parse } from "yaml"
import { settings } from "../../src/layers/EdgeSettings.ts"
import { freePort } from "../../src/layers/EmbeddedDbServer.ts"
import { portOf } from "../support/ports.ts"
import { eventually } from "../support/programs.ts"
import { freshDatabase } from "../support/TestDb.ts"
import { has, images, ofNode } from "./images.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const read = (path: string) => readFileSync(join(root, path), "utf8")
const execute = promisify(execFile)
const known = new Set([...settings.map(({ name }) => name), ...ofNode])

const temporary: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(async () => {
    const folder = await mkdtemp(join(tmpdir(), "ordinaut-images-"))
    await chmod(folder, 0o755)
    return folder
  }),
  (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
)

const ended = (
  file: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv }
) =>
  execute(file, [...args], { ...options, timeout: 60_000 }).then(
    ({ stderr, stdout }) => ({ code: 0, said: stdout + stderr }),
    (cause: unknown) => {
      const { code, stderr } = Schema.decodeUnknownSync(Schema.Struct({ code: Schema.Number, stderr: Schema.String }))(
        cause
      )
      return { code, said: stderr }
    }
  )

describe("the images", () => {
  it("are those of the programs that run on", () => {
    assert.sameMembers(
      images.map(({ program }) => program),
      ["api", "scheduler", "worker"]
    )
  })

  it("have Dockerfiles without faults", () => {
    for (const { program, text } of images) assert.deepStrictEqual(validate(text), [], program)
    assert.isNotEmpty(validate("FORM node\nUSR 1"))
  })

  it("start from one base with an exact version", () => {
    const bases = images.map(({ text }) => /^ARG NODE_IMAGE=(\S+)$/m.exec(text)?.[1] ?? "")
    assert.strictEqual(new Set(bases).size, 1)
    assert.match(bases[0] ?? "", /^node:24\.\d+\.\d+-bookworm-slim(?:@sha256:[0-9a-f]{64})?$/)
    for (const { file } of images)
      assert.deepStrictEqual(
        file.getFROMs().map((one) => one.getImage()),
        ["${NODE_IMAGE}", "${NODE_IMAGE}"]
      )
  })

  it("run as an account that is not root, as process 1, and say how they are", () => {
    for (const { last, program } of images) {
      const [user, ...others] = last.filter(({ keyword }) => keyword === "USER")
      assert.deepStrictEqual([user?.given, others.length], ["1000:1000", 0], program)
      assert.isTrue(
        last.findIndex(({ keyword }) => keyword === "USER") > last.findLastIndex(({ keyword }) => keyword === "COPY")
      )
      assert.deepStrictEqual(last.find(({ keyword }) => keyword === "CMD")?.strings, ["node", `${program}.js`])
      const port = program === "api" ? "PORT" : "OPS_PORT"
      assert.deepStrictEqual(last.find(({ keyword }) => keyword === "HEALTHCHECK")?.strings, [
        "node",
        "healthcheck.mjs",
        port,
        "live"
      ])
    }
  })

  it("set variables that there are, and the port that they show", () => {
    for (const { env, port, program } of images) {
      assert.deepStrictEqual(
        Object.keys(env).filter((name) => !known.has(name)),
        []
      )
      assert.strictEqual(env[program === "api" ? "PORT" : "OPS_PORT"], String(port))
    }
  })

  it("are built from what the context holds, and nothing else of it", () => {
    const let_in = read(".dockerignore")
      .split("\n")
      .filter((line) => line.startsWith("!"))
      .map((line) => line.slice(1))
    assert.include(read(".dockerignore").split("\n"), "*")
    const used = new Set(
      images.flatMap(({ file }) =>
        file
          .getCOPYs()
          .filter((copy) => copy.getFromFlag() === null)
          .flatMap((copy) =>
            copy
              .getArguments()
              .slice(0, -1)
              .map((one) => one.getValue())
          )
      )
    )
    assert.sameMembers([...used], let_in)
    assert.deepStrictEqual(
      [...used].filter((path) => !existsSync(join(root, path))),
      []
    )
  })

  it.scopedLive(
    "hold all that their programs need, for an account that may write nothing",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporary
        const out = join(folder, "out")
        const context = join(folder, "context")
        yield* Effect.promise(async () => {
          // From what the first stage copies and nothing else, by the command that it runs.
          const [first] = images
          for (const { built, from, to } of first?.built.copies ?? []) {
            const target = to.endsWith("/") ? join(to, from.split("/").at(-1) ?? "") : to
            if (!built) await cp(join(root, from), join(context, target), { recursive: true })
          }
          await symlink(join(root, "node_modules"), join(context, "node_modules"))
          const [node, ...args] = first?.built.command.replace("/out", out).split(" ") ?? []
          assert.strictEqual(node, "node")
          await execute(process.execPath, args, { cwd: context })
        })
        for (const { copies, program } of images)
          yield* Effect.promise(async () => {
            await mkdir(join(folder, program))
            for (const { built, from, to } of copies) {
              const source = built ? join(out, from.replace(/^\/out\//, "")) : join(root, from)
              const target = join(folder, program, to.endsWith("/") ? join(to, from.split("/").at(-1) ?? "") : to)
              await cp(source, target, { recursive: true })
            }
          })
        const account = process.getuid?.() === 0 ? { uid: 1000, gid: 1000 } : {}
        const DATABASE_URL = yield* freshDatabase
        const shared = {
          PATH: process.env["PATH"],
          DATABASE_URL,
          ORDINAUT_SECRET: Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64")
        }
        const run = (program: string, file: string, env: NodeJS.ProcessEnv) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              const image = images.find((one) => one.program === program)
              const child = spawn(process.execPath, [file], {
                ...account,
                cwd: join(folder, program),
                env: { ...shared, ...image?.env, ...env, HOST: "127.0.0.1" },
                stdio: ["ignore", "ignore", "pipe"]
              })
              let errors = ""
              child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text))
              const end = once(child, "close").then(() => ({ code: child.exitCode, errors }))
              return { child, end }
            }),
            ({ child, end }) =>
              Effect.promise(async () => {
                if (child.exitCode === null) child.kill("SIGKILL")
                await end
              })
          )
        for (const [program, file] of [
          ["api", "migrate.js"],
          ["api", "key.js"]
        ] as const) {
          const { end } = yield* run(program, file, {})
          assert.deepStrictEqual(yield* Effect.promise(() => end), { code: 0, errors: "" })
        }
        for (const { last, program } of images) {
          const variable = program === "api" ? "PORT" : "OPS_PORT"
          const env = { [variable]: String(yield* freePort(0)) }
          const { child, end } = yield* run(program, `${program}.js`, env)
          const [, ...check] = last.find(({ keyword }) => keyword === "HEALTHCHECK")?.strings ?? []
          for (const question of ["live", "ready"])
            yield* eventually(
              `${program} that is ${question}`,
              30,
              Effect.promise(async () => {
                const args = [...check.slice(0, -1), question]
                const { code } = await ended(process.execPath, args, { cwd: join(folder, program), env })
                return code === 0 || child.exitCode !== null ? true : undefined
              })
            )
          child.kill("SIGTERM")
          assert.deepStrictEqual(yield* Effect.promise(() => end), { code: 0, errors: "" }, program)
        }
      }),
    120_000
  )

  it("are unwell when the program says so, or nothing", async () => {
    const server = createServer((request, response) => {
      response.statusCode = request.url === "/health/live" ? 200 : 503
      response.end('{"state":"unhealthy","detail":"is about to stop"}')
    })
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const env = { PORT: String(portOf(server)) }
    const ask = (question: string) =>
      ended(process.execPath, ["ops/docker/healthcheck.mjs", "PORT", question], { cwd: root, env })
    assert.strictEqual((await ask("live")).code, 0)
    const unready = await ask("ready")
    assert.strictEqual(unready.code, 1)
    assert.include(unready.said, "is about to stop")
    server.close()
    await once(server, "close")
    assert.strictEqual((await ask("live")).code, 1)
  })
})

const Service = Schema.Struct({
  image: Schema.String,
  build: Schema.optional(Schema.Struct({ context: Schema.String, dockerfile: Schema.String })),
  command: Schema.optional(Schema.Array(Schema.String)),
  environment: Schema.optionalWith(Schema.Record({ key: Schema.String, value: Schema.Unknown }), {
    default: () => ({})
  }),
  healthcheck: Schema.optional(Schema.Struct({ test: Schema.optional(Schema.Array(Schema.String)) })),
  volumes: Schema.optionalWith(Schema.Array(Schema.String), { default: () => [] }),
  ports: Schema.optionalWith(Schema.Array(Schema.String), { default: () => [] }),
  networks: Schema.Array(Schema.String),
  depends_on: Schema.optionalWith(
    Schema.Union(Schema.Array(Schema.String), Schema.Record({ key: Schema.String, value: Schema.Unknown })),
    { default: () => [] }
  ),
  read_only: Schema.optional(Schema.Boolean),
  cap_drop: Schema.optional(Schema.Array(Schema.String)),
  security_opt: Schema.optional(Schema.Array(Schema.String)),
  stop_grace_period: Schema.optional(Schema.String),
  deploy: Schema.optional(Schema.Struct({ replicas: Schema.Int }))
})
const Compose = Schema.Struct({
  services: Schema.Record({ key: Schema.String, value: Service }),
  networks: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
  volumes: Schema.Record({ key: Schema.String, value: Schema.Unknown })
})

describe("the compose file", () => {
  const text = read("ops/compose.yaml")
  const given: unknown = parse(text, { merge: true })
  const { networks, services, volumes } = Schema.decodeUnknownSync(Compose)(given)
  const ours = Object.entries(services).filter(([, { build }]) => build !== undefined)

  it("is one by the specification of compose", () => {
    const path = join(
      dirname(createRequire(import.meta.url).resolve("dclint/package.json")),
      "schemas/compose.schema.json"
    )
    const { $schema: _, ...schema } = Schema.decodeUnknownSync(
      Schema.Record({ key: Schema.String, value: Schema.Unknown })
    )(JSON.parse(readFileSync(path, "utf8")))
    const check = new Ajv({
      strict: false,
      allErrors: true,
      formats: { duration: true, ports: true, expose: true, subnet_ip_address: true }
    }).compile(schema)
    check(given)
    assert.deepStrictEqual(check.errors ?? [], [])
    assert.isFalse(check({ services: { api: { image: "a", heathcheck: {} } } }))
  })

  it("has the whole system", () => {
    assert.sameMembers(Object.keys(services), [
      "postgres",
      "redis",
      "migrate",
      "api",
      "scheduler",
      "worker",
      "prometheus",
      "grafana"
    ])
    assert.strictEqual(services["scheduler"]?.deploy?.replicas, 2)
    assert.strictEqual(services["worker"]?.deploy?.replicas, 2)
  })

  it("gives our programs variables that there are, and runs what their images hold", () => {
    assert.isAbove(ours.length, 3)
    for (const [name, { build, command, environment, healthcheck, image }] of ours) {
      assert.deepStrictEqual(
        Object.keys(environment).filter((variable) => !known.has(variable)),
        [],
        name
      )
      const [, program = ""] = /\/docker\/(\w+)\.Dockerfile$/.exec(build?.dockerfile ?? "") ?? []
      const made = images.find((one) => one.program === program)
      assert.include(image, `/ordinaut-${program}:`)
      assert.isTrue(existsSync(join(root, "ops", build?.context ?? "", build?.dockerfile ?? "")))
      const test = healthcheck?.test?.slice(1) ?? ["node", "healthcheck.mjs"]
      for (const [node, file] of [command ?? ["node", `${program}.js`], test]) {
        assert.strictEqual(node, "node")
        assert.isTrue(made !== undefined && has(made, file ?? ""), `${name}: ${file}`)
      }
    }
  })

  it("lets our programs write nothing, gain nothing, and end in order", () => {
    const grace = Number(settings.find(({ name }) => name === "SHUTDOWN_GRACE_SECONDS")?.default)
    for (const [name, service] of ours) {
      assert.strictEqual(service.read_only, true, name)
      assert.deepStrictEqual(service.cap_drop, ["ALL"], name)
      assert.deepStrictEqual(service.security_opt, ["no-new-privileges:true"], name)
      if (name !== "migrate") assert.isAbove(Number.parseInt(service.stop_grace_period ?? "0", 10), grace + 5, name)
    }
  })

  it("names what there is: services, networks, volumes, files, versions", () => {
    for (const [name, service] of Object.entries(services)) {
      const needed = Array.isArray(service.depends_on) ? service.depends_on : Object.keys(service.depends_on)
      assert.deepStrictEqual(
        needed.filter((one) => !(one in services)),
        [],
        name
      )
      assert.deepStrictEqual(
        service.networks.filter((one) => !(one in networks)),
        [],
        name
      )
      const sources = service.volumes.map((one) => one.split(":")[0] ?? "")
      assert.deepStrictEqual(
        sources.filter((one) => (one.startsWith(".") ? !existsSync(join(root, "ops", one)) : !(one in volumes))),
        [],
        name
      )
      assert.match(service.image, /:(?:v?\d+\.\d+\S*|\$\{ORDINAUT_VERSION:-dev\})$/, name)
      // On the host's loopback alone: what is open to a network is the operator's choice.
      assert.deepStrictEqual(
        service.ports.filter((one) => !one.startsWith("127.0.0.1:")),
        [],
        name
      )
    }
  })

  it("has the programs where Prometheus looks for them", () => {
    const Jobs = Schema.Struct({
      scrape_configs: Schema.Array(
        Schema.Struct({
          job_name: Schema.String,
          dns_sd_configs: Schema.optional(
            Schema.Array(Schema.Struct({ names: Schema.Array(Schema.String), port: Schema.Int }))
          )
        })
      )
    })
    const jobs = Schema.decodeUnknownSync(Jobs)(parse(read("ops/prometheus/prometheus.yml"))).scrape_configs
    assert.deepStrictEqual(
      jobs.flatMap(({ dns_sd_configs = [], job_name }) =>
        dns_sd_configs.flatMap(({ names, port }) => names.map((name) => [job_name, name, port]))
      ),
      images.map(({ port, program }) => [`ordinaut-${program}`, program, port])
    )
    for (const { program } of images)
      assert.isTrue(services[program]?.networks.some((one) => services["prometheus"]?.networks.includes(one)))
  })

  it.scopedLive("gets its secrets from ops/start.sh, once", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const log = join(folder, "log")
      yield* Effect.promise(async () => {
        await mkdir(join(folder, "ops"))
        await mkdir(join(folder, "bin"))
        await cp(join(root, "ops/start.sh"), join(folder, "ops/start.sh"))
        await writeFile(join(folder, "bin/docker"), `#!/bin/sh\necho "$@" >> ${log}\n[ "$1" != run ] || echo ord_key\n`)
        chmodSync(join(folder, "bin/docker"), 0o755)
      })
      const start = (...args: ReadonlyArray<string>) =>
        Effect.promise(() =>
          ended(join(folder, "ops/start.sh"), args, { env: { PATH: `${join(folder, "bin")}:${process.env["PATH"]}` } })
        )
      assert.strictEqual((yield* start()).code, 2)
      assert.strictEqual((yield* start("dev", "--fast")).code, 2)
      assert.strictEqual((yield* start("ghcr", "--build")).code, 2)
      const nameless = yield* start("ghcr")
      assert.include(nameless.said, "ORDINAUT_REGISTRY")
      assert.isFalse(existsSync(join(folder, "ops/.env")))

      const first = yield* start("dev", "--build")
      assert.strictEqual(first.code, 0, first.said)
      const made = yield* Effect.promise(() => readFile(join(folder, "ops/.env"), "utf8"))
      assert.strictEqual(statSync(join(folder, "ops/.env")).mode & 0o777, 0o600)
      const names = [...made.matchAll(/^(\w+)=\S+$/gm)].map(([, name = ""]) => name)
      const demanded = [...text.matchAll(/\$\{(\w+):\?/g)].map(([, name = ""]) => name)
      assert.sameMembers(names, [...new Set(demanded)])
      assert.strictEqual(Buffer.from(/^ORDINAUT_SECRET=(.*)$/m.exec(made)?.[1] ?? "", "base64").length, 32)

      assert.strictEqual((yield* start("dev", "--logs")).code, 0)
      assert.strictEqual(yield* Effect.promise(() => readFile(join(folder, "ops/.env"), "utf8")), made)
      const calls = (yield* Effect.promise(() => readFile(log, "utf8"))).trim().split("\n")
      assert.deepStrictEqual(
        calls.map((line) => line.replace("compose --env-file .env -f compose.yaml ", "")),
        [
          "build --quiet --tag local/ordinaut-api:dev --file docker/api.Dockerfile ..",
          "run --rm --network none local/ordinaut-api:dev node key.js",
          "up --detach --build",
          "exec -T api node healthcheck.mjs PORT ready",
          "up --detach",
          "exec -T api node healthcheck.mjs PORT ready",
          "logs --follow api scheduler worker"
        ]
      )
    })
  )
})
