import type * as SqlClient from "@effect/sql/SqlClient"
import { DateTime } from "effect"
import { DueWork } from "../domain/DueWork.ts"
import { givenSteps, keepSteps, stepRow } from "./Recording.ts"
import type { Line } from "../domain/Line.ts"
import type { Settlement } from "../domain/Settlement.ts"
import { agentSlots } from "./AgentSlots.ts"
import { archive } from "./Archive.ts"
import { candidatesOf } from "./Candidates.ts"
import { tellRuns } from "./Outbox.ts"
import { usedCte } from "./Usages.ts"

/** A leased row as the database gives it: what `DueWork` has, with instants as `Date`. */
type LeasedRow = {
  readonly [Column in keyof DueWork]: DueWork[Column] extends DateTime.Utc
    ? Date
    : DueWork[Column] extends DateTime.Utc | null
      ? Date | null
      : DueWork[Column]
}

/** A row of the answer: a leased row, or the id of another in `subject`. */
type TurnRow =
  | (LeasedRow & { readonly kind: "leased" })
  | { readonly kind: "settled" | "blocked"; readonly subject: string }

const instant = (date: Date) => DateTime.unsafeFromDate(date)
const instantOrNull = (date: Date | null) => (date === null ? null : instant(date))

/** The work of a leased row, taken as it is: to check its columns one by one costs more than all else that a turn does for it. */
const leasedWork = (row: LeasedRow): DueWork =>
  new DueWork(
    {
      ...row,
      scheduled_for: instant(row.scheduled_for),
      due_at: instant(row.due_at),
      cancel_requested_at: instantOrNull(row.cancel_requested_at),
      started_at: instant(row.started_at),
      attempt_started_at: instant(row.attempt_started_at),
      deadline_at: instantOrNull(row.deadline_at),
      start_by: instantOrNull(row.start_by),
      created_at: instant(row.created_at)
    },
    true
  )

/** What a turn did, from its rows: each is a lease, or names what was settled or found no slot. */
export const toldBy = (rows: ReadonlyArray<TurnRow>) => {
  const leased: Array<DueWork> = []
  const done = new Set<string>()
  let blocked = 0
  for (const row of rows) {
    if (row.kind === "leased") leased.push(leasedWork(row))
    else if (row.kind === "settled") done.add(row.subject)
    else blocked++
  }
  return { leased, done, blocked }
}

interface TurnInput {
  readonly worker: string
  readonly settled: ReadonlyArray<Settlement>
  readonly capacity: number
  /** Whether to lease runs that a crash makes suspects, or the others. */
  readonly suspects: boolean
  readonly line: Line
  readonly now: Date
  readonly until: Date
}

/**
 * One statement that settles finished leases, frees and hands on their slots, and leases others. Every write for a run names
 * its id and lease number, so that a worker that lost a lease changes nothing. Slots, of keys and of agents with a limit, are taken
 * under the row locks of `concurrency`, in key order. Answers the leased rows, and the ids of what was settled and of what found no slot.
 */
export const turnStatement = (sql: SqlClient.SqlClient) => {
  const archived = archive(sql)
  const slotsOfAgents = sql.literal(`'${agentSlots}'`)
  const candidates = candidatesOf(sql)
  const columnsOf = (row: string) =>
    sql.literal(
      Object.keys(DueWork.fields)
        .map((column) => `${row}.${column}`)
        .join(", ")
    )
  return ({ capacity, line, now, settled, suspects, until, worker }: TurnInput) => {
    const ids = settled.map(({ work }) => work.id)
    const settlements = JSON.stringify(
      Object.fromEntries(settled.map((settlement) => [settlement.work.id, settlementOf(settlement, worker)]))
    )
    // Looked up by id in one object: as a set of rows it would be joined by nested loops, whose size the planner cannot foresee.
    const end = sql.literal("((SELECT ends FROM input) -> d.id::text)")
    const steps = settled.flatMap((one) => one.steps.map((step) => stepRow(one.work.id, step)))
    // A leased row is one with an end of its lease. Asked for by its state it would be looked for among all that are leased.
    const fenced = sql`d.id = ANY ((SELECT ids FROM input)::uuid[]) AND d.locked_until IS NOT NULL AND d.lease_no = (${end} ->> 'lease_no')::integer`
    return sql<TurnRow>`
      WITH input AS MATERIALIZED (SELECT ${settlements}::jsonb AS ends, ${ids}::uuid[] AS ids),
      ${givenSteps(sql, steps)},
      deleted AS (
        DELETE FROM due_work d WHERE ${fenced} AND ${end} ->> 'outcome' = 'ended' RETURNING d.*, ${end} AS told),
      ended AS (
        SELECT d.*, d.told ->> 'end_state' AS end_state, nullif(d.told -> 'error', 'null') AS error,
          (d.told ->> 'finished_at')::timestamptz(3) AS finished_at, d.told -> 'last_attempt' AS last_attempt,
          d.told ->> 'skip_reason' AS skip_reason, 0 AS last_crash
        FROM deleted d),
      ${archived},
      ${usedCte(
        sql,
        settled.flatMap(({ usage = [] }) => usage)
      )}
      continued AS (
        UPDATE due_work d SET
          state = CASE WHEN d.cancel_requested_at IS NOT NULL THEN 'ready'
            WHEN ${end} ->> 'outcome' = 'parked' AND d.signals = (${end} ->> 'signals')::integer THEN 'parked'
            WHEN (${end} ->> 'run_at')::timestamptz > ${now} THEN 'later' ELSE 'ready' END,
          spent_ms = CASE ${end} ->> 'outcome' WHEN 'retried' THEN 0
            ELSE d.spent_ms + (extract(epoch FROM ${now}::timestamptz - d.leased_at) * 1000)::integer END,
          expires_at = (${end} ->> 'expires_at')::timestamptz,
          run_at = coalesce((${end} ->> 'run_at')::timestamptz, d.run_at),
          attempt = d.attempt + CASE ${end} ->> 'outcome' WHEN 'retried' THEN 1 ELSE 0 END,
          attempt_started_at = CASE ${end} ->> 'outcome' WHEN 'retried' THEN NULL ELSE d.attempt_started_at END,
          locked_by = NULL, locked_until = NULL
        WHERE ${fenced} AND ${end} ->> 'outcome' <> 'ended'
        RETURNING d.id, d.namespace, d.concurrency_key, d.agent_id, d.agent_slot, ${end} ->> 'outcome' AS outcome, ${end} -> 'last_attempt' AS last_attempt),
      ${keepSteps(sql, sql`continued`)},
      tried AS (
        INSERT INTO live_step (run_id, kind, step_id, item, position, uses, state, attempt, error, worker_id, started_at, finished_at)
        SELECT c.id, 'attempt', '', (c.last_attempt ->> 'attempt')::integer, 0, NULL, 'failed', (c.last_attempt ->> 'attempt')::integer,
          c.last_attempt -> 'error', ${worker}::uuid, (c.last_attempt ->> 'started_at')::timestamptz,
          (c.last_attempt ->> 'finished_at')::timestamptz
        FROM continued c WHERE c.outcome = 'retried'),
      gone AS (
        SELECT namespace, concurrency_key AS key FROM ended WHERE concurrency_key IS NOT NULL
        UNION ALL SELECT namespace, concurrency_key FROM continued WHERE concurrency_key IS NOT NULL
        UNION ALL SELECT ${slotsOfAgents}, agent_id::text FROM ended WHERE agent_slot
        UNION ALL SELECT ${slotsOfAgents}, agent_id::text FROM continued WHERE agent_slot),
      ${candidates({ capacity, suspects, line })},
      slots AS MATERIALIZED (
        SELECT c.id, k.namespace, k.key, k.freed, c."limit" - c.in_use + k.freed AS free FROM (
          SELECT namespace, key, sum(freed) AS freed FROM (
            SELECT namespace, key, 0 AS freed FROM candidates WHERE key IS NOT NULL
            UNION ALL SELECT ${slotsOfAgents}, agent_id::text, 0 FROM candidates
            UNION ALL SELECT namespace, key, 1 FROM gone) AS wanted
          GROUP BY 1, 2 ORDER BY 1, 2) AS k
        -- The row of an agent without a limit is left to others.
        CROSS JOIN LATERAL (
          SELECT id, "limit", in_use FROM concurrency
          WHERE namespace = k.namespace AND key = k.key AND ("limit" IS NOT NULL OR k.freed > 0) FOR UPDATE) AS c),
      agents AS MATERIALIZED (
        SELECT id, key::uuid AS agent_id, free, freed FROM slots WHERE namespace = ${slotsOfAgents}),
      -- Both must have a place: the slots of agents are dealt to those for whom there is one of their key.
      ranked AS MATERIALIZED (
        SELECT k.id, k.slot, a.id AS agent, k.fits AS keyed,
          k.fits AND (a.id IS NULL OR row_number() OVER (PARTITION BY a.id, k.fits ORDER BY k.rank, k.due_at, k.id) <= a.free) AS fits
        FROM (
          SELECT c.*, s.id AS slot, s.id IS NULL
            OR row_number() OVER (PARTITION BY s.id ORDER BY c.rank, c.due_at, c.id) <= s.free AS fits
          FROM candidates c LEFT JOIN slots s ON s.namespace = c.namespace AND s.key = c.key) AS k
        LEFT JOIN agents a ON a.agent_id = k.agent_id AND a.free IS NOT NULL),
      leased AS (
        UPDATE due_work d SET state = 'leased', agent_slot = d.agent_id = ANY (ARRAY(SELECT agent_id FROM agents WHERE free IS NOT NULL)),
          lease_no = d.lease_no + 1, locked_by = ${worker}, locked_until = ${until}, leased_at = ${now},
          started_at = coalesce(d.started_at, greatest(${now}::timestamptz, d.due_at)),
          attempt_started_at = coalesce(d.attempt_started_at, greatest(${now}::timestamptz, d.run_at))
        WHERE d.id = ANY (ARRAY(SELECT id FROM ranked WHERE fits))
        RETURNING d.*),
      blocked AS (
        UPDATE due_work SET state = 'blocked', agent_slot = id = ANY (ARRAY(SELECT id FROM ranked WHERE keyed AND NOT fits))
        WHERE id = ANY (ARRAY(SELECT id FROM ranked WHERE NOT fits)) RETURNING id),
      handed AS (
        UPDATE due_work SET state = 'ready' WHERE id = ANY (ARRAY(
          SELECT b.id FROM slots s CROSS JOIN LATERAL (
            SELECT id FROM due_work w
            WHERE w.state = 'blocked' AND NOT w.agent_slot AND NOT w.serial AND w.namespace = s.namespace AND w.concurrency_key = s.key
            ORDER BY w.rank, w.due_at, w.id LIMIT s.freed FOR UPDATE SKIP LOCKED) AS b WHERE s.freed > 0
          UNION ALL
          SELECT b.id FROM agents a CROSS JOIN LATERAL (
            SELECT id FROM due_work w WHERE w.state = 'blocked' AND w.agent_slot AND w.agent_id = a.agent_id
            ORDER BY w.rank, w.due_at, w.id LIMIT a.freed FOR UPDATE SKIP LOCKED) AS b WHERE a.freed > 0))),
      -- Added up before the join: by nested loops, each of slots against each of runs would take longer than all else.
      changes AS MATERIALIZED (
        SELECT slot, sum(n) AS n FROM (
          SELECT slot, 1 AS n FROM ranked WHERE fits AND slot IS NOT NULL
          UNION ALL SELECT agent, 1 FROM ranked WHERE fits AND agent IS NOT NULL
          UNION ALL SELECT id, -freed FROM slots WHERE freed > 0) AS each
        GROUP BY slot HAVING sum(n) <> 0),
      accounted AS (
        UPDATE concurrency c SET in_use = c.in_use + h.n FROM changes h
        WHERE c.id = ANY (ARRAY(SELECT slot FROM changes)) AND c.id = h.slot),
      told AS (${tellRuns(sql, {
        of: sql.literal("(SELECT * FROM leased WHERE lease_no = 1)"),
        state: sql.literal("'running'"),
        at: sql`${now}::timestamptz`
      })})
      SELECT 'leased' AS kind, NULL::uuid AS subject, ${columnsOf("l")} FROM leased l
      UNION ALL
      SELECT other.kind, other.id, ${columnsOf("(NULL::due_work)")} FROM (
        SELECT 'settled' AS kind, id FROM ended UNION ALL SELECT 'settled', id FROM continued
        UNION ALL SELECT 'blocked', id FROM blocked) AS other`
  }
}

const errorOf = (settlement: Settlement) =>
  settlement.outcome === "ended" || settlement.outcome === "retried" ? settlement.error : null

const settlementOf = (settlement: Settlement, worker: string) => ({
  lease_no: settlement.work.lease_no,
  outcome: settlement.outcome,
  end_state: settlement.outcome === "ended" ? settlement.state : null,
  error: errorOf(settlement),
  signals: settlement.outcome === "parked" ? settlement.signals : null,
  expires_at:
    settlement.outcome === "parked" && settlement.expires_at !== null ? new Date(settlement.expires_at) : null,
  run_at: settlement.outcome === "retried" ? new Date(settlement.run_at) : null,
  finished_at: new Date(settlement.finished_at),
  skip_reason: settlement.outcome === "ended" ? (settlement.skip_reason ?? null) : null,
  last_attempt: {
    attempt: settlement.work.attempt,
    worker_id: worker,
    started_at: DateTime.formatIso(settlement.work.attempt_started_at),
    finished_at: new Date(settlement.finished_at),
    error: errorOf(settlement)
  }
})
