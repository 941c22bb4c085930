import * as SqlClient from "@effect/sql/SqlClient"
import { Context, DateTime, Duration, Effect, Layer } from "effect"
import type { Held, NewWork, Progress, Renewed, Settlement, TurnResult } from "../domain/Settlement.ts"
import { plain } from "../domain/Line.ts"
import type { Line } from "../domain/Line.ts"
import type { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import type { Answer } from "../domain/Wait.ts"
import { archive, endedRow } from "./Archive.ts"
import { Renewals, storeErrors } from "./Db.ts"
import { enqueueStatement, roomStatement } from "./Enqueue.ts"
import * as Metrics from "./Metrics.ts"
import { promoteStatements } from "./Promotion.ts"
import { answerStatement, recordStatement, takeOverStatement } from "./Recording.ts"
import { rescueStatement, roomForSuspect } from "./Rescue.ts"
import * as Settings from "./Settings.ts"
import { toldBy, turnStatement } from "./Turn.ts"
import { lineStatements } from "./Waiting.ts"

/**
 * Who may work on a due row, and until when. Owns `due_work`, `live_step`, `pending_item`, `concurrency`,
 * `occurrence` and the history, and `making_room_until` of `worker_heartbeat`.
 */
export class Lease extends Context.Tag("ordinaut/Lease")<
  Lease,
  {
    /** Queues runs; one whose occurrence was decided before is left out. Joins the caller's transaction. Answers the ids queued. */
    readonly enqueue: (work: ReadonlyArray<NewWork>) => Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
    /**
     * In one transaction: settles the finished, frees and hands on their slots, leases up to `capacity` others. Suspects,
     * which were there at two crashes, are leased only when asked for, and then nothing else. The best rank goes first, and
     * within a rank the agents of `line` take turns.
     */
    readonly turn: (
      worker: string,
      settled: ReadonlyArray<Settlement>,
      capacity: number,
      suspects?: boolean,
      line?: Line
    ) => Effect.Effect<TurnResult, StoreUnavailable>
    /**
     * Stores steps that have ended, and what their runs wait for from now on; an earlier wait of the same step and element is
     * replaced. Answers the ids of the runs whose lease still held; of the others nothing was written.
     */
    readonly record: (progress: ReadonlyArray<Progress>) => Effect.Effect<ReadonlySet<string>, StoreUnavailable>
    /** How many more unfinished runs each of these tasks may have, by `ORDINAUT_MAX_UNFINISHED_RUNS`; 0 where it is full. */
    readonly room: (taskIds: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, number>, StoreUnavailable>
    /** Gives a run that is queued what an ended one had finished of some steps. Joins the caller's transaction. */
    readonly takeOver: (id: string, from: string, steps: ReadonlyArray<string>) => Effect.Effect<void, StoreUnavailable>
    /**
     * Writes what was waited for and signals the runs, in one statement. The first answer to a wait holds; answers the ids of the
     * waits whose it was. Joins the caller's transaction.
     */
    readonly answer: (answers: ReadonlyArray<Answer>) => Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
    /** Who waits to be leased, from the agent after `after` on. */
    readonly line: (after: string | null) => Effect.Effect<Line, StoreUnavailable>
    /** Moves the end of the leases to now + the lease's length; a lease that is not answered is lost. */
    readonly renew: (
      worker: string,
      held: ReadonlyArray<Held>
    ) => Effect.Effect<ReadonlyArray<Renewed>, StoreUnavailable>
    /** Takes back the leases that nobody renewed in time. Answers how many. */
    readonly rescue: Effect.Effect<number, StoreUnavailable>
    /**
     * Whether a suspect waits for which this worker is to make room, from now on and for `patience` at most. Half of the workers that
     * beat, or one, make room or are alone at a time; which they are stands in their heartbeats.
     */
    readonly makeRoom: (worker: string, patience: Duration.Duration) => Effect.Effect<boolean, StoreUnavailable>
    /** Lets waiting runs gain on the others: one priority for every ten minutes. Answers how many gained. */
    readonly age: Effect.Effect<number, StoreUnavailable>
    /**
     * Ends runs that did not start in time as `expired`; readies what is due from `later`, what has parked long enough, and what waits
     * for a slot that is free. Answers how many.
     */
    readonly promote: Effect.Effect<number, StoreUnavailable>
    /**
     * Ends queued, blocked and waiting runs at once and asks running ones to stop. Joins the caller's transaction.
     * Answers the ids of both; a run in neither was not there any more.
     */
    readonly cancel: (
      ids: ReadonlyArray<string>
    ) => Effect.Effect<
      { readonly ended: ReadonlyArray<string>; readonly asked: ReadonlyArray<string> },
      StoreUnavailable
    >
    /**
     * Tells runs that something they may wait for has come: parked ones are ready, and one that is about to park will not. Joins the
     * caller's transaction, which writes what has come.
     */
    readonly signal: (ids: ReadonlyArray<string>) => Effect.Effect<void, StoreUnavailable>
    /** `scheduled_for` of a run that no worker has leased yet, else null; epoch milliseconds. */
    readonly unstarted: (id: string) => Effect.Effect<number | null, StoreUnavailable>
    /** Moves a run that has not started to another due instant (epoch milliseconds). */
    readonly snooze: (id: string, dueAt: number) => Effect.Effect<void, StoreUnavailable>
    /** Keeps the snoozed, unstarted runs of a task from starting. */
    readonly hold: (taskId: string) => Effect.Effect<void, StoreUnavailable>
    /** Lets the held runs of a task go on; ends those due before `skipBefore` (epoch milliseconds) as skipped by the pause. */
    readonly unhold: (taskId: string, skipBefore: number | null) => Effect.Effect<void, StoreUnavailable>
  }
>() {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const leaseFor = yield* Settings.leaseFor
      const sql = yield* SqlClient.SqlClient
      // Of its own connection: no queue of other statements keeps a renewal waiting.
      const renewals = yield* Renewals
      const turn = turnStatement(sql)
      const look = lineStatements(sql)
      const rescue = rescueStatement(sql, leaseFor)
      const makeRoom = roomForSuspect(sql)
      const enqueue = enqueueStatement(sql)
      const room = roomStatement(sql, yield* Settings.maxUnfinishedRuns)
      const record = recordStatement(sql)
      const answer = answerStatement(sql)
      const takeOver = takeOverStatement(sql)
      const promote = promoteStatements(sql)
      const archived = archive(sql)
      const now = Effect.map(DateTime.now, DateTime.toDateUtc)
      const until = (from: Date) => new Date(from.getTime() + Duration.toMillis(leaseFor))

      return Lease.of({
        enqueue: Effect.fn("Lease.enqueue")(function* (work) {
          return work.length === 0 ? [] : yield* enqueue(work, yield* now)
        }, storeErrors),

        room: Effect.fn("Lease.room")((ids) => (ids.length === 0 ? Effect.succeed(new Map()) : room(ids)), storeErrors),

        turn: Effect.fn("Lease.turn")(function* (worker, settled, capacity, suspects = false, line = plain) {
          const at = yield* now
          const started = performance.now()
          const { blocked, done, leased } = yield* turn({
            worker,
            settled,
            capacity,
            suspects,
            line,
            now: at,
            until: until(at)
          }).pipe(Effect.map(toldBy))
          const lost = settled.flatMap(({ work }) => (done.has(work.id) ? [] : [work.id]))
          Metrics.turnDuration.add((performance.now() - started) / 1000, {})
          Metrics.turnRows.add(settled.length + leased.length, {})
          count(
            settled.filter(({ work }) => done.has(work.id)),
            lost.length
          )
          return { leased, lost, blocked }
        }, storeErrors),

        record: Effect.fn("Lease.record")(function* (progress) {
          return progress.length === 0 ? new Set<string>() : yield* record(progress, yield* now)
        }, storeErrors),

        takeOver: Effect.fn("Lease.takeOver")(takeOver, storeErrors),

        answer: Effect.fn("Lease.answer")(function* (answers) {
          if (answers.length === 0) return []
          return yield* answer(answers)
        }, storeErrors),
        line: Effect.fn("Lease.line")(look, storeErrors),

        renew: Effect.fn("Lease.renew")(function* (worker, held) {
          const at = yield* now
          // Locked by id, as where steps are stored: the same runs may be in both statements.
          return yield* renewals<Renewed>`
              WITH own AS MATERIALIZED (
                SELECT d.id FROM due_work d
                JOIN unnest(${held.map(({ id }) => id)}::uuid[], ${held.map(({ lease_no }) => lease_no)}::integer[]) AS h (id, lease_no)
                  ON h.id = d.id
                WHERE d.id = ANY (${held.map(({ id }) => id)}::uuid[]) AND d.lease_no = h.lease_no AND d.state = 'leased' AND d.locked_by = ${worker}
                ORDER BY d.id FOR NO KEY UPDATE OF d)
              UPDATE due_work AS d SET locked_until = greatest(d.locked_until, ${until(at)}::timestamptz)
              WHERE d.id = ANY (ARRAY(SELECT id FROM own))
              RETURNING d.id, d.lease_no, d.signals, d.cancel_requested_at IS NOT NULL AS cancel_requested`
        }, storeErrors),

        rescue: Effect.gen(function* () {
          const rows = yield* rescue(yield* now)
          if (rows.length === 0) return 0
          Metrics.leases.add(rows.length, { end: "rescued" })
          const poisoned = rows.filter((row) => row.poisoned).map(({ id }) => id)
          yield* Effect.logWarning("Leases that nobody renewed were taken back.").pipe(
            Effect.annotateLogs({
              runs: rows.length,
              ...(poisoned.length === 0 ? {} : { poisoned })
            })
          )
          return rows.length
        }).pipe(Effect.withSpan("Lease.rescue"), storeErrors),

        makeRoom: Effect.fn("Lease.makeRoom")((...asked) => Effect.flatMap(now, makeRoom(...asked)), storeErrors),

        age: Effect.gen(function* () {
          const at = yield* now
          // Late work is not old work: a backfill waits since it was queued, however long ago its occurrence was.
          const gained = yield* sql`
            UPDATE due_work SET rank = greatest(1,
              priority - floor(extract(epoch FROM ${at}::timestamptz - greatest(due_at, created_at)) / 600)::integer)
            WHERE id = ANY (ARRAY(
              SELECT id FROM due_work WHERE state = 'ready' AND crashes < 2 AND rank > 1
                AND greatest(due_at, created_at) <= ${at}::timestamptz - (priority - rank + 1) * interval '10 minutes'
              LIMIT 10000 FOR UPDATE SKIP LOCKED))
            RETURNING id`
          return gained.length
        }).pipe(Effect.withSpan("Lease.age"), storeErrors),

        promote: Effect.flatMap(now, promote).pipe(Effect.withSpan("Lease.promote"), storeErrors),

        cancel: Effect.fn("Lease.cancel")(function* (ids) {
          if (ids.length === 0) return { ended: [], asked: [] }
          const at = yield* now
          const rows = yield* sql<{ id: string; ended: boolean }>`
              WITH given AS (SELECT * FROM live_step WHERE false),
              -- The lock shows the rows as they are, not as the snapshot has them: one that is leased meanwhile is asked.
              found AS MATERIALIZED (
                SELECT id, state FROM due_work WHERE id = ANY (${ids}::uuid[]) ORDER BY id FOR UPDATE),
              ended AS (
                DELETE FROM due_work d WHERE d.id = ANY (ARRAY(SELECT id FROM found WHERE state <> 'leased'))
                RETURNING d.*, ${endedRow(sql, { state: "canceled", at })}),
              asked AS (
                UPDATE due_work SET cancel_requested_at = coalesce(cancel_requested_at, ${at}), signals = signals + 1
                WHERE id = ANY (ARRAY(SELECT id FROM found WHERE state = 'leased')) RETURNING id),
              ${archived}
              SELECT id, true AS ended FROM ended UNION ALL SELECT id, false FROM asked`
          return {
            ended: rows.flatMap((row) => (row.ended ? [row.id] : [])),
            asked: rows.flatMap((row) => (row.ended ? [] : [row.id]))
          }
        }, storeErrors),

        signal: Effect.fn("Lease.signal")(function* (ids) {
          yield* sql`
            UPDATE due_work SET signals = signals + 1, state = CASE state WHEN 'parked' THEN 'ready' ELSE state END
            WHERE id = ANY (${ids}::uuid[])`
        }, storeErrors),

        unstarted: Effect.fn("Lease.unstarted")(function* (id) {
          const [row] = yield* sql<{ scheduled_for: Date }>`
              SELECT scheduled_for FROM due_work WHERE id = ${id} AND lease_no = 0 FOR UPDATE`
          return row?.scheduled_for.getTime() ?? null
        }, storeErrors),

        snooze: Effect.fn("Lease.snooze")(function* (id, dueAt) {
          const due = new Date(dueAt)
          yield* sql`
              UPDATE due_work SET state = 'later', due_at = ${due}, run_at = ${due}, snoozed = true,
                deadline_at = deadline_at + (${due} - due_at), start_by = start_by + (${due} - due_at)
              WHERE id = ${id} AND lease_no = 0`
        }, storeErrors),

        hold: Effect.fn("Lease.hold")(function* (taskId) {
          yield* sql`
              UPDATE due_work SET held = true, state = 'later' WHERE task_id = ${taskId} AND snoozed AND lease_no = 0`
        }, storeErrors),

        unhold: Effect.fn("Lease.unhold")(function* (taskId, skipBefore) {
          const at = yield* now
          const before = skipBefore === null ? new Date(0) : new Date(skipBefore)
          yield* sql`
              WITH given AS (SELECT * FROM live_step WHERE false),
              ended AS (
                DELETE FROM due_work d WHERE d.task_id = ${taskId} AND d.held AND d.due_at < ${before}
                RETURNING d.*, ${endedRow(sql, { state: "skipped", at, reason: "paused" })}),
              ${archived}
              UPDATE due_work SET held = false WHERE task_id = ${taskId} AND held AND due_at >= ${before}`
        }, storeErrors)
      })
    })
  )
}

const count = (settled: ReadonlyArray<Settlement>, lost: number) => {
  const ends = { settled: 0, retried: 0, released: 0, parked: 0, lost }
  for (const settlement of settled) {
    if (settlement.outcome !== "ended") {
      ends[settlement.outcome]++
      continue
    }
    ends.settled++
    const { started_at, trigger } = settlement.work
    Metrics.runs.add(1, { state: settlement.state, trigger })
    Metrics.runDuration.add((settlement.finished_at - DateTime.toEpochMillis(started_at)) / 1000, {
      state: settlement.state,
      trigger
    })
  }
  for (const [end, n] of Object.entries(ends)) if (n > 0) Metrics.leases.add(n, { end })
}
