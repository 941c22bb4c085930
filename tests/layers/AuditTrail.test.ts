import * as SqlClient from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, TestClock } from "effect"
import { readAnchor } from "../../src/domain/AuditEntry.ts"
import type { Anchor } from "../../src/domain/AuditEntry.ts"
import { Audit } from "../../src/layers/Audit.ts"
import { AuditKeeper } from "../../src/layers/AuditKeeper.ts"
import { AuditTrail } from "../../src/layers/AuditTrail.ts"
import * as Prometheus from "../../src/layers/Prometheus.ts"
import { services } from "../support/Services.ts"

const chain = "tampered"

const record = (n: number, actor = chain) =>
  Effect.flatMap(Audit, (audit) =>
    audit.record({
      actor,
      namespace: "main",
      action: "test.done",
      subject_kind: "thing",
      subject_id: `thing-${n}`,
      before: { n: n - 1 },
      after: { n, nested: [1.5, "x", null] }
    })
  )

const all = { namespace: null, cursor: null, most: Infinity, lasting: Duration.infinity, anchors: [] }

const verify = (anchors: ReadonlyArray<Anchor> = []) =>
  Effect.flatMap(AuditTrail, (trail) => trail.verify({ ...all, anchors }))

/** What breaks when a change is made behind the product's back; the change is undone again. */
const brokenBy = (change: string, anchors: ReadonlyArray<Anchor> = []) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    return yield* Effect.gen(function* () {
      yield* sql`ALTER TABLE audit_log DISABLE TRIGGER USER`
      for (const statement of change.split(";")) yield* sql.unsafe(statement)
      const verdict = yield* verify(anchors)
      return yield* Effect.fail({ verdict })
    }).pipe(sql.withTransaction)
  }).pipe(
    Effect.flip,
    Effect.map((error) => ("verdict" in error ? error.verdict.first_broken : assert.fail(String(error))))
  )

const headOf = (name: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ seq: number; hash: string }>`
      SELECT seq::integer AS seq, encode(hash, 'hex') AS hash FROM audit_head WHERE chain = ${name}`
    return { chain: name, seq: row?.seq ?? 0, hash: row?.hash ?? "" }
  })

layer(services())("the verification of the trail", (it) => {
  it.effect("finds every change of every column, and what is missing, moved, cut off or added", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      for (let n = 1; n <= 12; n++) yield* record(n)
      yield* record(1, "another")
      assert.deepStrictEqual(yield* verify(), { ok: true, checked: 13, first_broken: null })
      const columns = yield* sql<{ name: string; type: string }>`
        SELECT column_name AS name, data_type AS type FROM information_schema.columns WHERE table_name = 'audit_log' ORDER BY 1`
      assert.lengthOf(columns, 12)
      const other: Readonly<Record<string, string>> = {
        text: "'other'",
        jsonb: `'{"n": 4.0, "other": 1}'`,
        bytea: "sha256('x')",
        bigint: "500",
        "timestamp with time zone": "at + interval '1 millisecond'"
      }
      for (const { name, type } of columns) {
        const change = `UPDATE audit_log SET ${name} = ${other[type]} WHERE chain = '${chain}' AND seq = 5`
        assert.deepStrictEqual(yield* brokenBy(change), { chain, seq: 5 }, name)
        if (type !== "jsonb" && name !== "request_id") continue
        const emptied = `UPDATE audit_log SET ${name} = ${name === "request_id" ? "''" : "NULL"} WHERE chain = '${chain}' AND seq = 5`
        assert.deepStrictEqual(yield* brokenBy(emptied), { chain, seq: 5 }, name)
      }
      const entry = `FROM audit_log WHERE chain = '${chain}' AND seq`
      assert.deepStrictEqual(yield* brokenBy(`DELETE ${entry} = 7`), { chain, seq: 7 })
      assert.deepStrictEqual(yield* brokenBy(`DELETE ${entry} = 1`), { chain, seq: 1 })
      assert.deepStrictEqual(yield* brokenBy(`DELETE ${entry} > 0`), { chain, seq: 1 })
      const swap = `UPDATE audit_log SET seq = CASE seq WHEN 3 THEN -4 ELSE -3 END WHERE chain = '${chain}' AND seq IN (3, 4);
        UPDATE audit_log SET seq = -seq WHERE chain = '${chain}' AND seq < 0`
      assert.deepStrictEqual(yield* brokenBy(swap), { chain, seq: 3 })
      for (const left of [11, 6])
        assert.deepStrictEqual(yield* brokenBy(`DELETE ${entry} > ${left}`), { chain, seq: left + 1 })
      const added = `INSERT INTO audit_log SELECT chain, 13, at, actor, action, subject_kind, subject_id, namespace, before, after, request_id, hash ${entry} = 12`
      assert.deepStrictEqual(yield* brokenBy(added), { chain, seq: 13 })
      assert.deepStrictEqual(yield* brokenBy(`DELETE FROM audit_head WHERE chain = '${chain}'`), { chain, seq: 1 })
      assert.deepStrictEqual(yield* brokenBy(`UPDATE audit_head SET hash = sha256('x') WHERE chain = '${chain}'`), {
        chain,
        seq: 12
      })
      assert.deepStrictEqual(
        yield* brokenBy(
          `UPDATE audit_head SET checkpoint_seq = 3, checkpoint_hash = (SELECT hash ${entry} = 3) WHERE chain = '${chain}'`
        ),
        { chain, seq: 3 }
      )
      assert.deepStrictEqual(yield* verify(), { ok: true, checked: 13, first_broken: null })
    })
  )

  it.effect("finds a chain that was cut or written anew together with its head, by what the log told before", () =>
    Effect.gen(function* () {
      const anchor = yield* headOf(chain)
      assert.deepStrictEqual(readAnchor(`${anchor.chain}:${anchor.seq}:${anchor.hash}`), anchor)
      assert.isTrue((yield* verify([anchor])).ok)
      const cut = `DELETE FROM audit_log WHERE chain = '${chain}' AND seq > 9;
        UPDATE audit_head SET seq = 9, hash = (SELECT hash FROM audit_log WHERE chain = '${chain}' AND seq = 9) WHERE chain = '${chain}'`
      assert.isNull(yield* brokenBy(cut))
      assert.deepStrictEqual(yield* brokenBy(cut, [anchor]), { chain, seq: 12 })
      const gone = `DELETE FROM audit_log WHERE chain = '${chain}'; DELETE FROM audit_head WHERE chain = '${chain}'`
      assert.deepStrictEqual(yield* brokenBy(gone, [anchor]), { chain, seq: 12 })
      assert.deepStrictEqual((yield* verify([{ ...anchor, hash: "0".repeat(64) }])).first_broken, { chain, seq: 12 })
    })
  )

  it.effect("goes on from its cursor, in bounded parts, over any number of chains", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        SELECT audit_append(ROW('chain-' || lpad(n::text, 4, '0'), 0, now(), 'a', 'b', 'c', 'd', 'main', NULL, NULL, NULL, '\\x')::audit_log)
        FROM generate_series(1, 1200) AS n`
      yield* sql`
        SELECT audit_append(ROW('long', 0, now(), 'a', 'b', 'c', n::text, 'main', NULL, NULL, NULL, '\\x')::audit_log) FROM generate_series(1, 12000) AS n`
      const trail = yield* AuditTrail
      let cursor: string | null = null
      let checked = 0
      let parts = 0
      do {
        const verdict: { readonly ok: boolean; readonly checked: number; readonly next_cursor?: string } =
          yield* trail.verify({
            ...all,
            most: 400,
            cursor
          })
        assert.isTrue(verdict.ok)
        assert.isAtMost(verdict.checked, 5400)
        checked += verdict.checked
        parts += 1
        cursor = verdict.next_cursor ?? null
      } while (cursor !== null)
      assert.strictEqual(checked, 13 + 1200 + 12_000)
      assert.isAbove(parts, 4)
      assert.strictEqual((yield* Effect.flip(trail.verify({ ...all, cursor: "nonsense" })))._tag, "InvalidField")
    })
  )
})

const gauge = Effect.map(Effect.promise(Prometheus.text), (text) => /^ordinaut_audit_chain_ok (\d)$/m.exec(text)?.[1])

layer(services([["AUDIT_RETENTION_DAYS", "10"]]))("the keeper of the trail", (it) => {
  it.effect("shows in a metric whether the trail holds", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const keeper = yield* AuditKeeper
      for (let n = 1; n <= 5; n++) yield* record(n)
      assert.isTrue((yield* keeper.check).ok)
      assert.strictEqual(yield* gauge, "1")
      yield* sql`ALTER TABLE audit_log DISABLE TRIGGER USER`
      yield* sql`UPDATE audit_log SET action = 'test.hidden' WHERE chain = ${chain} AND seq = 2`
      assert.deepStrictEqual((yield* keeper.check).first_broken, { chain, seq: 2 })
      assert.strictEqual(yield* gauge, "0")
      yield* sql`UPDATE audit_log SET action = 'test.done' WHERE chain = ${chain} AND seq = 2`
      yield* sql`ALTER TABLE audit_log ENABLE TRIGGER USER`
      yield* keeper.check
      assert.strictEqual(yield* gauge, "1")
    })
  )

  it.effect("tells the heads that moved, to the log and to the stream, once", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const keeper = yield* AuditKeeper
      yield* Effect.forEach(
        Array.from({ length: 130 }, (_, n) => `agent-${n}`),
        (name) => record(1, name)
      )
      const head = yield* headOf(chain)
      assert.strictEqual(yield* keeper.anchor, 131)
      assert.strictEqual(yield* keeper.anchor, 0)
      const told = yield* sql<{ head: Anchor }>`
        SELECT jsonb_array_elements(entry -> 'payload' -> 'heads') AS head FROM outbox, jsonb_array_elements(entries) AS entry
        WHERE entry ->> 'topic' = 'ordinaut.audit.anchored'`
      assert.lengthOf(told, 131)
      assert.deepInclude(
        told.map((row) => row.head),
        head
      )
      yield* record(6)
      assert.strictEqual(yield* keeper.anchor, 1)
      assert.isTrue((yield* verify([head, yield* headOf(chain)])).ok)
    })
  )

  it.effect("drops whole days past the retention after a signed checkpoint, and no broken chain", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const keeper = yield* AuditKeeper
      const old = yield* headOf(chain)
      assert.strictEqual(yield* keeper.drop, 0)
      yield* TestClock.adjust("9 days")
      for (let n = 7; n <= 9; n++) yield* record(n)
      assert.strictEqual(yield* keeper.drop, 0)
      yield* TestClock.adjust("2 days")
      yield* sql`ALTER TABLE audit_log DISABLE TRIGGER USER`
      yield* sql`UPDATE audit_log SET action = 'test.hidden' WHERE chain = 'agent-7'`
      assert.strictEqual(yield* keeper.drop, 6 + 129)
      assert.deepStrictEqual((yield* verify()).first_broken, { chain: "agent-7", seq: 1 })
      yield* sql`UPDATE audit_log SET action = 'test.done' WHERE chain = 'agent-7'`
      yield* sql`ALTER TABLE audit_log ENABLE TRIGGER USER`
      assert.deepStrictEqual(yield* verify([old]), { ok: true, checked: 4, first_broken: null })
      assert.deepStrictEqual(yield* brokenBy(`DELETE FROM audit_log WHERE chain = '${chain}' AND seq = 7`), {
        chain,
        seq: 7
      })
      const moved = `UPDATE audit_head SET checkpoint_seq = 7, checkpoint_hash = (SELECT hash FROM audit_log WHERE chain = '${chain}' AND seq = 7) WHERE chain = '${chain}'`
      assert.deepStrictEqual(yield* brokenBy(moved), { chain, seq: 7 })
      yield* record(10)
      yield* TestClock.adjust("30 days")
      yield* keeper.drop
      assert.deepStrictEqual(yield* verify(), { ok: true, checked: 0, first_broken: null })
      yield* record(11)
      assert.deepStrictEqual(yield* verify(), { ok: true, checked: 1, first_broken: null })
    })
  )
})
