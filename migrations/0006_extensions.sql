-- Extensions and secrets are listed by the order of their ids, as everything is; their credentials are sealed like secrets.
-- Nothing wrote these tables before, so that columns without a default may be added, and one that was never used may go.

ALTER TABLE extension
  ADD COLUMN id uuid NOT NULL,
  -- Whether the tools were named at the registration; else they are what an MCP server listed.
  ADD COLUMN tools_given boolean NOT NULL,
  -- The secret parts of `auth` and the signing secret, sealed together under `data_key`; null where there are none.
  ADD COLUMN sealed bytea,
  ADD COLUMN data_key bytea,
  ADD COLUMN key_id text,
  ADD CONSTRAINT extension_sealed CHECK ((sealed IS NULL) = (data_key IS NULL) AND (sealed IS NULL) = (key_id IS NULL)),
  ADD CONSTRAINT extension_state CHECK (state IN ('ready', 'unlisted', 'failing')),
  ALTER COLUMN served_by SET NOT NULL,
  DROP COLUMN signing_secret;
CREATE UNIQUE INDEX extension_id ON extension (namespace, id);

ALTER TABLE secret ADD COLUMN id uuid NOT NULL;
CREATE UNIQUE INDEX secret_id ON secret (namespace, id);

-- The extensions that the steps of a revision were bound to when it was made: their steps are never simulated.
ALTER TABLE task_revision ADD COLUMN bound_extensions text[] NOT NULL DEFAULT '{}';
