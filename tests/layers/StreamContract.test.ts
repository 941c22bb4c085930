import { readFileSync } from "node:fs"
import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Clock, Context, Effect, Fiber, Layer, TestClock, TestServices } from "effect"
import { Redis as Client } from "ioredis"
import pg from "pg"
import { inject } from "vitest"
import { Events } from "../../src/layers/Events.ts"
import { EventStream, streamKey } from "../../src/layers/EventStream.ts"
import { History } from "../../src/layers/History.ts"
import * as Ingress from "../../src/layers/Ingress.ts"
import { deadKey, ingressKey } from "../../src/layers/IngressStream.ts"
import { admin } from "../support/fixtures.ts"
import { services, start } from "../support/Services.ts"

interface Read {
  readonly number: number
  readonly id: string
  readonly topic: string
  readonly namespace: string
  readonly payload: unknown
  readonly at: number
}

interface Pending {
  readonly number: number
  readonly consumer: string
  readonly deliveries: number
}

interface Put {
  readonly topic: string
  readonly payload: unknown
  readonly dedupe_key?: string
}

/** What a system outside does with the stream, whichever it is. */
class Outside extends Context.Tag("test/Outside")<
  Outside,
  {
    /** From after a number on; null for what comes from now on. False if there is such a group. */
    readonly createGroup: (group: string, after: number | null) => Effect.Effect<boolean>
    readonly read: (group: string, consumer: string, count: number) => Effect.Effect<ReadonlyArray<Read>>
    readonly ack: (group: string, numbers: ReadonlyArray<number>) => Effect.Effect<number>
    /** Takes over what was idle for at least 30 s. */
    readonly claim: (group: string, consumer: string, count: number) => Effect.Effect<ReadonlyArray<Read>>
    readonly pending: (group: string) => Effect.Effect<ReadonlyArray<Pending>>
    /** Lets so many seconds pass for what is pending. */
    readonly wait: (group: string, seconds: number) => Effect.Effect<void>
    /** Loses the groups, with all that they know. */
    readonly lose: Effect.Effect<void>
    /** Drops the entries up to a number. */
    readonly trim: (number: number) => Effect.Effect<void>
    readonly add: (event: Put) => Effect.Effect<void>
    /** A consumer takes all that was added, for the n-th time, and dies; it was long ago. */
    readonly abandon: (deliveries: number) => Effect.Effect<void>
    /** How many entries wait to be accepted. */
    readonly waiting: Effect.Effect<number>
    /** The reasons of the dead letters. */
    readonly dead: Effect.Effect<ReadonlyArray<string>>
  }
>() {}

const embedded = Layer.effect(
  Outside,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const at = Effect.map(Clock.currentTimeMillis, (now) => new Date(now))
    const read = (row: Record<string, unknown>): Read => ({
      number: Number(row["number"]),
      id: String(row["id"]),
      topic: String(row["topic"]),
      namespace: String(row["namespace"]),
      payload: row["payload"],
      at: row["at"] instanceof Date ? row["at"].getTime() : 0
    })
    return Outside.of({
      createGroup: (group, after) =>
        sql<{ made: boolean }>`SELECT stream_create_group(${group}, ${after}) AS made`.pipe(
          Effect.map(([row]) => row?.made === true),
          Effect.orDie
        ),
      read: (group, consumer, count) =>
        Effect.flatMap(at, (now) => sql`SELECT * FROM stream_read(${group}, ${consumer}, ${count}, ${now})`).pipe(
          Effect.map((rows) => rows.map((row) => read({ ...row }))),
          Effect.orDie
        ),
      ack: (group, numbers) =>
        sql<{ n: number }>`SELECT stream_ack(${group}, ${numbers}::bigint[]) AS n`.pipe(
          Effect.map(([row]) => row?.n ?? 0),
          Effect.orDie
        ),
      claim: (group, consumer, count) =>
        Effect.flatMap(
          at,
          (now) => sql`SELECT * FROM stream_claim(${group}, ${consumer}, '30 s', ${count}, ${now})`
        ).pipe(
          Effect.map((rows) => rows.map((row) => read({ ...row }))),
          Effect.orDie
        ),
      pending: (group) =>
        sql<Pending>`SELECT number::integer, consumer, deliveries FROM stream_unacknowledged(${group})`.pipe(
          Effect.orDie
        ),
      wait: (_, seconds) => TestClock.adjust(`${seconds} seconds`),
      lose: Effect.orDie(sql`TRUNCATE stream_group, stream_pending`).pipe(Effect.asVoid),
      trim: (number) => Effect.orDie(sql`DELETE FROM outbox WHERE first_number <= ${number}`).pipe(Effect.asVoid),
      add: ({ dedupe_key, payload, topic }) =>
        Effect.orDie(
          sql`SELECT stream_add(${topic}, ${JSON.stringify(payload)}::jsonb, dedupe_key => ${dedupe_key ?? null})`
        ).pipe(Effect.asVoid),
      abandon: (deliveries) =>
        Effect.orDie(
          sql`UPDATE ingress SET deliveries = ${deliveries}, delivered_at = clock_timestamp() - interval '1 minute'`
        ).pipe(Effect.asVoid),
      waiting: sql<{ n: number }>`SELECT count(*)::integer AS n FROM ingress`.pipe(
        Effect.map(([row]) => row?.n ?? 0),
        Effect.orDie
      ),
      dead: sql<{ error: string }>`SELECT error FROM ingress_dead ORDER BY id`.pipe(
        Effect.map((rows) => rows.map(({ error }) => error)),
        Effect.orDie
      )
    })
  })
)

const redisUrl = `${inject("redisUrl").replace(/\/+$/, "")}/8`

const strings = (value: unknown): ReadonlyArray<string> => (Array.isArray(value) ? value.map(String) : [])
const list = (value: unknown): ReadonlyArray<unknown> => (Array.isArray(value) ? value : [])

const redisEntry = (entry: unknown): Read => {
  const [id, values] = list(entry)
  const fields = new Map<string, string>()
  const flat = strings(values)
  for (let i = 0; i < flat.length; i += 2) fields.set(flat[i] ?? "", flat[i + 1] ?? "")
  return {
    number: Number(String(id).split("-")[0]),
    id: fields.get("id") ?? "",
    topic: fields.get("topic") ?? "",
    namespace: fields.get("namespace") ?? "",
    payload: JSON.parse(fields.get("payload") ?? "null") as unknown,
    at: Date.parse(fields.get("at") ?? "")
  }
}

const redis = Layer.scoped(
  Outside,
  Effect.gen(function* () {
    const client = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const made = new Client(redisUrl, { lazyConnect: true })
        await made.connect()
        await made.flushdb()
        return made
      }),
      (made) => Effect.sync(() => made.disconnect())
    )
    const create = (group: string, from: string) =>
      client.xgroup("CREATE", streamKey, group, from, "MKSTREAM").then(
        () => true,
        () => false
      )
    const ids = (group: string) =>
      client.xpending(streamKey, group, "-", "+", 1000).then((rows) => list(rows).map((row) => strings(row)))
    const seize = async (key: string, group: string, ...more: ReadonlyArray<string | number>) => {
      const rows = list(await client.xpending(key, group, "-", "+", 1000)).map((row) => strings(row))
      for (const [id = "", consumer = ""] of rows)
        await client.call("XCLAIM", key, group, consumer, 0, id, ...more, "JUSTID")
    }
    return Outside.of({
      createGroup: (group, after) => Effect.promise(() => create(group, after === null ? "$" : `${after}-0`)),
      read: (group, consumer, count) =>
        Effect.promise(async () => {
          const ask = () => client.xreadgroup("GROUP", group, consumer, "COUNT", count, "STREAMS", streamKey, ">")
          // A consumer makes a group that is lost again.
          const answer = await ask().catch(() => create(group, "0").then(ask))
          return list(answer).flatMap((stream) => list(list(stream)[1]).map((entry) => redisEntry(entry)))
        }),
      ack: (group, numbers) => Effect.promise(() => client.xack(streamKey, group, ...numbers.map((n) => `${n}-0`))),
      claim: (group, consumer, count) =>
        Effect.promise(() => client.xautoclaim(streamKey, group, consumer, 30_000, "0-0", "COUNT", count)).pipe(
          Effect.map(([, entries]) => list(entries).map((entry) => redisEntry(entry)))
        ),
      pending: (group) =>
        Effect.promise(() => ids(group)).pipe(
          Effect.map((rows) =>
            rows.map(([id = "", consumer = "", , deliveries]) => ({
              number: Number(id.split("-")[0]),
              consumer,
              deliveries: Number(deliveries)
            }))
          )
        ),
      wait: (group, seconds) => Effect.promise(() => seize(streamKey, group, "IDLE", seconds * 1000)),
      lose: Effect.promise(() => client.flushdb()).pipe(Effect.asVoid),
      trim: (number) => Effect.promise(() => client.xtrim(streamKey, "MINID", `${number + 1}-0`)).pipe(Effect.asVoid),
      add: ({ dedupe_key, payload, topic }) =>
        Effect.promise(() =>
          client.xadd(
            ingressKey,
            "*",
            "topic",
            topic,
            "payload",
            JSON.stringify(payload),
            ...(dedupe_key === undefined ? [] : ["dedupe_key", dedupe_key])
          )
        ).pipe(Effect.asVoid),
      abandon: (deliveries) =>
        Effect.promise(async () => {
          await client.xgroup("CREATE", ingressKey, "ordinaut", "0", "MKSTREAM").catch(() => undefined)
          await client.xreadgroup("GROUP", "ordinaut", "dead", "COUNT", 100, "STREAMS", ingressKey, ">")
          await seize(ingressKey, "ordinaut", "IDLE", 60_000, "RETRYCOUNT", deliveries)
        }),
      waiting: Effect.promise(() => client.xlen(ingressKey)),
      dead: Effect.promise(() => client.xrange(deadKey, "-", "+")).pipe(
        Effect.map((entries) => entries.map(([, fields]) => fields.at(-1) ?? ""))
      )
    })
  })
)

/** Publishes so many events and puts them on the stream; answers their topics. */
const publish = (...topics: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { actor } = yield* admin
    const events = yield* Events
    const stream = yield* EventStream
    for (const topic of topics) yield* events.publish(actor, { topic, payload: { of: topic, n: 1.5 } }, null)
    while ((yield* stream.number) > 0);
    while ((yield* stream.send) > 0);
  })

const names = (read: ReadonlyArray<Read>) => read.map(({ topic }) => topic)
const numbers = (read: ReadonlyArray<{ readonly number: number }>) => read.map(({ number }) => number)

/** Looks, in real time, until what is found is what is wanted. */
const eventually = <A, E, R>(look: Effect.Effect<A, E, R>, wanted: (found: A) => boolean) =>
  look.pipe(
    Effect.tap(() => TestServices.provideLive(Effect.sleep("50 millis"))),
    Effect.repeat({ until: wanted, times: 300 })
  )

const accepted = Effect.gen(function* () {
  const { actor } = yield* admin
  const { items } = yield* (yield* Events).list(actor, null, { limit: 200, before: null })
  return items.map(({ topic }) => topic).sort()
})

/** Starts over: nothing was published, nobody reads. */
const clear = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`TRUNCATE event, outbox, stream_group, stream_pending, ingress, ingress_dead`
  yield* sql`UPDATE stream_head SET number = 0`
  yield* Effect.flatMap(Outside, ({ lose }) => lose)
  yield* TestClock.setTime(start)
})

type Services = Layer.Layer.Success<ReturnType<typeof services>> | Outside
type Scenario = Effect.Effect<void, unknown, Services>

/** What the stream promises to systems outside, by name. */
const contract: Record<string, Scenario> = {
  "delivers what is published once to a group, in order, and to each group": Effect.gen(function* () {
    const { createGroup, read } = yield* Outside
    assert.isTrue(yield* createGroup("g", 0))
    assert.isFalse(yield* createGroup("g", 0))
    yield* publish("a.one", "a.two", "a.three")
    const [first] = yield* read("g", "c", 1)
    assert.deepInclude(first, { number: 1, topic: "a.one", namespace: "main", payload: { of: "a.one", n: 1.5 } })
    assert.strictEqual(first?.at, start)
    assert.match(first?.id ?? "", /^[0-9a-f-]{36}$/)
    const rest = yield* read("g", "c", 10)
    assert.deepStrictEqual(numbers(rest), [2, 3])
    assert.deepStrictEqual(names(rest), ["a.two", "a.three"])
    assert.deepStrictEqual(yield* read("g", "c", 10), [])
    yield* publish("a.four")
    assert.deepStrictEqual(names(yield* read("g", "c", 10)), ["a.four"])
    assert.deepStrictEqual(numbers(yield* read("h", "c", 10)), [1, 2, 3, 4])
  }),

  "reads from where a group is made to begin": Effect.gen(function* () {
    const { createGroup, read } = yield* Outside
    yield* publish("a.one", "a.two", "a.three")
    yield* createGroup("late", 2)
    yield* createGroup("new", null)
    assert.deepStrictEqual(numbers(yield* read("late", "c", 10)), [3])
    assert.deepStrictEqual(yield* read("new", "c", 10), [])
    yield* publish("a.four")
    assert.deepStrictEqual(numbers(yield* read("new", "c", 10)), [4])
  }),

  "two consumers share: none gets what the other has": Effect.gen(function* () {
    const { read } = yield* Outside
    yield* publish(...Array.from({ length: 30 }, (_, n) => `a.n${n}`))
    const drain = (consumer: string) =>
      Effect.gen(function* () {
        const got: Array<number> = []
        for (;;) {
          const some = yield* read("g", consumer, 3)
          if (some.length === 0) return got
          got.push(...numbers(some))
        }
      })
    const [one, other] = yield* Effect.all([drain("one"), drain("other")], { concurrency: 2 })
    for (const got of [one, other])
      assert.deepStrictEqual(
        [...got].sort((a, b) => a - b),
        got
      )
    assert.deepStrictEqual(
      [...one, ...other].sort((a, b) => a - b),
      Array.from({ length: 30 }, (_, n) => n + 1)
    )
  }),

  "counts what is not acknowledged as pending, and forgets what is": Effect.gen(function* () {
    const { ack, pending, read } = yield* Outside
    yield* publish("a.one", "a.two", "a.three")
    yield* read("g", "c", 2)
    yield* read("g", "d", 2)
    const held = (consumer: string, ...of: ReadonlyArray<number>) =>
      of.map((number) => ({ number, consumer, deliveries: 1 }))
    assert.deepStrictEqual(yield* pending("g"), [...held("c", 1, 2), ...held("d", 3)])
    assert.strictEqual(yield* ack("g", [1, 3]), 2)
    assert.strictEqual(yield* ack("g", [1, 3, 99]), 0)
    assert.deepStrictEqual(yield* pending("g"), held("c", 2))
  }),

  "what is idle too long is another's to claim, with its deliveries counted": Effect.gen(function* () {
    const { ack, claim, pending, read, wait } = yield* Outside
    yield* publish("a.one", "a.two", "a.three")
    yield* read("g", "dead", 2)
    yield* wait("g", 29)
    assert.deepStrictEqual(yield* claim("g", "c", 10), [])
    yield* wait("g", 31)
    yield* read("g", "alive", 1)
    assert.deepStrictEqual(numbers(yield* claim("g", "c", 1)), [1])
    assert.deepStrictEqual(numbers(yield* claim("g", "d", 10)), [2])
    assert.deepStrictEqual(yield* claim("g", "e", 10), [])
    assert.deepStrictEqual(yield* pending("g"), [
      { number: 1, consumer: "c", deliveries: 2 },
      { number: 2, consumer: "d", deliveries: 2 },
      { number: 3, consumer: "alive", deliveries: 1 }
    ])
    yield* ack("g", [1])
    yield* wait("g", 31)
    const again = yield* claim("g", "f", 10)
    assert.deepStrictEqual(names(again), ["a.two", "a.three"])
    assert.deepStrictEqual(again[0]?.payload, { of: "a.two", n: 1.5 })
    assert.deepStrictEqual(
      (yield* pending("g")).map(({ deliveries }) => deliveries),
      [3, 2]
    )
  }),

  "what is not kept any more is neither delivered nor pending": Effect.gen(function* () {
    const { claim, pending, read, trim, wait } = yield* Outside
    yield* publish("a.one", "a.two", "a.three", "a.four")
    yield* read("g", "dead", 2)
    yield* trim(3)
    yield* wait("g", 31)
    assert.deepStrictEqual(yield* claim("g", "c", 10), [])
    assert.deepStrictEqual(yield* pending("g"), [])
    assert.deepStrictEqual(numbers(yield* read("g", "c", 10)), [4])
  }),

  "a group that is lost starts again from the beginning": Effect.gen(function* () {
    const { lose, read } = yield* Outside
    yield* publish("a.one", "a.two")
    assert.deepStrictEqual(numbers(yield* read("g", "c", 10)), [1, 2])
    yield* lose
    yield* publish("a.three")
    assert.deepStrictEqual(names(yield* read("g", "c", 10)), ["a.one", "a.two", "a.three"])
  }),

  "accepts what is put before it once, however often it is delivered": Effect.gen(function* () {
    const { abandon, add, waiting } = yield* Outside
    yield* add({ topic: "in.left", payload: { n: 1 } })
    yield* abandon(1)
    yield* add({ topic: "in.paid", payload: 1, dedupe_key: "p1" })
    yield* add({ topic: "in.paid", payload: 1, dedupe_key: "p1" })
    yield* TestServices.provideLive(Layer.build(Ingress.loop))
    yield* eventually(waiting, (n) => n === 0)
    assert.deepStrictEqual(yield* accepted, ["in.left", "in.paid"])
    yield* add({ topic: "in.later", payload: 1 })
    yield* eventually(accepted, (topics) => topics.includes("in.later"))
    yield* publish()
    const { read } = yield* Outside
    assert.deepStrictEqual(names(yield* read("g", "c", 10)), ["in.left", "in.paid", "in.later"])
  }).pipe(Effect.scoped),

  "what cannot be accepted is a dead letter, with the reason": Effect.gen(function* () {
    const { abandon, add, dead, waiting } = yield* Outside
    yield* add({ topic: "in.poison", payload: 1 })
    yield* abandon(5)
    yield* add({ topic: "no topic!", payload: 1 })
    yield* add({ topic: "ordinaut.run.failed", payload: 1 })
    yield* add({ topic: "in.good", payload: 1 })
    yield* TestServices.provideLive(Layer.build(Ingress.loop))
    yield* eventually(waiting, (n) => n === 0)
    const reasons = [...(yield* dead)].sort()
    assert.lengthOf(reasons, 3)
    assert.match(reasons.join("\n"), /delivered more than 5 times/)
    assert.match(reasons.join("\n"), /topic/)
    assert.match(reasons.join("\n"), /ordinaut are the product's own/)
    assert.deepStrictEqual(yield* accepted, ["in.good"])
  }).pipe(Effect.scoped)
}

for (const [name, subject, settings] of [
  ["the stream in Redis", redis, [["REDIS_URL", redisUrl]]],
  ["the embedded stream", embedded, []]
] as const) {
  layer(Layer.provideMerge(subject, services(settings)))(name, (it) => {
    for (const [what, scenario] of Object.entries(contract)) it.effect(what, () => Effect.zipRight(clear, scenario))
  })
}

layer(Layer.provideMerge(embedded, services()))("the embedded stream alone", (it) => {
  const databaseUrl = Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ name: string }>`SELECT current_database() AS name`
    const url = new URL(inject("databaseUrl"))
    url.pathname = row?.name ?? ""
    return url.href
  })
  /** A connection of another system. */
  const connected = Effect.acquireRelease(
    Effect.flatMap(databaseUrl, (connectionString) =>
      Effect.promise(async () => {
        const client = new pg.Client({ connectionString })
        await client.connect()
        return client
      })
    ),
    (client) => Effect.promise(() => client.end())
  )
  const failure = (client: pg.Client, statement: string) =>
    Effect.promise(() =>
      client.query(statement).then(
        () => "no error",
        (error: unknown) => (error instanceof Error ? error.message : "")
      )
    )

  it.scoped("a system that may call the functions needs no right on any table, and others may not", () =>
    Effect.gen(function* () {
      yield* clear
      yield* publish("a.one")
      const client = yield* connected
      const run = (text: string) => Effect.promise(() => client.query(text))
      yield* run("DROP ROLE IF EXISTS outsider")
      yield* run("CREATE ROLE outsider")
      yield* Effect.addFinalizer(() =>
        Effect.promise(() => client.query("RESET ROLE; DROP OWNED BY outsider; DROP ROLE outsider"))
      )
      yield* run("SET ROLE outsider")
      assert.match(yield* failure(client, "SELECT * FROM stream_read('g', 'c')"), /permission denied/)
      assert.match(yield* failure(client, "SELECT stream_add('a.b', '1')"), /permission denied/)
      yield* run(
        "RESET ROLE; GRANT EXECUTE ON FUNCTION stream_read, stream_ack, stream_add TO outsider; SET ROLE outsider"
      )
      // A table of the caller's own by the same name is not mistaken for the product's.
      yield* run("CREATE TEMP TABLE outbox (first_number bigint, size integer, entries jsonb)")
      const { rows } = yield* run(
        "SELECT number::integer, topic, at < clock_timestamp() AS past FROM stream_read('g', 'c')"
      )
      assert.deepStrictEqual(rows, [{ number: 1, topic: "a.one", past: true }])
      assert.strictEqual((yield* run("SELECT stream_ack('g', '{1}') AS n")).rows[0]?.n, 1)
      yield* run("SELECT stream_add('a.b', '1')")
      assert.match(yield* failure(client, "SELECT * FROM ingress"), /permission denied/)
    })
  )

  it.scoped("an event is put with the transaction of its system, or not at all", () =>
    Effect.gen(function* () {
      yield* clear
      const { waiting } = yield* Outside
      const client = yield* connected
      yield* Effect.promise(() => client.query("BEGIN; SELECT stream_add('a.b', '1'); ROLLBACK"))
      assert.strictEqual(yield* waiting, 0)
      yield* Effect.promise(() => client.query("BEGIN; SELECT stream_add('a.b', '1'); COMMIT"))
      assert.strictEqual(yield* waiting, 1)
    })
  )

  it.scoped("a read waits for another of its group, and gets what follows", () =>
    Effect.gen(function* () {
      yield* clear
      yield* publish("a.one", "a.two")
      const sql = yield* SqlClient.SqlClient
      const { createGroup, read } = yield* Outside
      yield* createGroup("g", 0)
      const client = yield* connected
      yield* Effect.promise(() => client.query("BEGIN; SELECT stream_read('g', 'one', 1)"))
      const other = yield* Effect.fork(read("g", "other", 1))
      const waits = Effect.map(sql`SELECT pid FROM pg_locks WHERE NOT granted`, (rows) => rows.length > 0)
      yield* eventually(waits, (waiting) => waiting)
      yield* Effect.promise(() => client.query("COMMIT"))
      assert.deepStrictEqual(numbers(yield* Fiber.join(other)), [2])
    })
  )

  it.scoped("a claim waits for nobody, and passes by what another claims", () =>
    Effect.gen(function* () {
      yield* clear
      yield* publish("a.one", "a.two")
      const { claim, read, wait } = yield* Outside
      yield* read("g", "dead", 10)
      yield* wait("g", 31)
      const client = yield* connected
      const at = new Date(yield* Clock.currentTimeMillis)
      yield* Effect.promise(() => client.query("BEGIN"))
      yield* Effect.promise(() => client.query("SELECT stream_claim('g', 'one', '30 s', 1, $1)", [at]))
      assert.deepStrictEqual(numbers(yield* claim("g", "other", 10)), [2])
      yield* Effect.promise(() => client.query("COMMIT"))
    })
  )

  it.scoped("a consumer that rolls back has read nothing", () =>
    Effect.gen(function* () {
      yield* clear
      yield* publish("a.one", "a.two")
      const client = yield* connected
      const { pending, read } = yield* Outside
      yield* Effect.promise(() => client.query("BEGIN; SELECT stream_read('g', 'dies'); ROLLBACK"))
      assert.deepStrictEqual(numbers(yield* read("g", "c", 10)), [1, 2])
      assert.deepStrictEqual(
        (yield* pending("g")).map(({ consumer }) => consumer),
        ["c", "c"]
      )
    })
  )

  it.scoped("says which argument is wrong", () =>
    Effect.gen(function* () {
      const client = yield* connected
      assert.match(yield* failure(client, "SELECT * FROM stream_read('', 'c')"), /group_name/)
      assert.match(yield* failure(client, "SELECT * FROM stream_read('g', NULL)"), /consumer/)
      assert.match(yield* failure(client, "SELECT * FROM stream_read('g', 'c', 0)"), /count/)
      assert.match(yield* failure(client, "SELECT * FROM stream_claim('g', 'c', '1 s', 1001)"), /count/)
      assert.match(yield* failure(client, "SELECT stream_create_group(NULL)"), /group_name/)
    })
  )

  it.scoped("batches of many entries are read from the middle, and a group that is dropped is gone", () =>
    Effect.gen(function* () {
      yield* clear
      const sql = yield* SqlClient.SqlClient
      const { createGroup, pending, read } = yield* Outside
      yield* sql`
        INSERT INTO outbox (first_number, size, entries, at)
        SELECT 1 + n * 7, 7, (SELECT jsonb_agg(jsonb_build_object('id', gen_random_uuid(), 'topic', 'a.n' || (n * 7 + i), 'namespace', 'main',
          'payload', NULL, 'at', ${new Date(start)}::timestamptz) ORDER BY i) FROM generate_series(1, 7) AS i), ${new Date(start)}
        FROM generate_series(0, 9) AS n`
      yield* sql`UPDATE stream_head SET number = 70`
      const got: Array<Read> = []
      for (const count of [3, 5, 20, 1, 100]) got.push(...(yield* read("g", "c", count)))
      assert.deepStrictEqual(
        names(got),
        Array.from({ length: 70 }, (_, n) => `a.n${n + 1}`)
      )
      assert.lengthOf(yield* pending("g"), 70)
      yield* sql`SELECT stream_drop_group('g')`
      assert.deepStrictEqual(yield* pending("g"), [])
      assert.isTrue(yield* createGroup("g", 0))
    })
  )

  it.scoped("the statements of the manual do what it says", () =>
    Effect.gen(function* () {
      yield* clear
      yield* publish("a.one", "a.two", "a.three")
      const client = yield* connected
      const manual = readFileSync(new URL("../../docs/streams.md", import.meta.url), "utf8")
      const blocks = [...manual.matchAll(/^```sql\n([^]*?)^```$/gm)].map(([, text = ""]) => text)
      assert.lengthOf(blocks, 5)
      yield* Effect.addFinalizer(() => Effect.promise(() => client.query("DROP OWNED BY billing; DROP ROLE billing")))
      for (const block of blocks) yield* Effect.promise(() => client.query(block))
      const { pending, waiting } = yield* Outside
      assert.deepStrictEqual([yield* pending("billing"), yield* waiting], [[], 1])
    })
  )

  it.scoped("retention takes what was never acknowledged, and old dead letters", () =>
    Effect.gen(function* () {
      yield* clear
      const sql = yield* SqlClient.SqlClient
      const { dead, pending, read } = yield* Outside
      yield* publish("a.one")
      yield* read("g", "dies", 10)
      yield* sql`
        INSERT INTO ingress_dead (id, topic, payload, namespace, at, deliveries, error, buried_at)
        VALUES (1, 'a.b', '1', 'main', ${new Date(start)}, 1, 'no', ${new Date(start)})`
      const history = yield* History
      yield* TestClock.setTime(start + 29 * 86_400_000)
      yield* history.keep
      assert.deepStrictEqual([(yield* pending("g")).length, yield* dead], [1, ["no"]])
      yield* publish("a.two")
      yield* TestClock.setTime(start + 31 * 86_400_000)
      yield* history.keep
      assert.deepStrictEqual([yield* pending("g"), yield* dead], [[], []])
    })
  )
})
