-- The model: what is defined, what is due, what became of it.
-- Instants are timestamptz(3): what travels as JSON has milliseconds, and a cursor must compare equal to what it was read as.
-- No CHECK mentions now(); the hot tables (due_work, live_step, task_run, run_step, outbox) have no foreign keys.

CREATE TABLE agent (
  id                  uuid PRIMARY KEY,
  name                text NOT NULL,
  namespace           text NOT NULL DEFAULT 'main',
  scopes              text[] NOT NULL,
  disabled            boolean NOT NULL DEFAULT false,
  max_tasks           integer NOT NULL DEFAULT 10000,
  max_concurrent_runs integer,
  rate_per_minute     integer,
  budgets             jsonb NOT NULL DEFAULT '[]',
  deleted_at          timestamptz(3),
  created_at          timestamptz(3) NOT NULL
);
CREATE UNIQUE INDEX agent_name ON agent (namespace, name) WHERE deleted_at IS NULL;

-- `id` is the public part of the key; the secret itself is stored nowhere.
CREATE TABLE api_key (
  id           text PRIMARY KEY,
  agent_id     uuid NOT NULL REFERENCES agent (id),
  name         text,
  hash         bytea NOT NULL,
  expires_at   timestamptz(3),
  revoked_at   timestamptz(3),
  last_used_at timestamptz(3),
  created_at   timestamptz(3) NOT NULL
);
CREATE INDEX api_key_agent ON api_key (agent_id);

CREATE TABLE task (
  id                    uuid PRIMARY KEY,
  created_by            uuid NOT NULL REFERENCES agent (id),
  namespace             text NOT NULL,
  title                 text NOT NULL,
  description           text NOT NULL,
  schedule_kind         text NOT NULL CHECK (schedule_kind IN ('cron', 'rrule', 'once', 'event', 'condition')),
  schedule_expr         text NOT NULL,
  timezone              text NOT NULL,
  dtstart               text,
  dtstart_given         boolean NOT NULL,
  payload               jsonb NOT NULL,
  priority              smallint NOT NULL CHECK (priority BETWEEN 1 AND 9),
  labels                jsonb NOT NULL,
  max_retries           smallint NOT NULL,
  backoff_strategy      text NOT NULL,
  backoff_seconds       double precision NOT NULL,
  backoff_max_seconds   double precision NOT NULL,
  timeout_seconds       integer NOT NULL,
  deadline_seconds      integer,
  start_within_seconds  integer,
  dedupe_key            text,
  dedupe_window_seconds integer NOT NULL,
  concurrency_key       text,
  concurrency_limit     integer NOT NULL,
  overlap_policy        text NOT NULL,
  misfire_policy        text NOT NULL,
  misfire_grace_seconds integer NOT NULL,
  jitter_seconds        integer NOT NULL,
  starts_at             timestamptz(3),
  ends_at               timestamptz(3),
  max_runs              integer,
  version               integer NOT NULL,
  status                text NOT NULL CHECK (status IN ('active', 'paused', 'completed', 'canceled')),
  status_reason         text,
  -- The cursor: everything through decided_through is decided.
  decided_through       timestamptz(3) NOT NULL,
  next_run_at           timestamptz(3),
  next_due_at           timestamptz(3),
  -- The instant of the COUNT-th firing of an rrule, computed once.
  count_end             timestamptz(3),
  tzdata_version        text,
  fired_count           integer NOT NULL DEFAULT 0,
  last_fired_for        timestamptz(3),
  snoozed_until         timestamptz(3),
  snoozed_run_id        uuid,
  quarantined_at        timestamptz(3),
  quarantine_reason     text,
  -- The last value of a condition; null until the first evaluation set the base.
  last_value            boolean,
  created_at            timestamptz(3) NOT NULL,
  updated_at            timestamptz(3) NOT NULL
);
CREATE INDEX task_due ON task (next_due_at) WHERE status = 'active' AND quarantined_at IS NULL AND next_due_at IS NOT NULL;
CREATE INDEX task_owner ON task (created_by, id);
CREATE INDEX task_namespace ON task (namespace, id);
CREATE INDEX task_events ON task (namespace, schedule_kind) WHERE schedule_kind IN ('event', 'condition') AND status IN ('active', 'paused');
CREATE UNIQUE INDEX task_dedupe ON task (created_by, dedupe_key) WHERE dedupe_key IS NOT NULL AND status IN ('active', 'paused');
CREATE INDEX task_concurrency ON task (namespace, concurrency_key) WHERE concurrency_key IS NOT NULL AND status = 'active';

-- A run pins the version it was decided with; `definition` is the task's own fields as they were, as JSON of the API.
CREATE TABLE task_revision (
  task_id    uuid NOT NULL REFERENCES task (id),
  version    integer NOT NULL,
  definition jsonb NOT NULL,
  changed_by uuid,
  created_at timestamptz(3) NOT NULL,
  PRIMARY KEY (task_id, version)
);

-- Guards every key but the schedule's own, beyond the life of the due_work row; `input` is what a run was given by hand.
CREATE TABLE occurrence (
  task_id    uuid NOT NULL,
  key        text NOT NULL,
  run_id     uuid NOT NULL,
  input      jsonb,
  created_at timestamptz(3) NOT NULL,
  PRIMARY KEY (task_id, key)
);
CREATE INDEX occurrence_age ON occurrence (created_at);

-- One row for each unfinished run; `id` is the run's id.
CREATE TABLE due_work (
  id                  uuid PRIMARY KEY,
  task_id             uuid NOT NULL,
  key                 text NOT NULL,
  agent_id            uuid NOT NULL,
  namespace           text NOT NULL,
  task_version        integer NOT NULL,
  trigger             text NOT NULL,
  state               text NOT NULL CHECK (state IN ('later', 'ready', 'blocked', 'leased', 'parked')),
  scheduled_for       timestamptz(3) NOT NULL,
  due_at              timestamptz(3) NOT NULL,
  run_at              timestamptz(3) NOT NULL,
  priority            smallint NOT NULL,
  -- The priority less what waiting has gained it: what leases are ordered by.
  rank                smallint NOT NULL,
  lease_no            integer NOT NULL DEFAULT 0,
  attempt             integer NOT NULL DEFAULT 1,
  locked_by           uuid,
  locked_until        timestamptz(3),
  signals             integer NOT NULL DEFAULT 0,
  cancel_requested_at timestamptz(3),
  crashes             smallint NOT NULL DEFAULT 0,
  started_at          timestamptz(3),
  attempt_started_at  timestamptz(3),
  -- When the present lease began, and what the attempt used of its timeout in the leases before.
  leased_at           timestamptz(3),
  spent_ms            integer NOT NULL DEFAULT 0,
  expires_at          timestamptz(3),
  deadline_at         timestamptz(3),
  start_by            timestamptz(3),
  concurrency_key     text,
  serial              boolean NOT NULL DEFAULT false,
  held                boolean NOT NULL DEFAULT false,
  snoozed             boolean NOT NULL DEFAULT false,
  parent_run_id       uuid,
  retry_of            uuid,
  event_id            uuid,
  backfill_id         uuid,
  hops                smallint NOT NULL DEFAULT 0,
  traceparent         text,
  created_at          timestamptz(3) NOT NULL,
  UNIQUE (task_id, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX due_work_ready ON due_work (rank, due_at, id) WHERE state = 'ready' AND crashes < 2;
CREATE INDEX due_work_suspect ON due_work (rank, due_at, id) WHERE state = 'ready' AND crashes >= 2;
CREATE INDEX due_work_later ON due_work (run_at) WHERE state = 'later';
CREATE INDEX due_work_leased ON due_work (locked_until) WHERE state = 'leased';
CREATE INDEX due_work_parked ON due_work (expires_at) WHERE state = 'parked';
CREATE INDEX due_work_blocked ON due_work (namespace, concurrency_key, rank, due_at, id) WHERE state = 'blocked';
CREATE INDEX due_work_agent ON due_work (agent_id, id);
CREATE INDEX due_work_event ON due_work (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX due_work_backfill ON due_work (backfill_id) WHERE backfill_id IS NOT NULL;

-- Finished steps, ended attempts and log lines of unfinished runs. `item` is the element of a for_each,
-- the number of an attempt or of a log line, else -1.
CREATE TABLE live_step (
  run_id      uuid NOT NULL,
  kind        text NOT NULL CHECK (kind IN ('step', 'attempt', 'log')),
  step_id     text NOT NULL,
  item        integer NOT NULL DEFAULT -1,
  position    smallint NOT NULL DEFAULT 0,
  uses        text,
  state       text NOT NULL,
  attempt     integer NOT NULL,
  input       jsonb,
  output      jsonb,
  error       jsonb,
  simulated   boolean NOT NULL DEFAULT false,
  logs        jsonb,
  worker_id   uuid,
  started_at  timestamptz(3),
  finished_at timestamptz(3),
  PRIMARY KEY (run_id, kind, step_id, item)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- What an unfinished run waits for or hands out.
CREATE TABLE pending_item (
  id           uuid PRIMARY KEY,
  run_id       uuid NOT NULL,
  step_id      text NOT NULL,
  item         integer NOT NULL DEFAULT -1,
  kind         text NOT NULL CHECK (kind IN ('tool', 'approval', 'wait', 'event', 'child')),
  agent_id     uuid NOT NULL,
  namespace    text NOT NULL,
  tool         text,
  detail       jsonb,
  expires_at   timestamptz(3),
  lease_no     integer NOT NULL DEFAULT 0,
  locked_by    uuid,
  locked_until timestamptz(3),
  result       jsonb,
  created_at   timestamptz(3) NOT NULL,
  UNIQUE (run_id, step_id, item)
);
CREATE INDEX pending_item_tool ON pending_item (namespace, tool, created_at) WHERE kind = 'tool' AND result IS NULL;
CREATE INDEX pending_item_open ON pending_item (namespace, kind, created_at) WHERE result IS NULL;
CREATE INDEX pending_item_expiry ON pending_item (expires_at) WHERE result IS NULL;

-- History. A partition holds one UTC day of finished_at; there is no default partition, so that one can be detached concurrently.
CREATE TABLE task_run (
  id            uuid NOT NULL,
  task_id       uuid NOT NULL,
  key           text NOT NULL,
  agent_id      uuid NOT NULL,
  namespace     text NOT NULL,
  task_version  integer NOT NULL,
  trigger       text NOT NULL,
  state         text NOT NULL CHECK (state IN ('succeeded', 'failed', 'canceled', 'skipped')),
  scheduled_for timestamptz(3) NOT NULL,
  due_at        timestamptz(3) NOT NULL,
  priority      smallint NOT NULL,
  attempt       integer NOT NULL,
  attempts      jsonb NOT NULL,
  lease_no      integer NOT NULL,
  crashes       smallint NOT NULL,
  started_at    timestamptz(3),
  finished_at   timestamptz(3) NOT NULL,
  error         jsonb,
  simulated     boolean NOT NULL,
  parent_run_id uuid,
  retry_of      uuid,
  event_id      uuid,
  backfill_id   uuid,
  skip_reason   text,
  skipped_count integer,
  skipped_from  timestamptz(3),
  skipped_to    timestamptz(3),
  trace_id      text,
  created_at    timestamptz(3) NOT NULL
) PARTITION BY RANGE (finished_at);
CREATE INDEX task_run_id ON task_run (id);
CREATE INDEX task_run_task ON task_run (task_id, id);
CREATE INDEX task_run_agent ON task_run (agent_id, id);

CREATE TABLE run_step (
  run_id      uuid NOT NULL,
  step_id     text NOT NULL,
  item        integer NOT NULL,
  position    smallint NOT NULL,
  uses        text,
  state       text NOT NULL,
  attempt     integer NOT NULL,
  input       jsonb,
  output      jsonb,
  error       jsonb,
  simulated   boolean NOT NULL,
  logs        jsonb,
  started_at  timestamptz(3),
  finished_at timestamptz(3),
  run_finished_at timestamptz(3) NOT NULL
) PARTITION BY RANGE (run_finished_at);
CREATE INDEX run_step_run ON run_step (run_id);

-- Makes the daily partitions of the history from `first` on; a day that is there already is left alone.
CREATE FUNCTION ensure_history(first date, days integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  day date;
  parent text;
BEGIN
  PERFORM set_config('lock_timeout', '2s', true);
  PERFORM pg_advisory_xact_lock(hashtext('ordinaut.ensure_history'));
  FOR day IN SELECT first + n FROM generate_series(0, days - 1) AS n LOOP
    FOREACH parent IN ARRAY ARRAY['task_run', 'run_step'] LOOP
      IF to_regclass(parent || '_' || to_char(day, 'YYYYMMDD')) IS NULL THEN
        -- Made beside and attached: that asks for no lock that readers and writers of the history would wait behind.
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', parent || '_' || to_char(day, 'YYYYMMDD'), parent);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
          parent, parent || '_' || to_char(day, 'YYYYMMDD'),
          day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
      END IF;
    END LOOP;
  END LOOP;
END $$;

-- Slots in use are the leased rows with the key; the row lock makes the count exact.
CREATE TABLE concurrency (
  id        bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
  namespace text NOT NULL,
  key       text NOT NULL,
  "limit"   integer NOT NULL,
  in_use    integer NOT NULL DEFAULT 0 CHECK (in_use >= 0),
  PRIMARY KEY (namespace, key)
) WITH (fillfactor = 50);

CREATE TABLE event (
  id             uuid PRIMARY KEY,
  namespace      text NOT NULL,
  topic          text NOT NULL,
  payload        jsonb NOT NULL,
  published_by   uuid,
  dedupe_key     text,
  hops           smallint NOT NULL DEFAULT 0,
  at             timestamptz(3) NOT NULL,
  triggered_runs jsonb NOT NULL DEFAULT '[]',
  -- Where its number is found once it is on the stream: entry `outbox_position` of the outbox row.
  outbox_id       bigint,
  outbox_position integer NOT NULL DEFAULT 0,
  traceparent    text
);
CREATE INDEX event_recent ON event (namespace, id);
CREATE INDEX event_topic ON event (namespace, topic, id);
CREATE INDEX event_dedupe ON event (published_by, topic, dedupe_key, at) WHERE dedupe_key IS NOT NULL;

-- State changes and accepted events, a batch a row; the publisher numbers them once they are committed.
-- Entry i of `entries` has the number first_number + i.
CREATE TABLE outbox (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  first_number bigint,
  size         integer NOT NULL,
  entries      jsonb NOT NULL,
  at           timestamptz(3) NOT NULL
);
CREATE INDEX outbox_unnumbered ON outbox (id) WHERE first_number IS NULL;
CREATE UNIQUE INDEX outbox_number ON outbox (first_number);

CREATE TABLE stream_head (
  id     boolean PRIMARY KEY DEFAULT true CHECK (id),
  number bigint NOT NULL
);
INSERT INTO stream_head (number) VALUES (0);

-- Consumer groups of the embedded stream.
CREATE TABLE stream_group (
  name        text PRIMARY KEY,
  last_number bigint NOT NULL
);
CREATE TABLE stream_pending (
  group_name   text NOT NULL,
  number       bigint NOT NULL,
  consumer     text NOT NULL,
  delivered_at timestamptz(3) NOT NULL,
  deliveries   integer NOT NULL,
  PRIMARY KEY (group_name, number)
);

CREATE TABLE topic_last (
  namespace text NOT NULL,
  topic     text NOT NULL,
  payload   jsonb NOT NULL,
  event_id  uuid NOT NULL,
  at        timestamptz(3) NOT NULL,
  PRIMARY KEY (namespace, topic)
);

CREATE TABLE trigger_window (
  task_id    uuid NOT NULL,
  key        text NOT NULL,
  event_ids  uuid[] NOT NULL,
  first_at   timestamptz(3) NOT NULL,
  last_at    timestamptz(3) NOT NULL,
  close_at   timestamptz(3) NOT NULL,
  PRIMARY KEY (task_id, key)
);
CREATE INDEX trigger_window_close ON trigger_window (close_at);

CREATE TABLE backfill (
  id              uuid PRIMARY KEY,
  task_id         uuid NOT NULL,
  task_version    integer NOT NULL,
  from_at         timestamptz(3) NOT NULL,
  to_at           timestamptz(3) NOT NULL,
  only_missed     boolean NOT NULL,
  max_parallel    integer NOT NULL,
  -- All that it enqueues, oldest first, and how many of them it has.
  occurrences     timestamptz(3)[] NOT NULL,
  enqueued        integer NOT NULL DEFAULT 0,
  created_by      uuid NOT NULL,
  canceled_at     timestamptz(3),
  finished_at     timestamptz(3),
  created_at      timestamptz(3) NOT NULL
);
CREATE INDEX backfill_open ON backfill (created_at) WHERE finished_at IS NULL AND canceled_at IS NULL;

CREATE TABLE extension (
  namespace      text NOT NULL,
  name           text NOT NULL,
  kind           text NOT NULL CHECK (kind IN ('http', 'worker', 'mcp', 'simulated')),
  base_url       text,
  tools          jsonb NOT NULL,
  auth           jsonb,
  served_by      text[],
  signing_secret bytea,
  state          text NOT NULL,
  last_error     text,
  version        integer NOT NULL,
  created_by     uuid NOT NULL,
  created_at     timestamptz(3) NOT NULL,
  updated_at     timestamptz(3) NOT NULL,
  PRIMARY KEY (namespace, name)
);

-- Envelope-encrypted: `data_key` is sealed by the master key `key_id`, `sealed` by the data key.
CREATE TABLE secret (
  namespace    text NOT NULL,
  name         text NOT NULL,
  sealed       bytea NOT NULL,
  data_key     bytea NOT NULL,
  key_id       text NOT NULL,
  bound_to     jsonb NOT NULL,
  last_used_at timestamptz(3),
  created_by   uuid NOT NULL,
  created_at   timestamptz(3) NOT NULL,
  updated_at   timestamptz(3) NOT NULL,
  PRIMARY KEY (namespace, name)
);

CREATE TABLE usage_day (
  agent_id uuid NOT NULL,
  day      date NOT NULL,
  tool     text NOT NULL,
  calls    bigint NOT NULL DEFAULT 0,
  seconds  double precision NOT NULL DEFAULT 0,
  bytes    bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (agent_id, day, tool)
);

CREATE TABLE revoked_token (
  jti        text PRIMARY KEY,
  agent_id   uuid NOT NULL,
  expires_at timestamptz(3) NOT NULL,
  revoked_at timestamptz(3) NOT NULL
);
CREATE INDEX revoked_token_expiry ON revoked_token (expires_at);

CREATE TABLE signing_key (
  kid         text PRIMARY KEY,
  algorithm   text NOT NULL,
  public_jwk  jsonb NOT NULL,
  private_key bytea NOT NULL,
  key_id      text NOT NULL,
  created_at  timestamptz(3) NOT NULL,
  retired_at  timestamptz(3)
);

CREATE TABLE idempotency_key (
  agent_id   uuid NOT NULL,
  key        text NOT NULL,
  request    text NOT NULL,
  body_hash  bytea NOT NULL,
  status     smallint,
  headers    jsonb,
  body       text,
  created_at timestamptz(3) NOT NULL,
  PRIMARY KEY (agent_id, key)
);
CREATE INDEX idempotency_key_age ON idempotency_key (created_at);

CREATE TABLE worker_heartbeat (
  id           uuid PRIMARY KEY,
  program      text NOT NULL,
  host         text NOT NULL,
  pid          integer NOT NULL,
  version      text NOT NULL,
  started_at   timestamptz(3) NOT NULL,
  last_seen    timestamptz(3) NOT NULL,
  -- The beat before: whether the database answered somebody while another was silent.
  seen_before  timestamptz(3),
  last_pass_at timestamptz(3),
  running      integer NOT NULL DEFAULT 0,
  concurrency  integer NOT NULL DEFAULT 0
);
CREATE INDEX worker_heartbeat_seen ON worker_heartbeat (last_seen);
