-- Windows that collect events, emitted events, and the tasks that hear state changes.

-- A window is told by its size; its events are rows of their own, so that adding one does not write the others again.
ALTER TABLE trigger_window
  DROP COLUMN event_ids,
  ADD COLUMN size  integer NOT NULL,
  ADD COLUMN bytes bigint NOT NULL,
  ADD COLUMN hops  smallint NOT NULL,
  -- The last event, as its run is given it.
  ADD COLUMN last  jsonb NOT NULL,
  ADD COLUMN traceparent text;

-- The events of open windows, in order; `event` is null for those of which the run gets the id alone.
CREATE TABLE trigger_event (
  task_id  uuid NOT NULL,
  key      text NOT NULL,
  position integer NOT NULL,
  event_id uuid NOT NULL,
  event    jsonb,
  PRIMARY KEY (task_id, key, position)
);

-- What names an event that a run emits: the digest of its idempotency key.
ALTER TABLE event ADD COLUMN emit_key text;
CREATE UNIQUE INDEX event_emitted ON event (published_by, emit_key) WHERE emit_key IS NOT NULL;

CREATE INDEX task_hears_states ON task (created_by)
  WHERE schedule_kind = 'event' AND status IN ('active', 'paused') AND schedule_expr ~ '^\s*ordinaut';
