-- What must hold after every test over the store, whatever happened in it: each statement returns no row.
-- The comment in front of a statement is its name.

-- I1 one run for each occurrence key of a task, ever
SELECT task_id, key, count(*) AS runs
FROM (SELECT task_id, key FROM due_work UNION ALL SELECT task_id, key FROM task_run) AS r
GROUP BY task_id, key HAVING count(*) > 1;

-- I1 every key but the schedule's own is guarded by its occurrence
SELECT r.id, r.key
FROM (
  SELECT id, task_id, key, trigger FROM due_work
  UNION ALL SELECT id, task_id, key, trigger FROM task_run WHERE skipped_from IS NULL) AS r
WHERE r.trigger <> 'schedule'
  AND NOT EXISTS (SELECT FROM occurrence o WHERE o.task_id = r.task_id AND o.key = r.key AND o.run_id = r.id);

-- I2 what was fired is in no skipped series, and no two series share an instant
SELECT s.id, s.skip_reason, r.id AS other, r.scheduled_for
FROM task_run s JOIN (
  SELECT id, task_id, scheduled_for, scheduled_for AS until FROM due_work WHERE trigger = 'schedule'
  UNION ALL
  SELECT id, task_id, coalesce(skipped_from, scheduled_for), coalesce(skipped_to, scheduled_for)
  FROM task_run WHERE trigger = 'schedule') AS r ON r.task_id = s.task_id AND r.id <> s.id
WHERE s.trigger = 'schedule' AND s.skipped_from IS NOT NULL
  AND r.scheduled_for <= s.skipped_to AND r.until >= s.skipped_from;

-- I2 a skipped series says from when to when, how many, and why
SELECT id, skipped_from, skipped_to, skipped_count, skip_reason FROM task_run
WHERE (state = 'skipped') <> (skip_reason IS NOT NULL)
  OR (skipped_from IS NULL) <> (skipped_to IS NULL)
  OR skipped_from > skipped_to
  OR skipped_count < 1 OR skipped_count > 100000
  OR (skipped_count = 1 AND skipped_from <> skipped_to)
  OR (skipped_count > 1 AND skipped_from = skipped_to);

-- I2 what was fired or skipped by the schedule is what the cursor passed
SELECT r.id, r.task_id, r.scheduled_for, t.decided_through
FROM (
  SELECT id, task_id, scheduled_for FROM due_work WHERE trigger = 'schedule'
  UNION ALL SELECT id, task_id, scheduled_for FROM task_run WHERE trigger = 'schedule') AS r
JOIN task t ON t.id = r.task_id
WHERE r.scheduled_for > t.decided_through;

-- I2 a task counts what it fired
SELECT t.id, t.fired_count, count(r.id) AS fired
FROM task t LEFT JOIN (
  SELECT id, task_id FROM due_work WHERE trigger IN ('schedule', 'event', 'condition')
  UNION ALL
  SELECT id, task_id FROM task_run WHERE trigger IN ('schedule', 'event', 'condition') AND skipped_from IS NULL
    AND NOT (state = 'failed' AND lease_no = 0)) AS r
  ON r.task_id = t.id
GROUP BY t.id, t.fired_count HAVING count(r.id) <> t.fired_count;

-- I3 nothing starts before its time
SELECT id, scheduled_for, due_at, started_at
FROM (
  SELECT id, scheduled_for, due_at, started_at FROM due_work
  UNION ALL SELECT id, scheduled_for, due_at, started_at FROM task_run) AS r
WHERE due_at < scheduled_for OR started_at < due_at;

-- I4 a leased run has one holder and a number; any other has no holder
SELECT id, state, lease_no, locked_by, locked_until FROM due_work
WHERE CASE state
  WHEN 'leased' THEN locked_by IS NULL OR locked_until IS NULL OR lease_no < 1 OR started_at IS NULL
  ELSE locked_by IS NOT NULL OR locked_until IS NOT NULL END;

-- I5 a run is either under way or over, once
SELECT id, count(*) AS rows
FROM (SELECT id FROM due_work UNION ALL SELECT id FROM task_run) AS r
GROUP BY id HAVING count(*) > 1;

-- I5 attempts count up by one from one, and no further than the retries of the run's revision
SELECT r.id, r.attempt, r.attempts
FROM task_run r LEFT JOIN task_revision v ON v.task_id = r.task_id AND v.version = r.task_version
WHERE r.attempt > (v.definition ->> 'max_retries')::integer + 1
  OR jsonb_array_length(r.attempts) NOT IN (r.attempt, r.attempt - 1)
  OR EXISTS (
    SELECT FROM jsonb_array_elements(r.attempts) WITH ORDINALITY AS a (value, n) WHERE (a.value ->> 'attempt')::integer <> a.n);

-- I5 attempts of unfinished runs count up by one
SELECT d.id, d.attempt, count(s.item) AS ended, max(s.item) AS last
FROM due_work d LEFT JOIN live_step s ON s.run_id = d.id AND s.kind = 'attempt'
GROUP BY d.id, d.attempt HAVING count(s.item) <> d.attempt - 1 OR coalesce(max(s.item), 0) <> d.attempt - 1;

-- I5 steps are where their run is
SELECT run_id, step_id FROM live_step WHERE run_id NOT IN (SELECT id FROM due_work)
UNION ALL
SELECT run_id, step_id FROM run_step s
WHERE NOT EXISTS (SELECT FROM task_run r WHERE r.id = s.run_id AND r.finished_at = s.run_finished_at);

-- I5 what a run waits for goes with it
SELECT id, run_id, step_id FROM pending_item WHERE run_id NOT IN (SELECT id FROM due_work);

-- I6 a step of a run is recorded once
SELECT run_id, step_id, item, count(*) AS rows FROM run_step GROUP BY run_id, step_id, item HAVING count(*) > 1;

-- I7 slots in use are the leased runs with the key, and never more than the limit
SELECT c.namespace, c.key, c."limit", c.in_use, count(d.id) AS leased
FROM concurrency c LEFT JOIN due_work d
  ON d.namespace = c.namespace AND d.concurrency_key = c.key AND d.state = 'leased'
WHERE c.namespace <> '@agents'
GROUP BY c.namespace, c.key, c."limit", c.in_use HAVING count(d.id) <> c.in_use OR c.in_use > c."limit";

-- I7 slots of agents in use are their leased runs that hold one
SELECT c.key, c."limit", c.in_use, count(d.id) AS leased
FROM concurrency c LEFT JOIN due_work d ON d.agent_id::text = c.key AND d.state = 'leased' AND d.agent_slot
WHERE c.namespace = '@agents'
GROUP BY c.key, c."limit", c.in_use HAVING count(d.id) <> c.in_use;

-- I8 an active task with a schedule has its next occurrence, after what is decided, or a reason why not
SELECT id, status, decided_through, next_run_at, next_due_at, quarantine_reason FROM task
WHERE (status = 'active' AND schedule_kind IN ('cron', 'rrule', 'once') AND next_run_at IS NULL AND quarantined_at IS NULL)
  OR (quarantined_at IS NULL) <> (quarantine_reason IS NULL)
  OR (schedule_kind <> 'condition' AND (next_run_at IS NULL) <> (next_due_at IS NULL))
  OR next_run_at <= decided_through
  OR next_due_at < next_run_at
  OR (status IN ('completed', 'canceled') AND next_run_at IS NOT NULL);

-- I9 an event is in one run or one open window of a task, or in none
SELECT task_id, event_id, count(*) AS times
FROM (
  SELECT task_id, event_id::text FROM trigger_event
  UNION ALL
  SELECT o.task_id, e.value ->> 'id' FROM occurrence o CROSS JOIN LATERAL jsonb_array_elements(o.input -> 'events') AS e (value)
  UNION ALL
  SELECT task_id, substr(key, 3) FROM occurrence WHERE key LIKE 'e:%' AND (input IS NULL OR NOT input ? 'events')) AS heard
GROUP BY task_id, event_id HAVING count(*) > 1;

-- I9 an open window has the events that it says, the last of which its run is given
SELECT w.task_id, w.key, w.size, count(e.position) AS events
FROM trigger_window w FULL JOIN trigger_event e ON e.task_id = w.task_id AND e.key = w.key
GROUP BY w.task_id, w.key, w.size, w.last
HAVING w.size IS DISTINCT FROM count(e.position) OR w.size <> max(e.position) + 1
  OR w.last ->> 'id' <> (array_agg(e.event_id::text ORDER BY e.position DESC))[1];

-- I9 what a run of events is given ends with the event that it is said to go back to
SELECT o.task_id, o.key FROM occurrence o
WHERE o.input ? 'events' AND ('e:' || (o.input -> 'event' ->> 'id') <> o.key OR o.input -> 'events' -> -1 ->> 'id' <> o.input -> 'event' ->> 'id');

-- I9 the last payload of a topic is that of its last event in the log
SELECT l.namespace, l.topic, l.event_id FROM topic_last l JOIN event e ON e.id = l.event_id
WHERE EXISTS (SELECT FROM event o WHERE o.namespace = l.namespace AND o.topic = l.topic AND o.outbox_id > e.outbox_id)
  OR e.payload <> l.payload;

-- I9 nothing runs that more than sixteen runs and events led to
SELECT id, hops FROM due_work WHERE hops > 16;
