import { SqlClient } from "@effect/sql/SqlClient"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { apiServer, member, request } from "../support/ApiServer.ts"
import { harmless, mutations, owner } from "../support/mutations.ts"
import { served } from "../support/openApi.ts"

const changing = Effect.map(served, ({ routes }) =>
  routes.filter(({ method }) => method !== "GET").map(({ method, path }) => ({ method, name: `${method} ${path}` }))
)

interface Entry {
  readonly actor: string
  readonly action: string
  readonly subject_id: string
}

const entriesOf = (requestId: string) =>
  Effect.flatMap(
    SqlClient,
    (sql) => sql<Entry>`SELECT actor, action, subject_id FROM audit_log WHERE request_id = ${requestId}`
  )

/** What counts, and what marks that something was used or is alive. */
const uncounted = new Set(["rate_window", "idempotency_key", "worker_heartbeat"])

/** A digest of the rows of every table. */
const digests = Effect.gen(function* () {
  const sql = yield* SqlClient
  const tables = yield* sql<{ name: string }>`
    SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')`
  const found = yield* Effect.forEach(
    tables.filter(({ name }) => !uncounted.has(name)),
    ({ name }) =>
      Effect.map(
        sql<{ digest: string }>`
          SELECT md5(coalesce(string_agg((to_jsonb(t) - 'last_used_at')::text, ',' ORDER BY (to_jsonb(t) - 'last_used_at')::text), ''))
            AS digest FROM ${sql(name)} t`,
        ([row]) => [name, row?.digest] as const
      )
  )
  return Object.fromEntries(found)
})

layer(apiServer())("every route that changes something", (it) => {
  it.effect("is known here", () =>
    Effect.gen(function* () {
      const names = (yield* changing).map(({ name }) => name)
      assert.sameMembers(names, [...Object.keys(mutations), ...harmless])
    })
  )

  it.effect(
    "has its entry, by the agent, under the request's id",
    () =>
      Effect.gen(function* () {
        const { actor } = yield* member("marker", [])
        const by = yield* owner("changer")
        const sql = yield* SqlClient
        const [{ id: agent } = { id: "" }] = yield* sql<{ id: string }>`SELECT id FROM agent WHERE name = 'changer'`
        assert.notStrictEqual(agent, actor.id)
        for (const [n, { method, name }] of (yield* changing).entries()) {
          const prepare = mutations[name]
          if (prepare === undefined) continue
          const { body, key = by.key, path } = yield* prepare(by, n)
          const headers = { "x-request-id": `change-${n}` }
          const answer = yield* request(method, path, { key, headers, ...(body === undefined ? {} : { body }) })
          assert.isBelow(answer.status, 300, `${name}: ${answer.text}`)
          const entries = yield* entriesOf(`change-${n}`)
          const own = entries.filter((entry) => entry.actor === agent)
          assert.lengthOf(own, 1, `${name}: ${JSON.stringify(entries)}`)
          assert.match(own[0]?.action ?? "", /^[a-z_]+\.[a-z_]+$/)
          const [subject] = /[0-9a-f]{8}-[0-9a-f-]{27}|made\d+$/.exec(path) ?? []
          if (subject !== undefined && name !== "POST /tasks/{id}/backfill")
            assert.strictEqual(own[0]?.subject_id, subject, name)
        }
      }),
    30_000
  )

  it.effect(
    "changes nothing where its entry cannot be written",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient
        yield* sql.unsafe(`
        CREATE FUNCTION refuse_entry() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no entry' USING ERRCODE = 'cannot_connect_now'; END $$;
        CREATE TRIGGER refuse_entry BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_entry();
        ALTER TABLE audit_log DISABLE TRIGGER refuse_entry`)
        const by = yield* owner("unlucky")
        for (const [n, { method, name }] of (yield* changing).entries()) {
          const prepare = mutations[name]
          if (prepare === undefined) continue
          const { body, key = by.key, path } = yield* prepare(by, 100 + n)
          const before = yield* digests
          yield* sql`ALTER TABLE audit_log ENABLE TRIGGER refuse_entry`
          const answer = yield* request(method, path, { key, ...(body === undefined ? {} : { body }) })
          yield* sql`ALTER TABLE audit_log DISABLE TRIGGER refuse_entry`
          assert.strictEqual(answer.status, 503, `${name}: ${answer.text}`)
          assert.deepStrictEqual(yield* digests, before, name)
        }
      }),
    60_000
  )
})
