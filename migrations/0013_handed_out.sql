-- The values of secrets that an open item was leased with, sealed as in `secret`: what comes back is compared with these, whatever
-- became of the secrets meanwhile. They go when the item is answered, begins anew or is gone.
ALTER TABLE pending_item ADD COLUMN sealed bytea, ADD COLUMN data_key bytea, ADD COLUMN key_id text;
CREATE INDEX pending_item_sealed ON pending_item (key_id) WHERE key_id IS NOT NULL;
