import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, type Scope } from "effect"
import { spawn } from "node:child_process"
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parse, stringify } from "yaml"
import { stop } from "../../src/layers/EmbeddedDbProcess.ts"
import { freePort } from "../../src/layers/EmbeddedDbServer.ts"
import * as Programs from "../support/programs.ts"
import { findPrometheus } from "../support/prometheusServer.ts"
import { freshDatabase } from "../support/TestDb.ts"

const { eventually } = Programs

const folder = fileURLToPath(new URL("../../ops/prometheus", import.meta.url))

const Job = Schema.Struct({ job_name: Schema.String })
const Config = Schema.Struct(
  { global: Schema.Struct({}, { key: Schema.String, value: Schema.Unknown }), scrape_configs: Schema.Array(Job) },
  { key: Schema.String, value: Schema.Unknown }
)

const Vector = Schema.Struct({
  data: Schema.Struct({
    result: Schema.Array(
      Schema.Struct({
        metric: Schema.Record({ key: Schema.String, value: Schema.String }),
        value: Schema.Tuple(Schema.Number, Schema.NumberFromString)
      })
    )
  })
})
const Rules = Schema.Struct({
  data: Schema.Struct({
    groups: Schema.Array(
      Schema.Struct({
        rules: Schema.Array(
          Schema.Struct({ name: Schema.String, health: Schema.String, state: Schema.optional(Schema.String) })
        )
      })
    )
  })
})

/** The product's own configuration, with these addresses in the place of discovery, and in a hurry. */
const configured = async (targets: Readonly<Record<string, string>>) => {
  const made = await mkdtemp(join(tmpdir(), "ordinaut-prometheus-"))
  await cp(join(folder, "rules"), join(made, "rules"), { recursive: true })
  const given = Schema.decodeUnknownSync(Config)(parse(await readFile(join(folder, "prometheus.yml"), "utf8")))
  const scrape_configs = given.scrape_configs.flatMap(({ job_name }) => {
    const target = targets[job_name]
    return target === undefined ? [] : [{ job_name, static_configs: [{ targets: [target] }] }]
  })
  assert.strictEqual(scrape_configs.length, Object.keys(targets).length)
  const hurried = { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" }
  await writeFile(join(made, "prometheus.yml"), stringify({ ...given, global: hurried, scrape_configs }))
  return made
}

/** A Prometheus on the loopback that scrapes these addresses, by job; it ends with the scope. Answers its address. */
const start = (targets: Readonly<Record<string, string>>): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { prometheus } = yield* Effect.promise(findPrometheus)
    const home = yield* Effect.acquireRelease(
      Effect.promise(() => configured(targets)),
      (made) => Effect.promise(() => rm(made, { recursive: true, force: true }))
    )
    const port = yield* freePort(0)
    yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const options = [
          ["config.file", join(home, "prometheus.yml")],
          ["storage.tsdb.path", join(home, "data")],
          ["web.listen-address", `127.0.0.1:${port}`],
          ["log.level", "warn"]
        ].map(([name, value]) => `--${name}=${value}`)
        const child = spawn(prometheus, options, { cwd: home, stdio: ["ignore", "ignore", "inherit"] })
        await new Promise((started, refused) => child.once("spawn", started).once("error", refused))
        return child.pid ?? 0
      }),
      (pid) => stop(pid)
    )
    return `http://127.0.0.1:${port}`
  })

const ask = <A, I>(url: string, schema: Schema.Schema<A, I>) =>
  Effect.promise(async () => {
    const answer = await fetch(url, { signal: AbortSignal.timeout(5000) }).catch(() => undefined)
    return answer?.status === 200 ? await answer.json() : undefined
  }).pipe(
    Effect.map((body) => Schema.decodeUnknownOption(schema)(body)),
    Effect.map((found) => (found._tag === "Some" ? found.value : undefined))
  )

/** The values of an expression, by what they are labelled with, once it has `count` of them for which `holds`. */
const values = (at: string, expr: string, count: number, holds: (value: number) => boolean) =>
  eventually(
    `${count} values of ${expr}`,
    30,
    Effect.map(ask(`${at}/api/v1/query?query=${encodeURIComponent(expr)}`, Vector), (found) => {
      const all = found?.data.result.filter(({ value: [, value] }) => holds(value)) ?? []
      return all.length === count ? all : undefined
    })
  )

describe("a Prometheus with the product's configuration", () => {
  it.scopedLive(
    "scrapes the programs, records by the rules and raises what is wrong",
    () =>
      Effect.gen(function* () {
        const env = {
          DATABASE_URL: yield* freshDatabase,
          ORDINAUT_SECRET: Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64"),
          HOST: "127.0.0.1"
        }
        const [api, scheduler, worker] = yield* Effect.all(
          [Programs.start("api", env), Programs.start("scheduler", env), Programs.start("worker", env)],
          { concurrency: 3 }
        )
        const address = ({ url }: Programs.Served) => url.replace("http://", "")
        const at = yield* start({
          "ordinaut-api": address(api),
          "ordinaut-scheduler": address(scheduler),
          "ordinaut-worker": address(worker)
        })

        const up = yield* values(at, "up", 3, (value) => value === 1)
        assert.sameMembers(
          up.map(({ metric }) => metric["job"]),
          ["ordinaut-api", "ordinaut-scheduler", "ordinaut-worker"]
        )
        yield* values(at, "ordinaut:schedulers", 1, (value) => value === 1)
        yield* values(at, "ordinaut:workers", 1, (value) => value === 1)
        yield* values(at, "ordinaut:due_work", 5, (value) => value === 0)
        yield* values(at, "sum(rate(ordinaut_turn_duration_seconds_count[30s]))", 1, (value) => value > 0)
        yield* values(at, "count(count by (version) (ordinaut_build_info))", 1, (value) => value === 1)

        const rules = yield* eventually(
          "evaluation of every rule",
          30,
          Effect.map(ask(`${at}/api/v1/rules`, Rules), (found) => {
            const all = found?.data.groups.flatMap((group) => group.rules) ?? []
            return all.length > 0 && all.every(({ health }) => health !== "unknown") ? all : undefined
          })
        )
        assert.deepStrictEqual(
          rules.filter(({ health }) => health !== "ok"),
          []
        )
        assert.deepStrictEqual(
          rules.filter(({ state }) => state === "firing"),
          []
        )

        yield* worker.stop("SIGTERM")
        yield* values(at, 'ALERTS{alertname="OrdinautNoWorker"}', 1, (value) => value === 1)
        yield* values(at, 'ALERTS{alertname="OrdinautProcessDown"}', 1, (value) => value === 1)
      }),
    180_000
  )
})
