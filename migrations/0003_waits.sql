-- A child run that has ended is looked up by its id.
CREATE INDEX pending_item_child ON pending_item ((detail ->> 'run_id')) WHERE kind = 'child' AND result IS NULL;

-- An item that is answered goes with its run, and is looked at again only by that.
COMMENT ON COLUMN pending_item.result IS '{"output": …} or {"error": {code, message, retryable}}; null while it waits';
