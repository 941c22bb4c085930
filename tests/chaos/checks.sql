-- What must hold after a round, beside the invariants of the store: each statement returns no row.
-- The comment in front of a statement is its name.

-- every run is over
SELECT id, state, lease_no, attempt, crashes, run_at, locked_until FROM due_work;

-- no task is set aside
SELECT id, quarantine_reason FROM task WHERE quarantined_at IS NOT NULL;

-- the cursor of every active task is at its time
SELECT id, next_run_at, next_due_at FROM task
WHERE status = 'active' AND next_due_at < clock_timestamp() - interval '30 seconds';

-- the log is numbered from 1 without gaps
SELECT number, n FROM (
  SELECT first_number + i - 1 AS number, row_number() OVER (ORDER BY first_number, i) AS n
  FROM outbox, jsonb_array_elements(entries) WITH ORDINALITY AS e (entry, i)) AS numbered
WHERE number IS DISTINCT FROM n;

-- every event is in the log once
SELECT e.id, count(l.id) AS entries
FROM event e LEFT JOIN (
  SELECT entry ->> 'id' AS id FROM outbox, jsonb_array_elements(entries) AS entry) AS l ON l.id = e.id::text
GROUP BY e.id HAVING count(l.id) <> 1;

-- every run that was queued, every first start and every end is in the log once
WITH told AS (
  SELECT (entry #>> '{payload,run_id}')::uuid AS run_id, entry ->> 'topic' AS topic, count(*) AS times
  FROM outbox, jsonb_array_elements(entries) AS entry WHERE entry ->> 'topic' LIKE 'ordinaut.run.%' GROUP BY 1, 2),
expected AS (
  SELECT id AS run_id, 'ordinaut.run.' || state AS topic, count(*) AS times FROM task_run GROUP BY 1, 2
  UNION ALL
  SELECT id, 'ordinaut.run.queued', 1 FROM task_run WHERE skipped_from IS NULL
  UNION ALL
  SELECT id, 'ordinaut.run.running', 1 FROM task_run WHERE lease_no > 0)
SELECT run_id, topic, e.times AS expected, t.times AS told
FROM expected e FULL JOIN told t USING (run_id, topic) WHERE e.times IS DISTINCT FROM 1 OR t.times IS DISTINCT FROM 1;

-- a run that succeeded has all its steps
SELECT r.id, count(s.step_id) AS steps
FROM task_run r JOIN task_revision v ON v.task_id = r.task_id AND v.version = r.task_version
LEFT JOIN run_step s ON s.run_id = r.id AND s.item < 0
WHERE r.state = 'succeeded'
GROUP BY r.id, v.definition HAVING count(s.step_id) <> jsonb_array_length(v.definition #> '{payload,pipeline}');

-- a step that waits for a run started one, and one that was made again started no other
SELECT s.run_id, s.step_id, count(c.id) AS runs, s.output
FROM run_step s LEFT JOIN task_run c ON c.parent_run_id = s.run_id
WHERE s.uses = 'core.run_task' AND s.item < 0 AND s.state = 'succeeded' AND s.output ? 'run_id'
GROUP BY s.run_id, s.step_id, s.output HAVING count(c.id) <> 1 OR min(c.id::text) <> s.output ->> 'run_id';

-- each element of a step that starts runs started one
SELECT s.run_id, s.item, s.output FROM run_step s
WHERE s.uses = 'core.run_task' AND s.item >= 0 AND s.state = 'succeeded'
  AND NOT EXISTS (SELECT FROM task_run c WHERE c.id::text = s.output ->> 'run_id' AND c.parent_run_id = s.run_id);

-- runs that fail at once are tried again after their backoff, and not at once
SELECT task_id, count(*) AS runs, min(pause) AS least, max(pause) - min(pause) AS spread FROM (
  SELECT r.task_id, (r.attempts -> 1 ->> 'started_at')::timestamptz - (r.attempts -> 0 ->> 'finished_at')::timestamptz AS pause
  FROM task_run r JOIN task t ON t.id = r.task_id JOIN task_revision v ON v.task_id = t.id AND v.version = 1
  WHERE v.definition ->> 'title' = 'doomed' AND jsonb_array_length(r.attempts) = 2) AS doomed
GROUP BY task_id HAVING min(pause) < interval '2.9 seconds' OR max(pause) - min(pause) < interval '2 seconds' AND count(*) > 100;

-- the audit trail is whole: every entry follows the one before, and the head is the last
SELECT chain, seq FROM (
  SELECT a.chain, a.seq, a.hash, audit_hash(coalesce(lag(a.hash) OVER chained, '\x'), a) AS right_hash,
    row_number() OVER chained AS n
  FROM audit_log a WINDOW chained AS (PARTITION BY a.chain ORDER BY a.seq)) AS entry
WHERE hash <> right_hash OR seq <> n
UNION ALL
SELECT h.chain, h.seq FROM audit_head h
WHERE NOT EXISTS (SELECT FROM audit_log a WHERE a.chain = h.chain AND a.seq = h.seq AND a.hash = h.hash)
  OR EXISTS (SELECT FROM audit_log a WHERE a.chain = h.chain AND a.seq > h.seq);

-- every change has its audit entry, and every entry its change
SELECT what, changes, entries FROM (VALUES
  ('task.created', (SELECT count(*) FROM task), (SELECT count(*) FROM audit_log WHERE action = 'task.created')),
  ('task.changed', (SELECT sum(version - 1) FROM task), (SELECT count(*) FROM audit_log WHERE action = 'task.changed')),
  ('task.canceled', (SELECT count(*) FROM task WHERE status = 'canceled'),
    (SELECT count(*) FROM audit_log WHERE action = 'task.canceled')),
  ('task.run_now', (SELECT count(*) FROM task_run WHERE trigger = 'manual')
    + (SELECT count(*) FROM due_work WHERE trigger = 'manual'),
    (SELECT count(*) FROM audit_log WHERE action = 'task.run_now')),
  ('event.published', (SELECT count(*) FROM event), (SELECT count(*) FROM audit_log WHERE action = 'event.published'))
) AS told (what, changes, entries) WHERE changes <> entries;

-- nothing fires for a canceled task after its end
SELECT r.id, r.task_id, r.created_at, t.updated_at FROM task_run r JOIN task t ON t.id = r.task_id
WHERE t.status = 'canceled' AND r.created_at > t.updated_at + interval '1 second';

-- one event for each key of deduplication, and one task
SELECT published_by::text, topic, dedupe_key, count(*) FROM event WHERE dedupe_key IS NOT NULL
GROUP BY 1, 2, 3 HAVING count(*) > 1
UNION ALL
SELECT created_by::text, '', dedupe_key, count(*) FROM task WHERE dedupe_key IS NOT NULL GROUP BY 1, 2, 3 HAVING count(*) > 1;
