import { readFileSync } from "node:fs"
import * as SqlClient from "@effect/sql/SqlClient"
import { assert } from "@effect/vitest"
import { Effect } from "effect"

const checks = readFileSync(new URL("invariants.sql", import.meta.url), "utf8")
  .split(/;\s*\n/)
  .flatMap((statement) => {
    const names = [...statement.matchAll(/^-- (I\d.*)$/gm)]
    const name = names.at(-1)?.[1]
    return name === undefined ? [] : [{ name, statement }]
  })

/** Fails with the rows that break an invariant of the store, by the invariant's name. */
export const invariantsHold = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const broken = yield* Effect.forEach(checks, ({ name, statement }) =>
    Effect.map(sql.unsafe(statement), (rows) => (rows.length === 0 ? [] : [{ name, rows: rows.slice(0, 5) }]))
  )
  assert.deepStrictEqual(broken.flat(), [])
}).pipe(Effect.orDie)

/**
 * Lets the database refuse what must never happen to a row and cannot be seen afterwards: a cursor that goes back, a lease number
 * that shrinks or an attempt that leaps, a finished run that changes.
 */
export const watched = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql.unsafe(`
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '% of % is refused: % becomes %', TG_OP, TG_TABLE_NAME, OLD, NEW; END $$`)
  yield* sql.unsafe(`
    CREATE TRIGGER forward BEFORE UPDATE ON task FOR EACH ROW
    WHEN (NEW.decided_through < OLD.decided_through) EXECUTE FUNCTION refuse()`)
  yield* sql.unsafe(`
    CREATE TRIGGER forward BEFORE UPDATE ON due_work FOR EACH ROW
    WHEN (NEW.lease_no NOT IN (OLD.lease_no, OLD.lease_no + 1) OR NEW.attempt NOT IN (OLD.attempt, OLD.attempt + 1)
      OR (NEW.state = 'leased') AND (OLD.state <> 'leased') AND NEW.lease_no = OLD.lease_no)
    EXECUTE FUNCTION refuse()`)
  yield* sql.unsafe(`CREATE TRIGGER final BEFORE UPDATE ON task_run FOR EACH ROW EXECUTE FUNCTION refuse()`)
}).pipe(Effect.orDie)
