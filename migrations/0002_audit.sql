-- The audit trail: one hash chain for each agent and one for the system, append-only.

CREATE TABLE audit_head (
  chain           text PRIMARY KEY,
  seq             bigint NOT NULL,
  hash            bytea NOT NULL,
  checkpoint_seq  bigint NOT NULL DEFAULT 0,
  checkpoint_hash bytea NOT NULL DEFAULT '\x'
);

CREATE TABLE audit_log (
  chain        text NOT NULL,
  seq          bigint NOT NULL,
  at           timestamptz(3) NOT NULL,
  actor        text NOT NULL,
  action       text NOT NULL,
  subject_kind text NOT NULL,
  subject_id   text NOT NULL,
  namespace    text NOT NULL,
  before       jsonb,
  after        jsonb,
  request_id   text,
  hash         bytea NOT NULL,
  PRIMARY KEY (chain, seq)
);
CREATE INDEX audit_log_at ON audit_log (namespace, at);
CREATE INDEX audit_log_subject ON audit_log (subject_kind, subject_id);

-- What an entry's hash covers: the hash before it and every column, each with its length so that no two entries read alike.
CREATE FUNCTION audit_hash(previous bytea, entry audit_log) RETURNS bytea LANGUAGE sql STABLE AS $$
  SELECT sha256(previous || convert_to(string_agg(coalesce(length(part)::text || ':' || part, '-'), ',' ORDER BY position), 'UTF8'))
  FROM unnest(ARRAY[
    entry.chain, entry.seq::text, (extract(epoch FROM entry.at) * 1000)::bigint::text, entry.actor, entry.action, entry.subject_kind,
    entry.subject_id, entry.namespace, entry.before::text, entry.after::text, entry.request_id
  ]) WITH ORDINALITY AS parts (part, position)
$$;

-- Appends one entry under the head's row lock, which orders the writers of a chain until they commit.
CREATE FUNCTION audit_append(entry audit_log) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  head audit_head;
BEGIN
  INSERT INTO audit_head (chain, seq, hash) VALUES (entry.chain, 0, '\x') ON CONFLICT (chain) DO NOTHING;
  SELECT * INTO head FROM audit_head WHERE chain = entry.chain FOR UPDATE;
  entry.seq := head.seq + 1;
  entry.hash := audit_hash(head.hash, entry);
  INSERT INTO audit_log VALUES (entry.*);
  UPDATE audit_head SET seq = entry.seq, hash = entry.hash WHERE chain = entry.chain;
  RETURN entry.seq;
END $$;

CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR TRUNCATE ON audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
