-- The embedded stream: what XREADGROUP, XACK, XAUTOCLAIM and XPENDING are with Redis, for systems that have this database alone; and
-- the way in for events of theirs. Whoever is to call a function needs EXECUTE on it and no right on any table.

CREATE INDEX stream_pending_idle ON stream_pending (group_name, delivered_at, number);

-- Events that other systems put here, until they are accepted.
CREATE TABLE ingress (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic        text NOT NULL,
  payload      jsonb NOT NULL,
  namespace    text NOT NULL,
  dedupe_key   text,
  at           timestamptz(3) NOT NULL,
  delivered_at timestamptz(3),
  deliveries   integer NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Those that cannot be accepted, and why.
CREATE TABLE ingress_dead (
  id         bigint PRIMARY KEY,
  topic      text NOT NULL,
  payload    jsonb NOT NULL,
  namespace  text NOT NULL,
  dedupe_key text,
  at         timestamptz(3) NOT NULL,
  deliveries integer NOT NULL,
  error      text NOT NULL,
  buried_at  timestamptz(3) NOT NULL
);
CREATE INDEX ingress_dead_age ON ingress_dead (buried_at);

CREATE FUNCTION stream_check(group_name text, consumer text, count integer) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF coalesce(group_name, '') = '' OR length(group_name) > 200 THEN
    RAISE EXCEPTION 'group_name has 1 to 200 characters' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF coalesce(consumer, '') = '' OR length(consumer) > 200 THEN
    RAISE EXCEPTION 'consumer has 1 to 200 characters' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF count IS NULL OR count NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'count is from 1 to 1000' USING ERRCODE = 'invalid_parameter_value';
  END IF;
END $$;

-- Makes a group that reads what comes after a number: 0 for all that is kept, null for what comes from now on. False if there is one.
CREATE FUNCTION stream_create_group(group_name text, after bigint DEFAULT 0) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM stream_check(stream_create_group.group_name, 'nobody', 1);
  INSERT INTO stream_group (name, last_number)
  VALUES (stream_create_group.group_name, coalesce(stream_create_group.after, (SELECT h.number FROM stream_head h)))
  ON CONFLICT (name) DO NOTHING;
  RETURN FOUND;
END $$;

-- Takes a group away, with what it has not acknowledged. False if there is none.
CREATE FUNCTION stream_drop_group(group_name text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  there boolean;
BEGIN
  DELETE FROM stream_group g WHERE g.name = stream_drop_group.group_name;
  there := FOUND;
  DELETE FROM stream_pending p WHERE p.group_name = stream_drop_group.group_name;
  RETURN there;
END $$;

-- Delivers to a consumer what nobody of its group has had, in order. A group that is lost starts again with all that is kept. The
-- group's row is locked until the caller commits: no other consumer gets the same.
CREATE FUNCTION stream_read(group_name text, consumer text, count integer DEFAULT 100, read_at timestamptz DEFAULT clock_timestamp())
RETURNS TABLE (number bigint, id uuid, topic text, namespace text, payload jsonb, at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  reached bigint;
  first bigint;
  last bigint;
  wanted integer := stream_read.count;
  batch record;
BEGIN
  PERFORM stream_check(stream_read.group_name, stream_read.consumer, stream_read.count);
  LOOP
    SELECT g.last_number INTO reached FROM stream_group g WHERE g.name = stream_read.group_name FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO stream_group (name, last_number) VALUES (stream_read.group_name, 0) ON CONFLICT (name) DO NOTHING;
  END LOOP;
  FOR batch IN
    SELECT o.first_number, o.size, o.entries FROM outbox o
    WHERE o.first_number >= coalesce((SELECT max(p.first_number) FROM outbox p WHERE p.first_number <= reached + 1), 0)
    ORDER BY o.first_number
  LOOP
    first := greatest(reached + 1, batch.first_number);
    last := least(batch.first_number + batch.size - 1, first + wanted - 1);
    CONTINUE WHEN last < first;
    RETURN QUERY
      SELECT batch.first_number + e.n - 1, (e.entry ->> 'id')::uuid, e.entry ->> 'topic', e.entry ->> 'namespace', e.entry -> 'payload',
        (e.entry ->> 'at')::timestamptz
      FROM jsonb_array_elements(batch.entries) WITH ORDINALITY AS e (entry, n)
      WHERE batch.first_number + e.n - 1 BETWEEN first AND last ORDER BY e.n;
    INSERT INTO stream_pending AS p (group_name, number, consumer, delivered_at, deliveries)
    SELECT stream_read.group_name, n, stream_read.consumer, stream_read.read_at, 1 FROM generate_series(first, last) AS n
    ON CONFLICT (group_name, number) DO UPDATE SET
      consumer = excluded.consumer, delivered_at = excluded.delivered_at, deliveries = p.deliveries + 1;
    reached := last;
    wanted := wanted - (last - first + 1)::integer;
    EXIT WHEN wanted <= 0;
  END LOOP;
  IF wanted < stream_read.count THEN
    UPDATE stream_group g SET last_number = reached WHERE g.name = stream_read.group_name;
  END IF;
END $$;

-- Ends the delivery of entries. Answers how many were pending.
CREATE FUNCTION stream_ack(group_name text, numbers bigint[]) RETURNS integer LANGUAGE sql AS $$
  WITH gone AS (
    DELETE FROM stream_pending p WHERE p.group_name = stream_ack.group_name AND p.number = ANY (stream_ack.numbers) RETURNING p.number)
  SELECT count(*)::integer FROM gone
$$;

-- Delivers again what was delivered to anybody of the group at least `min_idle` ago and is not acknowledged, longest waiting first;
-- two consumers at once get different entries. What the log does not keep any more is pending no longer.
CREATE FUNCTION stream_claim(
  group_name text, consumer text, min_idle interval, count integer DEFAULT 100, claimed_at timestamptz DEFAULT clock_timestamp())
RETURNS TABLE (number bigint, id uuid, topic text, namespace text, payload jsonb, at timestamptz, deliveries integer) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  PERFORM stream_check(stream_claim.group_name, stream_claim.consumer, stream_claim.count);
  RETURN QUERY
    WITH idle AS MATERIALIZED (
      SELECT p.number FROM stream_pending p
      WHERE p.group_name = stream_claim.group_name AND p.delivered_at <= stream_claim.claimed_at - stream_claim.min_idle
      ORDER BY p.delivered_at, p.number LIMIT stream_claim.count FOR UPDATE SKIP LOCKED),
    kept AS MATERIALIZED (
      SELECT i.number, o.entry FROM idle i CROSS JOIN LATERAL (
        SELECT b.entries -> (i.number - b.first_number)::integer AS entry FROM outbox b
        WHERE b.first_number <= i.number ORDER BY b.first_number DESC LIMIT 1) AS o
      WHERE o.entry IS NOT NULL),
    gone AS (
      DELETE FROM stream_pending p
      WHERE p.group_name = stream_claim.group_name AND p.number = ANY (ARRAY(SELECT i.number FROM idle i EXCEPT SELECT k.number FROM kept k))),
    claimed AS (
      UPDATE stream_pending p SET consumer = stream_claim.consumer, delivered_at = stream_claim.claimed_at, deliveries = p.deliveries + 1
      WHERE p.group_name = stream_claim.group_name AND p.number = ANY (ARRAY(SELECT k.number FROM kept k))
      RETURNING p.number, p.deliveries)
    SELECT c.number, (k.entry ->> 'id')::uuid, k.entry ->> 'topic', k.entry ->> 'namespace', k.entry -> 'payload',
      (k.entry ->> 'at')::timestamptz, c.deliveries
    FROM claimed c JOIN kept k ON k.number = c.number ORDER BY c.number;
END $$;

-- What is delivered and not acknowledged, after a number.
CREATE FUNCTION stream_unacknowledged(
  group_name text, after bigint DEFAULT 0, count integer DEFAULT 100, read_at timestamptz DEFAULT clock_timestamp())
RETURNS TABLE (number bigint, consumer text, idle interval, deliveries integer) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
  PERFORM stream_check(stream_unacknowledged.group_name, 'nobody', stream_unacknowledged.count);
  RETURN QUERY
    SELECT p.number, p.consumer, stream_unacknowledged.read_at - p.delivered_at, p.deliveries FROM stream_pending p
    WHERE p.group_name = stream_unacknowledged.group_name AND p.number > stream_unacknowledged.after
    ORDER BY p.number LIMIT stream_unacknowledged.count;
END $$;

-- Puts an event where the product accepts it from, in the caller's transaction. Answers the number of the entry.
CREATE FUNCTION stream_add(
  topic text, payload jsonb, namespace text DEFAULT 'main', dedupe_key text DEFAULT NULL, added_at timestamptz DEFAULT clock_timestamp())
RETURNS bigint LANGUAGE sql AS $$
  INSERT INTO ingress (topic, payload, namespace, dedupe_key, at)
  VALUES (stream_add.topic, stream_add.payload, stream_add.namespace, stream_add.dedupe_key, stream_add.added_at)
  RETURNING ingress.id
$$;

-- They act with the rights of their owner, on the tables of this schema, whatever the caller's path is.
DO $$
DECLARE
  made regprocedure;
BEGIN
  FOR made IN
    SELECT p.oid FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace AND p.proname IN ('stream_check', 'stream_create_group',
      'stream_drop_group', 'stream_read', 'stream_ack', 'stream_claim', 'stream_unacknowledged', 'stream_add')
  LOOP
    EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, pg_temp', made, current_schema());
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', made);
  END LOOP;
END $$;
