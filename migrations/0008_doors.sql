-- What the processes counted of each client in the present minute. It is worth nothing after a crash, so nothing of it is logged.
CREATE UNLOGGED TABLE rate_window (
  key       text PRIMARY KEY,
  window_at timestamptz(3) NOT NULL,
  count     integer NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX rate_window_age ON rate_window (window_at);

-- The trail is read by action, and verified from the last checkpoint, which is signed: what lies before it was dropped.
CREATE INDEX audit_log_action ON audit_log (namespace, action, at);
ALTER TABLE audit_head ADD COLUMN checkpoint_mac bytea NOT NULL DEFAULT '\x';
-- The last entry of each chain that was told to the log and to the stream.
ALTER TABLE audit_head ADD COLUMN anchored_seq bigint NOT NULL DEFAULT 0;

-- Signing keys are sealed like secrets: `private_key` under its data key, that under the master key `key_id`.
ALTER TABLE signing_key ADD COLUMN data_key bytea NOT NULL;
