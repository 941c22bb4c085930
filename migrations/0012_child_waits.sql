-- Every worker looks each second for runs that have ended and that others wait for: it reads those waits alone, and in the order in
-- which they lie, however much waits for people, events and external workers.
CREATE INDEX pending_item_children ON pending_item (created_at) WHERE kind = 'child' AND result IS NULL;
DROP INDEX pending_item_child;
