import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import type { ServerResponse } from "node:http"
import pg from "pg"
import { fromRandom } from "../../src/domain/ApiKey.ts"
import * as Programs from "../support/programs.ts"
import { freshDatabase } from "../support/TestDb.ts"
import { give, table, type ToolRequest, toolServer } from "../support/toolServer.ts"

const { eventually, query, request } = Programs

const names = Array.from({ length: 10 }, (_, n) => `s${n + 1}`)
const nameOf = (n: number) => names[n - 1] ?? ""

/** Where a run stands when its worker dies; `step` counts from 1. */
interface Moment {
  /**
   * `called`: the tool is at work on the step. `answered`: its answer is out and not stored. `stored`: its output is stored and the
   * next step is not called. `plug`: as `stored`, but it went on before the kill.
   */
  readonly kind: "called" | "answered" | "stored" | "plug"
  readonly step: number
  /** A step at which the second worker dies, too. */
  readonly again?: number
}

const each = (kind: Moment["kind"], steps: number) =>
  Array.from({ length: steps }, (_, n): Moment => ({ kind, step: n + 1 }))

const moments: ReadonlyArray<Moment> = [
  { kind: "plug", step: 1 },
  ...each("called", 10).map((moment) => (moment.step === 4 ? { ...moment, again: 5 } : moment)),
  ...each("answered", 10).map((moment) => (moment.step === 2 ? { ...moment, again: 9 } : moment)),
  ...each("stored", 9)
]

/** Advisory locks at which a statement waits that stores the start of a step. */
const gates = { plug: 4711, stored: 4712 } as const

/** What a run is given: the tool's input says where the tool holds it, and where the database does. */
const paramsOf = ({ again, kind, step }: Moment) => ({
  holds: [nameOf(step), ...(again === undefined ? [] : [nameOf(again)])],
  gate: kind === "plug" || kind === "stored" ? gates[kind] : 0,
  before: kind === "plug" || kind === "stored" ? nameOf(step + 1) : ""
})

/** Input of the n-th step, from 0: it reads the output of the one before. */
const inputOf = (n: number) => ({
  holds: "${params.holds}",
  gate: "${params.gate}",
  before: "${params.before}",
  ...(n > 0 && { after: `\${steps.${nameOf(n)}.answer}` })
})

const decodeInput = Schema.decodeUnknownSync(Schema.Struct({ holds: Schema.Array(Schema.String) }))
const holdsOf = (input: unknown) => decodeInput(input).holds

const gateTrigger = [
  `CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
   BEGIN PERFORM pg_advisory_xact_lock_shared((NEW.input ->> 'gate')::bigint); RETURN NEW; END $$`,
  `CREATE TRIGGER gate AFTER INSERT ON live_step FOR EACH ROW
   WHEN (NEW.state = 'running' AND NEW.input ->> 'before' = NEW.step_id) EXECUTE FUNCTION gate()`
]

/** A connection that holds the gates until they are opened. */
const closedGates = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      for (const gate of Object.values(gates)) await client.query(`SELECT pg_advisory_lock(${gate})`)
      return {
        open: (gate: number) => Effect.promise(() => client.query(`SELECT pg_advisory_unlock(${gate})`)),
        end: () => client.end()
      }
    }),
    (gate) => Effect.promise(() => gate.end())
  )

const waitsAt = (url: string, gate: number) =>
  eventually(
    `statement at gate ${gate}`,
    20,
    Effect.map(
      query(url, Schema.Unknown, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted", [
        gate
      ]),
      (rows) => (rows.length > 0 ? true : undefined)
    )
  )

const Id = Schema.Struct({ id: Schema.String })
const Queued = Schema.Struct({ run_id: Schema.String })
const Stored = Schema.Struct({ run_id: Schema.String, step_id: Schema.String })
const Run = Schema.Struct({ id: Schema.String, state: Schema.String, attempt: Schema.Int, lease_no: Schema.Int })
const Step = Schema.Struct({
  run_id: Schema.String,
  step_id: Schema.String,
  state: Schema.String,
  output: Schema.Unknown
})
const ended = "SELECT id, state, attempt, lease_no FROM task_run"

const stored = (url: string) =>
  Effect.map(
    query(url, Stored, "SELECT run_id, step_id FROM live_step WHERE kind = 'step' AND state = 'succeeded'"),
    (rows) => new Set(rows.map(({ run_id, step_id }) => `${run_id}:${step_id}`))
  )

const invariants = readFileSync(new URL("../support/invariants.sql", import.meta.url), "utf8")
  .split(/;\s*\n/)
  .filter((statement) => statement.trim() !== "")

/** Holds the first call of each step that its run's input names under `holds`, until told to answer; all others are answered at once. */
const holding = Effect.gen(function* () {
  const held = new Map<string, { readonly call: ToolRequest; readonly response: ServerResponse }>()
  let answers = 0
  /** An output tells one call from all others. */
  const reply = (call: ToolRequest, response: ServerResponse) =>
    give(call, response, { step: call.step, answer: ++answers })
  const server = yield* toolServer((call, response) => {
    if (holdsOf(call.input).includes(call.step) && !held.has(call.key)) held.set(call.key, { call, response })
    else void reply(call, response)
  })
  return {
    ...server,
    /** Waits until all these calls are held. */
    holdsAll: (keys: ReadonlyArray<string>) =>
      eventually(
        `call of each of ${keys.length} steps`,
        30,
        Effect.sync(() => (keys.every((key) => held.has(key)) ? true : undefined))
      ),
    /** Answers held calls; returns when the answers have left. */
    release: (keys: ReadonlyArray<string>) =>
      Effect.forEach(
        keys.flatMap((key) => held.get(key) ?? []),
        ({ call, response }) => Effect.promise(() => reply(call, response)),
        { concurrency: 50, discard: true }
      )
  }
})

describe("durable steps", () => {
  it.scopedLive(
    "are called once where their result was stored, and recorded once, whenever their worker is killed",
    () =>
      Effect.gen(function* () {
        const database = yield* freshDatabase
        const key = fromRandom(randomBytes(41)).text
        const env = {
          DATABASE_URL: database,
          ORDINAUT_ADMIN_KEY: key,
          ORDINAUT_SECRET: randomBytes(32).toString("base64"),
          ORDINAUT_ALLOW_PRIVATE_TARGETS: "127.0.0.0/8",
          HOST: "127.0.0.1",
          LEASE_SECONDS: "6"
        }
        assert.strictEqual(yield* (yield* Programs.run("migrate", env)).ended, 0)
        for (const statement of gateTrigger) yield* query(database, Schema.Unknown, statement)
        const tools = yield* holding
        const gate = yield* closedGates(database)
        const [api, , first] = yield* Effect.all(
          [Programs.start("api", env), Programs.start("scheduler", env), Programs.start("worker", env)],
          { concurrency: 3 }
        )
        const to = { ...api, key }
        yield* request(to, "PUT", "/extensions/tools", Schema.Struct({ name: Schema.String }), {
          kind: "http",
          base_url: tools.url,
          tools: [{ name: "call" }]
        })
        const task = yield* request(to, "POST", "/tasks", Id, {
          title: "ten steps",
          schedule_kind: "once",
          schedule_expr: "2100-01-01T00:00:00Z",
          max_retries: 0,
          payload: { params: {}, pipeline: names.map((id, n) => ({ id, uses: "tools.call", with: inputOf(n) })) }
        })
        const runs = yield* Effect.forEach(
          moments,
          (moment) =>
            Effect.map(
              request(to, "POST", `/tasks/${task.body.id}/run_now`, Queued, { params: paramsOf(moment) }),
              ({ body }) => ({ ...moment, id: body.run_id })
            ),
          { concurrency: 4 }
        )
        const callsOf = (kind?: Moment["kind"]) =>
          runs.flatMap((run) => (kind === undefined || run.kind === kind ? [`${run.id}:${nameOf(run.step)}`] : []))
        const again = runs.flatMap((run) => (run.again === undefined ? [] : [`${run.id}:${nameOf(run.again)}`]))

        yield* tools.holdsAll(callsOf())
        const second = yield* Programs.start("worker", env)
        // What is to be stored gathers behind the plug, and so goes into one statement.
        yield* tools.release(callsOf("plug"))
        yield* waitsAt(database, gates.plug)
        yield* tools.release(callsOf("stored"))
        yield* Effect.sleep("300 millis")
        yield* gate.open(gates.plug)
        yield* waitsAt(database, gates.stored)
        // The statement under way keeps these from being stored.
        yield* tools.release(callsOf("answered"))
        yield* first.stop("SIGKILL")
        const killed = performance.now()
        yield* gate.open(gates.stored)
        const kept = yield* eventually(
          "commit of the statement of the killed worker",
          10,
          Effect.map(stored(database), (found) => (callsOf("stored").some((one) => found.has(one)) ? found : undefined))
        )
        assert.isEmpty(callsOf("answered").filter((one) => kept.has(one)))
        assert.isAtLeast(callsOf("stored").filter((one) => kept.has(one)).length, 5)

        yield* tools.holdsAll(again)
        yield* eventually(
          "end of all runs but those that are held",
          20,
          Effect.map(query(database, Run, ended), (rows) =>
            rows.length === runs.length - again.length ? rows : undefined
          )
        )
        yield* Programs.start("worker", env)
        const keptAgain = yield* stored(database)
        yield* second.stop("SIGKILL")
        const killedAgain = performance.now()
        const ends = yield* eventually(
          "end of all runs",
          30,
          Effect.map(query(database, Run, ended), (rows) => (rows.length === runs.length ? rows : undefined))
        )

        const log = (sentence: string) => `${sentence}\n${table(tools.calls)}`
        const crashed = new Set(again.map((one) => one.slice(0, one.indexOf(":"))))
        for (const { attempt, id, lease_no, state } of ends) {
          const leases = crashed.has(id) ? 3 : 2
          assert.deepStrictEqual([state, attempt, lease_no], ["succeeded", 1, leases], log(id))
        }
        const steps = yield* query(
          database,
          Step,
          "SELECT run_id, step_id, state, output FROM run_step WHERE item = -1"
        )
        assert.strictEqual(steps.length, runs.length * names.length)
        const late = callsOf("stored").filter((one) => !kept.has(one))
        const twice = new Set([...callsOf("called"), ...callsOf("answered"), ...late, ...again])
        // The plug goes on while the others are stored, as far as that lets it.
        const either = new Set(runs.flatMap(({ id, kind }) => (kind === "plug" ? [`${id}:s2`] : [])))
        for (const { output, run_id, state, step_id } of steps) {
          const name = `${run_id}:${step_id}`
          const calls = tools.calls.filter((call) => call.key === name)
          assert.strictEqual(state, "succeeded", log(name))
          const counts = either.has(name) ? [1, 2] : twice.has(name) ? [2] : [1]
          assert.include(counts, calls.length, log(`calls of ${name}`))
          assert.isTrue(
            calls.every(({ run, step }) => run === run_id && step === step_id),
            log(name)
          )
          assert.deepStrictEqual(output, calls.at(-1)?.output, log(`the record of ${name} is not its last answer`))
          const leases = calls.map(({ lease }) => lease)
          assert.deepStrictEqual(
            leases,
            [...new Set(leases)].sort((a, b) => a - b),
            log(`leases of ${name}`)
          )
          const last = calls.at(-1)?.at ?? Infinity
          if (kept.has(name)) assert.isBelow(last, killed, log(`${name} was stored`))
          if (keptAgain.has(name)) assert.isBelow(last, killedAgain, log(`${name} was stored`))
        }
        for (const { id } of runs) {
          const leases = tools.calls.filter(({ run }) => run === id).map(({ lease }) => lease)
          assert.deepStrictEqual(
            leases,
            leases.toSorted((a, b) => a - b),
            log(`leases of run ${id}`)
          )
        }
        for (const statement of invariants) {
          const broken = yield* query(database, Schema.Unknown, statement)
          assert.deepStrictEqual(broken, [], statement)
        }
      }),
    90_000
  )
})
